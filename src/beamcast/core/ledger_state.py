"""What a ledger knows, in a form that can be kept: for whoever takes up a run whose controller is gone.

The choice: only what was reported is kept. What follows from it is judged anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pyroaring import BitMap64

from beamcast.core.keyset import encode_keys
from beamcast.core.stage import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class RankState:
    """What one rank has reported; sets of keys as `beamcast.core.keyset` encodes them."""

    pool: str
    rank: int
    received: bytes
    processed: bytes
    dropped: bytes
    failed: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivedState:
    """Parts that have come to `pool` from one rank."""

    pool: str
    sender: tuple[str, int]
    keys: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerState:
    """All of it. `first`: the first key of the run. `mirrored`: None where no mirror has reported. `witnessed`: seen at
    the source; `unsure`: nobody watched it before these."""

    first: int
    seen: bytes
    mirrored: bytes | None
    delivered: bytes
    witnessed: bytes
    unsure: bytes
    ranks: tuple[RankState, ...]
    arrived: tuple[ArrivedState, ...]


def ledger_state(
    stages: Mapping[str, Stage],
    *,
    first: int,
    seen: BitMap64,
    mirrored: BitMap64 | None,
    delivered: BitMap64,
    witnessed: BitMap64,
    unsure: BitMap64,
) -> LedgerState:
    """Put down what is known. Costs about a microsecond a set, and what their keys take: much less for runs of them."""
    return LedgerState(
        first=first,
        seen=encode_keys(seen),
        mirrored=None if mirrored is None else encode_keys(mirrored),
        delivered=encode_keys(delivered),
        witnessed=encode_keys(witnessed),
        unsure=encode_keys(unsure),
        ranks=tuple(
            RankState(
                pool=name,
                rank=rank,
                received=encode_keys(frames.received),
                processed=encode_keys(frames.processed),
                dropped=encode_keys(frames.dropped),
                failed=encode_keys(frames.failed),
            )
            for name, stage in stages.items()
            for rank, frames in stage.ranks.items()
        ),
        arrived=tuple(
            ArrivedState(pool=name, sender=sender, keys=encode_keys(keys))
            for name, stage in stages.items()
            for sender, keys in stage.arrived.items()
        ),
    )
