"""Everything about a run that follows from its workflow and site: names, places, inputs. Pure; `beamcast plan`
prints it, the controller carries it out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from beamcast.config.load import LoadedWorkflow
from beamcast.config.site import Site
from beamcast.config.workflow import Pool, Workflow
from beamcast.core.ledger import PoolShape
from beamcast.core.place import Place, Slot, assign, set_members, spread
from beamcast.pva.messages import Input

OUTPUT_ID_FIELD = "uniqueId"


@dataclass(frozen=True, slots=True)
class RankChannels:
    """The PVs of one rank, named as PvaPy names them."""

    output: str
    status: str
    control: str


@dataclass(frozen=True, slots=True)
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
    def mirror_channel(self) -> str:
        """The channel that ranks read in place of the detector's."""
        return self.workflow.mirror.channel or f"{self.prefix}:mirror"

    @property
    def pools(self) -> tuple[Pool, ...]:
        """The pools, each after the one that it reads."""
        ordered: list[Pool] = []
        waiting = list(self.workflow.pools)
        while waiting:
            have = {"source", *(pool.name for pool in ordered)}
            ordered += [pool for pool in waiting if pool.input in have]
            left = [pool for pool in waiting if pool.input not in have]
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
        return spread(pool.ranks, nodes, self.site.allocation.ranks_per_node)

    def nodes_of(self, pool: Pool) -> int:
        """How many nodes the pool is spread over."""
        per_node = self.site.allocation.ranks_per_node
        if per_node is None:
            return min(pool.ranks, self.site.allocation.nodes)
        return min(-(-pool.ranks // per_node), self.site.allocation.nodes)

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
        return self.workflow.source.id_field if pool.input == "source" else OUTPUT_ID_FIELD

    def inputs(self, pool: Pool, place: Place, generations: Sequence[int]) -> tuple[Input, ...]:
        """The channels that a rank monitors; `generations` are those of its producers' ranks, in order."""
        queue = f"record[queueSize={pool.server_queue}]"
        if pool.role == "consumer":
            request = f"{queue}field(_[{self.slot(pool, place).distributor_request()}])"
        else:
            request = f"{queue}field()"
        if pool.input == "source":
            return (Input(channel=self.mirror_channel, request=request),)
        return tuple(
            Input(
                channel=self.channels(pool.input, producer).output,
                request=request,
                producer=producer,
                generation=generation,
            )
            for producer, generation in enumerate(generations)
            # Several collector ranks share the producers out among themselves, each gathers its own.
            if pool.role == "consumer" or producer % pool.ranks == place.rank
        )

    def shape(self, pool: Pool) -> PoolShape:
        """The pool as the ledger sees it."""
        places = self.places(pool)
        shared = pool.distribution
        if pool.role == "collector":
            sets: tuple[tuple[int, ...], ...] = tuple((place.rank,) for place in places)
        else:
            sets = set_members(shared.policy, places, shared.sets)
        return PoolShape(name=pool.name, role=pool.role, input=pool.input, sets=sets, updates=shared.updates)

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
