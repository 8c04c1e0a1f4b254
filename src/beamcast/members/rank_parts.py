"""What a rank is made of: everything that its duty calls for, made and wired, not yet started."""

import os
from pathlib import Path
from typing import Any

from beamcast.core.gather import PartGatherer
from beamcast.core.reorder import ReorderWindow
from beamcast.members.member import Member
from beamcast.pools.acks import Acks
from beamcast.pools.collector import CollectorLoop
from beamcast.pools.consumer import ConsumerLoop
from beamcast.pools.forward import Forwarder
from beamcast.pools.frame import Frame, GatheredFrame
from beamcast.pools.inputs import Inputs
from beamcast.pools.metadata import PATIENCE_S, JoinedWork, MetadataFeed, frame_with_metadata
from beamcast.pools.opened import Admission, PoolOpener
from beamcast.pools.output_seal import PoolSealer
from beamcast.pools.processor import Station, load_processor, open_output
from beamcast.pools.pusher import Pusher
from beamcast.pools.stacked import StackedLoop, pv_of_part, stacked_frame, stacked_frame_with_metadata
from beamcast.pools.steering import Steering
from beamcast.pools.tally import Tally
from beamcast.pools.work import MakeFrame, Work, make_work
from beamcast.pva.messages import RankDuty
from beamcast.pva.rpc import RpcCaller

OUTPUT_ID_FIELD = "uniqueId"


class RankParts:
    """The parts of one rank; those that its duty does not call for are None."""

    def __init__(self, member: Member, duty: RankDuty, server: Any) -> None:
        self._member = member
        self._duty = duty
        pool = duty.pool
        self.steering = Steering()
        self.tally = Tally()
        self.id_fields = self._id_fields()
        self.inputs = Inputs(
            queue_length=pool.receiver_queue,
            id_fields=self.id_fields,
            epoch=duty.epoch,
            fixed_epoch=bool(duty.dispatch_channel),
            counting=False,
            epoch_began=member.report_soon,
        )
        station = Station(
            rank=duty.rank,
            input_channel=duty.input_channel,
            output_channel=duty.output_channel,
            id_fields=self.id_fields,
            server=server,
        )
        self.processor = load_processor(pool.processor, pool.params, base=Path(duty.base), station=station)
        self.acks = self._make_acks() if duty.dispatch_channel else None
        self.pusher = self._make_pusher() if duty.push_channel else None
        self.opener = self._make_opener()
        self.sealer = self._make_sealer()
        self.output = open_output(
            self.processor,
            station,
            tap=self._push if self.pusher else None,
            seal=self.sealer,
            first=Forwarder(pool.forward) if pool.forward is not None else None,
        )
        self.gatherer = self._make_gatherer()
        self.work: Work = make_work(
            self.processor,
            self.output,
            self.tally,
            make_frame=self._frame_kind(),
        )
        self.feed = self._make_feed() if duty.metadata else None
        self.joined: JoinedWork | None = None
        if self.feed is not None:
            pv_of = pv_of_part if self.stacked else None
            self.work = self.joined = JoinedWork(self.work, duty.metadata, self.feed, pv_of=pv_of)
        self.admit = Admission(self.opener, self.work) if self.opener is not None else None
        self.window: ReorderWindow[Any] | None = self._make_window() if pool.role == "collector" else None
        self.loop = self._make_loop()

    @property
    def stacked(self) -> bool:
        """Whether frames come in stacks, from the dispatcher."""
        return self._duty.pool.input == "source" and self._duty.pool.batch > 1

    @property
    def dispatched(self) -> bool:
        """Whether the dispatcher gives this rank its frames."""
        return bool(self._duty.dispatch_channel) and self._duty.pool.input == "source"

    def close(self) -> None:
        """What outlives the last frame."""
        if self.pusher is not None:
            self.pusher.close()
        for helper in (self.opener, self.sealer):
            if helper is not None:
                helper.close()

    def _id_fields(self) -> tuple[str, ...]:
        duty, of_source = self._duty, self._duty.source.id_field
        if duty.input_id_field is not None:
            return (duty.input_id_field,)
        return (of_source,) if duty.pool.input == "source" else (OUTPUT_ID_FIELD, of_source)

    def _make_window(self) -> ReorderWindow[Any]:
        pool = self._duty.pool
        return ReorderWindow(capacity=pool.reorder_window, max_wait_s=float(pool.reorder_timeout))

    def _make_loop(self) -> ConsumerLoop | CollectorLoop:
        if self.window is None:
            look = None if self.acks is None else self.acks.look
            loop = StackedLoop if self.stacked else ConsumerLoop
            return loop(self.inputs, self.work, self.steering, after_burst=look, admit=self.admit)
        return CollectorLoop(
            self.inputs,
            self.work,
            self.steering,
            window=self.window,
            gatherer=self.gatherer,
            repeats=self._duty.repeats,
            admit=self.admit,
        )

    def _frame_kind(self) -> MakeFrame:
        if self.stacked:
            return stacked_frame_with_metadata if self._duty.metadata else stacked_frame
        if self._duty.metadata:
            return frame_with_metadata
        return Frame if self.gatherer is None else GatheredFrame

    def _make_feed(self) -> MetadataFeed:
        """For a rank whose frames are joined with metadata."""
        duty = self._duty
        return MetadataFeed(
            duty.metadata_channel,
            capacity=duty.metadata_rows,
            patience_s=PATIENCE_S + max(float(each.wait) for each in duty.metadata),
            should_stop=lambda: self.steering.stop,
        )

    def _make_gatherer(self) -> PartGatherer[Any] | None:
        """For a collector whose inputs bring parts of frames."""
        pool = self._duty.pool
        if pool.parts == 1:
            return None
        return PartGatherer(
            parts=pool.parts, capacity=pool.reorder_window, max_wait_s=float(pool.reorder_timeout)
        )

    def _make_opener(self) -> PoolOpener | None:
        pool = self._duty.pool
        if pool.open is None:
            return None
        # The dispatcher sends a frame again as it is, perhaps to the same rank.
        return PoolOpener(Path(self._duty.base) / pool.open, repeats=self.dispatched)

    def _make_sealer(self) -> PoolSealer | None:
        duty = self._duty
        if duty.pool.seal is None:
            return None
        sender = f"{self._member.join.run}/{duty.pool.name}/{duty.rank}"
        return PoolSealer(Path(duty.base) / duty.pool.seal, sender=sender, id_fields=self.id_fields)

    def _make_pusher(self) -> Pusher:
        """Nobody can connect to this rank to get its results."""
        duty, identity = self._duty, self._member.identity
        return Pusher(
            RpcCaller(duty.push_channel, secret=self._member.secret, sender=f"{identity}>#{os.getpid()}"),
            pool=duty.pool.name,
            rank=duty.rank,
            generation=identity.generation,
            should_stop=lambda: self._member.abandoned,
        )

    def _push(self, key: int | None, pv: Any) -> None:
        """What is published is pushed too. A processor that publishes by itself does so while it has the frame."""
        current = self.tally.current if key is None else key
        if self.pusher is not None and current is not None:
            self.pusher.put(current, pv)

    def _make_acks(self) -> Acks:
        """At-least-once: what was done is reported to the dispatcher too, and faster than by heartbeats."""
        duty, identity = self._duty, self._member.identity
        return Acks(
            self.tally,
            RpcCaller(duty.dispatch_channel, secret=self._member.secret, sender=f"{identity}#{os.getpid()}"),
            pool=duty.pool.name,
            rank=duty.rank,
            generation=identity.generation,
            window_frames=duty.pool.window if self.dispatched else None,
            retires=duty.retires,
            leaf=duty.leaf,
            receiving=lambda: not self.steering.reopen and self.inputs.receiving(),
            reopen=self._reopen,
            idle=lambda: self.loop.quiet_for() > 0,
        )

    def _reopen(self) -> None:
        self.steering.reopen = True
