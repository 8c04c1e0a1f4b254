"""What a member process and its keeper agree on. The keeper runs in a Parsl worker, and imports no more than this."""

# Where a keeper listens for signs of life: the number of an open file.
PULSE_VARIABLE = "BEAMCAST_PULSE"

# Exit statuses of a member, read by its keeper.
EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_UNWELCOME = 4
