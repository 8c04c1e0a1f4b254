"""The rules for pools that seal and open: their key files, and what can't be sealed."""

from collections.abc import Iterator
from pathlib import Path

from beamcast.config.words import shown
from beamcast.config.workflow import Pool, Workflow
from beamcast.core.errors import Problem

_OPEN_TO_OTHERS = 0o077


def sealing_fits(workflow: Workflow) -> Iterator[Problem]:
    """Sealed updates are numbered by `uniqueId`, and each is sealed by itself."""
    for index, pool in enumerate(workflow.pools):
        if pool.seal is not None and pool.output_id_field not in (None, "uniqueId"):
            message = f"sealed objects are numbered by 'uniqueId', not by {shown(pool.output_id_field or '')}"
            yield Problem(message, f"pools[{index}].output_id_field", "Leave it out where the pool seals")
        if pool.open is not None and pool.input == "source" and pool.batch > 1:
            message = "frames that the detector's side has sealed can't be stacked on their way"
            yield Problem(message, f"pools[{index}].batch", "Set 1, or open in a pool before this one")


def key_files_exist(workflow: Workflow, base: Path) -> Iterator[Problem]:
    """A missing file, or one that others may read, is told before anything starts."""
    for index, pool in enumerate(workflow.pools):
        for word, name in _files(pool):
            path = base / name
            if not path.is_file():
                yield Problem(
                    f"no key file {path}", f"pools[{index}].{word}", f"beamcast keys create '{path}'"
                )
            elif path.stat().st_mode & _OPEN_TO_OTHERS:
                mode = path.stat().st_mode & 0o777
                message = f"the key file {path} may be read by others (mode {mode:03o})"
                yield Problem(message, f"pools[{index}].{word}", f"chmod 600 '{path}'")


def _files(pool: Pool) -> Iterator[tuple[str, str]]:
    if pool.open is not None:
        yield "open", pool.open
    if pool.seal is not None:
        yield "seal", pool.seal
