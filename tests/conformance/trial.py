"""One run of the suite: a detector of one kind and one structure, a real run, two clients of its results."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.variants import STRUCTURES, Frame, Structure, image_mark, smaller

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
CLIENTS = ("pvaccess", "pvxs")
FIRST_PORT = 34000
DEADLINE_S = 180.0
WARM_UP = 5
GOOD = "ok"
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("EPICS_PVA")},
    "PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY / 'tests'}",
}
WORKFLOW = """
name = "conformance"
delivery = "{delivery}"

[source]
channel = "{channel}"
address = "127.0.0.1:{port}"
id_field = "{id_field}"

[[pools]]
name = "note"
role = "consumer"
input = "source"
ranks = 2
processor = "{processors}:Note"
params = {{ folder = "{folder}" }}

[[pools]]
name = "collect"
role = "collector"
input = "note"

[results]
pool = "collect"
channel = "{channel}:result"
"""


@dataclass(frozen=True)
class Row:
    """One variant from one server. By column, `GOOD` or what was wrong."""

    structure: str
    variant: str
    server: str
    delivery: str
    found: dict[str, str]

    @property
    def good(self) -> bool:
        """Whether all is as it has to be."""
        return all(words == GOOD for words in self.found.values())


def structure_named(name: str) -> Structure:
    """The structure; StopIteration for one that there is not."""
    return next(one for one in STRUCTURES if one.name == name)


def play(structure: Structure, *, server: str, delivery: str, folder: Path) -> list[Row]:
    """The rows of one run. AssertionError where it does not come to its end."""
    folder.mkdir(parents=True, exist_ok=True)
    channel = f"conform{os.getpid()}:{server}"
    module = [sys.executable, "-m"]
    detector = [*module, "conformance.detector", server, structure.name, channel, str(folder)]
    with process(detector, folder / "detector.log") as source:
        assert source.stdout is not None
        port = source.stdout.readline().strip()
        assert port, (folder / "detector.log").read_text()
        run_dir = write(folder, structure, delivery=delivery, channel=channel, port=port)
        run = [*module, "beamcast", "run", str(folder / "workflow.toml"), "--site", str(folder / "site.toml")]
        run += ["--run-dir", str(run_dir), "--name", f"conform{os.getpid()}", "--quiet"]
        with process(run, folder / "run.log") as running:
            until(lambda: state(run_dir) in ("ready", "streaming"), [running], folder)
            with clients(run_dir, structure, folder) as (shown, readers):
                (folder / "go").touch()
                until(lambda: all(len(lines(each)) >= WARM_UP for each in shown), [running, *readers], folder)
                (folder / "measure").touch()
                until((folder / "sent.json").exists, [running, *readers], folder)
                sent = {
                    int(number): name
                    for number, name in json.loads((folder / "sent.json").read_text()).items()
                }
                settle(shown, sent)
            running.send_signal(signal.SIGINT)
            running.wait(60)
    return judge(structure, sent, folder, server=server, delivery=delivery)


def write(folder: Path, structure: Structure, *, delivery: str, channel: str, port: str) -> Path:
    """The files of the run; its directory."""
    values = {"delivery": delivery, "channel": channel, "port": port, "id_field": structure.id_field}
    values |= {"processors": str(HERE / "processors.py"), "folder": str(folder)}
    (folder / "workflow.toml").write_text(WORKFLOW.format(**values))
    site = f'extends = "local"\n[network.ports]\nfirst = {FIRST_PORT}\nlast = {FIRST_PORT + 999}\n'
    (folder / "site.toml").write_text(site)
    return folder / "run"


@contextmanager
def process(words: list[str], log: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that ends with the block."""
    with log.open("w") as errors:
        one = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=ENVIRONMENT,
            cwd=log.parent,
        )
    try:
        yield one
    finally:
        if one.poll() is None:
            one.send_signal(signal.SIGINT if "beamcast" in words else signal.SIGKILL)
            try:
                one.wait(30)
            except subprocess.TimeoutExpired:
                one.kill()
        one.communicate()


@contextmanager
def clients(
    run_dir: Path, structure: Structure, folder: Path
) -> Iterator[tuple[list[Path], list["subprocess.Popen[Any]"]]]:
    """The clients of the results: their files, and they."""
    files = [folder / f"seen-{client}.jsonl" for client in CLIENTS]
    running: list[subprocess.Popen[Any]] = []
    for client, file in zip(CLIENTS, files, strict=True):
        words = [sys.executable, "-m", "conformance.reader", client, str(run_dir), structure.id_field]
        with file.open("w") as out, (folder / f"{client}.log").open("w") as log:
            running.append(
                subprocess.Popen(words, stdin=subprocess.PIPE, stdout=out, stderr=log, env=ENVIRONMENT)
            )
    try:
        yield files, running
    finally:
        for one in running:
            assert one.stdin is not None
            one.stdin.close()
            try:
                one.wait(20)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()


def until(condition: Callable[[], bool], needed: "list[subprocess.Popen[Any]]", folder: Path) -> None:
    """Wait; AssertionError with all logs when a process ends before, or time is up."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        said = "\n".join(path.read_text()[-1500:] for path in sorted(folder.glob("*.log")))
        assert all(one.poll() is None for one in needed), said
        assert time.monotonic() < deadline, said
        time.sleep(0.1)


def state(run_dir: Path) -> str:
    """What the run says that it is doing."""
    path = run_dir / "state.json"
    return str(json.loads(path.read_text())["state"]) if path.exists() else ""


def lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file that may still grow."""
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []


def settle(shown: list[Path], sent: dict[int, str]) -> None:
    """Wait until each client has seen each id, or nothing has come for some seconds."""
    before, moved = -1, time.monotonic()
    while time.monotonic() - moved < 5:
        seen = [{one["id"] for one in lines(path)} for path in shown]
        if all(sent.keys() <= ids for ids in seen):
            return
        if sum(map(len, seen)) != before:
            before, moved = sum(map(len, seen)), time.monotonic()
        time.sleep(0.2)


def judge(
    structure: Structure, sent: dict[int, str], folder: Path, *, server: str, delivery: str
) -> list[Row]:
    """Compare what was seen with what was sent."""
    frames = {frame.variant: smaller(frame, structure) for frame in structure.frames()}
    images = {one["id"]: one["image"] for path in folder.glob("images-*.jsonl") for one in lines(path)}
    columns = {client: lines(folder / f"seen-{client}.jsonl") for client in CLIENTS}
    rows = []
    for number, variant in sent.items():
        found = {"image": of_image(frames[variant], images.get(number))}
        for client, seen in columns.items():
            found[client] = of_client(frames[variant], [one for one in seen if one["id"] == number])
        rows.append(Row(structure.name, variant, server, delivery, found))
    return rows


def of_image(frame: Frame, seen: list[Any] | None) -> str:
    """What the processor saw."""
    if seen is None:
        return "never came"
    if len(seen) == 1:
        return str(seen[0])
    if frame.image is None:
        return GOOD if seen[0] == list(frame.shape) else f"shape {seen[0]}"
    return GOOD if seen == image_mark(frame.image) else f"{seen} is not {image_mark(frame.image)}"


def of_client(frame: Frame, seen: list[dict[str, Any]]) -> str:
    """What a client of the results saw."""
    if len(seen) != 1:
        return f"came {len(seen)} times"
    wanted = frame.mark()
    differs = [
        f"{name}: {seen[0][name]!r} is not {wanted[name]!r}"
        for name in wanted
        if seen[0][name] != wanted[name]
    ]
    return "; ".join(differs) or GOOD
