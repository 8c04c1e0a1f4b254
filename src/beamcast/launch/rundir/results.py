"""Where a run's results are, as its directory tells."""

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from beamcast.core.errors import UsageError
from beamcast.launch.rundir.lease import LEASE_FILE, ownership, read_lease
from beamcast.launch.rundir.ownership import Ownership
from beamcast.launch.rundir.rundir import REPORT_FILE, STATE_FILE, WORKFLOW_FILE
from beamcast.members.join import JOIN_FILE, read_join

ID_FIELDS = ("uniqueId",)


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Which PVs are read, and where they are looked for. `servers` empty: as the EPICS environment says. `run`: the
    directory of the run that they belong to."""

    pvs: tuple[str, ...]
    servers: tuple[str, ...] = ()
    id_fields: tuple[str, ...] = ID_FIELDS
    run: Path | None = None


def is_run_dir(path: Path) -> bool:
    """Whether a run lives, or has lived, there."""
    return any((path / name).is_file() for name in (LEASE_FILE, JOIN_FILE, REPORT_FILE))


class _State(msgspec.Struct):
    """What we need of a run's state file."""

    result_channels: tuple[str, ...]


class _Source(msgspec.Struct):
    id_field: str = ID_FIELDS[0]


class _Workflow(msgspec.Struct):
    """What we need of a run's workflow."""

    source: _Source = field(default_factory=_Source)


def results_of_run(folder: Path, id_fields: tuple[str, ...]) -> Whereabouts | None:
    """Where a run's results are; None while it is starting. UsageError of one that has ended, or has none."""
    if has_ended(folder):
        raise UsageError(
            f"the run in {folder} has ended: its result PVs are gone with it",
            hint="`beamcast list` shows the runs that go on, `beamcast report` what this one did; to keep results, "
            "save them in the workflow (SaveHdf5)",
        )
    if not ((folder / JOIN_FILE).is_file() and (folder / STATE_FILE).is_file()):
        return None
    join = read_join(folder)
    channels = msgspec.json.decode((folder / STATE_FILE).read_bytes(), type=_State).result_channels
    if not channels:
        raise UsageError(f"the run in {folder} has no results", hint="[results] in its workflow names them")
    own = msgspec.toml.decode((folder / WORKFLOW_FILE).read_bytes(), type=_Workflow).source.id_field
    return Whereabouts(
        channels, (join.name_server,), id_fields or tuple(dict.fromkeys((own, *ID_FIELDS))), folder
    )


def has_ended(folder: Path) -> bool:
    """Whether the run has left its report, or its controller is no more."""
    if (folder / REPORT_FILE).is_file():
        return True
    lease = read_lease(folder)
    return lease is not None and ownership(folder, lease) is not Ownership.LIVES
