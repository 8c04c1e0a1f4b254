from pathlib import Path

import pytest

from beamcast.config.load import load_site
from beamcast.config.site import LocalProvider, MpiStart, SlurmProvider, WorkersStart
from beamcast.config.sites import site_folder
from beamcast.core.errors import ConfigError


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_local_mpi_changes_the_start_only() -> None:
    local, mpi = load_site("local"), load_site("local-mpi")
    assert (local.start, mpi.start) == (WorkersStart(), MpiStart(launcher="mpiexec"))
    assert (mpi.provider, mpi.allocation, mpi.network) == (LocalProvider(), local.allocation, local.network)


def test_a_users_file_extends_a_shipped_site(tmp_path: Path) -> None:
    text = 'extends = "local"\nname = "mine"\n[network.ports]\nfirst = 25000\n'
    site = load_site(write(tmp_path, "mine.toml", text))
    assert (site.name, site.network.ports.first, site.network.ports.last) == ("mine", 25000, 29999)


def test_a_users_file_extends_another_file_beside_it(tmp_path: Path) -> None:
    write(tmp_path, "base.toml", 'extends = "local-mpi"\nrun_root = "/scratch"\n')
    site = load_site(write(tmp_path, "mine.toml", 'extends = "base.toml"\nname = "mine"\n'))
    assert (site.name, site.run_root, site.start) == ("mine", "/scratch", MpiStart())


def test_another_provider_takes_none_of_the_base_keys(tmp_path: Path) -> None:
    write(tmp_path, "base.toml", 'name = "base"\n[provider]\nkind = "pbs"\nqueue = "debug"\n')
    mine = write(
        tmp_path, "mine.toml", 'extends = "base.toml"\n[provider]\nkind = "slurm"\npartition = "gpu"\n'
    )
    assert load_site(mine).provider == SlurmProvider(partition="gpu")


def test_overrides_come_last(tmp_path: Path) -> None:
    site = load_site("local", overrides=["allocation.walltime=2:00:00", "start.mode=mpi"])
    assert (site.allocation.walltime, site.start) == (7200.0, MpiStart())


def test_unknown_name() -> None:
    with pytest.raises(ConfigError) as caught:
        load_site("lokal")
    assert str(caught.value).startswith("unknown site 'lokal'. Did you mean 'local'? (valid: ")
    assert str(caught.value).endswith("A file of your own is named by its path, such as my-site.toml")


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mine\.toml: no such file"):
        load_site(tmp_path / "mine.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('extends = "lokal"', "mine.toml: extends: unknown site 'lokal'. Did you mean 'local'? (valid: "),
        ("extends = 3", "mine.toml: extends: expected the name or path of a site, got 3"),
        ('extends = "mine.toml"', "extends: sites extend each other in a circle: mine.toml -> mine.toml"),
        ("", "mine.toml: name: missing key 'name'. Expected a name of 1 to 40"),
        (
            'name = "m"\nprovider = {kind = "slrm"}',
            "provider.kind: expected one of 'local', 'pbs', 'slurm', got 'slrm'",
        ),
        (
            'name = "m"\nprovider = {queue = "q"}',
            "missing key 'kind'. Expected one of 'local', 'pbs', 'slurm'",
        ),
        ('name = "m"\nprovider = "slurm"', "mine.toml: provider: expected a table, got 'slurm'"),
        (
            'name = "m"\n[provider]\nkind = "pbs"\npartition = "x"',
            "provider.partition: unknown key 'partition'. (valid: account, kind, queue, ",
        ),
        (
            'name = "m"\n[network.ports]\nfirst = 3000\nlast = 2000',
            "mine.toml: network.ports.first: the first port, 3000, comes after the last, 2000",
        ),
        (
            'name = "m"\n[network.cluster]\ninterfaces = ["lo", "::1"]',
            "mine.toml: network.cluster.interfaces[1]: '::1' is IPv6, which pvAccess does not speak here",
        ),
        ('name = "m"\n[network.ports]\nfirst = 80', "expected a whole number from 1024 to 65535, got 80"),
        (
            'name = "m"\n[provider]\nkind = "slurm"\nscheduler_options = "#SBATCH -x a\\n-N 2"',
            "scheduler_options: '-N 2' is not a line for the scheduler. Each line starts with #SBATCH",
        ),
        ('name = "m"\n[network.proxy]\nhttp = 3', "mine.toml: network.proxy.http: expected text, got 3"),
    ],
)
def test_refused_sites(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_site(write(tmp_path, "mine.toml", text))
    assert message in str(caught.value)


def test_a_circle_of_files_is_named(tmp_path: Path) -> None:
    write(tmp_path, "b.toml", 'extends = "a.toml"')
    with pytest.raises(ConfigError, match=r"in a circle: a\.toml -> b\.toml -> a\.toml"):
        load_site(write(tmp_path, "a.toml", 'extends = "b.toml"'))


def test_site_files_stand_in_the_wheel_or_at_the_top_of_a_checkout(tmp_path: Path) -> None:
    package = tmp_path / "src" / "beamcast"
    assert site_folder(package) == tmp_path / "site-configs"
    (package / "site_configs").mkdir(parents=True)
    assert site_folder(package) == package / "site_configs"
