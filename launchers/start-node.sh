#!/bin/bash
# Start what sits on this node: run it once on each node of an allocation, by `srun --ntasks-per-node=1`, by
# `mpiexec --ppn 1`, or by hand where there is one node.
#
#   start-node.sh RUN_DIR [NODES]
#
# RUN_DIR is the run directory of a run that waits (executor = "external"); it has to be readable here, by its owner alone.
# BEAMCAST_PYTHON chooses the interpreter; the one on PATH is the default.
set -euo pipefail
run_dir=${1:?usage: start-node.sh RUN_DIR [NODES]}
[ -r "$run_dir/join.json" ] || { echo "start-node.sh: no run waits in $run_dir: is it on a file system that $(hostname) sees?" >&2; exit 2; }
exec "${BEAMCAST_PYTHON:-python3}" -P -m beamcast.members.host.node --run-dir "$run_dir" --nodes "${2:-1}"
