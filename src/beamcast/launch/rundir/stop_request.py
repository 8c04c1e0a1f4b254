"""A request to stop, left in the run directory by a host that can't reach the controller.

Whoever may write into the run directory may stop the run: it holds the run's secret anyway. A request is for the run
that goes on now: whoever left it takes it away again when nobody has obeyed within its deadline, and one that was
forgotten is not obeyed later.
"""

import os
import socket
import time
from pathlib import Path

import msgspec

STOP_FILE = "stop.json"
# Clocks of two hosts differ a little; a request that was forgotten is older than that.
CLOCK_SLACK_S = 60.0


class StopRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, from where, and until when (seconds since 1970)."""

    host: str
    pid: int
    until: float
    at_once: bool = False


def leave_request(run_dir: Path, *, deadline_s: float, at_once: bool) -> None:
    """Leave a request that holds for `deadline_s`."""
    request = StopRequest(
        host=socket.gethostname(), pid=os.getpid(), until=time.time() + deadline_s, at_once=at_once
    )
    partial = run_dir / f".stop-{socket.gethostname()}-{os.getpid()}"
    partial.write_bytes(msgspec.json.encode(request))
    partial.replace(run_dir / STOP_FILE)


def take_request(run_dir: Path) -> StopRequest | None:
    """Take a request away, to obey it: that shows the one who left it that it was heard."""
    path = run_dir / STOP_FILE
    try:
        request = msgspec.json.decode(path.read_bytes(), type=StopRequest)
        path.unlink()
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError:
        path.unlink(missing_ok=True)
        return None
    return request if time.time() < request.until + CLOCK_SLACK_S else None


def wait_until_taken(run_dir: Path, *, deadline_s: float, poll_s: float = 0.2) -> bool:
    """Whether somebody obeyed within the deadline; otherwise the request is taken back."""
    path = run_dir / STOP_FILE
    end = time.monotonic() + deadline_s
    while path.exists():
        if time.monotonic() > end:
            path.unlink(missing_ok=True)
            return False
        time.sleep(poll_s)
    return True
