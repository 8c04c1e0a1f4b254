#!/bin/bash
# Give each rank of an MPI start one GPU of its node, for programs that are not beamcast's (beamcast's own ranks do it by
# themselves, from [node] in the site file).
#
#   mpiexec -n 8 --ppn 4 --cpu-bind none ./gpu-affinity.sh program ...
#
# GPUS: names in the order of local ranks (default "0 1 2 3"); GPU_VARIABLE: what shows a process its GPU (default
# CUDA_VISIBLE_DEVICES; ROCR_VISIBLE_DEVICES on AMD, ZE_AFFINITY_MASK on Intel). CPU_SETS: CPUs next to each GPU, in the
# same order, such as "24-31,56-63 16-23,48-55 8-15,40-47 0-7,32-39" on Polaris; empty: no binding.
set -euo pipefail
local_rank=${PALS_LOCAL_RANKID:-${SLURM_LOCALID:-${OMPI_COMM_WORLD_LOCAL_RANK:-${MPI_LOCALRANKID:-${PMI_LOCAL_RANK:-}}}}}
[ -n "$local_rank" ] || { echo "gpu-affinity.sh: no launcher says which local rank this is" >&2; exit 2; }
read -r -a gpus <<< "${GPUS:-0 1 2 3}"
read -r -a cpu_sets <<< "${CPU_SETS:-}"
index=$((local_rank % ${#gpus[@]}))
export "${GPU_VARIABLE:-CUDA_VISIBLE_DEVICES}=${gpus[$index]}"
[ "${#cpu_sets[@]}" -gt "$index" ] && exec taskset --cpu-list "${cpu_sets[$index]}" "$@"
exec "$@"
