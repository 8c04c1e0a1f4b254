"""The lines that prepare a node, and how a place that is not as planned is told."""

import subprocess
from dataclasses import replace

import pytest

from beamcast.config.load import load_site
from beamcast.config.site import Site
from beamcast.config.workflow import Pool
from beamcast.core.errors import ConfigError
from beamcast.core.place import spread
from beamcast.launch.hardware import misplaced, planned_seats
from beamcast.launch.start.node_lines import node_preparation
from beamcast.pva.messages import Whereabouts


def test_variables_modules_and_the_users_lines_in_this_order() -> None:
    site = load_site(
        "slurm",
        overrides=[
            'network.proxy={https_proxy="http://p:3128"}',
            'allocation.environment={SCRATCH="$HOME/x y"}',
            'allocation.modules=["python/3.11", "cuda"]',
            'allocation.worker_init="echo on"',
        ],
    )
    assert node_preparation(site).splitlines() == [
        'export https_proxy="http://p:3128"',
        'export SCRATCH="$HOME/x y"',
        "module load python/3.11",
        "module load cuda",
        "echo on",
    ]


def test_a_value_reaches_the_node_as_it_is_but_for_variables() -> None:
    value = 'a "b" `c` $(d) \\e $HOME'
    site = load_site("slurm")
    environment = {"V": value}
    lines = node_preparation(
        Site(
            name=site.name, allocation=type(site.allocation)(environment=environment), provider=site.provider
        )
    )
    said = subprocess.run(
        ["bash", "-c", lines + '\nprintf %s "$V"'],
        capture_output=True,
        text=True,
        check=True,
        env={"HOME": "/h"},
    )
    assert said.stdout == value.replace("$HOME", "/h")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ('node={gpus=["0","1"],cpu_sets=["0-7"]}', "node.cpu_sets: 1 CPU sets for 2 GPUs"),
        ('node={cpu_sets=["0-7","x"]}', "node.cpu_sets[1]: 'x' is no CPU or range of CPUs"),
        ('node={gpu_variable="A B"}', "'A B' is no name of a variable"),
        ('allocation.environment={"A-B"="1"}', "allocation.environment: 'A-B' is no name of a variable"),
        ('executor="globus-compute"', "globus: the executor globus-compute needs an endpoint"),
        ('globus={endpoint="x"}', "[globus] is without effect under the executor parsl"),
        ('executor="externel"', "Did you mean 'external'?"),
    ],
)
def test_refused(setting: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_site("slurm", overrides=[setting])
    assert message in str(caught.value)


def test_what_is_not_as_planned_is_said() -> None:
    site = load_site("polaris")
    pool = Pool(name="p", role="consumer", input="source", ranks=8)
    seat = planned_seats(site.node, pool, spread(8, ["a", "b"], 4))[5]
    there = Whereabouts(
        host="b", pid=1, address="a", port=1, node_index=1, nodes=2, local_rank=1, local_size=4, size=8,
        gpu=1, gpu_name="1", cpus="16-23,48-55",
    )  # fmt: skip
    assert misplaced(site, seat, there) == ""
    wrong = Whereabouts(host="a", pid=1, address="a", port=1, node_index=0, local_rank=1, cpus="0")
    assert misplaced(site, seat, wrong) == "GPU none, not 1, node 0, not 1, CPUs 0, not 16-23,48-55"
    assert misplaced(load_site("local"), replace(seat, share=type(seat.share)()), wrong) == ""
