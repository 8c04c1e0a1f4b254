"""Ranks that are started far away: all that they need travels in one sealed parcel, and a function that opens it.

The parcel holds a run directory in small: how to join, the run's secret, the seats, the user's processor files, the
lines that start the ranks. The function is `start_ranks`; whatever sends functions (Globus Compute) sends it, by name
or by source, so it uses nothing but its arguments and what it imports itself.
"""

import base64
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from beamcast.core.errors import UsageError
from beamcast.members.host.seat import Seat, write_seats
from beamcast.members.join import BASE, SECRET_FILE, Join, write_join
from beamcast.security.secret import RunSecret
from beamcast.security.site_key import SiteKey, seal_to

# A result of Globus Compute holds 10 MB at most; the ends of the logs say what went wrong.
LOG_TAIL_BYTES = 20_000
MAX_LOGS = 50
MAX_PARCEL_BYTES = 5 << 20


class Parcel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run directory in small. `files`: processor files, by their path from the workflow file."""

    run: str
    join: Join
    secret: str
    seats: tuple[Seat, ...]
    script: str
    files: dict[str, bytes] = {}

    def __repr__(self) -> str:
        return f"Parcel(run={self.run!r}, …)"


def seal_parcel(parcel: Parcel, public_key: str) -> str:
    """The parcel as text that only the site can read; UsageError for one that is too large to travel."""
    data = msgspec.msgpack.encode(parcel)
    if len(data) > MAX_PARCEL_BYTES:
        raise UsageError(
            f"what the ranks need has {len(data)} bytes, more than {MAX_PARCEL_BYTES} do not travel",
            hint="install large processors at the site, and name them as package.module:Class",
        )
    return base64.b85encode(seal_to(public_key, data)).decode()


def start_ranks(sealed: str, key_file: str, run_root: str) -> dict[str, object]:
    """Open a parcel, start its ranks, wait for their end: {"status": int, "host": str, "logs": {name: end of it}}."""
    from beamcast.members.host.parcel import start_here

    return start_here(sealed, key_file, run_root)


def start_here(sealed: str, key_file: str, run_root: str) -> dict[str, object]:
    """What `start_ranks` does. UsageError for a key that is missing or open to others, DataError for a parcel that is
    not for this site. Nothing stays behind but what the ranks' processors have written elsewhere."""
    import socket

    key = SiteKey.read(Path(key_file).expanduser())
    parcel = msgspec.msgpack.decode(key.unseal(base64.b85decode(sealed)), type=Parcel)
    root = Path(os.path.expandvars(run_root)).expanduser()
    root.mkdir(parents=True, exist_ok=True)
    run_dir = Path(tempfile.mkdtemp(prefix=f"{parcel.run}-", dir=root))  # mode 0700
    try:
        status = _run(parcel, run_dir)
        return {"status": status, "host": socket.gethostname(), "logs": _log_tails(run_dir)}
    finally:
        shutil.rmtree(run_dir, ignore_errors=True)


def _run(parcel: Parcel, run_dir: Path) -> int:
    write_join(run_dir, parcel.join)
    RunSecret(bytes.fromhex(parcel.secret)).write(run_dir / SECRET_FILE)
    write_seats(run_dir, parcel.seats)
    (run_dir / "logs").mkdir()
    for name, content in parcel.files.items():
        path = (run_dir / BASE / name).resolve()
        if not path.is_relative_to((run_dir / BASE).resolve()):
            raise UsageError(f"the processor file {name!r} lies outside the workflow's folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    environment = {**os.environ, "BEAMCAST_RUN_DIR": str(run_dir), "BEAMCAST_PYTHON": sys.executable}
    with (run_dir / "logs" / "start.log").open("wb") as log:
        # Its own process group: the worker that runs us may get signals that are not meant for ranks.
        started = subprocess.Popen(
            ["bash", "-c", parcel.script], env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
        try:
            return started.wait()
        finally:
            if started.poll() is None:
                started.terminate()
                started.wait()


def _log_tails(run_dir: Path) -> dict[str, str]:
    tails = {}
    for path in sorted((run_dir / "logs").iterdir())[:MAX_LOGS]:
        tails[path.name] = path.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
    return tails
