"""One owner for a run directory: a lease file that names it and that it renews.

The choice: a file, not a lock. Locks of shared file systems don't reach between hosts everywhere, and don't tell who
holds them. Making a hard link is atomic on all of them, so of two that want the lease one gets it.
"""

import errno
import logging
import os
import secrets
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import psutil
from msgspec import structs

from beamcast.core.errors import UsageError
from beamcast.core.refusals import refusal
from beamcast.launch.rundir.ownership import RENEW_S, STALE_S, Lease, Ownership, judge

logger = logging.getLogger(__name__)

LEASE_FILE = "lease.json"
ASIDE = ".lease-"
# How file systems say that they have no hard links.
_NO_LINKS = (
    errno.EPERM,
    errno.EACCES,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.EXDEV,
    errno.EMLINK,
    errno.EINVAL,
)
_ATTEMPTS = 50
_AGAIN_S = 0.02


def read_lease(run_dir: Path) -> Lease | None:
    """The lease of a run directory; None where there is none, or none of this version."""
    return _read(run_dir / LEASE_FILE)


def ownership(run_dir: Path, lease: Lease) -> Ownership:
    """What has become of the owner, as far as it can be seen from here."""
    return judge(
        lease,
        host=socket.gethostname(),
        boot=_boot(),
        started=_started(lease.pid),
        age_s=_age_s(run_dir / LEASE_FILE),
    )


class RunLease:
    """Holds the lease of a run directory while the `with` block lasts; makes the directory if need be.

    UsageError on entering when somebody else holds it. `lost` becomes true when another owner has taken it, which
    happens only to one that was taken for dead: whoever sees it must stop and leave the directory alone.
    """

    def __init__(self, run_dir: Path, *, run: str) -> None:
        self._dir = run_dir
        self._path = run_dir / LEASE_FILE
        self._lost = threading.Event()
        self._done = threading.Event()
        self._told = False
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._lease = Lease(
            run=run,
            host=socket.gethostname(),
            boot=_boot(),
            pid=os.getpid(),
            started=_started(os.getpid()) or 0.0,
            epoch=1,
            token=secrets.token_hex(8),
        )

    @property
    def lost(self) -> bool:
        """Whether the directory belongs to somebody else by now."""
        return self._lost.is_set()

    @property
    def epoch(self) -> int:
        """How many owners the directory has had, this one included."""
        return self._lease.epoch

    def __enter__(self) -> Self:
        try:
            self._dir.mkdir(parents=True, exist_ok=True)
            for _ in range(_ATTEMPTS):
                if self._take(read_lease(self._dir)):
                    self._thread.start()
                    return self
                time.sleep(_AGAIN_S)
        except OSError as error:
            raise (
                refusal(error, doing="a run directory can't be made here", place=str(self._dir)) or error
            ) from error
        raise UsageError(f"{self._dir} is wanted by several runs at once", hint="give another --run-dir")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self.give_back()

    def give_back(self) -> None:
        """Say that the owner has gone; from any thread, and harmless when it is said twice."""
        self._done.set()
        try:
            if self._check():
                self._write(structs.replace(self._lease, released=True))
        except OSError as trouble:
            # Whoever comes next sees by the process that the run is over.
            logger.warning("the lease could not be given back: %s", trouble)

    def _take(self, before: Lease | None) -> bool:
        """Become the owner after `before`; False when somebody else was quicker. UsageError when it lives."""
        if before is not None and ownership(self._dir, before) is Ownership.LIVES:
            raise UsageError(
                f"a run is going on in {self._dir}: pid {before.pid} on {before.host}",
                hint="end it with `beamcast stop`, or give another --run-dir",
            )
        self._lease = structs.replace(self._lease, epoch=before.epoch + 1 if before else 1)
        fresh = self._dir / f"{ASIDE}{self._lease.token}"
        fresh.write_bytes(msgspec.json.encode(self._lease))
        try:
            if before is None:
                return self._begin(fresh)
            return self._replace(before, fresh)
        finally:
            fresh.unlink(missing_ok=True)

    def _begin(self, fresh: Path) -> bool:
        """The first owner. A lease that can't be read and stays so was left by one that died while it wrote it."""
        if _link(fresh, self._path):
            return True
        if read_lease(self._dir) is None and _age_s(self._path) > STALE_S:
            self._path.unlink(missing_ok=True)
        return False

    def _replace(self, before: Lease, fresh: Path) -> bool:
        """Of all that want to follow this very owner, the one that makes the claim does."""
        claim = self._dir / f"{ASIDE}after-{before.token}"
        if not _link(fresh, claim):
            # Whoever made it has died right then, or is about to finish.
            if _age_s(claim) > STALE_S:
                claim.unlink(missing_ok=True)
            return False
        try:
            now = read_lease(self._dir)
            if now is None or now.token != before.token:
                return False  # somebody had followed before we came
            fresh.replace(self._path)
            return True
        finally:
            claim.unlink(missing_ok=True)

    def _renew(self) -> None:
        while not self._done.wait(RENEW_S):
            try:
                if not self._check():
                    return
                self._renew_once()
            except OSError as trouble:
                # A file server that is away for a moment; for how long we may be silent, others decide.
                if not self._told:
                    logger.warning("the lease of the run can't be renewed: %s", trouble)
                self._told = True

    def _renew_once(self) -> None:
        self._lease = structs.replace(self._lease, renewals=self._lease.renewals + 1)
        try:
            self._write(self._lease)
        except OSError:
            # On a full disk the time of the file can be set all the same, and others go by that.
            os.utime(self._path)

    def _check(self) -> bool:
        """Whether the lease is still ours. A file that is gone, or can't be read, is no sign of another owner."""
        now = read_lease(self._dir)
        if now is None or now.token == self._lease.token:
            return True
        self._lost.set()
        return False

    def _write(self, lease: Lease) -> None:
        fresh = self._dir / f"{ASIDE}{lease.token}"
        fresh.write_bytes(msgspec.json.encode(lease))
        fresh.replace(self._path)


def _read(path: Path) -> Lease | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Lease)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return str(int(psutil.boot_time()))


def _started(pid: int) -> float | None:
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.Error:
        return None


def _link(path: Path, name: Path) -> bool:
    """Give a file a second name, at which nobody may have been before."""
    try:
        os.link(path, name)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _copy(path, name)
    return True


def _copy(path: Path, name: Path) -> bool:
    """As `_link`, where a file system has no hard links (BeeGFS, sshfs, exFAT): there too only one can make a file.
    Whoever looks while it is being written sees no lease yet, and looks again."""
    try:
        with name.open("xb") as file:
            file.write(path.read_bytes())
    except FileExistsError:
        return False
    return True


def _age_s(path: Path) -> float:
    """How long ago a file was written, by the clock of the file system: those of two hosts may differ."""
    probe = path.parent / f"{ASIDE}{secrets.token_hex(8)}"
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    except OSError:
        return 0.0
    finally:
        probe.unlink(missing_ok=True)
