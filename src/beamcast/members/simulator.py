"""The simulator member: the detector of a run that has none, started when every rank is ready."""

import logging
import time
from pathlib import Path
from typing import Any

import msgspec
from pyroaring import BitMap64

from beamcast.config.units import dec_hook
from beamcast.config.workflow import Simulation
from beamcast.core.ids import Epoch, FrameId, frame_key
from beamcast.core.keyset import encode_keys
from beamcast.members.host.exits import EXIT_DONE, EXIT_FAILED
from beamcast.members.member import Member, Report
from beamcast.members.setup import leave, member_parser, prepare, run_member
from beamcast.pva.messages import Counters, Delta, MemberId, Orders
from beamcast.sim.metadata import SimulatedMetadata
from beamcast.sim.simulator import SimReport, Simulator
from beamcast.sim.source import frame_source

logger = logging.getLogger(__name__)


class SimulatorMember:
    """Waits for the order to start, sends its frames, stays until the order to stop."""

    def __init__(
        self,
        member: Member,
        simulator: Simulator,
        *,
        first_id: int,
        start_delay_s: float = 0.0,
        metadata: tuple[str, ...] = (),
    ) -> None:
        """`start_delay_s`: from the order to start to the first frame. `metadata`: the channels that the simulator
        serves besides its own."""
        self._member = member
        self._simulator = simulator
        self._reported = first_id
        self._first_id = first_id
        self._start_delay_s = start_delay_s
        self._metadata = metadata
        self._report: SimReport | None = None
        self.start = False
        self.stop = False
        self.drain = False

    def run(self) -> None:
        """Until told to stop."""
        self._simulator.serve_initial()
        self._member.serves = (self._simulator.channel, *self._metadata)
        self._member.now("ready")
        while not (self.start or self._over()):
            time.sleep(0.005)
        begin = time.monotonic() + self._start_delay_s
        while time.monotonic() < begin and not self._over():
            time.sleep(0.005)
        if not self._over():
            self._member.now("running")
            self._report = self._simulator.run(self._over)
            logger.info("sent: %s", self._report)
        self._member.now("drained")
        while not (self.stop or self._member.abandoned):
            time.sleep(0.02)

    def _over(self) -> bool:
        return self.stop or self.drain or self._member.abandoned

    def obey(self, orders: Orders) -> None:
        """Take orders; runs on the heartbeat thread."""
        self.start = self.start or orders.start
        self.drain = self.drain or orders.drain
        self.stop = self.stop or orders.stop

    def collect(self) -> Report:
        """The ids sent since the last heartbeat."""
        upto = self._first_id + self._simulator.sent
        keys = BitMap64(
            range(frame_key(Epoch(0), FrameId(self._reported)), frame_key(Epoch(0), FrameId(upto)))
        )
        self._reported = upto
        facts: dict[str, float] = {}
        if self._report is not None:
            facts = {name: float(value) for name, value in self._facts(self._report).items()}
        last = frame_key(Epoch(0), FrameId(upto - 1)) if upto > self._first_id else None
        return Report(
            delta=Delta(seen=encode_keys(keys) if keys else b""),
            counters=Counters(published=self._simulator.sent),
            last_key=last,
            facts=facts,
        )

    @staticmethod
    def _facts(report: SimReport) -> dict[str, Any]:
        return {
            "rate_hz": report.rate_hz,
            "jitter_p50_s": report.jitter_p50_s,
            "jitter_p99_s": report.jitter_p99_s,
            "jitter_max_s": report.jitter_max_s,
        }


def main() -> None:
    """Entry point of the process."""
    parser = member_parser(__doc__ or "")
    parser.add_argument("--channel", required=True)
    parser.add_argument("--simulation", required=True, help="the [source.simulate] table as JSON")
    parser.add_argument("--metadata", action="append", default=[], help="a metadata channel to serve")
    parser.add_argument("--base", type=Path, required=True)
    arguments = parser.parse_args()
    simulation = msgspec.json.decode(arguments.simulation, type=Simulation, dec_hook=dec_hook)
    ground = prepare(arguments, lambda join: join.beamline_interfaces)
    identity = MemberId(kind="simulator", generation=arguments.generation)

    def body(member: Member) -> int:
        import pvaccess

        server = pvaccess.PvaServer()
        ground.check_port()
        member.register(ground.whereabouts())
        with member.live(collect=Report, obey=lambda orders: None):
            simulator = Simulator(
                arguments.channel,
                frame_source(simulation, base=arguments.base),
                server=server,
                rate_hz=float(simulation.rate),
                frames=simulation.frames,
                first_id=simulation.first_id,
                metadata=SimulatedMetadata(arguments.metadata, server) if arguments.metadata else None,
            )
            one = SimulatorMember(
                member,
                simulator,
                first_id=simulation.first_id,
                start_delay_s=float(simulation.start_delay or 0.0),
                metadata=tuple(arguments.metadata),
            )
            member.live(collect=one.collect, obey=one.obey)
            one.run()
        return EXIT_FAILED if member.abandoned else EXIT_DONE

    leave(run_member(ground, identity, body))


if __name__ == "__main__":
    main()
