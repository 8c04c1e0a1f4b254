"""The check before a run: each pool's processor is tried with one frame, in a process of its own.

What would fail on every frame, or before the first one, is refused here, before anything is queued: with the file and
line of the user's code and what to do. The process (`beamcast.members.trial`) is started at once and its word is asked
for later, so that it costs little beside what else a start has to do.
"""

import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from beamcast.config.workflow import Pool
from beamcast.core.errors import ConfigError, Problem, WorldError
from beamcast.launch.plan import RunPlan
from beamcast.members.command import python_module
from beamcast.members.trial.job import Trial, encode_trial

# Large libraries on a slow parallel file system take most of a minute when nobody has used them today.
DEADLINE_S = 60.0
# Whoever waits longer is told what for.
PATIENCE_S = 3.0
# From the deadline until the process has ended what it had started.
_GRACE_S = 10.0
_SKIP = "--no-check leaves this check out, where the cluster alone has what is missing here (a GPU, a module)"
_STEPS = {
    "load": "could not be loaded",
    "start": "could not be started",
    "process": "can't process a frame",
}


class ProcessorCheck:
    """The check of one plan: begun by `with`, judged by `finish`, ended in any case."""

    def __init__(self, plan: RunPlan, *, deadline_s: float = DEADLINE_S) -> None:
        self._plan = plan
        self._deadline_s = deadline_s
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: str | None = None
        self._began_at = 0.0

    def __enter__(self) -> Self:
        """Start it. What this host lacks for it the run lacks too, and says so: then there is no check."""
        environment = {"PYTHONFAULTHANDLER": "1", "OPENBLAS_NUM_THREADS": "1", **os.environ}
        self._began_at = time.monotonic()
        try:
            self._folder = tempfile.mkdtemp(prefix="beamcast-check-")
            process = subprocess.Popen(
                python_module(
                    "beamcast.members.trial",
                    f"--parent={os.getpid()}",
                    f"--deadline={self._deadline_s}",
                    f"--folder={self._folder}",
                ),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                start_new_session=True,
            )
        except OSError:
            self.remove_folder()
            return self
        self._process = process
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.write(encode_trial(trial_of(self._plan)))
            process.stdin.close()
        process.stdin = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it, where it has not ended: it ends what it has started."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        self.remove_folder()

    def remove_folder(self) -> None:
        """Remove where the processors may have written, when all processes have ended or been killed."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def finish(self, waiting: Callable[[str], None]) -> None:
        """ConfigError with what is wrong with the processors. `waiting` gets a sentence to say when it takes long or
        can't be done."""
        process = self._process
        if process is None:
            return
        left_s = self._began_at + PATIENCE_S - time.monotonic()
        try:
            out, err = process.communicate(timeout=max(0.0, left_s))
        except subprocess.TimeoutExpired:
            waiting(f"checking the processors, for {self._deadline_s:g} s at most (--no-check leaves it out)")
            try:
                out, err = process.communicate(timeout=self._deadline_s + _GRACE_S)
            except subprocess.TimeoutExpired:
                raise WorldError("the check of the processors does not end", hint=_SKIP + ".") from None
        events = [json.loads(line) for line in out.splitlines() if line.startswith(b"{")]
        if not any(event["event"] == "step" for event in events):
            trouble = err.decode(errors="replace").strip().rpartition("\n")[2]
            waiting(f"the processors could not be checked: {trouble or 'no process could be started for it'}")
            return
        problems = list(problems_of(events, self._plan))
        if problems:
            file = str(self._plan.loaded.path)
            refused = ConfigError.of(problem.inside(file) for problem in problems)
            for event in events:
                if event["event"] == "problem":
                    refused.add_note(event["traceback"])
            raise refused


def trial_of(plan: RunPlan) -> Trial:
    """What is to be tried of a plan."""
    return Trial(
        run=plan.run,
        base=str(plan.base.absolute()),
        source=plan.workflow.source,
        metadata=plan.workflow.metadata,
        pools=plan.pools,
        places=tuple(plan.places(pool)[0] for pool in plan.pools),
    )


def problems_of(events: list[dict[str, Any]], plan: RunPlan) -> list[Problem]:
    """What the events of a trial say is wrong, in the words of the workflow file."""
    problems = [_problem(event, plan) for event in events if event["event"] == "problem"]
    ended = next((event for event in events if event["event"] == "ended"), None)
    if ended is None or any(event["event"] == "done" for event in events):
        return problems
    steps = [event for event in events if event["event"] == "step"]
    return [*problems, _cut_short(ended, steps[-1], plan)]


def _problem(event: dict[str, Any], plan: RunPlan) -> Problem:
    pool, where = _pool(event["pool"], plan)
    if pool is None:
        return Problem(" ".join(event["error"].split()), where)
    file, line = event["file"], event["line"]
    place = f" ({_shown(file, plan)}, line {line})" if file else ""
    message = " ".join(event["error"].split()).rstrip(".")
    if event["step"] != "load" or "processor" not in message:
        message = f"{pool.processor} {_STEPS[event['step']]}: {message}"
    if f"({Path(file).name}, line {line})" in message:  # as Python says it of a SyntaxError
        place = ""
    if event["missing"]:
        return Problem(f"{message}{place}", where, f"Install {event['missing']} here. {_SKIP}.")
    # A wrong name or parameter is wrong on any host.
    hint = f"Correct it. {_SKIP}." if event["theirs"] or event["step"] == "process" else None
    return Problem(f"{message}{place}", where, hint)


def _cut_short(ended: dict[str, Any], step: dict[str, Any], plan: RunPlan) -> Problem:
    pool, where = _pool(step["pool"], plan)
    doing = {"load": "while it was loaded", "start": "in start()", "process": "at its first frame"}
    name = "the source" if pool is None else pool.processor
    at = doing.get(step["step"], "at its first frame")
    if ended["timed_out"]:
        return Problem(f"{name} did not come back within the time of the check, {at}", where, f"{_SKIP}.")
    status = ended["status"]
    how = f"by {signal.Signals(-status).name}" if status < 0 else f"with exit status {status}"
    last = _last_words(ended["said"])
    said = f"; it said: {last}" if last else ""
    return Problem(f"{name} ended its process {how}, {at}{said}", where, f"{_SKIP}.")


def _last_words(said: str) -> str:
    """The end of what was printed, on one line. Of a crash that Python could tell: what, and the innermost line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    fatal = next((at for at, line in enumerate(lines) if line.startswith("Fatal Python error")), None)
    if fatal is not None:
        places = (line for line in lines[fatal:] if line.startswith("File "))
        return ", ".join([lines[fatal], *itertools.islice(places, 1)])
    return " | ".join(lines[-3:])


def _pool(name: str, plan: RunPlan) -> tuple[Pool | None, str]:
    if name == "source":
        simulation = plan.workflow.source.simulate
        return None, "source.simulate.file" if simulation is not None and simulation.file else "source"
    index = [pool.name for pool in plan.workflow.pools].index(name)
    return plan.workflow.pools[index], f"pools[{index}].processor"


def _shown(file: str, plan: RunPlan) -> str:
    path, base = Path(file), plan.base.absolute()
    return str(path.relative_to(base)) if path.is_relative_to(base) else file
