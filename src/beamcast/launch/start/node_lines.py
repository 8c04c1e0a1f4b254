"""What batch scripts say, from a site: how a node is prepared (proxies, variables, modules, the user's own lines last),
what Slurm and srun are asked for. Pure."""

import shlex

from beamcast.config.site import Site, SlurmProvider, WorkersStart


def node_preparation(site: Site) -> str:
    """Return the lines, in the order in which they depend on each other; empty where the site asks for nothing."""
    allocation = site.allocation
    variables = {**site.network.proxy, **allocation.environment}
    lines = [f"export {name}={_quoted(value)}" for name, value in variables.items()]
    lines += [f"module load {shlex.quote(module)}" for module in allocation.modules]
    own = allocation.worker_init.strip("\n")
    return "\n".join([*lines, *([own] if own else [])])


def _quoted(value: str) -> str:
    """A value for the shell that keeps `$NAME`: a site writes $HOME and $PATH and means the node's."""
    for character in ("\\", '"', "`"):
        value = value.replace(character, "\\" + character)
    return f'"{value.replace("$(", chr(92) + "$(")}"'


def slurm_lines(site: Site, slurm: SlurmProvider) -> list[str]:
    """The lines for Slurm about GPUs and CPUs of a node, and the site's own."""
    lines = []
    if slurm.gpus_per_node is not None:
        lines.append(f"#SBATCH --gpus-per-node={slurm.gpus_per_node}")
    if site.node.cpus is not None:
        # Not by Parsl's own parameter: it adds its line to the last of these without a line end between.
        lines.append(f"#SBATCH --cpus-per-task={site.node.cpus}")
    return [*lines, *filter(None, slurm.scheduler_options.splitlines())]


def srun_options(site: Site) -> str:
    """Arguments of the srun that starts one process on each node. Since Slurm 22.05 a step does not take over
    `--cpus-per-task`: without it everything on a node would share one core."""
    if isinstance(site.start, WorkersStart) and site.start.overrides is not None:
        return site.start.overrides
    return "" if site.node.cpus is None else f"--cpus-per-task={site.node.cpus} --cpu-bind=none"


def clock(seconds: float) -> str:
    """Seconds as HH:MM:SS, as batch systems want it."""
    minutes, second = divmod(int(seconds), 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{second:02d}"
