"""Everything about a run that follows from its workflow and site: names, places, inputs. Pure; `beamcast plan`
prints it, the controller carries it out."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from beamcast.config.load import LoadedWorkflow
from beamcast.config.site import Site
from beamcast.config.workflow import Metadata, Pool, Workflow
from beamcast.core.ledger import PoolShape
from beamcast.core.place import Place, Slot, assign, set_members, spread
from beamcast.launch.hardware import with_gpu
from beamcast.pva.messages import DispatchedPool, DispatchPlan, Input, MetadataPlan

OUTPUT_ID_FIELD = "uniqueId"
# The value that a record has when a rank connects, and what an acknowledgement under way gives back.
QUEUE_SPARE = 4
# Joined metadata takes about 100 bytes a row for six channels.
LEAST_METADATA_ROWS = 20_000
MOST_METADATA_ROWS = 1_000_000


@dataclass(frozen=True, slots=True)
class RankChannels:
    """The PVs of one rank, named as PvaPy names them."""

    output: str
    status: str
    control: str


@dataclass(frozen=True)
class RunPlan:
    """One run: what to do (`workflow`), where (`site`), under which name."""

    run: str
    loaded: LoadedWorkflow
    site: Site

    @property
    def workflow(self) -> Workflow:
        """The workflow of the run."""
        return self.loaded.workflow

    @property
    def base(self) -> Path:
        """Relative paths of the workflow start here."""
        return self.loaded.base

    @property
    def prefix(self) -> str:
        """What the names of the run's PVs begin with."""
        return self.workflow.prefix or f"beamcast:{self.run}"

    @property
    def source_channel(self) -> str:
        """The detector's channel."""
        return self.workflow.source.channel

    @property
    def frames_channel(self) -> str:
        """The channel that the mirror monitors: the detector's, or what is filled by RPC."""
        return f"{self.prefix}:intake" if self.workflow.source.mode == "rpc" else self.source_channel

    @property
    def mirror_channel(self) -> str:
        """The channel that ranks read in place of the detector's."""
        return self.workflow.mirror.channel or f"{self.prefix}:mirror"

    @cached_property
    def pools(self) -> tuple[Pool, ...]:
        """The pools, each after the one that it reads. Asked for with each heartbeat of each rank."""
        ordered: list[Pool] = []
        waiting = list(self.workflow.pools)
        while waiting:
            have = {"source", *(pool.name for pool in ordered)}
            ordered += [pool for pool in waiting if have.issuperset(pool.inputs)]
            left = [pool for pool in waiting if not have.issuperset(pool.inputs)]
            if len(left) == len(waiting):
                raise ValueError("the pools form a loop: check_workflow comes first")
            waiting = left
        return tuple(ordered)

    def pool(self, name: str) -> Pool:
        """The pool of that name; KeyError where there is none."""
        for pool in self.workflow.pools:
            if pool.name == name:
                return pool
        raise KeyError(name)

    def channels(self, pool: str, rank: int) -> RankChannels:
        """The PVs of a rank."""
        stem = f"{self.prefix}:{pool}:{rank}"
        return RankChannels(output=f"{stem}:output", status=f"{stem}:status", control=f"{stem}:control")

    def places(self, pool: Pool) -> tuple[Place, ...]:
        """Where the ranks are expected to sit; a rank's own word at registration counts in the end."""
        nodes = [f"node{index}" for index in range(self.nodes_of(pool))]
        places = spread(pool.ranks, nodes, self.site.allocation.ranks_per_node)
        return tuple(with_gpu(self.site.node, pool, place) for place in places)

    def nodes_of(self, pool: Pool) -> int:
        """How many nodes the pool is spread over."""
        per_node = self.site.allocation.ranks_per_node
        if per_node is None:
            return min(pool.ranks, self.site.allocation.nodes)
        return min(-(-pool.ranks // per_node), self.site.allocation.nodes)

    @property
    def dispatches(self) -> bool:
        """Whether frames go through the dispatcher."""
        return self.workflow.delivery == "at-least-once"

    @property
    def dispatcher(self) -> str:
        """The dispatcher's service."""
        return f"{self.prefix}:dispatch"

    def dispatch_channel(self, pool: str, rank: int) -> str:
        """The record from which a rank gets its frames, under at-least-once delivery."""
        return f"{self.mirror_channel}:{pool}:{rank}"

    def leaf_of(self, pool: str) -> str:
        """The last pool on the way of this pool's outputs."""
        readers = [each.name for each in self.pools if each.input == pool]
        return self.leaf_of(readers[-1]) if readers else pool

    def retires(self, pool: str) -> bool:
        """Whether the outputs of the pool are final, and its ranks have to say so to the dispatcher."""
        firsts = [each.name for each in self.pools if each.input == "source"]
        leaves = {self.leaf_of(first) for first in firsts}
        return self.dispatches and pool not in firsts and pool in leaves and not self.results_retire(pool)

    def ends_frames_of(self, pool: str) -> str | None:
        """The leaf, as the dispatcher knows it, for whose branch a frame is final that this pool drops or fails on.
        None for pools that read the source, which say so with their acks, and for those beside the way to a leaf."""
        firsts = [each.name for each in self.pools if each.input == "source"]
        leaf = self.leaf_of(pool)
        if not self.dispatches or pool in firsts or leaf not in {self.leaf_of(first) for first in firsts}:
            return None
        return self.leaf_name(leaf)

    def leaf_name(self, leaf: str) -> str:
        """How the dispatcher calls who says that results are final: the last pool, "" for the result server."""
        return "" if self.results_retire(leaf) else leaf

    def results_retire(self, pool: str) -> bool:
        """Whether the outputs of the pool are final once the result server has them, and that says so. Not of a pool
        that gathers parts: it could not repeat a result from the one part that comes again."""
        results = self.workflow.results
        is_result = results is not None and results.pool == pool and self.leaf_of(pool) == pool
        return self.dispatches and is_result and self.pool(pool).gather is None

    def dispatch_plan(self, run_dir: Path) -> DispatchPlan:
        """What the dispatching mirror has to know."""
        mirror, source = self.workflow.mirror, self.workflow.source
        folder = mirror.spill_folder
        return DispatchPlan(
            channel=self.dispatcher,
            source=self.frames_channel,
            id_field=source.id_field,
            queue=mirror.queue,
            queue_bytes=None if mirror.queue_bytes is None else int(mirror.queue_bytes),
            appear_timeout_s=float(source.appear_timeout),
            replay_bytes=int(mirror.replay),
            overflow=mirror.overflow,
            spill_bytes=int(mirror.spill),
            spill_folder=str(Path(folder) / run_dir.name) if folder is not None else None,
            retire_timeout_s=float(mirror.retire_timeout),
            pools=tuple(
                DispatchedPool(
                    name=pool.name,
                    channels=tuple(self.dispatch_channel(pool.name, rank) for rank in range(pool.ranks)),
                    window=pool.window,
                    max_attempts=pool.max_attempts,
                    batch=pool.batch,
                    batch_wait_s=float(pool.batch_wait),
                    leaf=self.leaf_name(self.leaf_of(pool.name)),
                    retire_on_ack=self.leaf_of(pool.name) == pool.name and not self.results_retire(pool.name),
                )
                for pool in self.pools
                if pool.input == "source"
            ),
        )

    @property
    def metadata_channel(self) -> str:
        """The channel of the joined metadata."""
        return f"{self.prefix}:metadata"

    @property
    def mirror_watches_source(self) -> bool:
        """Whether only a witness of the mirror's own can say which ids the source sent."""
        workflow = self.workflow
        return (
            workflow.source.protocol == "pva" and workflow.source.simulate is None and not workflow.metadata
        )

    def metadata_of(self, pool: Pool) -> tuple[Metadata, ...]:
        """What is joined to the frames of a pool: those that read the source get it."""
        return self.workflow.metadata if pool.input == "source" else ()

    @staticmethod
    def metadata_rows(pool: Pool) -> int:
        """How many rows a rank has to keep: while a frame waits in its queues, those of the other ranks come too."""
        waiting = (pool.server_queue + pool.receiver_queue) * pool.ranks
        return max(LEAST_METADATA_ROWS, min(2 * waiting, MOST_METADATA_ROWS))

    def metadata_plan(self) -> MetadataPlan:
        """What the metadata member has to know."""
        source = self.workflow.source
        by_mirror = source.protocol == "ca"  # it is the mirror that numbers the updates
        return MetadataPlan(
            channel=self.metadata_channel,
            frames=self.mirror_channel if by_mirror else self.frames_channel,
            id_field=source.id_field,
            timestamp_field=source.timestamp_field,
            appear_timeout_s=float(source.appear_timeout),
            metadata=self.workflow.metadata,
        )

    def slot(self, pool: Pool, place: Place) -> Slot:
        """The rank's part in the distribution of its input."""
        shared = pool.distribution
        return assign(
            shared.policy,
            place,
            channel=self.mirror_channel if pool.input == "source" else f"{self.prefix}:{pool.input}",
            pool=pool.name,
            trigger=self._trigger(pool),
            updates=shared.updates,
            sets=shared.sets,
        )

    def _trigger(self, pool: Pool) -> str:
        if pool.input == "source":
            return self.workflow.source.id_field
        return self.output_id_field(pool.input) or OUTPUT_ID_FIELD

    def output_id_field(self, pool: str) -> str | None:
        """The field that numbers the frames in a pool's output, where the workflow says it."""
        return self.pool(pool).output_id_field

    def result_id_fields(self) -> tuple[str, ...]:
        """Which field numbers the results: the first of these that they have."""
        results = self.workflow.results
        said = self.output_id_field(results.pool) if results else None
        return (said,) if said else (OUTPUT_ID_FIELD, self.workflow.source.id_field)

    def input_channel(self, pool: Pool) -> str:
        """The channel that a pool reads, with a `*` for the rank of the producer where there are several, and for the
        branch where each rank has its own. Pools that join are left out."""
        if pool.input == "source":
            return self.mirror_channel
        producers = self.pool(pool.input).ranks
        stem = (
            self.channels(pool.input, 0).output if producers == 1 else f"{self.prefix}:{pool.input}:*:output"
        )
        return f"{stem}:*" if pool.input_branches else f"{stem}{_branch(pool, 0)}"

    def inputs(
        self, pool: Pool, place: Place, generations: Sequence[int | None], *, mirror: tuple[int, int] = (0, 0)
    ) -> tuple[Input, ...]:
        """The channels that a rank monitors; `generations` are those of its `producers`, in order: None for one that
        does not take part. `mirror`: its generation, and how often its record was made anew."""
        generation, renewed = mirror
        if self.dispatches and pool.input == "source":
            # The dispatcher never has more under way than the window: a queue of that length can't overrun.
            request = f"record[queueSize={pool.window + QUEUE_SPARE}]field()"
            channel = self.dispatch_channel(pool.name, place.rank)
            return (Input(channel=channel, request=request, generation=generation),)
        queue = f"record[queueSize={pool.server_queue}]"
        # Who gets every update needs no turns.
        if pool.role == "consumer" and pool.distribution.policy != "all":
            request = f"{queue}field(_[{self.slot(pool, place).distributor_request()}])"
        else:
            request = f"{queue}field()"
        if pool.input == "source":
            return (Input(channel=self.mirror_channel, request=request, renewed=renewed),)
        per_input = pool.gather or 1
        return tuple(
            Input(
                channel=f"{self.channels(name, rank).output}{_branch(pool, place.rank)}",
                request=request,
                producer=number,
                generation=generation,
                part=pool.inputs.index(name) * per_input + rank % per_input if pool.parts > 1 else 0,
            )
            for number, ((name, rank), generation) in enumerate(
                zip(self.producers(pool), generations, strict=True)
            )
            if generation is not None and self.reads(pool, place.rank, rank)
        )

    def connects_after(self, pool: Pool) -> tuple[str, ...]:
        """The pools of the same input whose ranks have to be connected before those of this one.

        The distributor counts the ranks that it has served of a set in one place for all groups of a process (a static
        variable). Turns come out right as long as no rank of another pool stands between those of a set.
        """
        beside = [each for each in self.pools if each.input == pool.input and each.role == "consumer"]
        if all(each.distribution.policy in ("each", "all") for each in beside) or pool not in beside:
            return ()
        return tuple(each.name for each in beside[: beside.index(pool)])

    def producers(self, pool: Pool) -> tuple[tuple[str, int], ...]:
        """Whose outputs the pool reads, as pools and ranks; `Input.producer` counts in this order."""
        pools = (self.pool(name) for name in pool.inputs if name != "source")
        return tuple((each.name, rank) for each in pools for rank in range(each.ranks))

    def producer_number(self, pool: Pool, name: str, rank: int) -> int:
        """The place of a rank of an input pool among the `producers` of `pool`."""
        before = pool.inputs[: pool.inputs.index(name)]
        return sum(self.pool(each).ranks for each in before) + rank

    @staticmethod
    def reads(pool: Pool, rank: int, producer: int) -> bool:
        """Whether a rank of the pool monitors the output of that rank of its input pool. Several collector ranks
        share the producers out among themselves, each gathers its own; those that send parts of one frame stay
        together."""
        return pool.role == "consumer" or producer // (pool.gather or 1) % pool.ranks == rank

    def shape(self, pool: Pool) -> PoolShape:
        """The pool as the ledger sees it."""
        places = self.places(pool)
        shared = pool.distribution
        if pool.role == "collector":
            sets: tuple[tuple[int, ...], ...] = tuple((place.rank,) for place in places)
        else:
            sets = set_members(shared.policy, places, shared.sets)
        return PoolShape(
            name=pool.name,
            role=pool.role,
            input=pool.input,
            sets=sets,
            updates=shared.updates,
            gather=pool.gather is not None,
            join=pool.join,
        )

    @property
    def results_by(self) -> Literal["mirror", "monitor", "push"]:
        """How results come to the beamline. The C++ mirror is faster than a monitor in Python, but can't tell a result
        that was made twice, as at-least-once delivery may, and does not follow a collector that was restarted, so it
        has to be asked for; where no connection leads to a node, ranks push."""
        chosen = self.workflow.results.by if self.workflow.results is not None else None
        if chosen is not None:
            return chosen
        if not self.site.network.nodes.reachable:
            return "push"
        return "monitor"

    @property
    def push_channel(self) -> str:
        """The service to which ranks push results."""
        return f"{self.prefix}:results"

    def pushes(self, pool: str) -> bool:
        """Whether the ranks of the pool push their outputs to the result server."""
        results = self.workflow.results
        return results is not None and results.pool == pool and self.results_by == "push"

    def results(self) -> dict[str, str]:
        """Result PVs at the beamline, by the rank output that each re-serves."""
        results = self.workflow.results
        if results is None:
            return {}
        stem = results.channel or f"{self.prefix}:result"
        outputs = [self.channels(results.pool, rank).output for rank in range(self.pool(results.pool).ranks)]
        return {
            output: stem if len(outputs) == 1 else f"{stem}:{rank}" for rank, output in enumerate(outputs)
        }


def _branch(pool: Pool, rank: int) -> str:
    """What follows the name of the input pool's output channel, as `beamcast.pools.output` numbers them."""
    branch = pool.input_branch if pool.input_branches is None else rank % pool.input_branches
    return f":{branch}" if branch else ""
