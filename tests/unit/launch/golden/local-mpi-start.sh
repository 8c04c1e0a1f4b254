#!/bin/bash

: "${BEAMCAST_RUN_DIR:=/shared/run}"
: "${BEAMCAST_PYTHON:=/env/bin/python}"
export BEAMCAST_RUN_DIR BEAMCAST_PYTHON
export PATH="$(dirname "$BEAMCAST_PYTHON"):$PATH"

mpiexec -n 4 "$BEAMCAST_PYTHON" -P -m beamcast.members.host.keeper --run-dir "$BEAMCAST_RUN_DIR" --pool stats --size 4 --max-restarts 3 &
mpiexec -n 1 "$BEAMCAST_PYTHON" -P -m beamcast.members.host.keeper --run-dir "$BEAMCAST_RUN_DIR" --pool collect --size 1 --max-restarts 3 &
failed=0
for start in $(jobs -p); do wait "$start" || failed=$?; done
exit $failed
