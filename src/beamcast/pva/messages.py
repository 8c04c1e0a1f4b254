"""What the members of a run and its controller say to each other.

A member is any process of a run: mirror, simulator, result server or rank. It speaks first and always: a
registration, then heartbeats. Commands travel in the answers, so no member needs to accept a connection for them.
Ids travel as serialised Roaring bitmaps (`beamcast.core.ledger.encode_keys`), a few bytes for a million frames.
"""

from typing import Literal

import msgspec

from beamcast.config.units import dec_hook, enc_hook
from beamcast.config.workflow import Metadata, Pool, Source

PROTOCOL_VERSION = 1

MemberKind = Literal["mirror", "simulator", "intake", "metadata", "results", "rank"]
MemberState = Literal["registered", "serving", "ready", "running", "drained", "finished", "failed"]


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of every message."""


class MemberId(Message, frozen=True, kw_only=True, omit_defaults=True):
    """Names one life of one process."""

    kind: MemberKind
    pool: str = ""
    rank: int = 0
    generation: int = 0

    def __str__(self) -> str:
        """The name of the member over all its lives, such as "stats/3" or "mirror"."""
        return f"{self.pool}/{self.rank}" if self.kind == "rank" else self.kind


class Whereabouts(Message, frozen=True, kw_only=True, omit_defaults=True):
    """Where a member runs, as it found out itself. `gpu`: its GPU's place in the site's list; `cpus`: ranges."""

    host: str
    pid: int
    address: str
    port: int
    node: str = ""
    node_index: int = 0
    nodes: int = 1
    local_rank: int = 0
    local_size: int = 1
    size: int = 1
    placed_by: Literal["arguments", "mpi"] = "arguments"
    gpu: int | None = None
    gpu_name: str = ""
    cpus: str = ""


class Versions(Message, frozen=True, kw_only=True, omit_defaults=True):
    """What must fit together on both sides."""

    beamcast: str
    python: str
    pvapy: str
    protocol: int = PROTOCOL_VERSION


class Registration(Message, frozen=True, kw_only=True, omit_defaults=True, tag="register"):
    """The first message of a member. `before`: the exit status of the process whose place it takes."""

    member: MemberId
    whereabouts: Whereabouts
    versions: Versions
    before: int | None = None


class Input(Message, frozen=True, kw_only=True, omit_defaults=True):
    """One channel to monitor: its name, the pvRequest, which producer's generation it is, and which part of each
    frame comes there, for a collector that gathers parts. `renewed`: how often its record was made anew by the same
    server; a monitor that was there before may be dead. `after`: where everybody counts epochs and the stream flows,
    the key of a frame that has come through this channel: what comes next is counted from there."""

    channel: str
    request: str
    producer: int = 0
    generation: int = 0
    part: int = 0
    renewed: int = 0
    after: int | None = None


class RankDuty(Message, frozen=True, kw_only=True, omit_defaults=True):
    """What a rank has to do. `slot` is its turn among the sets of its pool.

    `input_channel` is for people and processors; with several producers it has a `*` for the producer's rank.
    `retires`: tell the dispatcher that outputs are final. `leaf`: the branch in which a frame is final that is dropped
    here, as the dispatcher knows it; None: it isn't. `repeats`: publish a result again that is asked for again.
    `input_id_field`: the field that numbers the frames there; absent: `uniqueId`, or that of the source.
    `push_channel`: where the rank has to push its outputs, since nobody can connect to it.
    `metadata`: what is joined to its frames, in the order of the columns on `metadata_channel`; `metadata_rows`: how
    many rows to keep. `configured`: parameters, as JSON, that were given to the ranks while the run lasted; whoever
    takes the place of a dead one begins with them.
    """

    rank: int
    pool: Pool
    source: Source
    base: str
    slot: int
    output_channel: str
    status_channel: str
    control_channel: str
    dispatch_channel: str = ""
    retires: bool = False
    leaf: str | None = None
    repeats: bool = False
    push_channel: str = ""
    input_channel: str = ""
    input_id_field: str | None = None
    epoch: int = 0
    metadata: tuple[Metadata, ...] = ()
    metadata_channel: str = ""
    metadata_rows: int = 0
    configured: str = ""


class Welcome(Message, frozen=True, kw_only=True, omit_defaults=True, tag="welcome"):
    """The answer to a registration that was accepted."""

    heartbeat_s: float
    duty: RankDuty | None = None


class Unwelcome(Message, frozen=True, kw_only=True, omit_defaults=True, tag="unwelcome"):
    """The answer to a registration that was not: the member ends itself, saying why."""

    reason: str


class FailedFrame(Message, frozen=True, kw_only=True, omit_defaults=True):
    """A frame on which the processor raised."""

    key: int
    traceback: str


class Counters(Message, frozen=True, kw_only=True, omit_defaults=True):
    """Numbers of one member since its start. Frames unless the name says otherwise."""

    received: int = 0
    processed: int = 0
    dropped: int = 0
    failed: int = 0
    duplicates: int = 0
    late: int = 0
    published: int = 0
    bytes_received: int = 0
    queued: int = 0
    server_overruns: int = 0
    receiver_rejected: int = 0
    busy_s: float = 0.0


class CommandOrder(Message, frozen=True, kw_only=True, omit_defaults=True):
    """A command to a rank, repeated until it is answered; `arguments` is JSON (`beamcast.core.commands`)."""

    number: int
    name: str
    arguments: str = ""


class CommandAnswer(Message, frozen=True, kw_only=True, omit_defaults=True):
    """A rank's answer: the command is done, or why not (`code` is not 0). `stats`: JSON, of `get_stats`.

    Number 0: nobody asked through the controller; somebody gave the parameters `arguments` on the rank's own PV.
    """

    number: int
    code: int = 0
    message: str = ""
    stats: str = ""
    arguments: str = ""


class AckedKeys(Message, frozen=True, kw_only=True, omit_defaults=True):
    """Frames that a rank has processed, or dropped on purpose; each a serialised bitmap."""

    processed: bytes = b""
    dropped: bytes = b""


class Delta(Message, frozen=True, kw_only=True, omit_defaults=True):
    """Which ids reached which hop since the last heartbeat; each a serialised 64-bit Roaring bitmap.

    `gathered`: what a collector received, by the rank of the producer that had processed it. `acked`: what ranks told
    the dispatcher, by pool and rank: one that dies has told it more than its last heartbeat. `unsure`: of those that
    were seen at the source, the ones before which nobody watched it for some time.
    """

    seen: bytes = b""
    unsure: bytes = b""
    mirrored: bytes = b""
    received: bytes = b""
    processed: bytes = b""
    dropped: bytes = b""
    failed: bytes = b""
    delivered: bytes = b""
    gathered: dict[int, bytes] = {}
    acked: dict[str, dict[int, AckedKeys]] = {}


class Heartbeat(Message, frozen=True, kw_only=True, omit_defaults=True, tag="heartbeat"):
    """I live, this is my state, and these frames went through my hands.

    `heard`: the last `sequence` whose answer has come: what it ordered need not be said again.
    `renewed`: how often its record was made anew, as the C++ mirror does when its source is restarted.
    `follows`: the generation of each producer, by its rank, whose output this member receives. `counts_from`: the
    mirror's first frame of the run. `epoch`: the one that the member works in; `next_epoch`: the one that the
    dispatcher wants to begin, since all frames of the one before are final. `ends_epoch`: no more frames of this epoch
    are coming, and those that are held back anywhere are waited for. `dismissed`: of the ranks that are to leave, those
    whose results are all final. `looked`: the id that a rank saw at its input before it took part; `reached`: the key
    of the last frame whose output it may have published. `rpc_channel`, `rpc_port`: a service, at
    `rpc_address` where that is not the member's. `answers`: to the `commands` among the orders.
    """

    member: MemberId
    state: MemberState
    sequence: int
    heard: int = 0
    delta: Delta = Delta()
    counters: Counters = Counters()
    failed_frames: tuple[FailedFrame, ...] = ()
    serves: tuple[str, ...] = ()
    renewed: int = 0
    follows: dict[int, int] = {}
    problem: str = ""
    problem_detail: str = ""
    problem_kind: Literal["", "usage", "world"] = ""
    last_key: int | None = None
    counts_from: int | None = None
    looked: int | None = None
    reached: int | None = None
    epoch: int = 0
    next_epoch: int = 0
    ends_epoch: bool = False
    rpc_channel: str = ""
    rpc_port: int = 0
    rpc_address: str = ""
    dismissed: tuple[MemberId, ...] = ()
    facts: dict[str, float] = {}
    answers: tuple[CommandAnswer, ...] = ()


class Orders(Message, frozen=True, kw_only=True, omit_defaults=True, tag="orders"):
    """The answer to a heartbeat: what to do next. Each order may come again and is then without effect. `probe` and
    `connect` are left out where they are as they were in an answer that has been `heard`.

    `arm`: every rank receives; what comes from now on belongs to the run. `epoch`: number frames so from now on.
    `released`: results that the beamline has, so that a new collector does not publish them again. `dead`: to the
    dispatcher, ranks that are gone for good in this generation; `reborn`: ranks that have taken the place of dead
    ones and receive. `channels`: the dispatcher's records by pool, where a pool has changed its size; `leaving`: ranks
    that are to get no more frames.

    `probe`: these are your inputs, look at one update of each, without taking part in the distribution, and serve
    your output. `connect`: whoever reads your output is there; take your share of the frames.
    """

    probe: tuple[Input, ...] | None = None
    connect: tuple[Input, ...] | None = None
    arm: bool = False
    start: bool = False
    drain: bool = False
    stop: bool = False
    heartbeat_s: float = 1.0
    commands: tuple[CommandOrder, ...] = ()
    epoch: int = 0
    released: bytes = b""
    dead: tuple[MemberId, ...] = ()
    reborn: tuple[MemberId, ...] = ()
    channels: dict[str, tuple[str, ...]] = {}
    leaving: tuple[MemberId, ...] = ()


class Question(Message, frozen=True, kw_only=True, omit_defaults=True, tag="question"):
    """From the commands `status` and `stop`: not from a member, but sealed with the run's secret all the same."""

    what: Literal["status", "stop"]


class Scale(Message, frozen=True, kw_only=True, omit_defaults=True, tag="scale"):
    """From the command `scale`: a pool is to have so many ranks. Answered with `Scaled`."""

    pool: str
    ranks: int


class Scaled(Message, frozen=True, kw_only=True, omit_defaults=True, tag="scaled"):
    """What becomes of it: how many ranks come and leave, or why it is refused, in words."""

    coming: int = 0
    leaving: int = 0
    refused: str = ""


class Reply(Message, frozen=True, kw_only=True, omit_defaults=True, tag="reply"):
    """The run's report so far, as JSON."""

    report: bytes


class Control(Message, frozen=True, kw_only=True, omit_defaults=True, tag="control"):
    """From the command `control`: ask the ranks of a pool, or one of them; without `pool` those of all pools."""

    name: str
    arguments: str = ""
    pool: str | None = None
    rank: int | None = None


class ControlQuestion(Message, frozen=True, kw_only=True, omit_defaults=True, tag="control-question"):
    """What has become of the command with this number?"""

    number: int


class ControlState(Message, frozen=True, kw_only=True, omit_defaults=True, tag="control-state"):
    """The answers so far, by rank ("stats/3"), and who has not answered. `refused`: why nobody was asked."""

    number: int = 0
    refused: str = ""
    answers: dict[str, CommandAnswer] = {}
    waiting: tuple[str, ...] = ()


class DispatchedPool(Message, frozen=True, kw_only=True, omit_defaults=True):
    """One pool to the dispatcher: the channel of each rank, in order, how many frames a rank may hold, how many travel
    in one message, and how long one waits for others.

    `leaf` is the last pool on the way of its outputs, "" where the result server says what is final: other branches of
    the source have their own.
    """

    name: str
    channels: tuple[str, ...]
    window: int
    max_attempts: int
    retire_on_ack: bool
    leaf: str = ""
    batch: int = 1
    batch_wait_s: float = 0.0


class DispatchPlan(Message, frozen=True, kw_only=True, omit_defaults=True):
    """What the dispatching mirror has to do. `channel` is its own service; sizes in bytes, `queue` in frames
    where `queue_bytes` says nothing."""

    channel: str
    source: str
    id_field: str
    queue: int
    queue_bytes: int | None = None
    appear_timeout_s: float
    replay_bytes: int
    overflow: Literal["drop", "spill"]
    spill_bytes: int
    spill_folder: str | None
    retire_timeout_s: float
    pools: tuple[DispatchedPool, ...]


class MetadataPlan(Message, frozen=True, kw_only=True, omit_defaults=True):
    """What the metadata member has to do: join `metadata` to the frames of channel `frames` and serve `channel`."""

    channel: str
    frames: str
    id_field: str
    timestamp_field: str
    appear_timeout_s: float
    metadata: tuple[Metadata, ...]


class Join(Message, frozen=True, kw_only=True, omit_defaults=True, tag="join"):
    """To the dispatcher: this rank's monitor receives, frames may come."""

    pool: str
    rank: int
    generation: int


class Progress(Message, frozen=True, kw_only=True, omit_defaults=True, tag="progress"):
    """To the dispatcher: what a rank did with its frames. Repeated unchanged until it is answered.

    Without any frame it says that the rank lives. `idle`: it has no other frames than those, in its queue or in work.
    """

    pool: str
    rank: int
    generation: int
    serial: int
    processed: bytes = b""
    dropped: bytes = b""
    failed: tuple[tuple[int, str], ...] = ()
    idle: bool = False


class Retired(Message, frozen=True, kw_only=True, omit_defaults=True, tag="retired"):
    """To the dispatcher: the results that `leaf` has of these frames are final. May come again."""

    keys: bytes
    leaf: str = ""


class Push(Message, frozen=True, kw_only=True, omit_defaults=True, tag="push"):
    """To the result server, from a rank that nobody can connect to: results, in the order in which they were made.

    The bytes travel beside the sealed message; `digest` is theirs. `keys`: the frame of each result; none in the first
    message of a rank, whose only object shows the structure of its results. `sizes`: for each object the sizes of its
    parts in bytes, as `beamcast.pva.portable` makes them. Repeated until it is answered.
    """

    pool: str
    rank: int
    generation: int
    keys: tuple[int, ...]
    sizes: tuple[tuple[int, ...], ...]
    digest: bytes


class Taken(Message, frozen=True, kw_only=True, omit_defaults=True, tag="taken"):
    """The dispatcher's answer, or the result server's. `known` is False for a rank that has to join again, with a
    fresh monitor."""

    known: bool = True


Request = (
    Registration | Heartbeat | Question | Scale | Control | ControlQuestion | Join | Progress | Retired | Push
)
Answer = Welcome | Unwelcome | Orders | Reply | Scaled | ControlState | Taken

_encoder = msgspec.msgpack.Encoder(enc_hook=enc_hook)
_request_decoder = msgspec.msgpack.Decoder(Request, dec_hook=dec_hook)
_answer_decoder = msgspec.msgpack.Decoder(Answer, dec_hook=dec_hook)


def encode(message: Message) -> bytes:
    """A message as MessagePack."""
    return _encoder.encode(message)


def decode_request(body: bytes) -> Request:
    """A member's message; msgspec.DecodeError (a ValueError) when it is not one."""
    request: Request = _request_decoder.decode(body)
    return request


def decode_answer(body: bytes) -> Answer:
    """The controller's message; msgspec.DecodeError (a ValueError) when it is not one."""
    answer: Answer = _answer_decoder.decode(body)
    return answer


def encode_dispatch_plan(plan: DispatchPlan) -> str:
    """The plan as JSON, for the command line of the mirror."""
    return msgspec.json.encode(plan).decode()


def encode_metadata_plan(plan: MetadataPlan) -> str:
    """The plan as JSON, for the command line of the metadata member."""
    return msgspec.json.encode(plan, enc_hook=enc_hook).decode()


def decode_metadata_plan(text: bytes) -> MetadataPlan:
    """The plan from JSON."""
    return msgspec.json.decode(text, type=MetadataPlan, dec_hook=dec_hook)


def decode_dispatch_plan(text: bytes) -> DispatchPlan:
    """The plan from JSON."""
    return msgspec.json.decode(text, type=DispatchPlan)
