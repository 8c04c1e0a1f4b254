"""What at-least-once delivery costs, and what it gives: measured on whole runs, with both guarantees in turn.

Every figure comes from a real `beamcast run` on Parsl beside which an ordinary client reads the result PV (the
harness of `tests/chaos`). Each frame's result says when it was made.

* throughput: the detector offers more than the run takes; distinct results per second while it does. The payload is not
  looked at, so that transport alone is compared. Runs with the two guarantees take turns; the ratio is made within a
  pair, and the median of the ratios counts.
* unequal ranks: three equal ones and one of a quarter of their speed are offered 90 % of the sum of their rates. What
  counts is the share of frames whose results were made when the offer ended, half a second later at most.
* memory: all consumers are stopped while frames come; the growth of the mirror's resident memory against its bound.
"""

import argparse
import json
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from chaos.load import Load  # noqa: E402  (the harness lives with the tests)
from chaos.trial import Trial  # noqa: E402
from chaos.verdict import Arrival  # noqa: E402

AT_LEAST, AT_MOST = "at-least-once", "at-most-once"
WARM_UP_S = 1.0
GRACE_S = 0.5
FINISH_TIMEOUT_S = 120.0
MIB = 1 << 20


def played(load: Load) -> list[Arrival]:
    """Play one load to its end; the results, in the order in which they came."""
    with tempfile.TemporaryDirectory(prefix="beamcast-bench-") as text, Trial(Path(text), load) as trial:
        trial.take(load.frames)
        trial.finish(timeout_s=FINISH_TIMEOUT_S)
        return trial.results


def rate_hz(load: Load) -> float:
    """Distinct results made per second during the offer, without its first second."""
    results = played(load)
    began = min(result.taken_at for result in results) + WARM_UP_S
    ends = began - WARM_UP_S + load.seconds
    made = {result.frame_id for result in results if began <= result.made_at < ends}
    return len(made) / (ends - began)


def throughput(size: int, offer_hz: float, *, pairs: int, replay: str) -> dict[str, Any]:
    """Both guarantees in turn."""
    rates: dict[str, list[float]] = {AT_LEAST: [], AT_MOST: []}
    for _ in range(pairs):
        for delivery, taken in rates.items():
            mirror = {"replay": replay} if delivery == AT_LEAST else {}
            load = Load(
                seconds=5.0,
                rate_hz=offer_hz,
                size=size,
                ranks=2,
                delivery=delivery,
                work={"sums": False},
                mirror={**mirror, "queue": max(16, min(1000, 256 * MIB // size**2))},
                consumers={"server_queue": 64, "receiver_queue": 64, "window": 16},
                top={"allow_lost": 10**9},
            )
            taken.append(rate_hz(load))
    ratios = [mine / other for mine, other in zip(rates[AT_LEAST], rates[AT_MOST], strict=True)]
    return {
        "what": f"throughput {size}x{size}",
        **{name: round(statistics.median(taken), 1) for name, taken in rates.items()},
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
    }


def unequal_ranks(delivery: str) -> dict[str, Any]:
    """Ranks of speed 1, 1, 1 and 0.25 at 90 % of what they can do together."""
    work_s = 0.008
    capacity_hz = 3.25 / work_s
    load = Load(
        seconds=10.0,
        rate_hz=0.9 * capacity_hz,
        size=64,
        ranks=4,
        delivery=delivery,
        work={"work_s": work_s, "slow_rank": 3, "slow_factor": 4.0},
        consumers={"server_queue": 2000, "receiver_queue": 2000},
    )
    results = played(load)
    ends = max(result.taken_at for result in results) + GRACE_S
    share = len({result.frame_id for result in results if result.made_at <= ends}) / load.frames
    return {
        "what": f"unequal ranks, {delivery}",
        "offered_hz": round(load.rate_hz, 1),
        "share": round(share, 3),
    }


def memory(bound: int) -> dict[str, Any]:
    """The mirror while nobody takes frames."""
    load = Load(
        seconds=bound / MIB / 128 + 4, rate_hz=512.0, size=512, mirror={"replay": f"{bound // MIB} MiB"},
        work={"sums": False}, top={"allow_lost": 10**9},
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="beamcast-bench-") as text, Trial(Path(text), load) as trial:
        (mirror,) = trial.processes("beamcast.members.dispatching")
        before = mirror.memory_info().rss
        for rank in trial.ranks("work"):
            rank.send_signal(signal.SIGSTOP)
        trial.take(load.frames)
        most = _most_rss(mirror, for_s=load.seconds)
        trial.finish(timeout_s=FINISH_TIMEOUT_S)
    return {
        "what": "memory of the mirror",
        "bound_mib": bound // MIB,
        "growth_mib": round((most - before) / MIB, 1),
        "of_bound": round((most - before) / bound, 3),
    }


def _most_rss(process: psutil.Process, *, for_s: float) -> int:
    most, ends = 0, time.monotonic() + for_s
    while time.monotonic() < ends:
        most = max(most, process.memory_info().rss)
        time.sleep(0.05)
    return most


def main() -> None:
    """Measure everything and print one line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "delivery.json")
    arguments = parser.parse_args()
    rows = []
    for measure in (
        lambda: memory(512 * MIB),
        lambda: unequal_ranks(AT_LEAST),
        lambda: unequal_ranks(AT_MOST),
        lambda: throughput(512, 4000.0, pairs=arguments.pairs, replay="256 MiB"),
        lambda: throughput(4096, 200.0, pairs=arguments.pairs, replay="1 GiB"),
    ):
        rows.append(measure())
        print(json.dumps(rows[-1]), flush=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
