"""Whether frames went out in turns: what was planned as slots, against the ids that really arrived. Pure."""

from collections.abc import Iterable, Sequence
from heapq import merge
from itertools import groupby, islice

# A wrong order shows within the first rounds; looking at all ids of a long run would take seconds.
MOST_LOOKED_AT = 100_000


def out_of_turn(received: Sequence[Iterable[int]], *, updates: int) -> int | None:
    """Return the first frame that came to another set than its turn's; None when all came in turn.

    Args:
        received: ids that each set received, ascending; sets in the order of their turns.
        updates: consecutive frames in one turn.

    It begins with whichever set got the first frame, in whatever part of its turn: what the distributor counted before
    the run is not known. Meant for a run that lost nothing: a lost frame leaves a turn short.
    """
    owned = merge(*([(key, turn) for key in ids] for turn, ids in enumerate(received)))
    before: int | None = None
    short: int | None = None
    for turn, frames in groupby(islice(owned, MOST_LOOKED_AT), key=lambda pair: pair[1]):
        keys = [key for key, _ in frames]
        first = before is None
        if short is not None or (before is not None and turn != (before + 1) % len(received)):
            return short if short is not None else keys[0]
        if len(received) > 1 and len(keys) > updates:
            return keys[updates]
        # Only the first turn and the last may be shorter than a turn.
        short = keys[-1] if len(keys) < updates and not first else None
        before = turn
    return None
