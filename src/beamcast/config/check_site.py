"""The rules between the fields of a site, in one place; none needs a file."""

import re
from collections.abc import Iterator

from beamcast.config.check_network import network_fits
from beamcast.config.site import PbsProvider, Site, SlurmProvider
from beamcast.config.words import shown
from beamcast.core.errors import ConfigError, Problem
from beamcast.core.hardware import parse_cpus
from beamcast.core.place import GPUS_PER_NODE

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PUBLIC_KEY = re.compile(r"[0-9a-f]{64}")


def check_site(site: Site, *, file: str) -> None:
    """Raise ConfigError with everything in the site that breaks a rule; `file` is named in the messages."""
    problems = [*network_fits(site), *_scheduler_lines(site), *_node(site), *_names(site), *_executor(site)]
    problems += _walltime(site)
    if problems:
        raise ConfigError.of(problem.inside(file) for problem in problems)


def _scheduler_lines(site: Site) -> Iterator[Problem]:
    if not isinstance(site.provider, SlurmProvider | PbsProvider):
        return
    marker = "#SBATCH" if isinstance(site.provider, SlurmProvider) else "#PBS"
    for line in site.provider.scheduler_options.splitlines():
        if line.strip() and not line.startswith(marker):
            message = f"{shown(line)} is not a line for the scheduler"
            yield Problem(message, "provider.scheduler_options", f"Each line starts with {marker}")


def _walltime(site: Site) -> Iterator[Problem]:
    allocation = site.allocation
    if isinstance(site.provider, SlurmProvider | PbsProvider) and allocation.margin >= allocation.walltime:
        message = f"a margin of {float(allocation.margin):g} s leaves nothing of the walltime"
        yield Problem(message, "allocation.margin", "Lower it, or raise allocation.walltime")
    if allocation.handover and not isinstance(site.provider, SlurmProvider | PbsProvider):
        yield Problem("there is no walltime without a scheduler", "allocation.handover", "Leave it out")


def _node(site: Site) -> Iterator[Problem]:
    node = site.node
    if node.gpus and node.cpu_sets and len(node.cpu_sets) != len(node.gpus):
        hint = "Give one set for each GPU, in the order of gpus"
        yield Problem(f"{len(node.cpu_sets)} CPU sets for {len(node.gpus)} GPUs", "node.cpu_sets", hint)
    if len(node.gpus) > GPUS_PER_NODE:
        yield Problem(f"more than {GPUS_PER_NODE} GPUs on a node", "node.gpus")
    for index, cpus in enumerate(node.cpu_sets):
        try:
            parse_cpus(cpus)
        except ValueError as error:
            yield Problem(str(error), f"node.cpu_sets[{index}]", "Such as '24-31,56-63'")
    if not _VARIABLE.fullmatch(node.gpu_variable):
        yield Problem(f"{shown(node.gpu_variable)} is no name of a variable", "node.gpu_variable")


def _names(site: Site) -> Iterator[Problem]:
    tables = (("network.proxy", site.network.proxy), ("allocation.environment", site.allocation.environment))
    for path, table in tables:
        for name, value in table.items():
            if not _VARIABLE.fullmatch(name):
                yield Problem(f"{shown(name)} is no name of a variable", path)
            if "\n" in value:
                yield Problem("a value has one line", f"{path}.{name}")


def _executor(site: Site) -> Iterator[Problem]:
    if site.executor == "globus-compute" and site.globus is None:
        hint = "Add [globus] with endpoint and public_key; docs/how-to/globus-compute.md says how"
        yield Problem("the executor globus-compute needs an endpoint", "globus", hint)
    if site.globus is not None and site.executor != "globus-compute":
        message = f"[globus] is without effect under the executor {site.executor}"
        yield Problem(message, "globus", "Set executor = 'globus-compute'")
    key = site.globus.public_key if site.globus is not None else None
    if key is not None and not _PUBLIC_KEY.fullmatch(key):
        yield Problem(
            "the public key has 64 hexadecimal digits",
            "globus.public_key",
            "`beamcast site-key` on the endpoint's side prints it",
        )
    if site.executor != "parsl" and site.allocation.handover:
        message = "only the executor parsl can ask for the next allocation"
        yield Problem(message, "allocation.handover", "Leave it out")
    if site.executor != "parsl" and site.allocation.replacements:
        hint = "Set it to 0, or use the executor parsl"
        yield Problem(
            "only the executor parsl can ask for another allocation", "allocation.replacements", hint
        )
