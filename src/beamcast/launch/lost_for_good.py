"""Which frames are lost, while others are still on their way: what an alarm may be set on.

The choice: a frame is given up when a later one had reached its end some seconds before, and no rank can have it in
hand. Under at-least-once delivery the mirror sends again what it has, so only what it never had, and what it says that
it has dropped, is lost. When the stream has been drained, all that is outstanding is.
"""

from collections import deque

from beamcast.core.ledger import Ledger
from beamcast.launch.roster import Roster

# Longer than results wait in a collector for those before them, as a rule.
OVERTAKEN_S = 5.0


class LostForGood:
    """`count` is called with each report, `now` by a steady clock."""

    def __init__(self) -> None:
        self._ended: deque[tuple[float, int]] = deque()

    def count(self, ledger: Ledger, roster: Roster, *, dispatches: bool, now: float) -> int:
        """How many frames are lost and do not come any more."""
        self._ended.append((now, ledger.last_ended()))
        while len(self._ended) > 1 and self._ended[1][0] <= now - OVERTAKEN_S:
            self._ended.popleft()
        noted_at, before = self._ended[0]
        if noted_at > now - OVERTAKEN_S:
            return 0
        live = {
            pool: [record.identity.rank for record in records if record.live]
            for pool, records in roster.ranks.items()
        }
        lost = ledger.overtaken(before, live)
        if not dispatches:
            return len(lost)
        return len(ledger.unmirrored(lost)) + roster.members["mirror"].counted("lost_by_policy")
