"""A cluster and a stream for the runs through two networks."""

from pathlib import Path

import pytest
from networks.cluster import Cluster
from networks.separated import TwoNetworks
from networks.stream import Stream
from pbs.lab import PbsLab


@pytest.fixture
def cluster(two_networks: TwoNetworks, pbs_lab: PbsLab) -> Cluster:
    """The nodes behind a batch system."""
    return Cluster(two_networks, pbs_lab)


@pytest.fixture
def stream(two_networks: TwoNetworks, cluster: Cluster, tmp_path: Path) -> Stream:
    """A detector that sends."""
    one = Stream(two_networks, cluster, tmp_path)
    one.start_detector()
    return one
