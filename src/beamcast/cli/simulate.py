"""`beamcast sim`: a detector for trying things out."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from beamcast.cli.ground import Stand, on_stop_signals, stand
from beamcast.cli.options import InterfaceOption, JsonOption, PortOption, parse_shape
from beamcast.core.errors import UsageError

if TYPE_CHECKING:
    from beamcast.sim.simulator import SimReport

DEFAULT_RATE_HZ = 100.0


def sim(
    channel: Annotated[str, typer.Argument(help="The channel to serve.", show_default=False)],
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Frames per second; absent: 100, or as recorded.")
    ] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="How many frames; absent: until stopped.")] = None,
    shape: Annotated[str, typer.Option(help="Rows x columns in pixels.")] = "512x512",
    dtype: Annotated[str, typer.Option(help="NumPy integer or floating dtype.")] = "uint8",
    file: Annotated[Path | None, typer.Option(help="Play this .npy or HDF5 file in a loop.")] = None,
    recording: Annotated[
        Path | None, typer.Option("--from", help="Play this recording (HDF5) once, with the times it has.")
    ] = None,
    speed: Annotated[
        float, typer.Option(min=0.001, help="How many times faster than recorded (--from).")
    ] = 1.0,
    repeat: Annotated[int, typer.Option(min=1, help="How often to play the recording (--from).")] = 1,
    dataset: Annotated[str | None, typer.Option(help="Dataset inside an HDF5 file.")] = None,
    first_id: Annotated[
        int | None, typer.Option(min=0, help="Id of the first frame; absent: 1, or as recorded.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random images.")] = 0,
    restart_after: Annotated[
        int | None, typer.Option(min=1, help="Begin again with the first id after so many frames.")
    ] = None,
    delay: Annotated[float, typer.Option(min=0.0, help="Seconds before the first frame.")] = 0.0,
    linger: Annotated[float, typer.Option(min=0.0, help="Seconds to stay after the last frame.")] = 1.0,
    interface: InterfaceOption = "lo",
    port: PortOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve simulated detector images (NTNDArray) on CHANNEL at a steady rate. Ctrl-C ends it."""
    if recording is not None:
        if file is not None or restart_after is not None:
            raise UsageError("--from goes with neither --file nor --restart-after")
        where = stand(interface=interface, port=port)
        play = _Play(recording, dataset, rate, speed, repeat, frames, first_id)
        _tell(_play(channel, play, where, delay_s=delay, linger_s=linger), as_json=as_json)
        return
    if speed != 1.0 or repeat != 1:
        raise UsageError("--speed and --repeat are of a recording", hint="give --from too")
    rate_hz, first_id = rate or DEFAULT_RATE_HZ, 1 if first_id is None else first_id
    rows_columns = parse_shape(shape)
    where = stand(interface=interface, port=port)
    import pvaccess

    from beamcast.sim.payload import PayloadMaker
    from beamcast.sim.simulator import Simulator
    from beamcast.sim.source import RandomSource, StackSource, open_source

    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True

    on_stop_signals(stop)
    source = open_source(file, dataset) if file else RandomSource(PayloadMaker(rows_columns, dtype, seed))
    server = pvaccess.PvaServer()
    where.check()
    simulator = Simulator(channel, source, server=server, rate_hz=rate_hz, frames=frames, first_id=first_id)
    simulator.serve_initial()
    _announce(where, channel)
    if isinstance(source, StackSource) and frames is None:
        print(
            f"its {source.frames} frames are sent again and again; --frames {source.frames}: once", flush=True
        )
    _wait(delay, lambda: stopped)
    restarted_at = 0

    def should_stop() -> bool:
        nonlocal restarted_at
        sent = simulator.sent
        if restart_after is not None and sent and sent % restart_after == 0 and sent != restarted_at:
            restarted_at = sent
            simulator.restart_epoch(first_id)
        return stopped

    report = simulator.run(should_stop)
    _wait(linger if frames is not None else 0.0, lambda: stopped)
    where.leave(server)
    _tell(report, as_json=as_json)


@dataclass(frozen=True, slots=True)
class _Play:
    """What of a recording is played how."""

    path: Path
    dataset: str | None
    rate_hz: float | None
    speed: float
    repeat: int
    frames: int | None
    first_id: int | None


def _play(channel: str, play: _Play, where: Stand, *, delay_s: float, linger_s: float) -> "SimReport":
    import pvaccess

    from beamcast.sim.playback import Player, open_recording, steady

    recording = open_recording(play.path, play.dataset)
    rate_hz = play.rate_hz
    due_s = recording.due_s(speed=play.speed) if rate_hz is None else steady(recording.frames, rate_hz)
    stopped = threading.Event()
    on_stop_signals(stopped.set)
    server = pvaccess.PvaServer()
    where.check()
    player = Player(
        channel,
        recording,
        server=server,
        due_s=due_s,
        first_id=play.first_id,
        repeat=play.repeat,
        frames=play.frames,
    )
    player.serve_initial()
    _announce(where, channel)
    _wait(delay_s, stopped.is_set)
    report = player.run(stopped.is_set)
    _wait(linger_s, stopped.is_set)
    where.leave(server)
    return report


def _announce(where: Stand, channel: str) -> None:
    print(f"serving {channel} at {where.address}:{where.port}; read it with", flush=True)
    print(f"  {where.how_to_read(channel)}", flush=True)


def _tell(report: "SimReport", *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(report)))
        return
    print(
        f"sent {report.sent} frames in {report.seconds:.3f} s, {report.rate_hz:.1f} frames/s; jitter "
        f"p50 {report.jitter_p50_s * 1e6:.0f} us, p99 {report.jitter_p99_s * 1e6:.0f} us, "
        f"max {report.jitter_max_s * 1e6:.0f} us"
    )


def _wait(seconds: float, stopped: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not stopped():
        time.sleep(0.02)
