"""Fixtures of the system tests: real machinery, thrown away afterwards."""

import ctypes
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from networks.separated import TwoNetworks
from pbs.lab import PbsLab
from requirements import need
from slurm.conf import Tracking
from slurm.lab import SlurmLab

PR_CAPBSET_DROP, CAP_SYS_NICE = 24, 23


@pytest.fixture(scope="session", params=["cgroup", pytest.param("linuxproc", marks=pytest.mark.slow)])
def slurm_lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmLab]:
    """A Slurm with three nodes, once with each way of knowing a job's processes. A test that wants one of them says
    `@pytest.mark.parametrize("slurm_lab", ["cgroup"], indirect=True)`."""
    tracking: Tracking = request.param
    need("slurm", *(["cgroup"] if tracking == "cgroup" else []))
    with SlurmLab(tmp_path_factory.mktemp("slurm") / "lab", tracking=tracking) as lab:
        yield lab


@pytest.fixture
def empty_slurm(slurm_lab: SlurmLab) -> Iterator[SlurmLab]:
    """The lab, with all nodes idle before the test; its jobs and their processes must be gone after it."""
    slurm_lab.clear()
    yield slurm_lab
    slurm_lab.clear()
    left = {node: slurm_lab.leftovers(node) for node in slurm_lab.nodes}
    assert not any(left.values()), left


@pytest.fixture
def two_networks(tmp_path: Path) -> Iterator[TwoNetworks]:
    """A detector's network and a cluster's, with a mirror host and a gateway between them."""
    need("netns")
    with TwoNetworks(tmp_path) as networks:
        yield networks


@pytest.fixture
def pbs_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PbsLab]:
    """Commands on PATH that behave as PBS Pro's do."""
    with PbsLab(tmp_path / "pbs") as lab:
        for name, value in lab.environment.items():
            monkeypatch.setenv(name, value)
        yield lab


# Tests that share a laboratory, and things of this machine that exist once, run one after the other.
ONE_AFTER_THE_OTHER = {"slurm": "slurm_lab", "networks": "two_networks"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tell the workers of pytest-xdist which tests stay together, before its own hook looks at the marks."""
    for item in items:
        wants = set(getattr(item, "fixturenames", ()))
        for name, fixture in ONE_AFTER_THE_OTHER.items():
            if fixture in wants or item.path.parent.name == name:
                item.add_marker(pytest.mark.xdist_group(name))


def pytest_configure() -> None:
    """What starts here gets Ctrl-C as from a terminal, also where the tests run in the background of a shell, which
    has its jobs ignore it; and nobody has real-time priorities, which EPICS gives its threads where root may have them:
    users have none, and races are theirs."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_SYS_NICE, 0, 0, 0)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Groups that are not heard would put two laboratories on one machine, which get in each other's way."""
    if getattr(session.config.option, "loadgroup", False):
        deaf = [
            item
            for item in session.items
            if item.get_closest_marker("xdist_group") and "@" not in item.nodeid
        ]
        assert not deaf, "this pytest-xdist does not group tests with this pytest"
