"""The result server: publishes each result once at the beamline, whoever sends it how often.

The choice: Python on the path of results, unlike `beamcast.members.mirror`. A collector that was restarted is another
server to connect to; the C++ mirror's channel tries the old address first and then waits for most of a minute. Here a
new generation gets a new monitor, and another channel where the old one does not find it. And what reaches this process
is what may be called final: under at-least-once delivery the dispatcher is told from here, not by a collector whose
last updates may have died with it.

It can be killed itself. What it has published stands in a journal, so that its successor does not publish it again.
"""

import time
from collections.abc import Callable
from typing import Any

from pyroaring import BitMap64

from beamcast.core.ids import ID_BITS
from beamcast.core.keyset import decode_keys, encode_keys
from beamcast.core.spacing import Spacing
from beamcast.members.audience import COUNT_PERIOD_S, listeners, wait_for_listeners
from beamcast.members.dispatcher.final import final_acks
from beamcast.members.host.exits import EXIT_DONE, EXIT_FAILED
from beamcast.members.journal import KeyJournal
from beamcast.members.member import Member, Report
from beamcast.members.setup import leave, member_parser, prepare, run_member
from beamcast.pools.acks import Acks
from beamcast.pools.inputs import SOME_AFTER_S, Inputs, MonitoredChannel, channel_of, id_field_of, look_at
from beamcast.pools.memory import keep_freed_memory
from beamcast.pools.tally import Tally, take_keys
from beamcast.pva.first_value import cleared
from beamcast.pva.messages import Counters, Delta, Input, MemberId, Orders

# As long as an idle look at the queues costs nothing that can be measured.
NAP_S = 0.001
BURST_FRAMES = 256


class Results:
    """From the rank that makes the results to the result PV. `run` belongs to the main thread."""

    def __init__(
        self,
        member: Member,
        server: Any,
        *,
        channel: str,
        id_fields: tuple[str, ...],
        queue: int,
        acks: Callable[[Tally], Acks] | None,
        journal: KeyJournal,
        counts_epochs: bool,
        port: int,
    ) -> None:
        """`acks` makes what tells the dispatcher which results are final; None where the ranks do, or nobody is to be
        told. `counts_epochs`: nobody else does; an id that goes back begins one. `port` is that of `server`."""
        self._member = member
        self._server = server
        self._channel = channel
        self._port = port
        self._id_fields = id_fields
        self._journal = journal
        self._delivered = BitMap64(journal.keys())
        self._inputs = Inputs(
            queue_length=queue,
            id_fields=id_fields,
            epoch=(self._delivered.max() >> ID_BITS) if self._delivered else 0,
            fixed_epoch=not counts_epochs,
            counting=bool(self._delivered),
            seen=self._delivered,
        )
        self._tally = Tally()
        # A predecessor may have died before it could tell.
        self._tally.processed.extend(self._delivered)
        self._released = b""
        self._counted_at = 0.0
        self._repeats = 0
        self._spacing = Spacing()
        self._acks = acks(self._tally) if acks is not None else None
        self._wanted: tuple[Input, ...] | None = None
        self._began = 0.0
        self.stop = False

    def run(self, *, appear_timeout_s: float) -> None:
        """Serve until told to stop; WorldError when the results' source does not answer in time."""
        while self._wanted is None:
            if self._over():
                return
            time.sleep(0.005)
        channels = [each.channel for each in self._wanted]
        probe = look_at(*channels, timeout_s=appear_timeout_s, should_stop=self._over)
        if probe is None:
            return
        self._began = time.monotonic()
        self._server.addRecord(self._channel, self._first_value(probe))
        if self._released:
            self._delivered |= decode_keys(self._released)
        self._member.serves = (self._channel,)
        self._member.now("serving")
        wait_for_listeners(self._journal.mark, port=self._port, should_stop=self._over)
        if self._acks is not None:
            self._acks.start()
        try:
            while not self._over():
                self._follow()
                if not self._sweep():
                    time.sleep(NAP_S)
        finally:
            if self._acks is not None:
                self._acks.stop()

    def _first_value(self, probe: Any) -> Any:
        """What clients see before the first result: no result of this server or of a predecessor, which they have or
        will get in its turn. DataError where nothing numbers the results."""
        id_field_of(probe, self._id_fields, channel=self._channel)
        return cleared(probe, self._id_fields)

    def _over(self) -> bool:
        return self.stop or self._member.abandoned

    def _follow(self) -> None:
        """Connect to the present generation; ready once it sends. Who takes another's place does not wait for ranks
        that are dead."""
        wanted = self._wanted
        present = [channel_of(each.spec) for each in self._inputs.channels]
        if wanted is not None and present != [channel_of(spec) for spec in wanted]:
            while self._sweep():
                """What has come from the generation before counts."""
            self._inputs.follow(wanted)
        late = self._member.identity.generation > 0 and time.monotonic() > self._began + SOME_AFTER_S
        self._inputs.try_again()
        if self._inputs.probed() or (late and self._inputs.follows()):
            self._member.now("ready")

    def _sweep(self) -> bool:
        """Publish what waits; False where nothing did."""
        busy = False
        for channel in self._inputs.channels:
            if channel.probe is None:
                continue
            for _ in range(min(len(channel.queue), BURST_FRAMES)):
                pv = channel.queue.get(0)
                self._one(channel, pv)
                if not channel.timed:
                    channel.note(pv)
                busy = True
        return busy

    def _one(self, channel: MonitoredChannel, pv: Any) -> None:
        frame_id = channel.read_id(pv)
        if not frame_id and channel.is_first_value(frame_id, pv):
            return
        key = channel.observe(frame_id)
        if key in self._delivered:
            # Made again since whoever asked for it had not heard that it is final.
            self._repeats += 1
            self._tally.again.append(key)
            return
        wait_s = self._spacing.wait_s(
            time.monotonic(), waiting=len(channel.queue), size_bytes=channel.frame_bytes
        )
        if wait_s:
            time.sleep(wait_s)
        self._server.update(self._channel, pv)
        self._journal.note(key)
        self._delivered.add(key)
        self._tally.processed.append(key)

    # -- the heartbeat thread --------------------------------------------------------------------------------------

    def obey(self, orders: Orders) -> None:
        """Take orders; runs on the heartbeat thread."""
        if orders.arm:
            self._inputs.count_epochs()
        self._inputs.begin_epoch(orders.epoch)
        self._released = orders.released or self._released
        self._member.epoch = max(self._member.epoch, orders.epoch)
        self._wanted = orders.probe or self._wanted
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
        return Report(
            delta=Delta(delivered=encode_keys(passed) if passed else b""),
            counters=Counters(published=len(self._delivered), duplicates=self._repeats),
            follows=self._inputs.follows(),
        )


def main() -> None:
    """Entry point of the process."""
    parser = member_parser(__doc__ or "")
    parser.add_argument("--channel", required=True)
    parser.add_argument("--id-field", action="append", required=True)
    parser.add_argument("--queue", type=int, required=True)
    parser.add_argument("--appear-timeout", type=float, required=True)
    parser.add_argument("--dispatcher", default="", help="the dispatcher to be told which results are final")
    parser.add_argument("--count-epochs", action="store_true", help="an id that goes back begins an epoch")
    arguments = parser.parse_args()
    keep_freed_memory()
    ground = prepare(arguments, lambda join: join.beamline_interfaces)
    identity = MemberId(kind="results", generation=arguments.generation)

    def body(member: Member) -> int:
        import pvaccess

        server = pvaccess.PvaServer()
        ground.check_port()
        member.register(ground.whereabouts())
        one = Results(
            member,
            server,
            channel=arguments.channel,
            id_fields=tuple(arguments.id_field),
            queue=arguments.queue,
            acks=final_acks(arguments.dispatcher, ground, identity),
            journal=KeyJournal(ground.run_dir, "results"),
            counts_epochs=arguments.count_epochs,
            port=ground.port,
        )
        with member.live(collect=one.collect, obey=one.obey):
            one.run(appear_timeout_s=arguments.appear_timeout)
        return EXIT_FAILED if member.abandoned else EXIT_DONE

    leave(run_member(ground, identity, body))


if __name__ == "__main__":
    main()
