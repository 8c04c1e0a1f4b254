"""What goes into the dispatcher besides plain values, and what comes out: acks, actions, totals and gauges.

The choice: actions are named tuples. They are the cheapest values Python makes that still have named fields and can be
matched by class, and two of them arise for every frame.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from pyroaring import BitMap64


class Final(StrEnum):
    """How a frame ended. Every frame that came in gets exactly one of them."""

    RETIRED = "retired"
    DROPPED = "dropped"  # on purpose, by the processor
    FAILED = "failed"
    LOST = "lost"  # refused or given up by the overflow policy; a hole in the data that is named


class Ack(NamedTuple):
    """What one rank did since its last ack. A key stands in one of the three sets.

    `serial` counts the acks of one generation upwards. An ack is repeated unchanged, serial included, until it is
    answered; a new serial carries what no lower one carried. So a repeat can never be taken for the second processing
    of a frame that was sent to the same rank twice.
    """

    rank: int
    generation: int
    serial: int
    processed: Collection[int] | BitMap64 = ()
    dropped: Collection[int] | BitMap64 = ()
    failed: Sequence[tuple[int, str]] = ()
    """Keys on which the processor raised, each with the reason in words."""


class Send(NamedTuple):
    """Send the payload of `key` to `rank`. `attempt` counts from 1; above it, the frame is sent again."""

    rank: int
    key: int
    attempt: int


class Release(NamedTuple):
    """The frame is final: forget its payload and its file. `final` is RETIRED or DROPPED."""

    key: int
    final: Final


class FailOut(NamedTuple):
    """The frame is final, as failed: keep payload and reason for later, then forget it. It may lie on disk only."""

    key: int
    reason: str
    strikes: int
    """How many ranks it failed on or died with."""


class DropNewest(NamedTuple):
    """The frame is final, as lost: record the key with the reason, forget payload and file."""

    key: int
    reason: str


class Spill(NamedTuple):
    """Write the payload to disk and answer `spilled` or `spill_failed`; forget the payload once it is written."""

    key: int


class Unspill(NamedTuple):
    """Read the payload back, in the order asked, and answer `unspilled` or `unspill_failed`; then forget the file."""

    key: int


class Discard(NamedTuple):
    """The disk was slower than the frame, which is final already: forget payload and file. No new final state."""

    key: int


class Dismiss(NamedTuple):
    """A leaving rank has nothing more in hand: it may be told to end. It is no longer known here."""

    rank: int
    generation: int


Action = Send | Release | FailOut | DropNewest | Spill | Unspill | Discard | Dismiss


@dataclass(slots=True)
class DispatchTotals:
    """Numbers since the start. frames = held + retired + dropped + failed + lost."""

    frames: int = 0
    sends: int = 0
    sends_again: int = 0
    retired: int = 0
    dropped: int = 0
    failed: int = 0
    lost: int = 0
    duplicates: int = 0
    """Updates whose key had come before; ignored."""
    stale_acks: int = 0
    """Acks of a generation that is gone, or repeats."""


@dataclass(frozen=True, slots=True)
class DispatchGauges:
    """What is held now. `held_bytes` are in memory, `spilled_bytes` on disk (or on the way there)."""

    held_frames: int
    held_bytes: int
    waiting_frames: int
    in_flight_frames: int
    processed_frames: int
    spilled_frames: int
    spilled_bytes: int
    input_bytes_per_s: float
    output_bytes_per_s: float
    seconds_left: float
    """Until memory and disk are full at today's rates; infinity while they don't fill."""
