"""The intake of a run whose source does not serve its frames, but writes them: into a PV (`put`) or by RPC.

The choice: what comes in becomes updates of a record that the mirror monitors like any detector's, so both kinds of
delivery, metadata and the accounts work as with a detector. An RPC is answered when its frame is published to a mirror
that listens, so nothing is lost that was answered with status 0, and a frame of another structure is refused with the
reason. While the mirror is away (it, or we, were started again) RPCs wait. A `put` is seen by monitors of the record,
each as an update of its own.
"""

import logging
import os
import threading
import time
from collections import deque
from typing import Any

import msgspec

from beamcast.members.audience import SETTLE_S, listeners
from beamcast.members.host.exits import EXIT_DONE, EXIT_FAILED
from beamcast.members.member import Member, Report
from beamcast.members.setup import Ground, leave, member_parser, prepare, run_member
from beamcast.pva.declared import declared_object
from beamcast.pva.environment import check_bound, free_port
from beamcast.pva.messages import Counters, MemberId, Orders
from beamcast.pva.rpc import KEPT_ANSWERS

logger = logging.getLogger(__name__)

# How long an RPC waits for a mirror that is away; clients of p4p wait for 5 s by default.
PATIENCE_S = 4.0
# How often we look whether it is: a millisecond each. Frames that are taken before that is noticed are lost, and named.
LOOK_PERIOD_S = 0.05


class Intake:
    """Serves the record, and with `rpc` the service that fills it."""

    def __init__(self, member: Member, server: Any, *, record: str, blank: Any) -> None:
        import pvaccess

        self._member = member
        self._server = server
        self._record = record
        self._blank = blank
        self._lock = threading.Lock()
        # One object for all: pvaccess mixes up the answers to clients that write at the same time (`pva.rpc`).
        self._ok = pvaccess.PvObject({"status": pvaccess.INT, "errorMessage": pvaccess.STRING})
        self._refusals: deque[Any] = deque(maxlen=KEPT_ANSWERS)
        self._service: Any = None
        self._mirrored = threading.Event()
        self._published = self._refused = 0
        self.stop = False

    def run(self, *, rpc: str, ground: Ground) -> None:
        """Until told to stop; `rpc` is the channel of the service, empty for none."""
        self._server.addRecord(self._record, self._blank)
        if rpc:
            self._open_service(rpc, ground)
        self._member.serves = (self._record,)
        self._member.now("ready")
        connected_at: float | None = None
        while not (self.stop or self._member.abandoned):
            connected_at = self._look(ground.port, connected_at) if rpc else None
            time.sleep(LOOK_PERIOD_S)

    def _look(self, port: int, connected_at: float | None) -> float | None:
        """Whether the mirror, the only client of the record, is there; since when it is connected."""
        if not listeners(port):
            self._mirrored.clear()
            return None
        now = time.monotonic()
        if connected_at is None:
            return now
        if now - connected_at > SETTLE_S:
            self._mirrored.set()
        return connected_at

    def _open_service(self, channel: str, ground: Ground) -> None:
        """It lasts as long as the process (`beamcast.pva.rpc.RpcEndpoint.start`)."""
        import pvaccess

        join = ground.join
        port = free_port(
            join.first_port, join.last_port, ground.address, prefer=ground.port + 1 - join.first_port
        )
        # The server reads the environment when it starts: the second one of this process gets a port of its own.
        os.environ["EPICS_PVAS_SERVER_PORT"] = str(port)
        self._service = pvaccess.RpcServer()
        self._service.registerService(channel, self.take)
        self._service.startListener()
        time.sleep(0.05)
        check_bound([port])
        self._member.rpc_channel, self._member.rpc_port = channel, port

    def take(self, pv: Any) -> Any:
        """One frame by RPC; runs on a pvAccess thread. The answer has PvaPy's fields: status 0 is published."""
        import pvaccess

        mirrored = self._mirrored.wait(PATIENCE_S)
        with self._lock:
            if not mirrored:
                return self._refusal(
                    "the run's mirror is away and is being started again: send the frame again"
                )
            try:
                _stamp(pv)
                self._server.update(self._record, pv)
            except (ValueError, pvaccess.PvaException) as error:
                self._refused += 1
                if self._refused == 1:
                    logger.warning("a frame is refused: %s", error)
                return self._refusal(f"the frame does not have the structure of this source: {error}")
            self._published += 1
            return self._ok

    def _refusal(self, why: str) -> Any:
        answer = self._ok.copy()
        answer["status"] = -1
        answer["errorMessage"] = why
        self._refusals.append(answer)
        return answer

    def obey(self, orders: Orders) -> None:
        """Take orders; runs on the heartbeat thread."""
        self.stop = self.stop or orders.stop

    def collect(self) -> Report:
        """What came; runs on the heartbeat thread."""
        return Report(
            counters=Counters(published=self._published),
            facts={"refused": float(self._refused)},
        )


def _stamp(pv: Any) -> None:
    """A frame without a time gets that at which it came: what a record holds before its first frame has none, and is
    told from frames by that (`beamcast.pva.fields.FirstValues`)."""
    if pv.hasField("timeStamp.nanoseconds") and not pv.getLong("timeStamp.secondsPastEpoch"):
        seconds, nanoseconds = divmod(time.time_ns(), 10**9)
        pv.setLong("timeStamp.secondsPastEpoch", seconds)
        pv.setInt("timeStamp.nanoseconds", nanoseconds)


def main() -> None:
    """Entry point of the process."""
    parser = member_parser(__doc__ or "")
    parser.add_argument("--record", required=True, help="the channel that the mirror monitors")
    parser.add_argument(
        "--rpc", default="", help="the channel of the RPC service; absent: clients put into the record"
    )
    parser.add_argument("--fields", default="", help="structure of a frame as JSON; absent: NTNDArray")
    arguments = parser.parse_args()
    fields = msgspec.json.decode(arguments.fields) if arguments.fields else None
    ground = prepare(arguments, lambda join: join.beamline_interfaces)
    identity = MemberId(kind="intake", generation=arguments.generation)

    def body(member: Member) -> int:
        import pvaccess

        server = pvaccess.PvaServer()
        ground.check_port()
        member.register(ground.whereabouts())
        with member.live(collect=Report, obey=lambda orders: None):
            blank = declared_object(fields) if fields else pvaccess.NtNdArray()
            one = Intake(member, server, record=arguments.record, blank=blank)
            member.live(collect=one.collect, obey=one.obey)
            one.run(rpc=arguments.rpc, ground=ground)
        return EXIT_FAILED if member.abandoned else EXIT_DONE

    leave(run_member(ground, identity, body))


if __name__ == "__main__":
    main()
