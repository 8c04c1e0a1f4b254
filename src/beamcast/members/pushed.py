"""The result server where nobody can connect to the ranks: they push, this publishes, each result once.

Two servers in one process, which face two networks: the result PVs towards the beamline, the service that takes results
towards the cluster. A rank is answered when its results are published, so what was answered for is final; the rank
repeats everything else, and repeats are told by their keys. These stand in a journal too, so that a successor of this
process does not publish a result again.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from pyroaring import BitMap64

from beamcast.core.errors import DataError
from beamcast.core.keyset import encode_keys
from beamcast.core.spacing import Spacing
from beamcast.members.audience import COUNT_PERIOD_S, listeners, wait_for_listeners
from beamcast.members.dispatcher.final import final_acks
from beamcast.members.host.exits import EXIT_DONE, EXIT_FAILED
from beamcast.members.join import SECRET_FILE
from beamcast.members.journal import KeyJournal
from beamcast.members.member import Member, Report
from beamcast.members.setup import Ground, leave, member_parser, prepare, run_member
from beamcast.pools.acks import Acks
from beamcast.pools.pusher import unpack
from beamcast.pools.tally import Tally, take_keys
from beamcast.pva.environment import check_bound, free_port
from beamcast.pva.first_value import cleared
from beamcast.pva.interfaces import resolve_address
from beamcast.pva.messages import Answer, Counters, Delta, MemberId, Orders, Push, Request, Taken
from beamcast.pva.portable import Bytes, from_parts
from beamcast.pva.rpc import RpcEndpoint
from beamcast.security.secret import RunSecret

logger = logging.getLogger(__name__)


class PushedResults:
    """From the ranks that make the results to the result PVs. `take` runs on a pvAccess thread, the rest elsewhere."""

    def __init__(
        self,
        member: Member,
        server: Any,
        *,
        channels: Mapping[int, str],
        journal: KeyJournal,
        acks: Callable[[Tally], Acks] | None,
        port: int,
    ) -> None:
        """`channels`: the result PV of each rank of the pool. `acks` makes what tells the dispatcher which results
        are final; None where the ranks do. `port` is that of `server`."""
        self._member = member
        self._server = server
        self._channels = channels
        self._port = port
        self._counted_at = 0.0
        self._lock = threading.Lock()
        self._tally = Tally()
        self._journal = journal
        self._delivered = BitMap64(journal.keys())
        # A predecessor may have died before it could tell.
        self._tally.processed.extend(self._delivered)
        self._repeats = 0
        self._spacing = {channel: Spacing() for channel in channels.values()}
        self._follows: dict[int, int] = {}
        self._acks = acks(self._tally) if acks is not None else None
        self.stop = False

    def run(self) -> None:
        """Serve until told to stop."""
        if self._acks is not None:
            self._acks.start()
        try:
            while not (self.stop or self._member.abandoned):
                time.sleep(0.02)
        finally:
            if self._acks is not None:
                self._acks.stop()

    def take(self, message: Push, payload: Bytes) -> Answer:
        """Publish what is new of a message; a rank that is not known has to show its record first.

        DataError (its sender is refused) for what can't be read.
        """
        try:
            objects = unpack(message, payload)
        except ValueError as error:
            raise DataError(f"what {message.pool}/{message.rank} pushed can't be read: {error}") from error
        with self._lock:
            if not message.keys:
                self._open(message, from_parts(objects[0]))
                return Taken()
            channel = self._channels[message.rank]
            if channel not in self._member.serves:
                return Taken(known=False)  # this process has taken the place of one that knew
            for at, (key, parts) in enumerate(zip(message.keys, objects, strict=True), start=1):
                self._publish(channel, key, parts, waiting=len(objects) - at)
            return Taken()

    def _open(self, message: Push, record: Any) -> None:
        """A rank shows what its results look like; those of a later generation look the same."""
        channel = self._channels[message.rank]
        if channel not in self._member.serves:
            self._server.addRecord(channel, cleared(record, ("uniqueId",)))
            self._member.serves = (*self._member.serves, channel)
            if len(self._member.serves) == len(self._channels):
                wait_for_listeners(self._journal.mark, port=self._port, should_stop=lambda: self.stop)
        self._follows[message.rank] = message.generation
        if len(self._follows) == len(self._channels):
            self._member.now("ready")

    def _publish(self, channel: str, key: int, parts: list[Bytes], *, waiting: int) -> None:
        if key in self._delivered:
            # Sent again since the answer was lost, or made again since whoever asked had not heard that it is final.
            self._repeats += 1
            self._tally.again.append(key)
            return
        size_bytes = sum(part.nbytes for part in parts)
        wait_s = self._spacing[channel].wait_s(time.monotonic(), waiting=waiting, size_bytes=size_bytes)
        if wait_s:
            time.sleep(wait_s)
        self._server.update(channel, from_parts(parts))
        self._journal.note(key)
        self._delivered.add(key)
        self._tally.processed.append(key)

    # -- the heartbeat thread --------------------------------------------------------------------------------------

    def obey(self, orders: Orders) -> None:
        """Take orders; runs on the heartbeat thread."""
        self._member.epoch = max(self._member.epoch, orders.epoch)
        self.stop = self.stop or orders.stop

    def collect(self) -> Report:
        """What was published since the last heartbeat; runs on the heartbeat thread."""
        if self._member.state == "ready" and time.monotonic() > self._counted_at + COUNT_PERIOD_S:
            self._counted_at = time.monotonic()
            self._journal.mark = listeners(self._port)
        if self._acks is not None:
            passed = self._acks.take()["processed"]
        else:
            passed = BitMap64(take_keys(self._tally.processed))
            take_keys(self._tally.again)
        return Report(
            delta=Delta(delivered=encode_keys(passed) if passed else b""),
            counters=Counters(published=len(self._delivered), duplicates=self._repeats),
            follows=dict(self._follows),
        )


def _no_messages(request: Request) -> Answer:
    raise TypeError(f"{type(request).__name__} is not for the result server")


def _face_the_cluster(ground: Ground) -> tuple[str, int]:
    """Address and port of the service; the environment is read when its server starts."""
    join = ground.join
    address = resolve_address(join.cluster_interfaces)
    first, last = join.served_ports
    port = free_port(first, last, address, prefer=ground.port + 1 - first, taken=ground.join.promised_ports)
    os.environ.update({"EPICS_PVAS_SERVER_PORT": str(port), "EPICS_PVAS_INTF_ADDR_LIST": address})
    return address, port


def main() -> None:
    """Entry point of the process."""
    parser = member_parser(__doc__ or "")
    parser.add_argument(
        "--channel", action="append", required=True, help="the result PV of each rank, in order"
    )
    parser.add_argument("--service", required=True, help="the channel to which ranks push")
    parser.add_argument("--dispatcher", default="", help="the dispatcher to be told which results are final")
    arguments = parser.parse_args()
    ground = prepare(arguments, lambda join: join.beamline_interfaces)
    identity = MemberId(kind="results", generation=arguments.generation)
    secret = RunSecret.read(ground.run_dir / SECRET_FILE)

    def body(member: Member) -> int:
        import pvaccess

        server = pvaccess.PvaServer()
        ground.check_port()
        member.register(ground.whereabouts())
        one = PushedResults(
            member,
            server,
            channels=dict(enumerate(arguments.channel)),
            journal=KeyJournal(ground.run_dir, "results"),
            acks=final_acks(arguments.dispatcher, ground, identity),
            port=ground.port,
        )
        member.rpc_address, member.rpc_port = _face_the_cluster(ground)
        RpcEndpoint(arguments.service, secret=secret, handle=_no_messages, take_push=one.take).start()
        time.sleep(0.05)
        check_bound([member.rpc_port])
        member.rpc_channel = arguments.service
        with member.live(collect=one.collect, obey=one.obey):
            one.run()
        return EXIT_FAILED if member.abandoned else EXIT_DONE

    leave(run_member(ground, identity, body))


if __name__ == "__main__":
    main()
