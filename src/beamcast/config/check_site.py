"""The rules between the fields of a site, in one place; none needs a file."""

from collections.abc import Iterator

from beamcast.config.site import PbsProvider, Site, SlurmProvider
from beamcast.config.words import shown
from beamcast.core.errors import ConfigError, Problem


def check_site(site: Site, *, file: str) -> None:
    """Raise ConfigError with everything in the site that breaks a rule; `file` is named in the messages."""
    problems = [*_ports_ascend(site), *_scheduler_lines(site)]
    if problems:
        raise ConfigError.of(problem.inside(file) for problem in problems)


def _ports_ascend(site: Site) -> Iterator[Problem]:
    ports = site.network.ports
    if ports.first > ports.last:
        yield Problem(
            f"the first port, {ports.first}, comes after the last, {ports.last}", "network.ports.first"
        )


def _scheduler_lines(site: Site) -> Iterator[Problem]:
    if not isinstance(site.provider, SlurmProvider | PbsProvider):
        return
    marker = "#SBATCH" if isinstance(site.provider, SlurmProvider) else "#PBS"
    for line in site.provider.scheduler_options.splitlines():
        if line.strip() and not line.startswith(marker):
            message = f"{shown(line)} is not a line for the scheduler"
            yield Problem(message, "provider.scheduler_options", f"Each line starts with {marker}")
