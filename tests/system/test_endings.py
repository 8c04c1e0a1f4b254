"""How commands end that a person, a terminal or a program tells to end, at each stage: at a real terminal.

Cases P1, S9, I4 (Ctrl-C that hangs), C6 (the terminal goes away), C7 (closed streams), C3 (a file of the user's with
the name of a module).
"""

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from requirements import need
from traces import words_of

from endings.closed_streams import CLOSED, run_with_closed_streams
from endings.leftovers import left_by, processes_of
from endings.terminal import CTRL_C, Terminal
from endings.trial import WAYS, Outcome, Way, command, end_it, environment
from endings.workflow import write_workflow

BY_NAME = {way.name: way for way in WAYS}
# On a machine that does much else, interpreters take long to start.
STAGE_S = 60.0
# As long as a run may take to end here, where several tests run at once.
ENDS_WITHIN_S = 20.0


def run_words(*more: str, site: str = "local") -> list[str]:
    return command("run", "workflow.toml", "--site", site, "--run-dir", "run", "--name", "ending", *more)


def reached(stage: str, folder: Path, terminal: Terminal) -> Callable[[], bool]:
    """Whether a run has come so far."""

    def state() -> str:
        path = folder / "run" / "state.json"
        try:
            return str(json.loads(path.read_text())["state"])
        except (FileNotFoundError, json.JSONDecodeError):
            return ""

    match stage:
        case "beginning":
            return lambda: (folder / "run" / "lease.json").exists()
        case "pool":
            return lambda: any(
                "beamcast.members.workers.pool" in words_of(one) for one in processes_of(folder)
            )
        case "draining":
            return lambda: state() in ("draining", "done") or (folder / "run" / "report.json").exists()
        case _:
            return lambda: state() == stage


def ended(folder: Path, words: list[str], stage: str, way: Way, *, frames: int = 100_000) -> Outcome:
    write_workflow(folder, prefix=f"endings{os.getpid()}", frames=frames)
    outcome = Outcome(0, stage, "", way.name)
    with Terminal(words, folder=folder, environment=environment(folder)) as terminal:
        assert terminal.wait_for(reached(stage, folder, terminal), seconds=STAGE_S), terminal.shown[-2000:]
        return end_it(terminal, way, outcome, folder=folder, run_dir=folder / "run", within_s=ENDS_WITHIN_S)


@pytest.mark.system
@pytest.mark.parametrize(
    ("stage", "way", "states"),
    [
        ("beginning", "Ctrl-C", {"cancelled"}),
        ("beginning", "Ctrl-C three times", {"cancelled"}),
        ("pool", "Ctrl-C", {"cancelled"}),
        ("pool", "SIGTERM to the group", {"cancelled"}),
        ("streaming", "Ctrl-C", {"done"}),
        ("streaming", "Ctrl-C twice", {"cancelled", "done"}),
        ("streaming", "Ctrl-C three times", {"cancelled", "done"}),
        ("streaming", "Ctrl-\\", {"cancelled"}),
        ("streaming", "window closed", {"done"}),
        ("streaming", "SIGTERM to the group", {"done"}),
        ("streaming", "SIGHUP to the group", {"done"}),
    ],
)
def test_a_run_ends_when_it_is_told_to(tmp_path: Path, stage: str, way: str, states: set[str]) -> None:
    outcome = ended(tmp_path, run_words(), stage, BY_NAME[way])
    assert outcome.problems == []
    assert outcome.report in states


@pytest.mark.system
@pytest.mark.parametrize(("stage", "way"), [("streaming", "Ctrl-C"), ("pool", "Ctrl-C twice")])
def test_a_run_with_mpi_ends_when_it_is_told_to(tmp_path: Path, stage: str, way: str) -> None:
    need("mpi")
    stage = "starting" if stage == "pool" else stage
    outcome = ended(tmp_path, run_words(site="local-mpi"), stage, BY_NAME[way])
    assert outcome.problems == []


@pytest.mark.system
def test_ctrl_c_while_it_drains_by_itself_or_has_ended_loses_nothing(tmp_path: Path) -> None:
    outcome = ended(tmp_path, run_words(), "draining", BY_NAME["Ctrl-C"], frames=150)
    assert outcome.problems == []
    assert outcome.report == "done"
    frames = json.loads((tmp_path / "run" / "report.json").read_text())["frames"]
    assert (frames["source"], frames["collected"], frames["lost"]) == (150, 150, 0)


@pytest.mark.system
@pytest.mark.parametrize("name", CLOSED)
def test_a_run_does_not_depend_on_its_standard_streams(name: str) -> None:
    outcome = run_with_closed_streams(name)
    assert outcome.problems == []


@pytest.mark.system
def test_a_run_whose_interchange_has_died_ends_with_a_report(tmp_path: Path) -> None:
    """Cases S9 and I4: Parsl waits for its interchange for ever."""
    write_workflow(tmp_path, prefix=f"endings{os.getpid()}")
    outcome = Outcome(0, "streaming", "", "Ctrl-C")
    with Terminal(run_words(), folder=tmp_path, environment=environment(tmp_path)) as terminal:
        assert terminal.wait_for(reached("streaming", tmp_path, terminal), seconds=STAGE_S), terminal.shown[
            -2000:
        ]
        (interchange,) = [
            one for one in processes_of(tmp_path) if "HTEX interchange" in " ".join(words_of(one))
        ]
        interchange.kill()
        end_it(terminal, BY_NAME["Ctrl-C"], outcome, folder=tmp_path, run_dir=tmp_path / "run", within_s=30)
    assert outcome.problems == []


@pytest.mark.system
def test_a_service_manager_that_signals_every_process_gets_a_report(tmp_path: Path) -> None:
    """What systemd and batch systems do at the end of a service or a job."""

    def all_of_them(terminal: Terminal) -> None:
        for process in processes_of(tmp_path):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGTERM)

    outcome = ended(tmp_path, run_words(), "streaming", Way("SIGTERM to all", all_of_them))
    assert outcome.problems == []


@pytest.mark.system
def test_a_controller_that_is_stopped_is_ended_by_the_third_ctrl_c(tmp_path: Path) -> None:
    """A process that is frozen hears nothing: the one in front of it does."""
    write_workflow(tmp_path, prefix=f"endings{os.getpid()}")
    with Terminal(run_words(), folder=tmp_path, environment=environment(tmp_path)) as terminal:
        assert terminal.wait_for(reached("streaming", tmp_path, terminal), seconds=STAGE_S), terminal.shown[
            -2000:
        ]
        (controller,) = psutil.Process(terminal.process.pid).children()
        controller.suspend()
        for _ in range(3):
            terminal.press(CTRL_C)
            time.sleep(0.3)
        assert terminal.ended_within(15) is not None
        assert terminal.process.returncode == 128 + signal.SIGKILL
        assert "beamcast resume" in terminal.shown


@pytest.mark.system
@pytest.mark.parametrize("module", ["queue", "copy", "random", "psutil"])
def test_a_file_of_the_user_does_not_take_the_place_of_a_module(tmp_path: Path, module: str) -> None:
    """Cases C3 and S5."""
    write_workflow(tmp_path, prefix=f"endings{os.getpid()}", frames=50)
    (tmp_path / f"{module}.py").write_text("raise RuntimeError('this file is the user\\'s')\n")
    with Terminal(run_words("--quiet"), folder=tmp_path, environment=environment(tmp_path)) as terminal:
        assert terminal.ended_within(90) is not None, terminal.shown[-2000:]
        assert terminal.process.returncode == 0, terminal.shown[-2000:]


STANDALONE = {
    "sim": ("sim", "{prefix}:image", "--rate", "50"),
    "consumer": (
        "consumer",
        "--input",
        "{prefix}:nobody",
        "--output",
        "{prefix}:out",
        "--appear-timeout",
        "300",
    ),
    "record": ("record", "{prefix}:nobody", "file.h5", "--appear-timeout", "300"),
    "mirror": ("mirror", "--source", "{prefix}:nobody", "--channel", "{prefix}:m", "--appear-timeout", "300"),
}


@pytest.mark.system
@pytest.mark.parametrize("name", STANDALONE)
@pytest.mark.parametrize("way_name", ["Ctrl-C", "Ctrl-C three times", "window closed"])
def test_other_commands_end_when_they_are_told_to(tmp_path: Path, name: str, way_name: str) -> None:
    way = BY_NAME[way_name]
    words = [word.format(prefix=f"endings{os.getpid()}") for word in STANDALONE[name]]
    with Terminal(command(*words), folder=tmp_path, environment=environment(tmp_path)) as terminal:
        # All of them have a thread for signals as soon as they can be told.
        assert terminal.wait_for(lambda: _listens(terminal), seconds=STAGE_S), terminal.shown[-2000:]
        way.act(terminal)
        for pause_s in way.pauses_s:
            time.sleep(pause_s)
            way.act(terminal)
        assert terminal.ended_within(10) is not None, terminal.shown[-2000:]
        assert "Traceback" not in terminal.shown
    deadline = time.monotonic() + 5
    while processes_of(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_of(tmp_path) == []


def _listens(terminal: Terminal) -> bool:
    """Whether SIGINT is caught by now, as the kernel knows."""
    status = Path(f"/proc/{terminal.process.pid}/status").read_text()
    caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt:")).split()[1], 16)
    return bool(caught >> (signal.SIGHUP - 1) & 1)


@pytest.mark.system
def test_attach_leaves_the_run_alone_and_submit_is_taken_back(tmp_path: Path) -> None:
    write_workflow(tmp_path, prefix=f"endings{os.getpid()}")
    words = command("submit", "workflow.toml", "--run-dir", "run", "--name", "ending")
    with Terminal(words, folder=tmp_path, environment=environment(tmp_path)) as terminal:
        assert terminal.ended_within(STAGE_S) is not None, terminal.shown[-2000:]
        assert terminal.process.returncode == 0, terminal.shown[-2000:]
    with Terminal(command("attach", "run"), folder=tmp_path, environment=environment(tmp_path)) as terminal:
        assert terminal.wait_for(lambda: "streaming" in terminal.shown, seconds=STAGE_S), terminal.shown[
            -2000:
        ]
        terminal.press(CTRL_C)
        assert terminal.ended_within(10) is not None
        assert "the run goes on" in terminal.shown
    with Terminal(
        command("stop", "run", "--wait"), folder=tmp_path, environment=environment(tmp_path)
    ) as terminal:
        assert terminal.ended_within(30) is not None
        assert terminal.process.returncode == 0, terminal.shown[-2000:]
    again = tmp_path / "again"
    again.mkdir()
    outcome = Outcome(0, "submit", "", "Ctrl-C")
    write_workflow(again, prefix=f"endings{os.getpid()}")
    words = command("submit", "workflow.toml", "--run-dir", "run", "--name", "ending")
    with Terminal(words, folder=again, environment=environment(again)) as terminal:
        assert terminal.wait_for(reached("beginning", again, terminal), seconds=STAGE_S), terminal.shown[
            -2000:
        ]
        end_it(
            terminal, BY_NAME["Ctrl-C"], outcome, folder=again, run_dir=again / "run", within_s=ENDS_WITHIN_S
        )
    assert outcome.problems == []


@pytest.mark.system
def test_ctrl_c_in_tmux_shows_how_the_run_has_ended(tmp_path: Path) -> None:
    """As people do it: in a shell, in a terminal, and the screen tells what came of it."""
    need("tmux")
    write_workflow(tmp_path, prefix=f"endings{os.getpid()}")
    socket = f"endings{os.getpid()}"
    shell = environment(tmp_path) | {"PS1": "$ ", "LC_ALL": "C.UTF-8"}

    def tmux(*words: str) -> str:
        done = subprocess.run(
            ["tmux", "-L", socket, *words],
            env=shell,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def shows(text: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while text not in (screen := tmux("capture-pane", "-p", "-t", "0")):
            assert time.monotonic() < deadline, screen
            time.sleep(0.1)

    tmux("new-session", "-d", "-x", "80", "-y", "24", "bash --norc")
    try:
        tmux("send-keys", "-t", "0", shlex.join(run_words()) + "; echo status $?", "Enter")
        shows("streaming", STAGE_S)
        tmux("send-keys", "-t", "0", "C-c")
        shows("status 0", ENDS_WITHIN_S)
        shows("good", 1)
        # The shell is there again, and the terminal as it was: what is typed is shown.
        tmux("send-keys", "-t", "0", "echo typed", "Enter")
        shows("\ntyped", 5)
    finally:
        tmux("kill-server")
    assert json.loads((tmp_path / "run" / "report.json").read_text())["state"] == "done"
    assert left_by(tmp_path, run_dir=tmp_path / "run", temporary=tmp_path / "tmp") == []
