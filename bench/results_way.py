"""How results come back: re-served in C++ (mirror), received and published once each (monitor), or sent by the ranks
(push). Measured on whole at-most-once runs that take turns.

Frames are small and their results are smaller, so that the way back is what there is to do. The detector offers more
than a run takes: results per second at the beamline, and what they cost the process that serves them and all of them
together. And it offers little: how long a result is on its way from its rank's `process` to a client at the beamline,
through the collector.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from delivery import AT_MOST, HERE, Load, Played, played, rate_hz
from priorities import as_users_have_them

from chaos.load import RESULT  # found by `delivery`

WAYS = ("mirror", "monitor", "push")
BUSY_HZ, CALM_HZ = 4000.0, 200.0


def load(way: str, *, offer_hz: float, seconds: float) -> Load:
    """Frames of 64 x 64 pixels that nobody looks at."""
    return Load(
        seconds=seconds,
        rate_hz=offer_hz,
        size=64,
        ranks=2,
        delivery=AT_MOST,
        work={"sums": False},
        mirror={"queue": 1000},
        consumers={"server_queue": 1000, "receiver_queue": 1000},
        top={
            "allow_lost": 10**9,
            "results": {"pool": "collect", "channel": RESULT, "by": way},
        },
    )


def delays_ms(one: Played) -> list[float]:
    """From `process` to the client, of each result."""
    return [1e3 * (result.came_at - result.made_at) for result in one.results]


def row(way: str, busy: list[Played], calm: list[Played], seconds: float) -> dict[str, Any]:
    """Medians over rounds."""
    delays = [sorted(delays_ms(one)) for one in calm]
    return {
        "way": way,
        "results_per_s": round(statistics.median(rate_hz(one, seconds) for one in busy), 1),
        "server_us": round(statistics.median(one.cost_us.get("results", 0.0) for one in busy), 1),
        "all_us": round(statistics.median(one.cost_us["all"] for one in busy), 1),
        "delay_ms": round(statistics.median(statistics.median(each) for each in delays), 2),
        "delay_p99_ms": round(statistics.median(each[int(0.99 * len(each))] for each in delays), 2),
        "lost_when_calm": sum(one.lost for one in calm),
    }


def main() -> None:
    """Measure all ways in turn and print a line for each."""
    as_users_have_them()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "results_way.json")
    arguments = parser.parse_args()
    busy: dict[str, list[Played]] = {way: [] for way in WAYS}
    calm: dict[str, list[Played]] = {way: [] for way in WAYS}
    for _ in range(arguments.rounds):
        for way in WAYS:
            busy[way].append(played(load(way, offer_hz=BUSY_HZ, seconds=arguments.seconds)))
            calm[way].append(played(load(way, offer_hz=CALM_HZ, seconds=arguments.seconds)))
    rows = [row(way, busy[way], calm[way], arguments.seconds) for way in WAYS]
    for each in rows:
        print("  ".join(f"{key} {value}" for key, value in each.items()))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
