"""Asking the scheduler about the run's jobs: seldom, in a thread of its own, at once when something has happened.

Centres ask not to be polled every second, and a scheduler that hangs must not hold up the run.
"""

import logging
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Protocol, Self

from beamcast.config.site import PbsProvider, Provider, SlurmProvider
from beamcast.launch.jobs.pbs import parse_qstat, parse_qstat_text
from beamcast.launch.jobs.slurm import parse_position, parse_sacct, parse_scontrol, parse_silent_nodes
from beamcast.launch.jobs.words import UNKNOWN, JobState, JobWord

logger = logging.getLogger(__name__)

COMMAND_TIMEOUT_S = 15.0
# Between two looks at a job: a new job is looked at more often, since on an idle cluster it starts in a second.
FIRST_PERIOD_S = 1.0
PERIOD_S = 10.0
# Even when something has happened.
LEAST_PERIOD_S = 1.0
# The longest sleep, with no job to look at: whoever brings news wakes the watch.
IDLE_S = 60.0
# Listing all waiting jobs is more work for the scheduler than one job.
POSITION_PERIOD_S = 30.0

Run = Callable[[Sequence[str]], str]


class Scheduler(Protocol):
    """The commands of one batch system."""

    def ask(self, job: str) -> JobWord:
        """The word on a job now; UNKNOWN when the scheduler does not know it or does not answer."""

    def position(self, job: str, queue: str) -> int | None:
        """The job's place among those that wait; None where that can't be known."""

    def silent_nodes(self, nodes: Sequence[str]) -> tuple[str, ...]:
        """Those of the nodes that don't answer the scheduler."""


def run_command(words: Sequence[str]) -> str:
    """What a command prints; "" when it fails or takes too long."""
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as trouble:
        logger.warning("%s: %s", words[0], trouble)
        return ""
    return done.stdout


class Slurm:
    """Slurm's commands."""

    def __init__(self, run: Run = run_command) -> None:
        self._run = run

    def ask(self, job: str) -> JobWord:
        """As `Scheduler`."""
        word = parse_scontrol(self._run(["scontrol", "-o", "show", "job", job]))
        if word.state is not JobState.UNKNOWN:
            return word
        return parse_sacct(self._run(["sacct", "-X", "-n", "-P", "-o", "State,ExitCode,NodeList", "-j", job]))

    def position(self, job: str, queue: str) -> int | None:
        """As `Scheduler`."""
        where = ["-p", queue] if queue else []
        return parse_position(self._run(["squeue", "-h", "-t", "PD", *where, "--sort=-p,i", "-o", "%i"]), job)

    def silent_nodes(self, nodes: Sequence[str]) -> tuple[str, ...]:
        """As `Scheduler`."""
        return parse_silent_nodes(self._run(["sinfo", "-h", "-N", "-n", ",".join(nodes), "-o", "%N %T"]))


class Pbs:
    """PBS Pro's commands."""

    def __init__(self, run: Run = run_command) -> None:
        self._run = run

    def ask(self, job: str) -> JobWord:
        """As `Scheduler`. One job for each call: some versions answer a question about two with the first alone. Where
        the JSON can't be read, since some versions print broken fields, the text is asked for, and once more without
        the history, which some sites have switched off."""
        word = parse_qstat(self._run(["qstat", "-x", "-f", "-F", "json", job]), job)
        for words in (["qstat", "-x", "-f", job], ["qstat", "-f", job]):
            if word.state is JobState.UNKNOWN:
                word = parse_qstat_text(self._run(words), job)
        return word

    def position(self, job: str, queue: str) -> int | None:
        """PBS orders jobs when it schedules, by rules that no command tells."""
        return None

    def silent_nodes(self, nodes: Sequence[str]) -> tuple[str, ...]:
        """Users may ask for the state of nodes at few centres only."""
        return ()


class ThisMachine:
    """Allocations of which no scheduler knows: whoever started them tells."""

    def __init__(self, ask: Callable[[str], JobWord]) -> None:
        self._ask = ask

    def ask(self, job: str) -> JobWord:
        """As `Scheduler`."""
        return self._ask(job)

    def position(self, job: str, queue: str) -> int | None:
        """Nobody waits."""
        return None

    def silent_nodes(self, nodes: Sequence[str]) -> tuple[str, ...]:
        """This machine answers."""
        return ()


def scheduler_of(provider: Provider) -> Scheduler | None:
    """The scheduler of a site; None where there is none."""
    match provider:
        case SlurmProvider():
            return Slurm()
        case PbsProvider():
            return Pbs()
        case _:
            return None


@dataclass(frozen=True, slots=True)
class Heard:
    """The last word on a job, and when it was asked for (monotonic clock)."""

    word: JobWord = UNKNOWN
    asked_at: float = float("-inf")
    silent_nodes: tuple[str, ...] = ()


class JobWatch:
    """Keeps the last word on each job. Use as a context manager; every method may be called from any thread."""

    def __init__(self, scheduler: Scheduler, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._scheduler = scheduler
        self._clock = clock
        self._heard: dict[str, Heard] = {}
        self._period: dict[str, float] = {}
        self._wanted: set[str] = set()
        self._position_at: dict[str, float] = {}
        self._wake = threading.Event()
        self._done = self._in_trouble = False
        self._thread = threading.Thread(target=self._watch, name="job-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Not joined: a command of the scheduler may take its whole timeout, and nothing waits for its answer any more.
        self._done = True
        self._wake.set()

    def follow(self, job: str) -> None:
        """Look at this job from now on, until it has ended."""
        self._heard[job] = Heard()
        self._period[job] = FIRST_PERIOD_S
        self._wake.set()

    def heard(self, job: str) -> Heard:
        """The last word on a job."""
        return self._heard.get(job, Heard())

    def soon(self, job: str) -> None:
        """Something has happened: look as soon as the least period allows."""
        self._wanted.add(job)
        self._wake.set()

    def _watch(self) -> None:
        while not self._done:
            due = [job for job in tuple(self._heard) if self._due_in(job) <= 0]
            for job in due:
                self._try_to_look(job)
            waits = [self._due_in(job) for job in tuple(self._heard)]
            self._wake.wait(max(0.05, min([IDLE_S, *waits])))
            self._wake.clear()

    def _try_to_look(self, job: str) -> None:
        """As `_look`. Whatever goes wrong with one answer, the next one is asked for: without this thread no end of a
        job would ever be known."""
        try:
            self._look(job)
        except Exception:
            level = logging.DEBUG if self._in_trouble else logging.ERROR
            logger.log(level, "the scheduler's answer about job %s is of no use", job, exc_info=True)
            self._in_trouble = True
            word = self._heard[job].word
            self._heard[job] = Heard(word=word, asked_at=self._clock())
            self._period[job] = min(PERIOD_S, 2 * self._period[job])
        else:
            self._in_trouble = False

    def _due_in(self, job: str) -> float:
        heard = self._heard[job]
        period = LEAST_PERIOD_S if job in self._wanted else self._period[job]
        if heard.word.state is JobState.ENDED:
            return float("inf")
        return heard.asked_at + period - self._clock()

    def _look(self, job: str) -> None:
        """One question, and a second one where the first leaves it open why ranks are silent."""
        wanted = job in self._wanted
        self._wanted.discard(job)
        now = self._clock()
        word = self._scheduler.ask(job)
        before = self._heard[job].word
        silent: tuple[str, ...] = ()
        if word.state is JobState.WAITING:
            word = replace(word, position=self._position(job, word, before, now))
        if wanted and word.state is JobState.RUNNING and word.nodes:
            silent = self._scheduler.silent_nodes(word.nodes)
        if word.state is JobState.UNKNOWN and before.state is JobState.ENDED:
            return
        if word.state is not before.state:
            logger.info("job %s %s", job, word.why())
        self._period[job] = min(PERIOD_S, 2 * self._period[job])
        self._heard[job] = Heard(word=word, asked_at=now, silent_nodes=silent)

    def _position(self, job: str, word: JobWord, before: JobWord, now: float) -> int | None:
        if now - self._position_at.get(job, float("-inf")) < POSITION_PERIOD_S:
            return before.position
        self._position_at[job] = now
        return self._scheduler.position(job, word.queue)
