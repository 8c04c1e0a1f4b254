"""Whether a run's frames came in the turns that the plan gave its ranks; looked at once, when the run is over."""

from beamcast.config.workflow import Pool
from beamcast.core.ids import format_ranges
from beamcast.core.ledger import Ledger
from beamcast.core.place import set_members
from beamcast.core.turns import out_of_turn
from beamcast.launch.plan import RunPlan
from beamcast.launch.roster import MemberRecord
from beamcast.launch.turn import takes_turns

IN_TURN = "as planned"


def turns_of(plan: RunPlan, pool: Pool, ranks: list[MemberRecord], ledger: Ledger) -> str:
    """In words, for the report; empty where nothing can be said: no turns were planned, or a rank died, which leaves
    the rotation. Of a pool that no rank has joined or left."""
    dispatched = plan.dispatches and pool.input == "source"
    if not takes_turns(pool, dispatched=dispatched) or any(
        rank.deaths or rank.place is None for rank in ranks
    ):
        return ""
    places = [rank.place for rank in ranks if rank.place is not None]
    sets = set_members(pool.distribution.policy, places, pool.distribution.sets)
    # All ranks of a set see the same frames.
    received = [ledger.received_by(pool.name, members[0]) for members in sets]
    wrong = out_of_turn(received, updates=pool.distribution.updates)
    return IN_TURN if wrong is None else f"frame {format_ranges([wrong])} came to another rank than planned"
