"""The mirror member: re-serves the source towards the cluster, or the results towards the beamline, and witnesses
which ids passed.

A witness costs every frame some 60 µs of processor time, so the source has one of ours only where nobody else says
what it sent: a simulator does by itself, and the metadata member reads every frame's id anyway.
"""

import logging
import time

from beamcast.core.errors import WorldError
from beamcast.core.ids import Epoch, EpochTracker
from beamcast.core.keyset import encode_keys
from beamcast.members.host.exits import EXIT_DONE, EXIT_FAILED
from beamcast.members.member import Member, Report
from beamcast.members.presence import Presence
from beamcast.members.setup import leave, member_parser, prepare, run_member
from beamcast.members.sight import Sight, unseen_ids, witness_facts
from beamcast.members.structure import StructureWatch
from beamcast.pools.inputs import id_field_of, look_at, queue_of_bytes
from beamcast.pools.memory import keep_freed_memory
from beamcast.pva.ca_mirror import MAY_BE_DENIED, CaMirror
from beamcast.pva.fields import monitor_request
from beamcast.pva.messages import Counters, Delta, MemberId, Orders
from beamcast.pva.mirror import Mirror
from beamcast.pva.monitor import FIRST_VALUE_S, LiveMonitor
from beamcast.pva.witness import Witness

logger = logging.getLogger(__name__)


class MirrorMember:
    """One mirrored channel in a run: from `source` to `channel`; with `watches_source` also a witness of the source."""

    def __init__(
        self,
        member: Member,
        mirror: Mirror | CaMirror,
        *,
        channel: str,
        source: str,
        id_fields: tuple[str, ...],
        watches_source: bool,
    ) -> None:
        self._member = member
        self._mirror = mirror
        self._channel = channel
        self._source = source
        self._id_fields = id_fields
        self._is_results = member.identity.kind == "results"
        self._presence = Presence()
        self._sight: Sight | None = None
        self._watches_source = watches_source
        self._at_source: Witness | None = None
        self._at_mirror: Witness | None = None
        self._armed = False
        self._epoch = 0
        self._structure = StructureWatch(source)
        self._counts_from: int | None = None
        self._serving = False
        self._provider = "pva"
        self._fresh: LiveMonitor | None = None
        self._back_at = 0.0
        self._ending = False
        self.go = False
        self.stop = False

    def run(self, *, queue: int, queue_bytes: int | None, provider: str, appear_timeout_s: float) -> None:
        """Serve until told to stop; WorldError when the source does not appear in time, DataError when it comes back
        with another structure. `queue` in frames, where `queue_bytes` says nothing."""
        while not self.go:
            if self.stop or self._member.abandoned:
                return
            time.sleep(0.01)
        if queue_bytes is not None:
            queue = queue_of_bytes(
                self._source,
                queue_bytes,
                unknown=queue,
                timeout_s=appear_timeout_s,
                should_stop=lambda: self.stop,
            )
        self._provider = provider
        self._mirror.serve(self._channel, source=self._source, queue=queue, provider=provider)
        if self._watches_source:
            self._at_source = self._witness(self._source, provider=provider)
            self._sight = Sight(self._at_source, self._source)
        deadline = time.monotonic() + appear_timeout_s
        while not self._mirror.serving(self._channel):
            if self.stop:
                return
            if time.monotonic() > deadline:
                if isinstance(self._mirror, CaMirror) and self._mirror.connected:
                    raise WorldError(
                        f"the source channel {self._source} is connected, but it has sent no value within "
                        f"{appear_timeout_s:g} s",
                        hint=MAY_BE_DENIED,
                    )
                raise WorldError(
                    f"the source channel {self._source} did not appear within {appear_timeout_s:g} s",
                    hint="is the detector's IOC running, and is this its exact channel name? Where no search "
                    "reaches it, give `address` under [source]",
                )
            time.sleep(0.01)
        if provider == "pva" and not self._is_results:
            # A monitor of a field that is not there would wait for ever; a look at the whole says what is.
            seen = look_at(self._source, timeout_s=appear_timeout_s, should_stop=lambda: self.stop)
            if seen is not None:
                id_field_of(seen, self._id_fields, channel=self._source)
                self._structure.begin(seen)
        self._member.serves = (self._channel,)
        self._member.now("serving")
        self._serving = True
        deadline = time.monotonic() + appear_timeout_s
        while not self.stop and not self._member.abandoned:
            time.sleep(0.02)
            if not self._is_results and time.monotonic() > deadline and not self._sees():
                raise unseen_ids(self._source, appear_timeout_s)
            self._look_at_record()
            self._structure.check(lambda: self.stop)

    def _sees(self) -> bool:
        """Whether the ids have been seen at both ends of the mirror, as far as they are looked for."""
        return all(witness is None or witness.seen_anything for witness in (self._at_source, self._at_mirror))

    def _look_at_record(self) -> None:
        """The C++ mirror takes its record away when the source disconnects, and makes another one when it is back."""
        now = time.monotonic()
        serving = self._mirror.serving(self._channel)
        if not serving and isinstance(self._mirror, Mirror) and self._is_left_behind(now):
            logger.warning("%s is back, and its mirror is not: it is mirrored anew", self._source)
            self._mirror.renew(self._channel)
            self._back_at = now
        if self._at_source is not None:
            self._at_source.look(now)
        if not self._ending:
            self._presence.look(self._mirror.present(self._channel))
        if serving == self._serving:
            return
        self._serving = serving
        if not serving:
            # At the end of a run its simulator goes too.
            level = logging.INFO if self._ending else logging.WARNING
            logger.log(level, "%s is gone, and %s with it", self._source, self._channel)
            request = monitor_request(*self._id_fields, "timeStamp", queue=2)
            self._fresh = LiveMonitor(self._source, request, queue_length=1, provider=self._provider)
            return
        if self._fresh is not None:
            self._fresh.close()
            self._fresh = None
        logger.info("%s is back", self._source)
        self._structure.doubt()
        self._member.renewed += 1
        if self._at_mirror is not None:
            self._at_mirror.reopen()

    def _is_left_behind(self, now: float) -> bool:
        """Whether a monitor that was made since the source had gone has shown that it is back, some seconds ago."""
        if self._fresh is None or not len(self._fresh.queue):
            self._back_at = now
        return now - self._back_at > FIRST_VALUE_S

    def _witness(self, channel: str, *, provider: str = "pva") -> Witness:
        """One that counts epochs as soon as the run does."""
        keys = EpochTracker(Epoch(self._epoch), counting=self._armed)
        return Witness(channel, id_fields=self._id_fields, provider=provider, keys=keys)

    def obey(self, orders: Orders) -> None:
        """Take orders; runs on the heartbeat thread."""
        if not self._armed:
            # Updates of Channel Access have no ids but ours, which begin with 1 in each of our lives.
            again = orders.start and isinstance(self._mirror, CaMirror)
            self._epoch = orders.epoch + again
        # Our own channel is found through the run's name server, which learns of it from our heartbeat.
        if self._member.announced and self._at_mirror is None:
            self._at_mirror = self._witness(self._channel)
        self.go = self.go or orders.probe is not None
        if orders.arm and not self._armed:
            self._armed = True
            if orders.start:  # in the place of a dead one: the run counts already
                self._counts_from = 0
            for witness in (self._at_source, self._at_mirror):
                if witness is not None:
                    witness.count_epochs()
        self._member.epoch = max(self._member.epoch, orders.epoch)
        self._ending = orders.drain or orders.stop
        if orders.stop:
            self.stop = True

    def collect(self) -> Report:
        """The ids that passed since the last heartbeat."""
        seen = self._at_source.take() if self._at_source else []
        passed = self._at_mirror.take() if self._at_mirror else []
        if self._at_mirror is not None and self._sees():
            self._member.now("ready")
        if self._sight is not None and self._armed:
            self._sight.note(seen=bool(seen), passed=bool(passed))
        self._structure.note(seen=bool(seen), passed=bool(passed))
        packed = encode_keys(passed) if passed else b""
        if self._is_results:
            delta = Delta(delivered=packed)
        else:
            # Updates of a Channel Access source have no ids but those that the mirror gives them.
            at_source = packed if isinstance(self._mirror, CaMirror) else encode_keys(seen) if seen else b""
            # Before the run counts, ids are nobody's; negative ones would even sort behind those that do.
            unsure = self._at_source.take_unsure() if self._at_source else []
            delta = Delta()
            if self._counts_from is not None:
                delta = Delta(seen=at_source, unsure=encode_keys(unsure) if unsure else b"", mirrored=packed)
        counted = self._mirror.counters(self._channel) if self._member.serves else {}
        counters = Counters(received=counted.get("nReceived", 0), server_overruns=counted.get("nOverruns", 0))
        last = self._at_mirror.last_key if self._at_mirror else None
        if self._armed and self._counts_from is None and self._at_mirror is not None and self._sees():
            # Every rank receives by now; what was sent before belongs to nobody. Where nothing was, 0 may be the first.
            self._counts_from = 0 if last is None else last + 1
        return Report(
            delta=delta, counters=counters, last_key=last, counts_from=self._counts_from, facts=self._facts()
        )

    def _facts(self) -> dict[str, float]:
        if self._is_results:
            return {}
        return self._presence.facts() | witness_facts(self._at_source or self._at_mirror, self._sight)


def main() -> None:
    """Entry point of the process."""
    parser = member_parser(__doc__ or "")
    parser.add_argument("--kind", choices=("mirror", "results"), required=True)
    parser.add_argument("--channel", required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--provider", choices=("pva", "ca"), default="pva")
    parser.add_argument("--id-field", action="append", required=True)
    parser.add_argument("--queue", type=int, required=True)
    parser.add_argument("--queue-bytes", type=int)
    parser.add_argument("--appear-timeout", type=float, required=True)
    parser.add_argument("--search", action="store_true", help="find the source as the beamline's clients do")
    parser.add_argument(
        "--watch-source", action="store_true", help="nobody else says which ids the source sends"
    )
    arguments = parser.parse_args()
    keep_freed_memory()
    results = arguments.kind == "results"
    ground = prepare(
        arguments,
        lambda join: join.beamline_interfaces if results else join.cluster_interfaces,
        keep_client_environment=arguments.search,
    )
    identity = MemberId(kind=arguments.kind, generation=arguments.generation)

    def body(member: Member) -> int:
        with CaMirror() if arguments.provider == "ca" else Mirror() as mirror:
            ground.check_port()
            member.register(ground.whereabouts())
            one = MirrorMember(
                member,
                mirror,
                channel=arguments.channel,
                source=arguments.source,
                id_fields=tuple(arguments.id_field),
                watches_source=arguments.watch_source,
            )
            with member.live(collect=one.collect, obey=one.obey):
                one.run(
                    queue=arguments.queue,
                    queue_bytes=arguments.queue_bytes,
                    provider=arguments.provider,
                    appear_timeout_s=arguments.appear_timeout,
                )
        return EXIT_FAILED if member.abandoned else EXIT_DONE

    leave(run_member(ground, identity, body))


if __name__ == "__main__":
    main()
