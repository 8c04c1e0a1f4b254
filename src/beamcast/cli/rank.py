"""`beamcast consumer` and `beamcast collector`: one rank without a run."""

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer

from beamcast.cli.ground import on_stop_signals, stand
from beamcast.cli.logs import configure_logging
from beamcast.cli.options import DebugOption, InterfaceOption, JsonOption, PortOption, parse_endpoints
from beamcast.config.units import Bytes, Seconds
from beamcast.config.workflow import Pool, Source
from beamcast.core.errors import UsageError
from beamcast.core.place import Slot
from beamcast.members.names import asking_name_server
from beamcast.pools.memory import keep_freed_memory
from beamcast.pools.printing import print_at_once
from beamcast.pva.messages import Input, RankDuty

if TYPE_CHECKING:
    from beamcast.pools.standalone import StandaloneReport

PASS_THROUGH = "beamcast.processors.passthrough:PassThrough"
_WORD = re.compile(r"[A-Za-z0-9_.-]+")

OutputOption = Annotated[str, typer.Option(help="The channel to publish on.", show_default=False)]
ProcessorOption = Annotated[str, typer.Option(help="'file.py:Class' or 'package.module:Class'.")]
ParamsOption = Annotated[str, typer.Option(metavar="JSON", help="Keyword arguments of the processor.")]
IdFieldOption = Annotated[str, typer.Option(help="The field that numbers the frames.")]
ServerQueueOption = Annotated[int, typer.Option(min=1, help="Frames the sending server may queue for us.")]
ReceiverQueueOption = Annotated[int, typer.Option(min=1, help="Frames we may hold before processing.")]
BytesOption = Annotated[
    str | None, typer.Option(metavar="SIZE", help="The same in bytes, such as '512 MiB'.")
]
OpenOption = Annotated[
    str | None, typer.Option("--open", metavar="FILE", help="Open what is read with the keys in this file.")
]
SealOption = Annotated[
    str | None,
    typer.Option("--seal", metavar="FILE", help="Seal what is published with the keys in this file."),
]
NameServerOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="HOST:PORT", help="Where to ask for the input; absent: your EPICS settings. Repeatable."
    ),
]
FramesOption = Annotated[int | None, typer.Option(min=1, help="End when at least so many are done.")]
RuntimeOption = Annotated[float | None, typer.Option(min=0.001, help="End after so many seconds.")]
AppearOption = Annotated[float, typer.Option(min=0.001, help="Seconds the input may take to appear.")]
ReportOption = Annotated[Path | None, typer.Option(help="Write the counts and ids to this file.")]


def consumer(
    input: Annotated[str, typer.Option(help="The channel to monitor.", show_default=False)],
    output: OutputOption,
    processor: ProcessorOption = PASS_THROUGH,
    params: ParamsOption = "{}",
    id_field: IdFieldOption = "uniqueId",
    group: Annotated[
        str | None, typer.Option(help="Data distributor group to share the frames in; absent: all frames.")
    ] = None,
    set_name: Annotated[
        str | None, typer.Option("--set", help="Distributor set; absent: one of our own.")
    ] = None,
    updates: Annotated[int, typer.Option(min=1, help="Consecutive frames in one turn.")] = 1,
    trigger: Annotated[str | None, typer.Option(help="Distributor trigger; absent: the id field.")] = None,
    server_queue: ServerQueueOption = 1000,
    receiver_queue: ReceiverQueueOption = 1000,
    server_queue_bytes: BytesOption = None,
    receiver_queue_bytes: BytesOption = None,
    open_keys: OpenOption = None,
    seal_keys: SealOption = None,
    name_server: NameServerOption = None,
    interface: InterfaceOption = "lo",
    port: PortOption = None,
    frames: FramesOption = None,
    runtime: RuntimeOption = None,
    appear_timeout: AppearOption = 30.0,
    report_json: ReportOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Process the frames of one channel and publish the output: a consumer rank without a run."""
    request = f"record[queueSize={server_queue}]field()"
    if group is not None:
        own_set = set_name or f"{os.uname().nodename}-{os.getpid()}"
        slot = distributor_slot(group, own_set, updates=updates, trigger=trigger or id_field)
        request = f"record[queueSize={server_queue}]field(_[{slot.distributor_request()}])"
    elif set_name is not None or trigger is not None or updates != 1:
        raise UsageError(
            "--set, --updates and --trigger are of the data distributor", hint="give --group too"
        )
    pool = Pool(
        name="consumer",
        role="consumer",
        input="source",
        processor=processor,
        params=parse_params(params),
        server_queue=server_queue,
        receiver_queue=receiver_queue,
        server_queue_bytes=parse_size(server_queue_bytes, option="--server-queue-bytes"),
        receiver_queue_bytes=parse_size(receiver_queue_bytes, option="--receiver-queue-bytes"),
        open=open_keys,
        seal=seal_keys,
    )
    duty = make_duty(pool, channel=input, output=output, id_field=id_field, appear_timeout_s=appear_timeout)
    inputs = (Input(channel=input, request=request),)
    configure_logging(debug=debug)
    servers = parse_endpoints(name_server, option="--name-server")
    done = run_rank(duty, inputs, servers, interface=interface, port=port, frames=frames, runtime_s=runtime)
    _tell(done, report_json, as_json=as_json)


def collector(
    input: Annotated[list[str], typer.Option(help="A channel to gather. Repeatable.", show_default=False)],
    output: OutputOption,
    processor: ProcessorOption = PASS_THROUGH,
    params: ParamsOption = "{}",
    id_field: IdFieldOption = "uniqueId",
    window: Annotated[int, typer.Option(min=1, help="Frames held back to restore the order.")] = 2048,
    wait: Annotated[float, typer.Option(min=0.001, help="Longest wait for a missing id, in seconds.")] = 2.0,
    server_queue: ServerQueueOption = 1000,
    receiver_queue: ReceiverQueueOption = 1000,
    server_queue_bytes: BytesOption = None,
    receiver_queue_bytes: BytesOption = None,
    open_keys: OpenOption = None,
    seal_keys: SealOption = None,
    name_server: NameServerOption = None,
    interface: InterfaceOption = "lo",
    port: PortOption = None,
    frames: FramesOption = None,
    runtime: RuntimeOption = None,
    appear_timeout: AppearOption = 30.0,
    report_json: ReportOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Gather channels, put their frames in order of their ids and publish them: a collector without a run."""
    pool = Pool(
        name="collector",
        role="collector",
        input="source",
        processor=processor,
        params=parse_params(params),
        server_queue=server_queue,
        receiver_queue=receiver_queue,
        server_queue_bytes=parse_size(server_queue_bytes, option="--server-queue-bytes"),
        receiver_queue_bytes=parse_size(receiver_queue_bytes, option="--receiver-queue-bytes"),
        open=open_keys,
        seal=seal_keys,
        reorder_window=window,
        reorder_timeout=Seconds(wait),
    )
    duty = make_duty(
        pool, channel=input[0], output=output, id_field=id_field, appear_timeout_s=appear_timeout
    )
    request = f"record[queueSize={server_queue}]field()"
    inputs = tuple(
        Input(channel=channel, request=request, producer=producer) for producer, channel in enumerate(input)
    )
    configure_logging(debug=debug)
    servers = parse_endpoints(name_server, option="--name-server")
    done = run_rank(duty, inputs, servers, interface=interface, port=port, frames=frames, runtime_s=runtime)
    _tell(done, report_json, as_json=as_json)


def distributor_slot(group: str, set_name: str, *, updates: int, trigger: str) -> Slot:
    """The part in the distribution that the options ask for; UsageError for text that a request can't carry."""
    for option, text in (("--group", group), ("--set", set_name), ("--trigger", trigger)):
        if _WORD.fullmatch(text) is None:
            raise UsageError(f"{option} is made of letters, digits, '_', '.' and '-', not {text!r}")
    return Slot(group=group, set=set_name, turn=0, updates=updates, trigger=trigger)


def parse_size(text: str | None, *, option: str) -> Bytes | None:
    """A size such as "512 MiB"; UsageError naming the option for other text."""
    if text is None:
        return None
    try:
        return Bytes.parse(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from error


def parse_params(text: str) -> dict[str, object]:
    """The processor's parameters from JSON; UsageError for anything but an object."""
    try:
        return msgspec.json.decode(text, type=dict[str, object])
    except msgspec.MsgspecError as error:
        raise UsageError(f'--params is a JSON object such as {{"threshold": 5}}: {error}') from error


def side_channel(output: str, kind: Literal["status", "control"]) -> str:
    """The status or control channel beside an output channel: prefix:output has prefix:status."""
    stem = output.removesuffix(":output")
    return f"{stem}:{kind}"


def make_duty(pool: Pool, *, channel: str, output: str, id_field: str, appear_timeout_s: float) -> RankDuty:
    """What the only rank of a pool without a run has to do."""
    return RankDuty(
        rank=0,
        pool=pool,
        source=Source(channel=channel, id_field=id_field, appear_timeout=Seconds(appear_timeout_s)),
        base=str(Path.cwd()),
        slot=0,
        output_channel=output,
        status_channel=side_channel(output, "status"),
        control_channel=side_channel(output, "control"),
    )


def run_rank(
    duty: RankDuty,
    inputs: tuple[Input, ...],
    servers: list[str],
    *,
    interface: str,
    port: int | None,
    frames: int | None,
    runtime_s: float | None,
) -> "StandaloneReport":
    """Run one rank to its end, told by its options or a signal, and return what it did."""
    keep_freed_memory()
    print_at_once()
    asked = [asking_name_server(servers)] if servers else []
    where = stand(interface=interface, port=port, name_servers=asked)
    import pvaccess

    from beamcast.pools.standalone import StandaloneRank

    server = pvaccess.PvaServer()
    where.check()
    rank = StandaloneRank(duty, inputs, server)

    def stop() -> None:
        rank.steering.stop = True

    on_stop_signals(stop)
    print(f"serving {duty.output_channel} at {where.address}:{where.port}", file=sys.stderr, flush=True)
    rank.run(frames=frames, runtime_s=runtime_s, say=lambda text: print(text, file=sys.stderr, flush=True))
    where.leave(server)
    return rank.report()


def _tell(report: "StandaloneReport", path: Path | None, *, as_json: bool) -> None:
    encoded = msgspec.json.format(msgspec.json.encode(report), indent=2)
    if path is not None:
        path.write_bytes(encoded + b"\n")
    print(encoded.decode() if as_json else summary(report))


def summary(report: "StandaloneReport") -> str:
    """The report for people; only what is not zero gets a line of its own."""
    rate = report.processed / report.runtime_s if report.runtime_s else 0.0
    lines = [f"processed {report.processed} frames, {rate:.1f} frames/s: {report.processed_ids or 'none'}"]
    if report.dropped:
        lines.append(f"dropped by the processor {report.dropped}: {report.dropped_ids}")
    if report.failed:
        lines.append(f"failed {report.failed}: {report.failed_ids}")
        lines += [report.tracebacks[-1].rstrip()] if report.tracebacks else []
    if report.missing:
        lines.append(f"never came (or went to other ranks) {report.missing}: {report.missing_ids}")
    counted = {
        "duplicates": report.duplicates,
        "late": report.late,
        "still queued": report.queued,
        "overruns at the server": report.server_overruns,
        "rejected by the full receiver queue": report.receiver_rejected,
    }
    lines += [f"{name} {number}" for name, number in counted.items() if number]
    return "\n".join(lines)
