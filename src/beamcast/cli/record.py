"""`beamcast record`: a stream into one HDF5 file."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from beamcast.cli.logs import configure_logging
from beamcast.cli.options import DebugOption, InterfaceOption, JsonOption, PortOption, parse_endpoints
from beamcast.cli.outcome import FAILED, Quit
from beamcast.cli.rank import (
    AppearOption,
    IdFieldOption,
    NameServerOption,
    ReceiverQueueOption,
    ServerQueueOption,
    make_duty,
    run_rank,
)
from beamcast.config.workflow import Pool
from beamcast.core.errors import UsageError
from beamcast.core.frame_layout import PARTIAL
from beamcast.processors.frame_file import COMPRESSIONS
from beamcast.pva.messages import Input

if TYPE_CHECKING:
    from beamcast.pools.standalone import StandaloneReport

PROCESSOR = "beamcast.processors.hdf5:RecordHdf5"


def record(
    channel: Annotated[str, typer.Argument(help="The channel to record.", show_default=False)],
    file: Annotated[Path, typer.Argument(help="The HDF5 file to write.", show_default=False)],
    frames: Annotated[int | None, typer.Option(min=1, help="End after exactly so many frames.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.001, help="End after so many seconds.")] = None,
    compression: Annotated[str, typer.Option(help=f"One of {', '.join(COMPRESSIONS)}.")] = "bslz4",
    id_field: IdFieldOption = "uniqueId",
    server_queue: ServerQueueOption = 1000,
    receiver_queue: ReceiverQueueOption = 1000,
    name_server: NameServerOption = None,
    interface: InterfaceOption = "lo",
    port: PortOption = None,
    appear_timeout: AppearOption = 30.0,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Save the frames of CHANNEL in FILE until stopped. What the channel holds at the start is not a frame."""
    path = Path.cwd() / file
    _check(path, compression)
    pool = Pool(
        name="record",
        role="consumer",
        input="source",
        processor=PROCESSOR,
        params={"file": str(path), "max_frames": frames, "compression": compression},
        server_queue=server_queue,
        receiver_queue=receiver_queue,
    )
    # What is recorded is passed on under this name; nobody has to read it.
    output = f"beamcast:record:{os.getpid()}:output"
    duty = make_duty(pool, channel=channel, output=output, id_field=id_field, appear_timeout_s=appear_timeout)
    inputs = (Input(channel=channel, request=f"record[queueSize={server_queue}]field()"),)
    configure_logging(debug=debug)
    servers = parse_endpoints(name_server, option="--name-server")
    done = run_rank(duty, inputs, servers, interface=interface, port=port, frames=frames, runtime_s=seconds)
    _tell(done, path, as_json=as_json)


def _check(path: Path, compression: str) -> None:
    if compression not in COMPRESSIONS:
        raise UsageError(f"--compression is one of {', '.join(COMPRESSIONS)}, not {compression!r}")
    if not path.parent.is_dir():
        raise UsageError(f"no folder {path.parent}")
    for taken in (path, path.with_name(path.name + PARTIAL)):
        if taken.exists():
            raise UsageError(f"{taken} is there already", hint="move it away: nothing is overwritten")


def _tell(report: "StandaloneReport", path: Path, *, as_json: bool) -> None:
    """Say what was recorded; the command fails when a frame could not be saved, or none came."""
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    else:
        print(f"recorded {report.processed} frames: {report.processed_ids or 'none'} in {path}")
        if report.missing:
            print(f"never came {report.missing}: {report.missing_ids}")
    if report.failed:
        print(f"error: {report.failed} frames were not saved: {report.failed_ids}", file=sys.stderr)
        print(report.tracebacks[-1].rstrip() if report.tracebacks else "", file=sys.stderr)
    elif not report.processed:
        print("error: no frame came", file=sys.stderr)
    if report.failed or not report.processed:
        raise Quit(FAILED)
