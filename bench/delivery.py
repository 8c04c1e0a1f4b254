"""What at-least-once delivery costs, and what it gives: measured on whole runs, with both guarantees in turn.

Every figure comes from a real `beamcast run` on Parsl beside which an ordinary client reads the result PV (the
harness of `tests/chaos`). Each frame's result says when it was made.

* throughput: the detector offers more than the run takes; distinct results per second while it does. The payload is not
  looked at, so that transport alone is compared. Runs with the two guarantees take turns; the ratio is made within a
  pair, and the median of the ratios counts. Where all processes share a few cores, what limits is the processor time
  of all of them together: it stands beside the rates, in microseconds a frame, and its ratio (at-most-once to
  at-least-once) does not suffer from others on the machine as rates do.
* unequal ranks: three equal ones and one of a quarter of their speed. What they can do is measured first, in a run
  with the same load in which frames always wait for all of them (one over the median time of a frame, added up). Then
  they are offered 95 % of that sum; what counts is the rate of distinct results while the offer lasts, without its
  first second, as a part of the sum.
* small frames in stacks beside PvaPy's consumer: `bench/stacks.py`.
* memory: all consumers are stopped while frames come; the growth of the mirror's resident memory against its bound.
"""

import argparse
import json
import signal
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from priorities import as_users_have_them  # noqa: E402
from stacks import stacked  # noqa: E402

from chaos.load import Load  # noqa: E402  (the harness lives with the tests)
from chaos.trial import Trial  # noqa: E402
from chaos.verdict import Arrival  # noqa: E402

AT_LEAST, AT_MOST = "at-least-once", "at-most-once"
# Of what passes at most once.
OFFER = 1.3
WARM_UP_S = 1.0
FINISH_TIMEOUT_S = 120.0
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Played:
    """One load, played to its end: results in the order in which they came, and µs of each process for each frame."""

    results: list[Arrival]
    frames: int
    cost_us: dict[str, float]

    @property
    def lost(self) -> int:
        """Frames that never had a result, by their ids."""
        return self.frames - len({result.frame_id for result in self.results})


def played(load: Load) -> Played:
    """Play one load to its end."""
    with tempfile.TemporaryDirectory(prefix="beamcast-bench-") as text, Trial(Path(text), load) as trial:
        before = spent_s(trial)
        trial.take(load.frames)
        trial.wait_until_taken(timeout_s=FINISH_TIMEOUT_S)
        spent = {name: seconds - before.get(name, 0.0) for name, seconds in spent_s(trial).items()}
        made = max(1, len(trial.results))
        trial.finish(timeout_s=FINISH_TIMEOUT_S)
        cost = {name: 1e6 * seconds / made for name, seconds in spent.items()}
        return Played(results=trial.results, frames=load.frames, cost_us=cost)


ROLES = {
    "--kind=results": "results",
    "members.results": "results",
    "members.pushed": "results",
    "members.dispatcher.mirror": "mirror",
    "members.mirror --kind=mirror": "mirror",
    "--pool=work": "ranks",
    "detector.py": "detector",
}


def spent_s(trial: Trial) -> dict[str, float]:
    """Processor time of the run's processes so far, by what they are; the client's and the detector's included."""
    spent: dict[str, float] = {}
    for process in trial.processes():
        try:
            line, times = " ".join(process.cmdline()), process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        role = next(
            (role for words, role in ROLES.items() if all(word in line for word in words.split())), "others"
        )
        for name in (role, "all"):
            spent[name] = spent.get(name, 0.0) + times.user + times.system
    return spent


def rate_hz(one: Played, seconds: float) -> float:
    """Distinct results made per second during an offer of so many seconds, without its first."""
    first = min(result.taken_at for result in one.results)
    began, ends = first + min(WARM_UP_S, seconds / 4), first + seconds
    made = {result.frame_id for result in one.results if began <= result.made_at < ends}
    return len(made) / (ends - began)


def throughput(
    size: int, most_hz: float, *, pairs: int, replay: str, seconds: float, window: int
) -> list[dict[str, Any]]:
    """Both guarantees in turn; a row for each. `window`: frames below 4 MiB that a rank may hold, under either.

    Offered is somewhat more than passes at most once, which is looked at first with an offer of `most_hz`. Of what is
    far too much, each guarantee drops in another place and at another cost, and that would be measured."""
    taken: dict[str, list[tuple[float, Played]]] = {AT_MOST: [], AT_LEAST: []}

    def one(delivery: str, offer_hz: float) -> tuple[float, Played]:
        mirror = {"replay": replay} if delivery == AT_LEAST else {}
        queue = window if size < 2048 else 16
        load = Load(
            seconds=seconds,
            rate_hz=offer_hz,
            size=size,
            ranks=2,
            delivery=delivery,
            work={"sums": False},
            mirror={**mirror, "queue": max(16, min(1000, 256 * MIB // size**2))},
            consumers={"server_queue": queue, "receiver_queue": queue, "window": queue},
            top={"allow_lost": 10**9},
        )
        play = played(load)
        sample = rate_hz(play, load.seconds), play
        # Each by itself, too: on a shared machine medians of few hide how far they lie apart.
        print(
            f"  {size}x{size} {delivery}: offered {offer_hz:.0f}, {sample[0]:.1f} frames/s, "
            f"{play.cost_us['all']:.0f} us a frame",
            file=sys.stderr,
            flush=True,
        )
        return sample

    offer_hz = OFFER * one(AT_MOST, most_hz)[0]
    for number in range(pairs):
        # Whoever comes second finds the machine as the first has left it: they take turns in that too.
        for delivery in (AT_MOST, AT_LEAST) if number % 2 else (AT_LEAST, AT_MOST):
            taken[delivery].append(one(delivery, offer_hz))
    return [throughput_row(size, delivery, samples, taken[AT_MOST]) for delivery, samples in taken.items()]


def throughput_row(
    size: int, delivery: str, taken: list[tuple[float, Played]], others: list[tuple[float, Played]]
) -> dict[str, Any]:
    """Medians; both ratios are made within each pair."""
    rates = [mine / other for (mine, _), (other, _) in zip(taken, others, strict=True)]
    costs = [
        other.cost_us["all"] / mine.cost_us["all"]
        for (_, mine), (_, other) in zip(taken, others, strict=True)
    ]
    names = sorted({name for _, one in taken for name in one.cost_us})
    return {
        "what": f"throughput {size}x{size}, {delivery}",
        "frames_per_s": round(statistics.median(rate for rate, _ in taken), 1),
        "ratio": round(statistics.median(rates), 3),
        "ratio_cpu": round(statistics.median(costs), 3),
        "lost": round(statistics.median(one.lost for _, one in taken)),
        **{
            f"{name}_us": round(statistics.median(one.cost_us.get(name, 0.0) for _, one in taken), 1)
            for name in names
        },
    }


WORK_S = 0.008
UNEQUAL = {"work_s": WORK_S, "slow_rank": 3, "slow_factor": 4.0}


def unequal_load(delivery: str, *, offer_hz: float, seconds: float) -> Load:
    """Ranks of speed 1, 1, 1 and 0.25."""
    return Load(
        seconds=seconds,
        rate_hz=offer_hz,
        size=64,
        ranks=4,
        delivery=delivery,
        work=UNEQUAL,
        consumers={"server_queue": 2000, "receiver_queue": 2000},
        top={"allow_lost": 10**9},
    )


def unequal_ranks() -> list[dict[str, Any]]:
    """What such ranks do together under each delivery, as a part of what they can do."""
    seconds = 6.0
    busy = played(unequal_load(AT_LEAST, offer_hz=1.5 * 3.25 / WORK_S, seconds=seconds))
    sum_hz = sum_of_rates_hz(busy.results, seconds)
    rows = []
    for delivery in (AT_LEAST, AT_MOST):
        load = unequal_load(delivery, offer_hz=0.95 * sum_hz, seconds=10.0)
        one = played(load)
        rows.append(
            {
                "what": f"unequal ranks, {delivery}" + (" (round robin)" if delivery == AT_MOST else ""),
                "sum_of_rates_hz": round(sum_hz, 1),
                "offered_hz": round(load.rate_hz, 1),
                "frames_per_s": round(rate_hz(one, load.seconds), 1),
                "ratio": round(rate_hz(one, load.seconds) / sum_hz, 3),
                "lost": one.lost,
            }
        )
    return rows


def sum_of_rates_hz(results: list[Arrival], seconds: float) -> float:
    """What each process does while frames wait for it, added up: the median time from one result to the next is what a
    frame takes, whatever happens now and then between two."""
    ends = min(result.taken_at for result in results) + seconds
    made_at: defaultdict[int, list[float]] = defaultdict(list)
    for result in results:
        if result.made_at < ends:
            made_at[result.pid].append(result.made_at)
    gaps = [[after - before for before, after in pairwise(sorted(times))] for times in made_at.values()]
    return sum(1 / statistics.median(each) for each in gaps if each)


def memory(bound: int, *, size: int, rate_hz: float) -> dict[str, Any]:
    """The mirror while nobody takes frames."""
    load = Load(
        seconds=bound / size**2 / rate_hz + 4, rate_hz=rate_hz, size=size,
        mirror={"replay": f"{bound // MIB} MiB"}, work={"sums": False}, top={"allow_lost": 10**9},
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="beamcast-bench-") as text, Trial(Path(text), load) as trial:
        (mirror,) = trial.processes("beamcast.members.dispatcher.mirror")
        before = mirror.memory_info().rss
        for rank in trial.ranks("work"):
            rank.send_signal(signal.SIGSTOP)
        trial.take(load.frames)
        most = _most_rss(mirror, for_s=load.seconds)
        trial.finish(timeout_s=FINISH_TIMEOUT_S)
    return {
        "what": f"memory of the mirror, {size}x{size}",
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
    as_users_have_them()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of the offer, in throughput")
    parser.add_argument("--window", type=int, default=128, help="frames of 512x512 that a rank may hold")
    parser.add_argument("--only", nargs="*", help="some of: memory unequal 512 4096 stacks")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "delivery.json")
    arguments = parser.parse_args()
    common = {"pairs": arguments.pairs, "seconds": arguments.seconds, "window": arguments.window}
    measures: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "memory": lambda: [
            memory(512 * MIB, size=512, rate_hz=512.0),
            memory(64 * MIB, size=128, rate_hz=1500.0),
        ],
        "unequal": unequal_ranks,
        "512": lambda: throughput(512, 4000.0, replay="256 MiB", **common),
        "4096": lambda: throughput(4096, 200.0, replay="1 GiB", **common),
        "stacks": lambda: stacked(1),  # a search for each subject: minutes
    }
    rows = []
    for name in arguments.only or measures:
        for row in measures[name]():
            rows.append(row)
            print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
