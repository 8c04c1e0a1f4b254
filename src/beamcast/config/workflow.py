"""The workflow file: what to do with the stream, independent of where.

One frozen struct for each concern; `beamcast.config.load` reads them from TOML, `beamcast.config.schema`
writes their JSON schema. Defaults are the answers that suit a first run on a laptop.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from beamcast.config.units import Bytes, Hertz, Seconds, TimeOffset

# The end is "nothing follows" and not "$", which lets a line end through; JSON schema reads both alike.
NAME_PATTERN = r"^[a-z][a-z0-9_-]{0,39}(?![\s\S])"
CHANNEL_PATTERN = r"^\S{1,200}(?![\s\S])"
PATTERN_WORDS = {
    NAME_PATTERN: "a name of 1 to 40 lower-case letters, digits, '-' and '_', the first a letter",
    CHANNEL_PATTERN: "a channel name of 1 to 200 characters without spaces",
}
Name = Annotated[str, Meta(pattern=NAME_PATTERN, description=PATTERN_WORDS[NAME_PATTERN])]
ChannelName = Annotated[str, Meta(pattern=CHANNEL_PATTERN, description=PATTERN_WORDS[CHANNEL_PATTERN])]
Count = Annotated[int, Meta(ge=1)]
Delivery = Literal["at-most-once", "at-least-once"]


class Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every configuration model: frozen, unknown keys refused (`kw_only` does not inherit)."""


class Simulation(Struct, frozen=True, kw_only=True):
    """The detector simulator that `beamcast run` starts as the source of this run."""

    rate: Annotated[Hertz, Meta(description="frames per second")] = Hertz(100.0)
    frames: Annotated[Count | None, Meta(description="how many frames to send; absent: until stopped")] = None
    shape: Annotated[tuple[Count, Count], Meta(description="rows and columns of one image, in pixels")] = (
        512,
        512,
    )
    dtype: Annotated[str, Meta(description="a NumPy integer or floating dtype name")] = "uint8"
    file: Annotated[
        str | None,
        Meta(
            description="a .npy or HDF5 file to play instead of random images; from its end it goes on with its "
            "beginning, for as many frames as `frames` says"
        ),
    ] = None
    dataset: Annotated[
        str | None,
        Meta(
            description="HDF5 dataset path, such as /entry/data/data, or a group of numbered ones (Eiger: /entry/data)"
        ),
    ] = None
    first_id: Annotated[int, Meta(ge=0, description="id of the first frame")] = 1
    start_delay: Annotated[
        Seconds | None,
        Meta(
            description="how long after the run is ready the first frame is sent: clients of the result PV find it "
            "and connect meanwhile; absent: at once"
        ),
    ] = None
    seed: Annotated[int, Meta(ge=0, description="seed of the random images")] = 0


class Source(Struct, frozen=True, kw_only=True):
    """The detector's channel."""

    channel: Annotated[ChannelName, Meta(description="the channel that serves the frames")]
    protocol: Annotated[Literal["pva", "ca"], Meta(description="pvAccess or Channel Access")] = "pva"
    address: Annotated[
        str | None,
        Meta(
            description="host:port of the channel's server, or of a name server that knows it, where no search "
            "reaches it; absent: search"
        ),
    ] = None
    id_field: Annotated[str, Meta(min_length=1, description="field that numbers the frames")] = "uniqueId"
    timestamp_field: Annotated[str, Meta(min_length=1, description="field with the time of a frame")] = (
        "timeStamp"
    )
    appear_timeout: Annotated[Seconds, Meta(description="how long the channel may take to appear")] = Seconds(
        30.0
    )
    idle_timeout: Annotated[
        Seconds | None,
        Meta(
            description="end the run when no frame came for this long; absent: only when told or all are sent"
        ),
    ] = None
    mode: Annotated[
        Literal["monitor", "put", "rpc"],
        Meta(
            description="monitor: a server elsewhere has the channel; put, rpc: we serve it, and clients write each "
            "frame into it or send it as an RPC"
        ),
    ] = "monitor"
    fields: Annotated[
        dict[str, object] | None,
        Meta(
            description="with put and rpc: the structure of a frame, field by type ('double', 'int[]', 'time', a table "
            "of fields); absent: NTNDArray"
        ),
    ] = None
    first_frame_timeout: Annotated[
        Seconds | None,
        Meta(
            description="end the run when no frame came this long after it was ready; absent: wait until told"
        ),
    ] = None
    simulate: Annotated[Simulation | None, Meta(description="start a simulator as the source")] = None


class Mirror(Struct, frozen=True, kw_only=True):
    """The process at the beamline that re-serves the source towards the cluster."""

    channel: Annotated[
        ChannelName | None, Meta(description="mirrored channel name; absent: <run>:mirror")
    ] = None
    queue: Annotated[Count, Meta(description="frames that the source's server may queue for the mirror")] = (
        1000
    )
    queue_bytes: Annotated[
        Bytes | None,
        Meta(description="the same in bytes: as many frames of the first one's size as fit; absent: queue"),
    ] = None
    replay: Annotated[
        Bytes,
        Meta(
            description="at-least-once: memory for frames whose result is not final, for each pool; "
            "a frame takes 9.5 KiB beside its array"
        ),
    ] = Bytes(1 << 30)
    overflow: Annotated[
        Literal["drop", "spill"],
        Meta(description="when that memory is full: lose the newest frames by name, or write them to disk"),
    ] = "drop"
    spill: Annotated[Bytes, Meta(description="disk space for spilled frames, for each pool")] = Bytes(8 << 30)
    retire_timeout: Annotated[
        Seconds,
        Meta(description="at-least-once: a processed frame whose result is not final by then is sent again"),
    ] = Seconds(10.0)
    spill_folder: Annotated[
        str | None,
        Meta(description="folder on a local disk for spilled frames; absent: in the run directory"),
    ] = None


class Metadata(Struct, frozen=True, kw_only=True):
    """One channel whose values are joined to the frames: `frame.metadata["name"]` in the pools that read the source."""

    name: Annotated[Name, Meta(description="key in frame.metadata, and name of the attribute")]
    channel: Annotated[ChannelName, Meta(description="the channel that serves the value")]
    protocol: Annotated[Literal["pva", "ca"], Meta(description="pvAccess or Channel Access")] = "pva"
    address: Annotated[
        str | None,
        Meta(
            description="pva: host:port of the channel's server, or of a name server that knows it, where no search "
            "reaches it; absent: search"
        ),
    ] = None
    match: Annotated[
        Literal["nearest", "previous", "id"],
        Meta(
            description="nearest: the update nearest in time; previous: the last one that was not later than the "
            "frame; id: the one that carries the frame's id"
        ),
    ] = "nearest"
    tolerance: Annotated[
        Seconds | None,
        Meta(
            description="largest distance in time between value and frame; absent: any (not with 'nearest')"
        ),
    ] = None
    offset: Annotated[
        TimeOffset, Meta(description="added to the times of the metadata before they are compared")
    ] = TimeOffset(0.0)
    wait: Annotated[
        Seconds, Meta(description="how long a frame waits for an update that could belong to it")
    ] = Seconds(0.1)
    unmatched: Annotated[
        Literal["pass", "drop"],
        Meta(description="a frame without a value: process it without, or drop it; counted either way"),
    ] = "pass"
    stamp: Annotated[
        bool, Meta(description="write the value into the frame too, as an attribute of the NTNDArray")
    ] = False
    id_field: Annotated[
        str, Meta(min_length=1, description="with match 'id': field of the update that holds the frame's id")
    ] = "uniqueId"
    absent: Annotated[
        Literal["fail", "go-on"],
        Meta(description="a channel that does not appear in time: end the run, or go on without its values"),
    ] = "fail"
    simulate: Annotated[
        bool, Meta(description="the simulator serves the channel: a value for each frame, 100 x id + number")
    ] = False


class Restart(Struct, frozen=True, kw_only=True):
    """What happens when a rank dies."""

    max_restarts: Annotated[
        int, Meta(ge=0, description="restarts of one rank; 0: a dead rank stays dead")
    ] = 3
    on_exhausted: Annotated[
        Literal["fail-run", "go-on"],
        Meta(description="what then: end the run, or go on with the other ranks"),
    ] = "fail-run"
    understudy: Annotated[
        bool,
        Meta(
            description="keep the next process of each rank ready, from 10 s after its start, about 60 MB of memory "
            "each: a dead rank is back in less than a second"
        ),
    ] = True


class Distribution(Struct, frozen=True, kw_only=True):
    """How the frames of the input are shared out among a pool's ranks."""

    policy: Annotated[
        Literal["each", "per-node", "sets", "all", "per-gpu"],
        Meta(
            description="each: every rank its own turn; per-node: one set for each node; sets: `sets` "
            "cooperating sets; all: every rank gets every frame; per-gpu: one set for each GPU"
        ),
    ] = "each"
    sets: Annotated[Count | None, Meta(description="number of sets, with policy 'sets'")] = None
    updates: Annotated[Count, Meta(description="consecutive frames in one turn")] = 1


class Forward(Struct, frozen=True, kw_only=True):
    """A channel elsewhere into which a pool writes each of its outputs, besides serving it."""

    mode: Annotated[
        Literal["rpc", "put"],
        Meta(description="rpc: each output is answered; put: into a record, which keeps its last value only"),
    ] = "rpc"
    channel: Annotated[ChannelName, Meta(description="the RPC service, or the record")]
    address: Annotated[str, Meta(description="host:port of its server")]
    timeout: Annotated[Seconds, Meta(description="a frame whose output is not taken by then has failed")] = (
        Seconds(5.0)
    )


class Pool(Struct, frozen=True, kw_only=True):
    """All ranks of one stage."""

    name: Name
    role: Annotated[
        Literal["consumer", "collector"],
        Meta(description="consumer: processes frames; collector: gathers and orders"),
    ]
    input: Annotated[str, Meta(description="'source' or the name of another pool")]
    input_branch: Annotated[
        int,
        Meta(
            ge=0, description="which output of the input pool, where its processor has several; 0: the first"
        ),
    ] = 0
    input_branches: Annotated[
        Annotated[int, Meta(ge=2)] | None,
        Meta(
            description="share the outputs of the input pool's processor out among the ranks: rank r reads output r; "
            "absent: all ranks read `input_branch`"
        ),
    ] = None
    join: Annotated[
        tuple[Name, ...],
        Meta(
            description="collector: further pools whose output with the same id is another part of the frame"
        ),
    ] = ()
    gather: Annotated[
        Annotated[int, Meta(ge=2)] | None,
        Meta(
            description="collector: parts of one frame that come from as many ranks of the input pool; absent: an "
            "output is a whole frame"
        ),
    ] = None
    ranks: Annotated[Count, Meta(description="how many processes")] = 1
    min_ranks: Annotated[
        Count | None,
        Meta(description="so many have to be there for the run to begin, the others join; absent: all"),
    ] = None
    gpu: Annotated[
        bool | None,
        Meta(
            description="whether each rank gets a GPU, where the site's nodes have any; absent: those of consumers do"
        ),
    ] = None
    processor: Annotated[
        str, Meta(description="'file.py:Class' (beside the workflow file) or 'package.module:Class'")
    ] = "beamcast.processors.passthrough:PassThrough"
    open: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(
            description="key file with which to open what the pool reads, beside the workflow file; absent: it is "
            "not sealed"
        ),
    ] = None
    seal: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description="key file with which to seal what the pool publishes; absent: it is not sealed"),
    ] = None
    forward: Annotated[
        Forward | None, Meta(description="write each output to a server elsewhere too; absent: only serve it")
    ] = None
    output_id_field: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(
            description="field that numbers the frames of the output; absent: uniqueId, or that of the source"
        ),
    ] = None
    params: Annotated[dict[str, object], Meta(description="keyword arguments of the processor")] = (
        msgspec.field(default_factory=dict)
    )
    distribution: Annotated[Distribution, Meta(description="how frames are shared among the ranks")] = (
        Distribution()
    )
    server_queue: Annotated[
        Count, Meta(description="frames that the sending server may queue for one rank")
    ] = 1000
    window: Annotated[
        Count,
        Meta(description="at-least-once: frames that a rank may hold before it has to report some done"),
    ] = 64
    batch: Annotated[
        Count,
        Meta(
            description="at-least-once: small frames that travel to a rank in one message, a stack; 1: each by itself"
        ),
    ] = 1
    batch_wait: Annotated[
        Seconds, Meta(description="with `batch`: how long a frame waits for others to travel with")
    ] = Seconds(0.005)
    max_attempts: Annotated[
        int,
        Meta(
            ge=2, description="at-least-once: ranks that may fail on a frame, or die with it, before it fails"
        ),
    ] = 3
    receiver_queue: Annotated[
        Count, Meta(description="frames that a rank may hold before it processes them")
    ] = 1000
    server_queue_bytes: Annotated[
        Bytes | None,
        Meta(
            description="the same in bytes: as many frames of the first one's size as fit; absent: server_queue"
        ),
    ] = None
    receiver_queue_bytes: Annotated[
        Bytes | None,
        Meta(
            description="the same in bytes: as many frames of the first one's size as fit; absent: receiver_queue"
        ),
    ] = None
    reorder_window: Annotated[Count, Meta(description="collector: frames held back to restore the order")] = (
        2048
    )
    reorder_timeout: Annotated[Seconds, Meta(description="collector: longest wait for a missing id")] = (
        Seconds(2.0)
    )
    max_failed: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(
            description="failed frames that are allowed in the pool, more end the run; absent: the run ends when the "
            "first 100 all fail, and is no good one when more frames fail than come through"
        ),
    ] = None
    restart: Annotated[Restart, Meta(description="what happens when a rank dies")] = Restart()

    @property
    def inputs(self) -> tuple[str, ...]:
        """'source' or the names of the pools that it reads."""
        return (self.input, *self.join)

    @property
    def parts(self) -> int:
        """Parts of one frame that a collector puts together; 1: every output of its input is a whole frame."""
        return (self.gather or 1) * len(self.inputs)


class Results(Struct, frozen=True, kw_only=True):
    """Where the results come out at the beamline."""

    pool: Annotated[str, Meta(description="the pool, of one rank, whose output is the result")]
    channel: Annotated[
        ChannelName | None, Meta(description="result PV at the beamline; absent: <run>:result")
    ] = None
    by: Annotated[
        Literal["mirror", "monitor", "push"] | None,
        Meta(
            description="how they come: mirror: re-served in C++; monitor: received and published once each; push: the "
            "ranks send them; absent: what suits the delivery and the site"
        ),
    ] = None


class Deadlines(Struct, frozen=True, kw_only=True):
    """Nothing waits for ever: how long each phase may take."""

    queue: Annotated[
        Seconds | None,
        Meta(description="how long the allocation may wait in the queue; absent: until stopped"),
    ] = None
    start: Annotated[
        Seconds, Meta(description="from submission until every rank is ready, queue time excluded")
    ] = Seconds(120.0)
    drain: Annotated[Seconds, Meta(description="from the last frame until the ledger is whole")] = Seconds(
        30.0
    )
    heartbeat: Annotated[Seconds, Meta(description="time between two heartbeats of a rank")] = Seconds(1.0)
    silence: Annotated[Seconds, Meta(description="a rank without heartbeat for this long is dead")] = Seconds(
        5.0
    )


class Workflow(Struct, frozen=True, kw_only=True):
    """One workflow file."""

    name: Name
    description: Annotated[str, Meta(description="a line for people")] = ""
    prefix: Annotated[
        ChannelName | None, Meta(description="prefix of the run's PVs; absent: beamcast:<run>")
    ] = None
    delivery: Annotated[Delivery, Meta(description="the guarantee towards lost frames")] = "at-most-once"
    allow_lost: Annotated[int, Meta(ge=0, description="lost frames that still count as a good run")] = 0
    source: Source
    mirror: Mirror = Mirror()
    metadata: Annotated[
        tuple[Metadata, ...],
        Meta(description="channels whose values are joined to the frames, one table each"),
    ] = ()
    pools: Annotated[tuple[Pool, ...], Meta(min_length=1, description="the stages, one table for each pool")]
    results: Results | None = None
    deadlines: Deadlines = Deadlines()
