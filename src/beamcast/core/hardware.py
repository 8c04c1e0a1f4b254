"""Which GPU and which CPUs of its node a rank gets. Pure.

The choice: ranks share a node out by their local rank, in blocks, so that neighbours share a GPU where there are more
ranks than GPUs; a rank never gets two. CPUs go with the GPU, since a rank far from its GPU pays for each transfer.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
# A node with more is not to be expected; a list such as "0-4000000000" is a slip that would fill the memory.
MAX_CPU = 65535


@dataclass(frozen=True, slots=True)
class Share:
    """What one rank gets: its GPU's place in the site's list and its name, and a list of CPUs; empty: not bound."""

    gpu: int | None = None
    gpu_name: str = ""
    cpus: str = ""


def share_of(local_rank: int, local_size: int, *, gpus: Sequence[str], cpu_sets: Sequence[str]) -> Share:
    """Return the share of one of `local_size` ranks of a pool on a node.

    Args:
        gpus: names of the node's GPUs.
        cpu_sets: CPUs next to each GPU; without GPUs, of each local rank. Empty: no binding.

    Raises:
        ValueError: a local rank that is not one of `local_size`, or as many CPU sets as there are no GPUs.
    """
    if not 0 <= local_rank < local_size:
        raise ValueError(f"local rank {local_rank} is outside 0..{local_size - 1}")
    if not gpus:
        return Share(cpus=cpu_sets[_block(local_rank, local_size, len(cpu_sets))] if cpu_sets else "")
    if cpu_sets and len(cpu_sets) != len(gpus):
        raise ValueError(f"{len(cpu_sets)} CPU sets for {len(gpus)} GPUs")
    gpu = _block(local_rank, local_size, len(gpus))
    return Share(gpu=gpu, gpu_name=gpus[gpu], cpus=cpu_sets[gpu] if cpu_sets else "")


def _block(index: int, count: int, parts: int) -> int:
    """The part of something: one each while they last, otherwise neighbours together."""
    return index if count <= parts else index * parts // count


def parse_cpus(text: str) -> frozenset[int]:
    """Return the CPUs of a list such as "0-7,64"; ValueError for anything else, also for none."""
    cpus: set[int] = set()
    for piece in text.split(","):
        match = _RANGE.fullmatch(piece.strip())
        first = int(match[1]) if match else 1
        last = int(match[2] or first) if match else 0
        if not first <= last <= MAX_CPU:
            raise ValueError(f"{piece.strip()!r} is no CPU or range of CPUs, such as 0-7")
        cpus.update(range(first, last + 1))
    return frozenset(cpus)


def format_cpus(cpus: Iterable[int]) -> str:
    """Return CPUs as a list of ranges, as Linux writes them: "0-7,64"."""
    pieces: list[list[int]] = []
    for cpu in sorted(cpus):
        if pieces and cpu == pieces[-1][1] + 1:
            pieces[-1][1] = cpu
        else:
            pieces.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in pieces)
