#!/bin/bash

: "${BEAMCAST_RUN_DIR:=/shared/run}"
: "${BEAMCAST_PYTHON:=/env/bin/python}"
export BEAMCAST_RUN_DIR BEAMCAST_PYTHON
export PATH="$(dirname "$BEAMCAST_PYTHON"):$PATH"

exec "$BEAMCAST_PYTHON" -P -m beamcast.members.host.node --run-dir "$BEAMCAST_RUN_DIR" --nodes 1
