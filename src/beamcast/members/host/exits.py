"""What a member process and its keeper agree on. The keeper runs in a Parsl worker, and imports no more than this."""

import signal

# Where a keeper listens for signs of life: the number of an open file.
PULSE_VARIABLE = "BEAMCAST_PULSE"

# Exit statuses of a member, read by its keeper.
EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_UNWELCOME = 4

# The last sign of life of a member that ends since its work is done: an exit status of 0 alone may be the processor's.
FAREWELL = b"!"


def end_in_words(status: int) -> str:
    """How a process ended, for people. `status`: as `subprocess` tells it, or a shell (128 and the signal's number)."""
    number = -status if status < 0 else status - 128
    if status < 0 or number in (
        signal.SIGKILL,
        signal.SIGSEGV,
        signal.SIGABRT,
        signal.SIGBUS,
        signal.SIGTERM,
    ):
        try:
            return f"ended by signal {number} ({signal.Signals(number).name})"
        except ValueError:
            return f"ended by signal {number}"
    if status == EXIT_UNWELCOME:
        return f"was not wanted by the controller (exit status {status})"
    if status == EXIT_DONE:
        return "ended with exit status 0 before its work was done: does its processor call os._exit?"
    return f"ended with exit status {status}"
