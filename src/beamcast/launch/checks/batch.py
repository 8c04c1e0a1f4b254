"""Checks of the batch system, the MPI launcher and the keys."""

import getpass
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from beamcast.config.site import LocalProvider, MpiStart, PbsProvider, SlurmProvider
from beamcast.core.job_variables import without_job
from beamcast.launch.checks.registry import Finding, Ground, check, fail, ok, warn
from beamcast.members.host.needs import has_name

ANSWER_S = 20.0
_WORLD = "from mpi4py import MPI; MPI.COMM_WORLD.size == 2 or exit(3)"


def _said(words: list[str]) -> tuple[int, str]:
    """Exit status and output of a command; 127 where there is none, 124 where it is too slow."""
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=ANSWER_S,
            check=False,
            env=without_job(os.environ),
        )
    except FileNotFoundError:
        return 127, f"no {words[0]} on PATH"
    except subprocess.TimeoutExpired:
        return 124, f"{words[0]} did not answer within {ANSWER_S:g} s"
    return done.returncode, (done.stdout if done.returncode == 0 else done.stderr or done.stdout).strip()


@check("scheduler")
def scheduler(ground: Ground) -> Iterator[Finding]:
    """Its commands are here and answer; queue or partition and account exist."""
    match ground.site.provider:
        case SlurmProvider() as slurm:
            yield from _commands("sbatch", "squeue", "scancel", answers=["squeue", "--noheader", "--me"])
            yield from _partition(slurm)
            yield from _slurm_account(slurm)
        case PbsProvider() as pbs:
            yield from _commands("qsub", "qstat", "qdel", answers=["qstat"])
            yield from _queue(pbs)
            if pbs.account is None:
                do = "add it where the site charges projects: --site-set provider.account=MyProject"
                yield warn("no account is given", do)
        case _:
            yield ok("no scheduler: ranks run on this host")


def _commands(*commands: str, answers: list[str]) -> Iterator[Finding]:
    missing = [command for command in commands if shutil.which(command) is None]
    if missing:
        yield fail(
            f"no {', '.join(missing)} on PATH",
            "run on a login node of the site, or load its scheduler's module",
        )
        return
    status, text = _said(answers)
    if status:
        yield fail(f"{answers[0]} does not answer: {text}", "ask the site whether its scheduler is up")
    else:
        yield ok(f"{', '.join(commands)} are here, and the scheduler answers")


def _partition(slurm: SlurmProvider) -> Iterator[Finding]:
    if slurm.partition is None or shutil.which("sinfo") is None:
        return
    status, text = _said(["sinfo", "--noheader", "--format=%R", f"--partition={slurm.partition}"])
    if status or not text:
        _, there = _said(["sinfo", "--noheader", "--format=%R"])
        listed = ", ".join(sorted(set(there.split())))
        yield fail(f"there is no partition {slurm.partition}", f"--site-set provider.partition=… ({listed})")
    else:
        yield ok(f"partition {slurm.partition} is there")


def _slurm_account(slurm: SlurmProvider) -> Iterator[Finding]:
    user = getpass.getuser() if has_name() else str(os.getuid())
    status, text = _said(
        ["sacctmgr", "--noheader", "--parsable2", "show", "associations", f"user={user}", "format=account"]
    )
    accounts = sorted(set(text.split())) if status == 0 else []
    if not accounts:
        yield warn(
            "the scheduler names no accounts of yours", "if the site charges projects, give provider.account"
        )
    elif slurm.account is None:
        yield warn("no account is given", f"--site-set provider.account=… ({', '.join(accounts)})")
    elif slurm.account not in accounts:
        yield fail(f"account {slurm.account} is none of yours", f"yours: {', '.join(accounts)}")
    else:
        yield ok(f"account {slurm.account} is yours")


def _queue(pbs: PbsProvider) -> Iterator[Finding]:
    if pbs.queue is None or shutil.which("qstat") is None:
        return
    status, text = _said(["qstat", "-Q", pbs.queue])
    if status:
        yield fail(f"there is no queue {pbs.queue}: {text}", "see `qstat -Q` for those there are")
    else:
        yield ok(f"queue {pbs.queue} is there")


@check("mpi")
def mpi(ground: Ground) -> Iterator[Finding]:
    """The launcher of an MPI start, and that it fits the MPI library of mpi4py."""
    start = ground.site.start
    if not isinstance(start, MpiStart):
        yield ok("not needed: start mode workers")
        return
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    launcher = shutil.which(start.launcher, path=path)
    if not isinstance(ground.site.provider, LocalProvider):
        found = f"{start.launcher} is {'at ' + launcher if launcher else 'not on this host'}"
        yield warn(
            f"{found}; what counts is the nodes", "see that worker_init brings it, and an mpi4py that fits it"
        )
        return
    if launcher is None:
        yield fail(f"no {start.launcher} on PATH", "pip install mpich, or use a site with start mode workers")
        return
    status, text = _said([launcher, *start.options, "-n", "2", sys.executable, "-c", _WORLD])
    if status == 0:
        yield ok(f"{launcher} starts two ranks that see each other")
    else:
        yield fail(
            f"{launcher} does not start two ranks of one world: {text.splitlines()[-1] if text else status}",
            "launcher and mpi4py have to be of one MPI: pip install mpich mpi4py",
        )


@check("globus")
def globus(ground: Ground) -> Iterator[Finding]:
    """The endpoint and the key to which secrets are sealed."""
    given = ground.site.globus
    if given is None:
        yield ok("not needed: the site has no endpoint")
        return
    if find_spec("globus_compute_sdk") is None:
        yield fail("the SDK is not installed", "pip install 'beamcast[globus]'")
    try:
        uuid.UUID(given.endpoint)
        yield ok(f"endpoint {given.endpoint}")
    except ValueError:
        yield fail(f"{given.endpoint!r} is no endpoint's id", "it is a UUID: see the endpoint's page")
    if given.public_key is None:
        yield fail(
            "no public key of the site is given",
            "`beamcast site-key` over there prints it; give globus.public_key",
        )
    key = Path(given.key_file).expanduser()
    if key.exists() and key.stat().st_mode & 0o077:
        yield fail(f"{key} may be read by others", f"chmod 600 '{key}'")
