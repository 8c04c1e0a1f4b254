"""Who should have received a frame that nobody received.

The rule: the distributor hands turns out in rotation, so as long as its sets stay the same, frame number i
(in the order of the mirror) goes to the set that got number i − N·U, with N sets and turns of U frames. The
owner of a lost frame is taken from the nearest earlier frame of the same phase whose owner is known, else
from the nearest later one.

Its limits: where the membership changed between the two frames the answer is the owner before the change,
which is right for a rank that died and keeps its turn until the plugin notices, and wrong soon after. Frames
lost before the distributor shift the count, so the order must be that of the mirror where that is known. A
frame received by several sets (the value sent on connecting) says nothing. Work is bounded: beyond the limits
the owner is None.
"""

from collections.abc import Sequence
from itertools import islice

from pyroaring import BitMap64

# Each key costs a search for its number in the order (3-25 µs): 20 000 take half a second at most.
MAX_KEYS = 20_000
# How many turns of the rotation to look back or ahead. Lost neighbours pass on what they found, so a long gap
# needs no more; this bridges frames that several sets received.
MAX_TURNS = 8
# Membership tests (40 ns each), N for each known frame that is asked about.
MAX_TESTS = 5_000_000


class Rotation:
    """The order of frames and who received them, asked for owners."""

    def __init__(self, order: BitMap64, received: Sequence[BitMap64], updates: int) -> None:
        """Take the frames in distributor order and what each set received, sets in order of turn."""
        self._order = order
        self._received = received
        self._period = len(received) * updates
        self._tests_left = MAX_TESTS
        self._owners: dict[int, int | None] = {}
        """Owner by number in the order, found or inferred so far."""

    def owners(self, lost: BitMap64) -> dict[int | None, BitMap64]:
        """Return the lost frames by the number of the set that should have received them; None where unclear.

        `lost` holds frames that no set received.
        """
        if len(self._received) == 1:
            return {0: lost}
        numbers = [(key, self._order.rank(key) - 1) for key in islice(lost, MAX_KEYS) if key in self._order]
        self._owners.update((number, None) for _, number in numbers)
        for step, sequence in ((-self._period, numbers), (self._period, numbers[::-1])):
            for _, number in sequence:
                if self._owners[number] is None:
                    self._owners[number] = self._nearest(number, step)
        return self._grouped(lost, numbers)

    def _nearest(self, number: int, step: int) -> int | None:
        for turn in range(1, MAX_TURNS + 1):
            owner = self._owner(number + turn * step)
            if owner is not None:
                return owner
        return None

    def _owner(self, number: int) -> int | None:
        if number not in self._owners:
            known = 0 <= number < len(self._order) and self._tests_left > 0
            self._owners[number] = self._receiver(self._order[number]) if known else None
        return self._owners[number]

    def _receiver(self, key: int) -> int | None:
        """The only set that received a frame."""
        self._tests_left -= len(self._received)
        receivers = [index for index, received in enumerate(self._received) if key in received]
        return receivers[0] if len(receivers) == 1 else None

    def _grouped(self, lost: BitMap64, numbers: Sequence[tuple[int, int]]) -> dict[int | None, BitMap64]:
        groups: dict[int | None, BitMap64] = {}
        for key, number in numbers:
            owner = self._owners[number]
            if owner is not None:
                groups.setdefault(owner, BitMap64()).add(key)
        unclear = lost.difference(*groups.values())
        if unclear:
            groups[None] = unclear
        return groups
