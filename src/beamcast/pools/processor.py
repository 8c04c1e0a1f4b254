"""Loading a user's processor: by its name in the workflow, native or written for PvaPy.

Which of the two a class is, is decided by its shape (`beamcast.pools.adapter`); the rank sees one interface.
"""

import difflib
import importlib
import inspect
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from beamcast.core.errors import UsageError
from beamcast.pools.adapter import PvapyProcessor, is_pvapy_class, pvapy_config
from beamcast.pools.context import Context, Station
from beamcast.pools.frame import Frame
from beamcast.pools.native import NativeProcessor
from beamcast.pools.output import First, Output, Tap
from beamcast.pools.output_seal import PoolSealer
from beamcast.pools.params import checked_arguments
from beamcast.pools.user_file import load_user_file

__all__ = ["Context", "LoadedProcessor", "Station", "load_processor", "open_output"]


class LoadedProcessor(Protocol):
    """A user's processor as the rank uses it.

    `publishes_itself`: what `process` returns only says whether it did. `outputs`: how many results a frame has, each
    with its own channel. `fields`: the declared dictionary fields of each. `batch`: frames in one `process_batch`.
    """

    @property
    def process(self) -> Callable[[Frame], Any]: ...
    @property
    def process_batch(self) -> Callable[[list[Frame]], Any] | None: ...
    @property
    def publishes_itself(self) -> bool: ...
    @property
    def batch(self) -> int: ...
    @property
    def outputs(self) -> int: ...
    @property
    def fields(self) -> Sequence[Mapping[str, Any] | None]: ...

    def records(self, probe: Any) -> Sequence[Any]:
        """What the output records are made like."""

    def start(self, context: Context) -> None:
        """Before the first frame."""

    def stop(self) -> None:
        """After the last frame."""

    def configure(self, values: Mapping[str, object]) -> None:
        """New parameters, between two frames."""

    def reset_stats(self) -> None:
        """Count from 0 again."""

    def stats(self) -> Mapping[str, Any]:
        """The user's statistics; called on the heartbeat thread."""

    def stats_types(self) -> Mapping[str, Any]:
        """Their pvAccess types."""


def load_processor(
    spec: str, params: Mapping[str, object], *, base: Path, station: Station
) -> LoadedProcessor:
    """Make the processor that `spec` ("file.py:Class" beside the workflow, or "package.module:Class") names.

    UsageError when there is no such file, module or class, when the parameters do not fit its constructor or it
    raises, or when it has no `process`; the traceback of the user's code is in the error's notes.
    """
    made = _find_class(spec, base)
    if is_pvapy_class(made):
        config = pvapy_config(params, station)
        return PvapyProcessor(_construct(lambda: made(config), spec), spec=spec, station=station)
    arguments = checked_arguments(made, params, what=f"processor {spec!r}")
    return NativeProcessor(_construct(lambda: made(**arguments), spec), spec=spec)


def open_output(
    processor: LoadedProcessor,
    station: Station,
    *,
    tap: Tap | None = None,
    seal: PoolSealer | None = None,
    first: First | None = None,
) -> Output:
    """The output channels that fit a processor; `Output.open` then makes the records. `tap` gets what is published,
    after `seal` has sealed it, `first` what is going to be: if it raises, the frame has failed and nothing is
    published."""
    output = Output(
        station.server,
        station.output_channel,
        count=processor.outputs,
        records=processor.records,
        fields=processor.fields,
        tap=tap,
        seal=seal,
        first=first,
        id_fields=station.id_fields,
    )
    if isinstance(processor, PvapyProcessor):
        processor.attach(output.send)
    return output


def _find_class(spec: str, base: Path) -> type:
    where, _, class_name = spec.rpartition(":")
    module = _load_file(base / where, spec) if where.endswith(".py") else _load_module(where, spec)
    made = getattr(module, class_name, None)
    if inspect.isclass(made):
        return made
    classes = [name for name, value in vars(module).items() if inspect.isclass(value)]
    near = difflib.get_close_matches(class_name, classes, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"classes there: {', '.join(sorted(classes)) or 'none'}"
    raise UsageError(f"processor {spec!r}: no class {class_name!r} in {where}", hint=hint)


def _construct(make: Callable[[], Any], spec: str) -> Any:
    try:
        return make()
    except (Exception, SystemExit) as error:  # the user's constructor may raise anything
        refused = UsageError(f"processor {spec!r} can't be made: {type(error).__name__}: {error}")
        refused.add_note(traceback.format_exc())
        raise refused from error


def _load_module(name: str, spec: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # a user's module may raise anything when imported
        refused = UsageError(f"processor {spec!r}: can't import {name}: {type(error).__name__}: {error}")
        refused.add_note(traceback.format_exc())
        raise refused from error


def _load_file(path: Path, spec: str) -> ModuleType:
    if not path.is_file():
        raise UsageError(
            f"processor {spec!r}: no file {path}", hint="the path is relative to the workflow file"
        )
    try:
        return load_user_file(path)
    except (Exception, SystemExit) as error:  # the user's file may raise anything
        refused = UsageError(f"processor {spec!r}: {path.name} fails: {type(error).__name__}: {error}")
        refused.add_note(traceback.format_exc())
        raise refused from error
