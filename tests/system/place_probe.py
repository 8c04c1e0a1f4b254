"""What MPI says of a rank's place, and what it gets there; run under `mpiexec`, prints one line of JSON."""

import json
import os
import sys

from beamcast.members.hardware import NodeShare, bind, bound_cpus, rank_environment
from beamcast.members.host.keeper import place_by_mpi

if __name__ == "__main__":
    size, cpu_sets = int(sys.argv[1]), tuple(sys.argv[2:])
    errand = place_by_mpi("", "pool", 0, size, first_generation=0, understudy=False)
    node = NodeShare(gpus=tuple("ABCD"[: len(cpu_sets)]), cpu_sets=cpu_sets)
    share = node.of(errand.local_rank, errand.local_size)
    bind(share)
    facts = {
        "rank": errand.rank,
        "size": errand.size,
        "node": (errand.node_index, errand.nodes),
        "local": (errand.local_rank, errand.local_size),
        "gpu": rank_environment(node, share)["CUDA_VISIBLE_DEVICES"],
        "cpus": bound_cpus(),
    }
    os.write(1, json.dumps(facts).encode() + b"\n")
