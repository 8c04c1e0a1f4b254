"""`beamcast sim`: a detector for trying things out."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from beamcast.cli.ground import on_stop_signals, stand
from beamcast.cli.options import InterfaceOption, JsonOption, PortOption, parse_shape


def sim(
    channel: Annotated[str, typer.Argument(help="The channel to serve.", show_default=False)],
    rate: Annotated[float, typer.Option(min=0.001, help="Frames per second.")] = 100.0,
    frames: Annotated[int | None, typer.Option(min=1, help="How many frames; absent: until stopped.")] = None,
    shape: Annotated[str, typer.Option(help="Rows x columns in pixels.")] = "512x512",
    dtype: Annotated[str, typer.Option(help="NumPy integer or floating dtype.")] = "uint8",
    file: Annotated[Path | None, typer.Option(help="Play this .npy or HDF5 file in a loop.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Dataset inside an HDF5 file.")] = None,
    first_id: Annotated[int, typer.Option(min=0, help="Id of the first frame.")] = 1,
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
    rows_columns = parse_shape(shape)
    where = stand(interface=interface, port=port)
    import pvaccess

    from beamcast.sim.payload import PayloadMaker
    from beamcast.sim.simulator import Simulator
    from beamcast.sim.source import RandomSource, open_source

    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True

    on_stop_signals(stop)
    source = open_source(file, dataset) if file else RandomSource(PayloadMaker(rows_columns, dtype, seed))
    server = pvaccess.PvaServer()
    where.check()
    simulator = Simulator(channel, source, server=server, rate_hz=rate, frames=frames, first_id=first_id)
    simulator.serve_initial()
    print(f"serving {channel} at {where.address}:{where.port}; read it with", flush=True)
    print(f"  {where.how_to_read(channel)}", flush=True)
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
    server.stop()
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
