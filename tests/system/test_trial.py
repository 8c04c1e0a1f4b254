"""The check before a run: what it finds, what it says, and that nothing is left of it."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from launching import site_here

from beamcast.config.load import load_site, load_workflow
from beamcast.core.errors import ConfigError
from beamcast.launch.plan import RunPlan
from beamcast.launch.trial import ProcessorCheck

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]
FIRST_PORT = 36000

SOURCE = """
name = "w"
[source]
channel = "beamcast-check-test:image"
[source.simulate]
shape = [32, 48]
frames = 10
"""
HEAD = """
import os, signal, subprocess, sys, time
import numpy as np
from pathlib import Path


class Passes:
    def process(self, frame):
        return frame.pv
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The check's own folder goes when it ends."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    tempfile.tempdir = None
    yield
    tempfile.tempdir = None
    assert list(folder.iterdir()) == []


def plan(folder: Path, code: str, *pools: str, source: str = SOURCE) -> RunPlan:
    """A run of these pools; each is a class of `own.py`, or a whole table."""
    (folder / "own.py").write_text(HEAD + code)
    text, before = source, "source"
    for number, pool in enumerate(pools):
        table = pool if "=" in pool else f'processor = "own.py:{pool}"'
        role = "" if "role =" in table else 'role = "consumer"'
        reads = "" if "input =" in table else f'input = "{before}"'
        text += f'[[pools]]\nname = "p{number}"\n{role}\n{reads}\n{table}\n'
        before = f"p{number}"
    (folder / "w.toml").write_text(text)
    return RunPlan(run="r", loaded=load_workflow(folder / "w.toml"), site=load_site("local"))


def found(made: RunPlan, *, deadline_s: float = 60.0) -> str:
    """What the check says of a plan; "" where all is well."""
    with ProcessorCheck(made, deadline_s=deadline_s) as check:
        try:
            check.finish(lambda text: None)
        except ConfigError as refused:
            return str(refused)
    return ""


WRONG = {
    "Wrong1": (
        "    def process(self, frame):\n        return frame.image / wrong  # here\n",
        r"pools\[0\].processor: own.py:Wrong1 can't process a frame: NameError: name 'wrong' is not defined "
        r"\(own.py, line LINE\). Correct it. --no-check leaves this check out",
    ),
    "Wrong2": (
        "    def __init__(self, *, threshold: float = 1.0):\n        raise RuntimeError('no CUDA\\ndevice')  # here\n",
        r"can't be made: RuntimeError: no CUDA device \(own.py, line LINE\)",
    ),
    "Wrong3": (
        "    def start(self, context):\n        open(context.base / 'weights')  # here\n",
        r"own.py:Wrong3 could not be started: FileNotFoundError: .*weights' \(own.py, line LINE\)",
    ),
    "Wrong4": ("    def process(self, frame):\n        return {'a': 1}\n", "declares no output fields"),
    "Wrong5": (
        "    output = {'a': float}\n    def process(self, frame):\n        return {'b': 1}\n",
        "missing: a; not declared: b",
    ),
    "Wrong6": (
        "    def output_type(self, probe):\n        return 5\n",
        r"output_type\(\) of Wrong6 returned 5",
    ),
    "Wrong7": ("    def process(self, frame):\n        sys.exit(3)\n", "SystemExit: 3"),
    "Wrong8": (
        "    def process(self, frame):\n        return np.ones(10**12)\n",
        r"MemoryError: .* \(the check allows [0-9]+ GiB\)",
    ),
    "Wrong9": (
        "    def __init__(self, *, threshold: float = 1.0):\n        pass\n",
        "unknown parameter 'treshold' .did you mean 'threshold'",
    ),
}


def test_everything_that_is_wrong_is_told_at_once_with_file_line_and_what_to_do(tmp_path: Path) -> None:
    """P7: `plan` was content with all of these."""
    code = "".join(f"\n\nclass {name}(Passes):\n{body}" for name, (body, _) in WRONG.items())
    tables = [f'input = "source"\nprocessor = "own.py:{name}"' for name in WRONG]
    tables[-1] += "\nparams = { treshold = 3 }"
    tables += [
        'input = "source"\nprocessor = "own.py:Pases"',
        'input = "source"\nprocessor = "nosuch.module:A"',
        'input = "source"\nprocessor = "broken.py:A"',
        'input = "source"\nprocessor = "lacks.py:A"',
    ]
    (tmp_path / "broken.py").write_text("class A:\n    def process(self, frame)\n")
    (tmp_path / "lacks.py").write_text("\nimport nosuchlibrary\n")
    lines = found(plan(tmp_path, code, *tables)).splitlines()
    told = dict(zip(WRONG, lines, strict=False))
    for name, (_, words) in WRONG.items():
        assert re.search(words.replace("LINE", str(_line_of(tmp_path, name))), told[name]), told[name]
    assert "no class 'Pases' in own.py. did you mean 'Passes'?" in lines[-4]
    assert "can't import nosuch.module: ModuleNotFoundError" in lines[-3]
    assert "Install nosuch here. --no-check leaves" in lines[-3]
    assert "broken.py fails: SyntaxError: expected ':' (broken.py, line 2). Correct it." in lines[-2]
    assert "No module named 'nosuchlibrary' (lacks.py, line 2). Install nosuchlibrary here." in lines[-1]


def _line_of(folder: Path, name: str) -> int:
    """Where the class says `# here`."""
    lines = (folder / "own.py").read_text().splitlines()
    begin = lines.index(f"class {name}(Passes):")
    return next((at for at, line in enumerate(lines, 1) if at > begin and "# here" in line), 0)


DIES = """
class Leaves(Passes):
    def process(self, frame):
        print("leaving now")
        os._exit(0)


class Crashes(Passes):
    def process(self, frame):
        os.abort()


class Hangs(Passes):
    def start(self, context):
        self.helper = subprocess.Popen(["setsid", "sleep", "1000"])
        (Path(context.base) / "pid").write_text(str(self.helper.pid))
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def process(self, frame):
        time.sleep(1000)
"""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Leaves", "Leaves ended its process with exit status 0, at its first frame; it said: leaving now"),
        (
            "Crashes",
            "ended its process by SIGABRT, at its first frame; it said: Fatal Python error: Aborted, File",
        ),
    ],
)
def test_a_processor_that_ends_its_process_is_named(name: str, words: str, tmp_path: Path) -> None:
    assert words in found(plan(tmp_path, DIES, "Passes", name))


def test_one_that_hangs_is_ended_with_all_that_it_has_started(tmp_path: Path) -> None:
    said = found(plan(tmp_path, DIES, "Hangs"), deadline_s=3.0)
    assert "own.py:Hangs did not come back within the time of the check, at its first frame" in said
    assert _gone(int((tmp_path / "pid").read_text()))


def test_the_folder_of_a_check_can_be_removed_by_who_leaves_without_it(tmp_path: Path) -> None:
    """As a run does that is interrupted before it has begun: it kills its children and leaves."""
    with ProcessorCheck(plan(tmp_path, DIES, "Hangs")) as check:
        _wait_for((tmp_path / "pid").exists)
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                child.kill()
        check.remove_folder()
        assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize("how", ["left", "killed"])
def test_a_check_that_is_not_waited_for_leaves_nothing(how: str, tmp_path: Path) -> None:
    """Ctrl-C, and the death of the command."""
    made = plan(tmp_path, DIES, "Hangs")
    pid = tmp_path / "pid"
    if how == "left":
        with suppress(KeyboardInterrupt), ProcessorCheck(made):
            _wait_for(pid.exists)
            raise KeyboardInterrupt
    else:
        words = (
            "import sys, time, pathlib; from beamcast.config.load import load_site, load_workflow\n"
            "from beamcast.launch.plan import RunPlan; from beamcast.launch.trial import ProcessorCheck\n"
            "loaded = load_workflow(pathlib.Path(sys.argv[1]))\n"
            "with ProcessorCheck(RunPlan(run='r', loaded=loaded, site=load_site('local'))):\n    time.sleep(1000)"
        )
        process = subprocess.Popen([sys.executable, "-c", words, str(tmp_path / "w.toml")])
        _wait_for(pid.exists)
        process.kill()
        process.wait()
    _wait_for(lambda: _gone(int(pid.read_text() or os.getpid())))
    _wait_for(lambda: not list((tmp_path / "temporary").iterdir()))


def _gone(pid: int) -> bool:
    """Whether a process has ended, whether or not anybody has taken note."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _wait_for(condition: object, *, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


CHAIN = """
class Total:
    output = {"total": float, "bright": list[int]}
    def process(self, frame):
        assert frame.id == 1 and frame.epoch == 0 and frame.image.shape == (32, 48)
        return {"total": float(frame.image.sum()), "bright": [1, 2]}


class Check:
    batch = 4
    def process_batch(self, frames):
        [frame] = frames
        assert frame.pv["total"] > 0 and list(frame.pv["bright"]) == [1, 2]
        return [None]


class NeverSeen(Passes):
    def process(self, frame):
        raise RuntimeError("nothing comes here")


class Two:
    outputs = 2
    def process(self, frame):
        return [frame.pv, frame.pv]


class Shaped:
    def __init__(self, configDict):
        self.sent = configDict["outputChannel"]
    def process(self, pvObject):
        self.updateOutputChannel(pvObject)
    def getStats(self):
        return {}
"""


def test_a_frame_goes_through_the_whole_chain(tmp_path: Path) -> None:
    two = 'name = "two"\ninput = "source"\nprocessor = "own.py:Two"'
    second = 'input = "two"\ninput_branch = 1\nprocessor = "own.py:Total"'
    made = plan(tmp_path, CHAIN, "Shaped", "Total", "Check", "NeverSeen", "Shaped", source=SOURCE)
    assert found(made) == ""
    text = (tmp_path / "w.toml").read_text() + f"[[pools]]\nrole = 'consumer'\n{two}\n"
    text += f'[[pools]]\nname = "second"\nrole = "consumer"\n{second}\n'
    (tmp_path / "w.toml").write_text(text)
    loaded = load_workflow(tmp_path / "w.toml")
    assert found(RunPlan(run="r", loaded=loaded, site=load_site("local"))) == ""
    (tmp_path / "w.toml").write_text(text.replace("input_branch = 1", "input_branch = 2"))
    loaded = load_workflow(tmp_path / "w.toml")
    said = found(RunPlan(run="r", loaded=loaded, site=load_site("local")))
    assert "pool second reads output 2 of pool two, whose processor has 2 (counted from 0)" in said


def test_processors_that_write_leave_the_folder_of_the_user_alone(tmp_path: Path) -> None:
    hdf5 = 'processor = "beamcast.processors.hdf5:SaveHdf5"\nparams = { folder = "data", publish = "place" }'
    absolute = (
        f'processor = "beamcast.processors.images:SaveImages"\nparams = {{ folder = "{tmp_path}/images" }}'
    )
    pvapy = (
        'processor = "pvapy.hpc.adOutputFileProcessor:AdOutputFileProcessor"\n'
        f'params = {{ outputDirectory = "{tmp_path}/files", outputFileNameFormat = "{{uniqueId}}.tiff" }}'
    )
    code = "class Writes(Passes):\n    def start(self, context):\n        (context.scratch / 'x').touch()\n"
    before = {"own.py", "w.toml", "temporary"}
    made = plan(tmp_path, code, absolute, pvapy, hdf5, "Writes")
    assert found(made) == ""
    assert {path.name for path in tmp_path.iterdir()} == before


def test_images_only_behind_a_pool_of_dictionaries_are_refused(tmp_path: Path) -> None:
    pictures = 'processor = "beamcast.processors.images:SaveImages"\nparams = { folder = "images" }'
    said = found(plan(tmp_path, CHAIN, "Total", pictures))
    assert "images:SaveImages can't process a frame: this is not an NTNDArray" in said


def test_files_of_the_working_folder_replace_nothing_of_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C3: a module there is named by its file, since ranks import nothing from the working folder."""
    for name in ("queue.py", "json.py", "random.py"):
        (tmp_path / name).write_text("raise RuntimeError('not this one')")
    (tmp_path / "beside_me.py").write_text(HEAD)
    monkeypatch.chdir(tmp_path)
    assert "can't import beside_me" in found(plan(tmp_path, CHAIN, 'processor = "beside_me:Passes"', "Total"))
    assert found(plan(tmp_path, CHAIN, 'processor = "beside_me.py:Passes"', "Total")) == ""


def test_the_first_frame_of_a_file_is_taken_and_a_bad_file_told(tmp_path: Path) -> None:
    np.save(tmp_path / "scan.npy", np.full((2, 32, 48), 7, np.uint16))
    np.save(tmp_path / "odd.npy", np.zeros(3, complex))
    source = SOURCE.replace("frames = 10", 'file = "scan.npy"')
    code = "class Seven(Passes):\n    def process(self, frame):\n        assert frame.image.max() == 7\n"
    assert found(plan(tmp_path, code, "Seven", source=source)) == ""
    said = found(plan(tmp_path, code, "Seven", source=source.replace("scan", "odd")))
    assert "source.simulate.file: " in said
    assert "odd.npy has shape (3,)" in said


def test_without_a_detector_processors_are_made_and_started(tmp_path: Path) -> None:
    source = 'name = "w"\n[source]\nchannel = "beamcast-check-test:nowhere"\naddress = "127.0.0.1:9"\n'
    assert found(plan(tmp_path, CHAIN, "NeverSeen", source=source)) == ""
    code = "class Wrong(Passes):\n    def start(self, context):\n        1 / 0\n"
    assert "could not be started: ZeroDivisionError" in found(plan(tmp_path, code, "Wrong", source=source))


def beamcast(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("EPICS_", "TMPDIR"))}
    return subprocess.run(
        [sys.executable, "-m", "beamcast", *words],
        cwd=folder,
        env={**kept, "NO_COLOR": "1", "TERM": "dumb"},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_a_file_that_is_played_without_end_is_told(tmp_path: Path) -> None:
    """P18: it went round for ever without saying so."""
    np.save(tmp_path / "scan.npy", np.full((2, 32, 48), 7, np.uint16))
    plan(tmp_path, "", "Passes", source=SOURCE.replace("frames = 10", 'file = "scan.npy"'))
    note = "scan.npy is played again and again until the run is stopped; with source.simulate.frames"
    assert note in beamcast(tmp_path, "plan", "w.toml").stderr
    assert note not in beamcast(tmp_path, "plan", "w.toml", "--set", "source.simulate.frames=2").stderr
    words = ["sim", "beamcast-check-test:loop", "--file", "scan.npy"]
    with subprocess.Popen(
        [sys.executable, "-m", "beamcast", *words], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            said = next(line for line in process.stdout if "again" in line)
        finally:
            process.kill()
    assert said == "its 2 frames are sent again and again; --frames 2: once\n"


COUNTED = """
class Counted(Passes):
    def __init__(self):
        with (Path(__file__).parent / "made").open("a") as file:
            print(os.getpid(), file=file)
"""


def test_plan_run_and_submit_refuse_before_anything_is_started(tmp_path: Path) -> None:
    """P7: with exit status 2 and no run directory; `--no-check` leaves it out."""
    plan(tmp_path, "class Wrong(Passes):\n    def process(self, frame):\n        1 / 0\n", "Wrong")
    for command in ("plan", "run", "submit"):
        done = beamcast(tmp_path, command, "w.toml")
        assert done.returncode == 2, done.stderr
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith(
            "error: w.toml: pools[0].processor: own.py:Wrong can't process a frame: ZeroDivision"
        )
        assert "--no-check" in last
    assert beamcast(tmp_path, "plan", "w.toml", "--no-check").returncode == 0
    assert not (tmp_path / "runs").exists()


def test_a_submitted_run_is_checked_once(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text(site_here(FIRST_PORT))
    plan(tmp_path, COUNTED, 'processor = "own.py:Counted"\nrestart = { understudy = false }')
    done = beamcast(tmp_path, "submit", "w.toml", "--site", "site.toml", "--run-dir", "run")
    assert done.returncode == 0, done.stderr
    _wait_for((tmp_path / "run" / "report.json").exists, timeout_s=80)
    pids = (tmp_path / "made").read_text().split()
    assert len(pids) == len(set(pids)) == 2, "the check and the rank"


def test_what_a_detector_shows_now_is_the_frame(tmp_path: Path) -> None:
    code = (
        "class Wants(Passes):\n    def process(self, frame):\n"
        "        assert frame.image.shape == (4, 6), 'wrong shape'\n"
    )
    words = ["sim", "beamcast-check-test:live", "--shape", "10x12", "--rate", "50"]
    command = [sys.executable, "-m", "beamcast", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as detector:
        assert detector.stdout is not None
        try:
            at = re.search(r"at (127[0-9.:]+)", detector.stdout.readline())
            assert at is not None
            source = f'name = "w"\n[source]\nchannel = "beamcast-check-test:live"\naddress = "{at[1]}"\n'
            assert "AssertionError: wrong shape" in found(plan(tmp_path, code, "Wants", source=source))
            good = code.replace("(4, 6)", "(10, 12)")
            assert found(plan(tmp_path, good, "Wants", source=source)) == ""
        finally:
            detector.kill()
