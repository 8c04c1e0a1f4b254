"""The counters of a rank, in a run or by itself, from the parts that count."""

from typing import Any

from beamcast.core.reorder import ReorderWindow
from beamcast.pools.collector import CollectorLoop
from beamcast.pools.consumer import ConsumerLoop
from beamcast.pools.inputs import Inputs
from beamcast.pools.output import Output
from beamcast.pools.tally import Tally
from beamcast.pools.work import Work
from beamcast.pva.messages import Counters


def count(
    inputs: Inputs,
    tally: Tally,
    work: Work,
    output: Output,
    loop: ConsumerLoop | CollectorLoop,
    window: ReorderWindow[Any] | None,
) -> Counters:
    """Since the start; `window` of a collector. From any thread."""
    received, overruns, rejected = inputs.counters()
    processed, dropped, failed = tally.counts()
    return Counters(
        received=received,
        processed=processed,
        dropped=dropped,
        failed=failed,
        published=output.published,
        duplicates=tally.duplicates + (window.duplicates if window is not None else 0),
        late=window.late if window is not None else 0,
        bytes_received=received * inputs.frame_bytes(),
        queued=loop.queued,
        server_overruns=overruns,
        receiver_rejected=rejected,
        busy_s=work.busy_s,
    )
