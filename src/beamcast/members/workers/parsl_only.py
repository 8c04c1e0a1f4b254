"""Importing Parsl without the SDK of Globus Compute.

Parsl imports the SDK wherever it is installed, in each of its processes, and that takes as long as all of Parsl does
(0.4 s of 0.9 s, three times one after the other until a rank starts). Runs that don't use it do without.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

SDK = "globus_compute_sdk"


def leave_out_sdk() -> None:
    """From here on, in this process, the SDK counts as not installed."""
    sys.modules[SDK] = None  # type: ignore[assignment] # what makes `import` raise, as documented


@contextmanager
def without_sdk() -> Iterator[None]:
    """Only within; nothing happens where it has been imported."""
    if SDK in sys.modules:
        yield
        return
    leave_out_sdk()
    try:
        yield
    finally:
        del sys.modules[SDK]
