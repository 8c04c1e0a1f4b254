"""A site that is not here is told as such, before anything is started."""

import pytest

from beamcast.config.load import load_site
from beamcast.core.errors import UsageError, WorldError
from beamcast.launch.site_here import check_here


def nowhere(interfaces: tuple[str, ...]) -> str:
    raise WorldError("none of them is here")


def test_a_shipped_site_on_a_laptop() -> None:
    """P19: it is not Polaris, and what to do, instead of the machine's interfaces."""
    with pytest.raises(UsageError) as caught:
        check_here(load_site("polaris"), which=lambda command: None, resolve=nowhere)
    told = str(caught.value)
    assert "can't start jobs at site polaris (ALCF Polaris: " in told
    assert "it has no qsub and none of the interfaces bond0, hsn0" in told
    assert "on a login node of that site" in told
    assert "`--site local`" in told


@pytest.mark.parametrize(
    ("site", "command"), [("slurm", "sbatch"), ("perlmutter", "sbatch"), ("pbs", "qsub")]
)
def test_every_batch_system_has_a_command_that_has_to_be_there(site: str, command: str) -> None:
    asked: list[str] = []
    with pytest.raises(UsageError, match=f"it has no {command}"):
        check_here(load_site(site), which=asked.append, resolve=lambda interfaces: "127.0.0.1")
    assert asked == [command]
    check_here(load_site(site), which=lambda name: f"/usr/bin/{name}", resolve=nowhere)


@pytest.mark.parametrize("site", ["local", "local-mpi", "polaris-globus"])
def test_other_sites_need_no_such_command(site: str) -> None:
    check_here(load_site(site), which=lambda command: None, resolve=nowhere)
