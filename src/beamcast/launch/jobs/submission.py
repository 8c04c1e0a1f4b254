"""Which job a submission has become, whatever a site's wrapper prints around its number.

The choice: a job that the scheduler has taken and that we don't know would wait, run and be charged for, and nobody
would give it back. So where the answer leaves a doubt, or the command fails or does not answer in time, the scheduler
is asked for the job by its name, which no other job has.
"""

import logging
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger(__name__)

# Busy schedulers take this long. A command that was given up may have been obeyed all the same.
SUBMIT_S, LIST_S = 60.0, 15.0
NO_ANSWER = 124
# A job that was taken is listed at once, or a moment later where servers have to tell each other.
LOOKS, LOOK_AGAIN_S = 4, 1.0

_SLURM_SAYS = re.compile(r"Submitted batch job (\d+)")
_SLURM_ALONE = re.compile(r"(\d+)(?:;[\w.-]+)?")  # as --parsable prints it
_PBS_ALONE = re.compile(r"\d+(?:\[\])?(?:\.[A-Za-z0-9][\w.-]*)?")
_PBS_WITHIN = re.compile(r"(?<![\w.-])\d+(?:\[\])?\.[A-Za-z][\w-]*(?:\.[\w-]+)*")

Answer = tuple[int, str, str]


def slurm_job(text: str) -> str | None:
    """The number in what sbatch, or what stands for it, has printed; None where it is not plain which it is."""
    return _only(_SLURM_SAYS.findall(text)) or _only(_lines_like(_SLURM_ALONE, text))


def pbs_job(text: str) -> str | None:
    """The id in what qsub, or what stands for it, has printed; None where it is not plain which it is."""
    return _only(_lines_like(_PBS_ALONE, text)) or _only(_PBS_WITHIN.findall(text))


def _lines_like(form: re.Pattern[str], text: str) -> list[str]:
    matches = (form.fullmatch(line.strip()) for line in text.splitlines())
    return [match[1] if form.groups else match[0] for match in matches if match is not None]


def _only(found: Sequence[str]) -> str | None:
    return found[0] if len(set(found)) == 1 else None


@dataclass(frozen=True, slots=True)
class Language:
    """How one batch system is spoken with. `by_name`: the command that lists the ids of the jobs of a name; `says`: how
    Parsl expects the answer."""

    submit: str
    job_of: Callable[[str], str | None]
    by_name: Callable[[str], list[str]]
    says: str


SLURM = Language(
    "sbatch",
    slurm_job,
    lambda name: ["squeue", "--noheader", "--states=all", f"--name={name}", "--format=%i"],
    "Submitted batch job {}",
)
PBS = Language("qsub", pbs_job, lambda name: ["qselect", "-x", "-N", name], "{}")


class NotUnderstood(Exception):
    """The scheduler has taken a job, and which one can't be found out. The text is a whole sentence."""


def submit(language: Language, command: str, *, timeout_s: float = SUBMIT_S) -> Answer:
    """Run a submission: exit status, what Parsl is to read, stderr. NotUnderstood as it says."""
    name = Path(shlex.split(command)[-1]).name
    status, said, complained = shell(command, timeout_s=timeout_s)
    job = language.job_of(said) if status == 0 else None
    if job is None:
        job = _find(language, name, looks=1 if status not in (0, NO_ANSWER) else LOOKS)
        if job is not None:
            logger.warning(
                "%s printed no plain job id (status %d: %s); its job was found by its name as %s",
                language.submit,
                status,
                _short(said or complained),
                job,
            )
    if job is not None:
        return 0, language.says.format(job), complained
    if status == 0:
        raise NotUnderstood(
            f"{language.submit} has taken the job, and printed no id that could be understood "
            f"({_short(said)!r}); no job is found under the name {name}: look for it, and cancel it"
        )
    return status, said, complained


def shell(command: str, *, timeout_s: float) -> Answer:
    """Run a shell line: exit status, stdout, stderr. Nothing is decoded strictly: messages of sites may be Latin-1."""
    with subprocess.Popen(
        command,
        shell=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        process_group=0,
    ) as process:
        try:
            said, complained = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            # All of it: what a wrapper has started must not submit the job later.
            os.killpg(process.pid, signal.SIGKILL)
            return NO_ANSWER, "", f"{command.split()[0]} did not answer within {timeout_s:g} s"
    return process.returncode, said, complained


def _find(language: Language, name: str, *, looks: int) -> str | None:
    for left in reversed(range(looks)):
        _, listed, _ = shell(shlex.join(language.by_name(name)), timeout_s=LIST_S)
        # A wrapper may print around the list too, but hardly an id.
        jobs = [word for line in listed.splitlines() for word in line.split() if language.job_of(word)]
        if jobs:
            return jobs[-1]
        if left:
            time.sleep(LOOK_AGAIN_S)
    return None


def _short(text: str) -> str:
    return " ".join(text.split())[:200]
