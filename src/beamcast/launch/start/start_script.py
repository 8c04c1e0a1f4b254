"""The script that starts a run's ranks without Parsl: what `sbatch`, `qsub` or a shell on the nodes is given. Pure.

The choice: one body for three uses. Under the executor `external` it stands behind the scheduler's lines and is
submitted by the user; a Globus Compute endpoint runs it on the first node of its allocation; on this machine it is run
by hand. Where the run directory and the interpreter lie comes from two variables, since far away they lie elsewhere.

Start mode `workers`: one process for each node, which keeps that node's ranks. Start mode `mpi`: one MPI start for each
pool, on nodes of its own.
"""

import shlex
from pathlib import Path

from beamcast.config.site import LocalProvider, MpiStart, PbsProvider, Site, SlurmProvider, WorkersStart
from beamcast.core.errors import UsageError
from beamcast.launch.plan import RunPlan
from beamcast.launch.seating import allocation_nodes, first_nodes
from beamcast.launch.start.node_lines import clock, node_preparation, slurm_lines, srun_options

RUN_DIR, PYTHON = "BEAMCAST_RUN_DIR", "BEAMCAST_PYTHON"
_KEEPER = f'"${PYTHON}" -P -m beamcast.members.host.keeper --run-dir "${RUN_DIR}"'
_NODE = f'"${PYTHON}" -P -m beamcast.members.host.node --run-dir "${RUN_DIR}"'


def script_name(site: Site) -> str:
    """The name of the script in the run directory, which says whom it is for."""
    match site.provider:
        case SlurmProvider():
            return "start.sbatch"
        case PbsProvider():
            return "start.pbs"
    return "start.sh"


def submit_line(site: Site, script: Path) -> str:
    """What the user types."""
    command = {"start.sbatch": "sbatch", "start.pbs": "qsub"}.get(script_name(site), "bash")
    return f"{command} {shlex.quote(str(script))}"


def start_script(plan: RunPlan, run_dir: Path, *, python: str) -> str:
    """The whole script, with the scheduler's lines; UsageError as `start_body`."""
    head = "\n".join(["#!/bin/bash", *_scheduler_lines(plan, run_dir)])
    where = [
        f': "${{{RUN_DIR}:={_inside(str(run_dir))}}}"',
        f': "${{{PYTHON}:={_inside(python)}}}"',
        f"export {RUN_DIR} {PYTHON}",
        # Tools that came along with the interpreter, such as MPI from a wheel; a module loaded below goes first.
        f'export PATH="$(dirname "${PYTHON}"):$PATH"',
    ]
    return (
        "\n\n".join(filter(None, [head, "\n".join(where), node_preparation(plan.site), start_body(plan)]))
        + "\n"
    )


def _inside(text: str) -> str:
    """A path within double quotes within braces."""
    for character in '\\"$`}':
        text = text.replace(character, "\\" + character)
    return text


def start_body(plan: RunPlan) -> str:
    """The lines that start all ranks and wait for them; UsageError where MPI pools have too few nodes."""
    if isinstance(plan.site.start, MpiStart):
        return _mpi_body(plan, plan.site.start)
    return _workers_body(plan, plan.site.start)


def _scheduler_lines(plan: RunPlan, run_dir: Path) -> list[str]:
    site, name = plan.site, f"beamcast-{plan.run}"
    walltime = clock(float(site.allocation.walltime))
    match site.provider:
        case SlurmProvider() as slurm:
            wanted = {"partition": slurm.partition, "account": slurm.account, "qos": slurm.qos}
            wanted["constraint"] = slurm.constraint
            return [
                f"#SBATCH --job-name={name}",
                f"#SBATCH --output={run_dir}/logs/allocation-%j.log",
                f"#SBATCH --nodes={site.allocation.nodes}",
                f"#SBATCH --time={walltime}",
                "#SBATCH --no-requeue",
                *(["#SBATCH --exclusive"] if slurm.exclusive else []),
                *(f"#SBATCH --{option}={value}" for option, value in wanted.items() if value is not None),
                *slurm_lines(site, slurm),
            ]
        case PbsProvider() as pbs:
            chunk = f"{site.allocation.nodes}:ncpus={site.node.cpus or 1}"
            select = ":".join(filter(None, [chunk, pbs.select_options.lstrip(":")]))
            return [
                f"#PBS -N {name[:230]}",
                f"#PBS -o {run_dir}/logs/allocation.log",
                "#PBS -j oe",
                "#PBS -r n",
                f"#PBS -l walltime={walltime}",
                f"#PBS -l select={select}",
                *([f"#PBS -q {pbs.queue}"] if pbs.queue is not None else []),
                *([f"#PBS -A {pbs.account}"] if pbs.account is not None else []),
                *filter(None, pbs.scheduler_options.splitlines()),
            ]
    return []


def _workers_body(plan: RunPlan, start: WorkersStart) -> str:
    nodes = allocation_nodes(plan)
    command = f"{_NODE} --nodes {nodes}"
    match plan.site.provider:
        case SlurmProvider():
            options = f" {srun_options(plan.site)}".rstrip()
            return f"exec srun --ntasks={nodes} --ntasks-per-node=1{options} {command}"
        case PbsProvider():
            overrides = "--ppn 1" if start.overrides is None else start.overrides
            launch = f"mpiexec {start.bind_option} none {overrides} -n {nodes}"
            return f'sort -u "$PBS_NODEFILE" > "${RUN_DIR}/nodes"\n{launch} --hostfile "${RUN_DIR}/nodes" {command}'
    return f"exec {command}"


def _mpi_body(plan: RunPlan, start: MpiStart) -> str:
    local = isinstance(plan.site.provider, LocalProvider)
    firsts, needed = first_nodes(plan), sum(plan.nodes_of(pool) for pool in plan.pools)
    if not local and needed > plan.site.allocation.nodes:
        raise UsageError(
            f"with MPI each pool has nodes of its own: the pools need {needed}, an allocation has "
            f"{plan.site.allocation.nodes}",
            hint="raise [allocation] nodes or ranks_per_node, or use start mode 'workers', where pools share",
        )
    lines = [] if local else [_host_list(plan)]
    for pool in plan.pools:
        nodes = plan.nodes_of(pool)
        per_node = -(-pool.ranks // nodes)
        hosts = "" if local else f'"$(hosts {firsts[pool.name] + 1} {firsts[pool.name] + nodes})"'
        launch = _mpi_launch(start, ranks=pool.ranks, per_node=per_node, nodes=nodes, hosts=hosts)
        rank = f"--pool {pool.name} --size {pool.ranks} --max-restarts {pool.restart.max_restarts}"
        alone = "" if pool.restart.understudy else " --no-understudy"
        lines.append(f"{launch} {_KEEPER} {rank}{alone} &")
    # The script must not end before its last start has, and a failed start is the script's failure.
    return "\n".join(
        [*lines, "failed=0", 'for start in $(jobs -p); do wait "$start" || failed=$?; done', "exit $failed"]
    )


def _host_list(plan: RunPlan) -> str:
    listed = (
        "scontrol show hostnames"
        if isinstance(plan.site.provider, SlurmProvider)
        else 'sort -u "$PBS_NODEFILE"'
    )
    return f'hosts() {{ {listed} | sed -n "$1,$2p" | paste -sd, -; }}'


def _mpi_launch(start: MpiStart, *, ranks: int, per_node: int, nodes: int, hosts: str) -> str:
    options = [shlex.quote(option) for option in start.options]
    if Path(start.launcher).name == "srun":
        where = [f"--nodelist={hosts}"] if hosts else []
        words = [
            start.launcher,
            f"--nodes={nodes}",
            f"--ntasks={ranks}",
            f"--ntasks-per-node={per_node}",
            *where,
        ]
    else:
        words = [
            start.launcher,
            "-n",
            str(ranks),
            *(["-ppn", str(per_node), "-hosts", hosts] if hosts else []),
        ]
    return " ".join([*words, *options])
