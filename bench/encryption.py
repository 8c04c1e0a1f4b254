"""How long sealing and opening an image takes, as a ratio to PvaPy's encrypt and decrypt processors.

Each subject has the memory settings of the process that runs it: ours keeps what was freed and writes large copies past
the caches (`beamcast.pools.memory`), PvaPy's consumer leaves glibc as it is (and would gain nothing from our settings).

Needs `pip install rsa pycryptodome`, which PvaPy's processors import.

Each measurement is a process of its own, since what one subject leaves in the allocator changes the other's times at
16 MiB; subjects take turns, ratios are made within a round, and medians over rounds are reported. Timed is
`process(update)` alone, after a warm-up, by the clock and in CPU time (of all threads: on a machine that others use
too, that is the ratio to look at); the latest result is kept until the next one is there, as a record keeps it.
PvaPy encrypts the whole object with AES-128 in EAX mode (without keeping the tag) and the AES key with RSA, for each
frame; its encrypt times at small images are mostly RSA's, so the length of the RSA key is an option. Without the tag it
takes changed frames for good ones; it notices them when it signs and verifies ("pvapy-signed"), as in the example of
PvaPy's documentation. beamcast always notices. Both ratios are printed; "times PvaPy" is that to the faster one, which
does not sign.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from priorities import as_users_have_them

from beamcast.pools.memory import keep_freed_memory, memory_environment
from beamcast.processors.encryption import Open, Seal
from beamcast.pva.ndarray import make_ndarray
from beamcast.security.keys import KeyRing

SIZES = (128, 512, 4096)
SUBJECTS = ("beamcast", "beamcast-object", "pvapy", "pvapy-signed")
OURS = SUBJECTS[:2]
OPERATIONS = ("encrypt", "decrypt")
SPEND_S = 0.6
WARM_UP = 5

Took = tuple[float, float]
"""Microseconds by the clock, and of CPU time."""


def main() -> None:
    """Run all and print a table; with --measure, one measurement in this process."""
    as_users_have_them()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rsa-bits", type=int, default=2048)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--measure", nargs=4, metavar=("SUBJECT", "OPERATION", "SIZE", "FOLDER"))
    options = parser.parse_args()
    if options.measure:
        subject, operation, size, folder = options.measure
        print(*measure(subject, operation, int(size), Path(folder)))
        return
    rows = run(options.rounds, options.rsa_bits)
    print(
        f"{'image':>12} {'operation':9} {'subject':16} {'µs/frame':>10} {'times PvaPy':>12} {'in CPU':>8} "
        f"{'times signed':>13}   rounds"
    )
    for row in rows:
        each = " ".join(f"{ratio:.0f}" for ratio in row["ratios"])
        what = f"{row['size']:>7}² u8 {row['operation']:9} {row['subject']:16}"
        print(
            f"{what} {row['us']:10.1f} {row['ratio']:12.1f} {row['cpu_ratio']:8.1f} {row['signed']:13.1f}   {each}"
        )
    if options.out is not None:
        options.out.write_text(json.dumps({"rsa_bits": options.rsa_bits, "rows": rows}, indent=2) + "\n")


def run(rounds: int, rsa_bits: int) -> list[dict[str, Any]]:
    """All measurements in turns; one row for each size, operation and subject."""
    import rsa

    samples: dict[tuple[int, str, str], list[Took]] = {}
    with tempfile.TemporaryDirectory(prefix="beamcast-bench-") as text:
        folder = Path(text)
        KeyRing.create().write(folder / "stream.keys")
        (folder / "rsa.pem").write_bytes(rsa.newkeys(rsa_bits)[1].save_pkcs1())
        for _ in range(rounds):
            for size in SIZES:
                for operation in OPERATIONS:
                    for subject in SUBJECTS:
                        took = in_process(subject, operation, size, folder)
                        samples.setdefault((size, operation, subject), []).append(took)
    return [
        summarise(*case, taken, samples[(*case[:2], "pvapy")], samples[(*case[:2], "pvapy-signed")])
        for case, taken in samples.items()
    ]


def in_process(subject: str, operation: str, size: int, folder: Path) -> Took:
    """One measurement in a fresh process, started as a rank is."""
    settings = memory_environment(os.environ) if subject in OURS else {}
    environment = {**os.environ, **settings}
    command = [sys.executable, __file__, "--measure", subject, operation, str(size), str(folder)]
    printed = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=120, env=environment
    ).stdout
    wall_us, cpu_us = printed.split()
    return float(wall_us), float(cpu_us)


def summarise(
    size: int, operation: str, subject: str, taken: list[Took], pvapy: list[Took], signed: list[Took]
) -> dict[str, Any]:
    """Medians over rounds; the ratio is made round by round before its median is taken."""
    ratios = [theirs[0] / ours[0] for theirs, ours in zip(pvapy, taken, strict=True)]
    to_signed = [theirs[0] / ours[0] for theirs, ours in zip(signed, taken, strict=True)]
    cpu_ratios = [theirs[1] / ours[1] for theirs, ours in zip(pvapy, taken, strict=True)]
    return {
        "size": size,
        "operation": operation,
        "subject": subject,
        "us": round(statistics.median(wall_us for wall_us, _ in taken), 2),
        "cpu_us": round(statistics.median(cpu_us for _, cpu_us in taken), 2),
        "cpu_ratio": round(statistics.median(cpu_ratios), 2),
        "ratio": round(statistics.median(ratios), 2),
        "signed": round(statistics.median(to_signed), 2),
        "ratios": [round(ratio, 1) for ratio in ratios],
    }


def measure(subject: str, operation: str, size: int, folder: Path) -> Took:
    """The median times of one call."""
    if subject in OURS:
        keep_freed_memory()
    image = np.random.default_rng(1).integers(0, 4096, (size, size)).astype(np.uint8)
    pv = make_ndarray(image, frame_id=1, timestamp_s=1_700_000_000.5)
    make = beamcast if subject in OURS else pvapy
    process, inputs = make(subject, operation, pv, folder)
    times_s: list[float] = []
    spent_s: list[float] = []
    kept = None
    end_s = time.perf_counter() + SPEND_S
    for argument in inputs:
        spent_before_s, began_s = time.process_time(), time.perf_counter()
        result = process(argument)
        times_s.append(time.perf_counter() - began_s)
        spent_s.append(time.process_time() - spent_before_s)
        kept = result
        if time.perf_counter() > end_s and len(times_s) > 3 * WARM_UP:
            break
    assert kept is not None
    return statistics.median(times_s[WARM_UP:]) * 1e6, statistics.median(spent_s[WARM_UP:]) * 1e6


def beamcast(
    subject: str, operation: str, pv: Any, folder: Path
) -> tuple[Callable[[Any], Any], Iterator[Any]]:
    """Our processor and its endless input: each frame opens once, so a new one is sealed for each."""
    context = SimpleNamespace(run="bench", pool="seal", place=SimpleNamespace(rank=0), base=folder)
    scope: Any = "object" if subject.endswith("object") else "payload"
    seal = Seal(key_file="stream.keys", scope=scope)
    seal.start(context)
    updates = (SimpleNamespace(pv=pv.copy(), id=1) for _ in iter(int, 1))
    if operation == "encrypt":
        return seal.process, updates
    opener = Open(key_file="stream.keys")
    opener.start(context)
    return opener.process, (SimpleNamespace(pv=seal.process(update), id=1) for update in updates)


def pvapy(subject: str, operation: str, pv: Any, folder: Path) -> tuple[Callable[[Any], Any], Iterator[Any]]:
    """PvaPy's processor and its endless input."""
    from pvapy.hpc.adImageDataDecryptor import AdImageDataDecryptor
    from pvapy.hpc.adImageDataEncryptor import AdImageDataEncryptor

    signs = subject == "pvapy-signed"
    settings = {"privateKeyFilePath": os.fspath(folder / "rsa.pem"), "sign": signs, "verify": signs}
    encryptor, decryptor = AdImageDataEncryptor(settings), AdImageDataDecryptor(settings)
    encryptor.objectIdField, decryptor.objectIdField = "uniqueId", "objectId"
    if operation == "encrypt":
        return encryptor.process, (pv for _ in iter(int, 1))
    encrypted = encryptor.process(pv)
    return decryptor.process, (encrypted for _ in iter(int, 1))


if __name__ == "__main__":
    main()
