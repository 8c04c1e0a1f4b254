"""What each of Parsl's workers needs, to be imported before the first of them is forked."""

from beamcast.members.workers.parsl_only import leave_out_sdk

leave_out_sdk()

import parsl.executors.high_throughput.process_worker_pool  # noqa: E402, F401

import beamcast.members.host.seat  # noqa: E402, F401
