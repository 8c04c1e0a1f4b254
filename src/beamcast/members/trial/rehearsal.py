"""The trial itself: each pool's processor is loaded, made, started and given one frame, as its rank would do it.

The frame is the simulator's first one, the first of the file that is to be played, or what the detector's channel shows
now, where it is there; what comes of it is the frame of the pool behind. Nothing is served, and nothing is connected to
but the detector's channel. Where no frame can be had (no detector, parts of several ranks, a sealed stream), the
processor is made and started.
"""

import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from beamcast.config.workflow import Pool, Source
from beamcast.core.errors import BeamcastError, UsageError
from beamcast.core.ids import Epoch, FrameId, FrameKey, frame_key
from beamcast.core.place import Place
from beamcast.members.child import member_command
from beamcast.members.trial.job import Trial
from beamcast.pools.context import Context, Station
from beamcast.pools.frame import NO_METADATA, Frame
from beamcast.pools.output import Output
from beamcast.pools.processor import LoadedProcessor, load_processor, open_output
from beamcast.pools.tally import Tally
from beamcast.pools.work import BatchWork, Work
from beamcast.sim.metadata import simulated_value
from beamcast.sim.source import frame_source

# A detector that is there answers within milliseconds; one that is away is not waited for.
LOOK_S = 0.9
_OUTPUT_ID_FIELD = "uniqueId"
# Of PvaPy's file processors: where they write.
_PVAPY_FOLDER = "outputDirectory"
_HERE = Path(__file__).parents[2]


class Tell(Protocol):
    """Gets the events: "step" before each (pool, step: load, start or process), "problem" (of which pool and step, the
    error, file and line of the user's code, whether it is `theirs`, the name of a missing module, the traceback), and
    "done" at the end."""

    def __call__(self, **event: Any) -> None: ...


def rehearse(trial: Trial, folder: Path, *, memory_bytes: int, tell: Tell) -> None:
    """Try all pools, and tell what goes wrong. `folder`: where processors may write."""
    if "-P" not in member_command("rank", folder, ()):
        sys.path.append(str(Path.cwd()))  # as a rank has it, but behind everything
    outputs: dict[str, list[Any] | None] = {"source": None}
    step = _Step(tell, memory_bytes)
    with step("source", "frame"):
        pv = first_frame(trial)
        outputs["source"] = None if pv is None else [pv]
    for pool, place in zip(trial.pools, trial.places, strict=True):
        outputs[pool.name] = _try_pool(trial, pool, place, outputs, folder / pool.name, step)
    tell(event="done")


class _Step:
    """Tells before something is tried, and what went wrong."""

    def __init__(self, tell: Tell, memory_bytes: int) -> None:
        self._tell = tell
        self._memory_bytes = memory_bytes
        self._at = ("", "")
        self.failed = False

    def __call__(self, pool: str, step: str) -> "_Step":
        self._at, self.failed = (pool, step), False
        self._tell(event="step", pool=pool, step=step)
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        if error is None:
            return False
        self.failed = True
        pool, step = self._at
        text = f"{error}" if isinstance(error, BeamcastError) else f"{type(error).__name__}: {error}"
        if isinstance(error, MemoryError):
            text += f" (the check allows {self._memory_bytes / 2**30:.0f} GiB)"
        cause = error.__cause__ if isinstance(error, BeamcastError) else error
        file, line = place_of(cause) if cause is not None else ("", 0)
        self._tell(
            event="problem",
            pool=pool,
            step=step,
            error=text,
            file=file,
            line=line,
            theirs=cause is not None,
            missing=cause.name if isinstance(cause, ModuleNotFoundError) else None,
            traceback="".join(traceback.format_exception(error)),
        )
        return True


def place_of(error: BaseException) -> tuple[str, int]:
    """File and line of the user's code where an error was raised: the innermost that is neither ours nor an
    installed library's nor Python's; "" where there is none."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return error.filename, error.lineno or 0
    frames = traceback.extract_tb(error.__traceback__)
    found = next((frame for frame in reversed(frames) if _is_users(frame.filename)), None)
    return ("", 0) if found is None else (found.filename, found.lineno or 0)


def _is_users(file: str) -> bool:
    path = Path(file)
    installed = {"site-packages", "dist-packages"} & set(path.parts)
    return not (file.startswith("<") or installed or path.is_relative_to(_HERE) or _is_pythons(path))


def _is_pythons(path: Path) -> bool:
    return path.is_relative_to(Path(traceback.__file__).parent)


def first_frame(trial: Trial) -> Any:
    """A frame such as the source will send; None where that is not known. DataError and UsageError for a file that
    can't be played."""
    source = trial.source
    if source.simulate is not None:
        from beamcast.pva.ndarray import make_ndarray

        first_id = source.simulate.first_id
        image = frame_source(source.simulate, base=Path(trial.base)).frame(first_id)
        return make_ndarray(image, frame_id=first_id, timestamp_s=time.time())
    if source.mode != "monitor" or source.protocol != "pva":
        return None
    pv = _current_value(source)
    return pv if pv is not None and _is_frame(pv) else None


def _current_value(source: Source) -> Any:
    """What the detector's channel shows; None when it is not there."""
    from beamcast.core.errors import WorldError
    from beamcast.pools.inputs import look_at
    from beamcast.pva.environment import apply_environment, client_environment, user_settings

    if source.address is not None:
        apply_environment(client_environment([source.address]))
    elif len(user_settings().get("EPICS_PVA_NAME_SERVERS", "").split()) > 1:
        return None  # pvaccess crashes with two of them
    try:
        return look_at(source.channel, timeout_s=LOOK_S, should_stop=lambda: False)
    except WorldError:
        return None


def _is_frame(pv: Any) -> bool:
    """Whether a detector shows a frame, and not what its record holds before the first one."""
    from beamcast.pva.fields import is_blank

    if is_blank(pv) or pv.hasField("sealed"):
        return False
    if not (pv.hasField("dimension") and pv.hasField("codec.name")):
        return True
    return bool(pv["dimension"]) and not pv["codec.name"].startswith("beamcast.")


def _try_pool(
    trial: Trial,
    pool: Pool,
    place: Place,
    outputs: Mapping[str, list[Any] | None],
    folder: Path,
    step: _Step,
) -> list[Any] | None:
    """Try one processor; what it publishes of the frame, None where that is not known."""
    folder.mkdir()
    server = NoServer()
    station = Station(
        rank=place.rank,
        input_channel="beamcast:check:input",
        output_channel="beamcast:check:output",
        id_fields=_id_fields(trial, pool),
        server=server,
    )
    params = {**pool.params, **({_PVAPY_FOLDER: str(folder)} if _PVAPY_FOLDER in pool.params else {})}
    with step(pool.name, "load"):
        processor = load_processor(pool.processor, params, base=Path(trial.base), station=station)
    if step.failed:
        return None
    with step(pool.name, "load"):
        _check_branches(trial, pool, processor)
    context = Context(run=trial.run, pool=pool.name, place=place, base=Path(trial.base), scratch=folder)
    with step(pool.name, "start"):
        processor.start(context)
    made: list[Any] | None = None
    pv = None if step.failed else _input_of(trial, pool, outputs)
    if pv is not None and (metadata := _metadata(trial, pool, processor)) is not None:
        with step(pool.name, "process"):
            made = _process(processor, station, pv, metadata)
    try:
        processor.stop()
    except Exception:  # noqa: BLE001 - of no consequence for the run: its frames are done by then
        traceback.print_exc()
    return made


def _check_branches(trial: Trial, pool: Pool, processor: LoadedProcessor) -> None:
    """UsageError where another pool reads an output that this processor does not have."""
    for reader in trial.pools:
        wanted = reader.input_branches or reader.input_branch + 1
        if reader.input == pool.name and wanted > processor.outputs:
            raise UsageError(
                f"pool {reader.name} reads output {wanted - 1} of pool {pool.name}, whose processor has "
                f"{processor.outputs} (counted from 0)",
                hint="its attribute `outputs` says how many it has",
            )


def _input_of(trial: Trial, pool: Pool, outputs: Mapping[str, list[Any] | None]) -> Any:
    """The frame for this pool, its own copy; None where it can't be known."""
    before = next((each for each in trial.pools if each.name == pool.input), None)
    sealed_before = before is not None and before.seal is not None
    made = outputs.get(pool.input)
    if pool.parts > 1 or made is None or (pool.open is not None) != sealed_before:
        return None
    branch = pool.input_branch if pool.input_branches is None else 0
    return made[branch].copy() if branch < len(made) else None


def _metadata(trial: Trial, pool: Pool, processor: LoadedProcessor) -> Mapping[str, Any] | None:
    """What is joined to the frame; None where that is not known."""
    if pool.input != "source" or not trial.metadata:
        return NO_METADATA
    simulation = trial.source.simulate
    if simulation is None or processor.publishes_itself or not all(each.simulate for each in trial.metadata):
        return None
    values = enumerate(trial.metadata)
    return {each.name: simulated_value(simulation.first_id, number) for number, each in values}


def _process(
    processor: LoadedProcessor, station: Station, pv: Any, metadata: Mapping[str, Any]
) -> list[Any] | None:
    """What the processor publishes of one frame; None when it drops it. Raises what it raises."""
    output = open_output(processor, station)
    output.open(pv.copy())

    def make_frame(given: Any, key: FrameKey, reader: Any) -> Frame:
        return Frame(given, key, reader, metadata)

    tally = Tally()
    made = _Work if processor.batch == 1 else _BatchWork
    work: Work = made(processor, output, tally, make_frame=make_frame)
    work.do(pv, _key_of(pv, station))
    work.flush()
    return _published(output, station.server) if tally.processed else None


def _published(output: Output, server: "NoServer") -> list[Any] | None:
    made = [server.updates.get(channel) for channel in output.channels]
    return None if any(one is None for one in made) else made


def _key_of(pv: Any, station: Station) -> FrameKey:
    name = next((name for name in station.id_fields if pv.hasField(name)), None)
    number = pv[name] if name is not None else 1
    return frame_key(Epoch(0), FrameId(number if isinstance(number, int) and number >= 0 else 1))


def _id_fields(trial: Trial, pool: Pool) -> tuple[str, ...]:
    of_source = trial.source.id_field
    if pool.input == "source":
        return (of_source,)
    said = next(each.output_id_field for each in trial.pools if each.name == pool.input)
    return (said,) if said else (_OUTPUT_ID_FIELD, of_source)


def _raised(work: Work, key: FrameKey, error: BaseException) -> None:
    raise error


class _Work(Work):
    __slots__ = ()
    fail: Callable[..., None] = _raised


class _BatchWork(BatchWork):
    __slots__ = ()
    fail: Callable[..., None] = _raised


class NoServer:
    """Stands in for a rank's pvaccess server: no port, no channel, only the structures of its records.

    The names are pvaccess', since PvaPy's processors use them.
    """

    def __init__(self) -> None:
        self.updates: dict[str, Any] = {}
        self._types: dict[str, Any] = {}

    def addRecord(self, channel: str, pv: Any, *more: Any) -> None:  # noqa: N802 - pvaccess' name
        """As of a server."""
        self._types[channel] = pv.getStructureDict()

    def removeRecord(self, channel: str) -> None:  # noqa: N802 - pvaccess' name
        """As of a server."""
        self._types.pop(channel, None)

    def hasRecord(self, channel: str) -> bool:  # noqa: N802 - pvaccess' name
        """As of a server."""
        return channel in self._types

    def update(self, channel: str, pv: Any) -> None:
        """As of a server: ValueError for another structure than the record's."""
        if pv.getStructureDict() != self._types.get(channel):
            raise ValueError("object structure does not match")
        self.updates[channel] = pv.copy()

    updateUnchecked = update  # noqa: N815 - pvaccess' name
