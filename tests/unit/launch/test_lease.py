"""One owner for a run directory."""

import errno
import os
import shutil
import socket
import threading
import time
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from beamcast.core.errors import UsageError
from beamcast.launch.rundir.lease import LEASE_FILE, RunLease, ownership, read_lease
from beamcast.launch.rundir.ownership import STALE_S, Lease, Ownership, judge
from beamcast.launch.rundir.rundir import RunDir

OWNER = Lease(run="r", host="a", boot="b1", pid=7, started=100.0, epoch=3, token="t")


def test_an_owner_on_this_host_lives_as_long_as_its_process() -> None:
    def here(**facts: object) -> Ownership:
        known = {"host": "a", "boot": "b1", "started": 100.2, "age_s": 1e6}
        return judge(OWNER, **{**known, **facts})  # type: ignore[arg-type]

    assert here() is Ownership.LIVES, "it may be stopped for as long as it likes"
    assert here(started=None) is Ownership.GONE
    assert here(started=160.0) is Ownership.GONE, "the pid was given to another process"
    assert here(boot="b2") is Ownership.GONE, "the host was started again"


def test_an_owner_on_another_host_is_judged_by_its_silence() -> None:
    def there(age_s: float) -> Ownership:
        return judge(OWNER, host="z", boot="b1", started=None, age_s=age_s)

    assert there(STALE_S) is Ownership.LIVES
    assert there(STALE_S + 1) is Ownership.SILENT
    assert (
        judge(structs.replace(OWNER, released=True), host="z", boot="", started=None, age_s=0)
        is Ownership.LEFT
    )


def test_who_holds_the_lease_is_found_and_nobody_else_gets_it(tmp_path: Path) -> None:
    with RunLease(tmp_path / "run", run="one"):
        lease = read_lease(tmp_path / "run")
        assert lease is not None
        assert (lease.pid, lease.host, lease.epoch) == (os.getpid(), socket.gethostname(), 1)
        assert ownership(tmp_path / "run", lease) is Ownership.LIVES
        with pytest.raises(UsageError, match=f"a run is going on in .*: pid {os.getpid()} on"):
            RunLease(tmp_path / "run", run="two").__enter__()
    assert [path.name for path in (tmp_path / "run").iterdir()] == [LEASE_FILE]


def test_epochs_count_the_owners_over_good_and_bad_ends(tmp_path: Path) -> None:
    with RunLease(tmp_path, run="one") as first:
        assert first.epoch == 1
    left = structs.replace(OWNER, host=socket.gethostname(), epoch=8)
    (tmp_path / LEASE_FILE).write_bytes(msgspec.json.encode(left))
    assert ownership(tmp_path, left) is Ownership.GONE
    with RunLease(tmp_path, run="one") as second:
        assert second.epoch == 9


def test_a_silent_owner_elsewhere_is_replaced_and_notices(tmp_path: Path) -> None:
    with RunLease(tmp_path, run="one") as old:
        mine = read_lease(tmp_path)
        assert mine is not None
        (tmp_path / LEASE_FILE).write_bytes(msgspec.json.encode(structs.replace(mine, host="far-away")))
        with pytest.raises(UsageError, match="on far-away"):
            RunLease(tmp_path, run="two").__enter__()
        long_ago = time.time() - STALE_S - 5
        os.utime(tmp_path / LEASE_FILE, (long_ago, long_ago))
        with RunLease(tmp_path, run="two") as new:
            assert (new.epoch, new.lost) == (2, False)
    assert old.lost
    lease = read_lease(tmp_path)
    assert lease is not None
    assert (lease.run, lease.released) == ("two", True), "the one that lost it leaves the new one's alone"


def test_of_many_that_want_a_stale_lease_one_gets_it(tmp_path: Path) -> None:
    (tmp_path / LEASE_FILE).write_bytes(
        msgspec.json.encode(structs.replace(OWNER, host=socket.gethostname()))
    )
    barrier, release = threading.Barrier(8), threading.Event()
    held: list[int] = []

    def want() -> None:
        barrier.wait()
        try:
            with RunLease(tmp_path, run="many") as lease:
                held.append(lease.epoch)
                release.wait(10)
        except UsageError:
            return

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 10
    while (not held or sum(thread.is_alive() for thread in threads) > 1) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert held == [4]
    release.set()
    for thread in threads:
        thread.join()


def test_a_folder_that_is_no_run_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="is not the directory of a run"):
        RunDir(tmp_path).own("r")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_run_directory_that_is_gone_is_no_sign_of_another_owner(tmp_path: Path) -> None:
    with RunLease(tmp_path / "run", run="one") as lease:
        shutil.rmtree(tmp_path / "run")
        assert lease._check()
        assert not lease.lost
    assert not (tmp_path / "run").exists()


@pytest.fixture
def no_hard_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """As BeeGFS and sshfs have it (C8)."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)


@pytest.mark.usefixtures("no_hard_links")
def test_a_file_system_without_hard_links_has_one_owner_too(tmp_path: Path) -> None:
    with RunLease(tmp_path, run="one") as first:
        assert first.epoch == 1
        with pytest.raises(UsageError, match="a run is going on in"):
            RunLease(tmp_path, run="two").__enter__()
    with RunLease(tmp_path, run="two") as second:
        assert (second.epoch, second.lost) == (2, False)
    test_of_many_that_want_a_stale_lease_one_gets_it(tmp_path)


@pytest.mark.usefixtures("no_hard_links")
def test_a_lease_that_was_never_written_to_its_end_is_replaced(tmp_path: Path) -> None:
    (tmp_path / LEASE_FILE).touch()
    with pytest.raises(UsageError, match="wanted by several"):
        RunLease(tmp_path, run="one").__enter__()
    long_ago = time.time() - STALE_S - 5
    os.utime(tmp_path / LEASE_FILE, (long_ago, long_ago))
    with RunLease(tmp_path, run="one") as lease:
        assert lease.epoch == 1
