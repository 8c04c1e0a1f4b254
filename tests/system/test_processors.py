"""User processors in real runs: those that the pvapy wheel ships, those written to its documentation, and bad ones.

pvaccess reads its environment once, so each run has a process of its own: this file, started with a folder that holds
`workflow.toml`; it prints the report as JSON.
"""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from launching import site_here

from beamcast.sim.payload import PayloadMaker

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
SHAPE = (32, 48)
FRAMES = 40

FIRST_PORT = 27000

SOURCE = """
name = "{name}"
prefix = "{prefix}"
[deadlines]
drain = "{drain}"
silence = "20 s"
[source]
channel = "{prefix}:image"
[source.simulate]
frames = {frames}
rate = "20 Hz"
shape = [32, 48]
dtype = "uint16"
first_id = 1
"""


def workflow(name: str, *pools: str, drain: str = "30 s", frames: int = FRAMES) -> str:
    head = SOURCE.format(name=name, prefix=f"bcp:{name}:{os.getpid()}", drain=drain, frames=frames)
    return head + "".join(f"\n[[pools]]\n{pool}\n" for pool in pools)


def pool(name: str, processor: str, *more: str, source: str = "source") -> str:
    return "\n".join(
        [f'name = "{name}"', 'role = "consumer"', f'input = "{source}"', f'processor = "{processor}"', *more]
    )


def run(folder: Path, text: str, *ask: str) -> dict[str, Any]:
    """The report of the run, with `error`, and under `answers` what was asked while it streamed."""
    (folder / "workflow.toml").write_text(text)
    (folder / "site.toml").write_text(site_here(FIRST_PORT))
    done = subprocess.run(
        [sys.executable, __file__, str(folder), *ask],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def ranks(report: dict[str, Any], name: str) -> dict[str, int]:
    [found] = [pool for pool in report["pools"] if pool["name"] == name]
    return {key: sum(rank[key] for rank in found["ranks"]) for key in ("processed", "dropped", "failed")}


PVAPY_PROCESSORS = '''
import numpy as np
import pvaccess as pva
from pvapy.hpc.adImageProcessor import AdImageProcessor


class Rotate(AdImageProcessor):
    """Written to PvaPy's documentation."""

    def __init__(self, configDict={}):
        AdImageProcessor.__init__(self, configDict)
        self.turns = configDict.get("turns", 1)
        self.nRotated = 0
        assert configDict["processorId"] == 0
        assert configDict["inputChannel"].endswith(":mirror")

    def start(self):
        assert self.pvaServer is not None
        assert self.outputChannel.endswith(":rotate:0:output")
        assert self.metadataQueueMap == {}

    def configure(self, configDict):
        self.turns = configDict["turns"]

    def process(self, pvObject):
        (frameId, image, nx, ny, nz, colorMode, fieldKey) = self.reshapeNtNdArray(pvObject)
        rotated = np.ascontiguousarray(np.rot90(image, self.turns))
        self.updateOutputChannel(self.generateNtNdArray2D(frameId, rotated))
        self.nRotated += 1
        return pvObject

    def resetStats(self):
        self.nRotated = 0

    def getStats(self):
        return {"nRotated": self.nRotated, "notDeclared": 1}

    def getStatsPvaTypes(self):
        return {"nRotated": pva.UINT}


class Shaped:
    """Merely shaped like it: publishes every second frame through the publisher that is injected."""

    def __init__(self, configDict):
        self.every = configDict["every"]

    def process(self, pv):
        self.logger.debug("frame %s", pv[self.objectIdField])
        if pv[self.objectIdField] % self.every == 0:
            self.dataPublisher.updateOutputChannel(pv)
        return pv
'''

CHECK = '''
import json
from pathlib import Path
import numpy as np
from beamcast.sim.payload import PayloadMaker


class Check:
    """Notes which frames hold the image that the simulator sent under their id."""

    def __init__(self, *, file: str, turned: bool = False):
        self.file, self.turned, self.good, self.ids = file, turned, [], []
        self.maker = PayloadMaker((32, 48), "uint16", seed=0)

    def process_batch(self, frames):
        for frame in frames:
            image = np.rot90(frame.image, -1) if self.turned else frame.image
            self.ids.append(frame.id)
            if self.maker.verify(np.ascontiguousarray(image), frame.id):
                self.good.append(frame.id)

    def stop(self):
        Path(self.file).write_text(json.dumps({"ids": self.ids, "good": self.good}))
'''


def test_every_processor_of_the_pvapy_wheel_runs_unchanged(tmp_path: Path) -> None:
    import rsa  # of the dev extra: PvaPy's processors need it, so a missing one is a failure

    key = tmp_path / "key.pem"
    key.write_bytes(rsa.newkeys(512)[1].save_pkcs1())
    (tmp_path / "theirs.py").write_text(PVAPY_PROCESSORS)
    (tmp_path / "check.py").write_text(CHECK)

    def params(**values: object) -> str:
        return (
            "params = {" + ", ".join(f"{name} = {json.dumps(value)}" for name, value in values.items()) + "}"
        )

    images, files = tmp_path / "images", tmp_path / "hdf5"
    report = run(
        tmp_path,
        workflow(
            "wheel",
            pool("pass", "pvapy.hpc.userDataProcessor:UserDataProcessor"),
            pool("rotate", "theirs.py:Rotate", params(turns=1)),
            pool("turned", "check.py:Check", params(file=str(tmp_path / "turned.json"), turned=True), source="rotate"),
            pool("shaped", "theirs.py:Shaped", params(every=2)),
            pool("images", "pvapy.hpc.adOutputFileProcessor:AdOutputFileProcessor",
                 params(outputDirectory=str(images))),
            pool("hdf5", "pvapy.hpc.hdf5AdImageWriter:Hdf5AdImageWriter",
                 params(outputDirectory=str(files), nImagesPerFile=10)),
            pool("encrypt", "pvapy.hpc.adImageDataEncryptor:AdImageDataEncryptor",
                 params(privateKeyFilePath=str(key)), 'output_id_field = "objectId"'),
            pool("decrypt", "pvapy.hpc.adImageDataDecryptor:AdImageDataDecryptor",
                 params(privateKeyFilePath=str(key)), source="encrypt"),
            pool("clear", "check.py:Check", params(file=str(tmp_path / "clear.json")), source="decrypt"),
        ),
        "rotate", "images",
    )  # fmt: skip

    assert report["error"] is None
    assert report["frames"]["source"] == FRAMES
    assert report["frames"]["lost"] == report["frames"]["failed"] == 0, report["failed_frames"]
    for name in ("pass", "rotate", "images", "hdf5", "encrypt", "decrypt"):
        assert ranks(report, name) == {"processed": FRAMES, "dropped": 0, "failed": 0}, name
    assert ranks(report, "shaped") == {"processed": FRAMES // 2, "dropped": FRAMES // 2, "failed": 0}
    for name in ("turned", "clear"):
        seen = json.loads((tmp_path / f"{name}.json").read_text())
        assert seen["ids"] == seen["good"] == list(range(1, FRAMES + 1)), name
    _check_files(images, files)
    assert 0 < report["answers"]["rotate"]["userStats"]["nRotated"] <= FRAMES
    assert report["answers"]["rotate"]["userStats"].keys() == {"nRotated"}
    assert report["answers"]["images"]["userStats"]["nFilesSaved"] > 0


def _check_files(images: Path, files: Path) -> None:
    import h5py
    from PIL import Image

    maker = PayloadMaker(SHAPE, "uint16", seed=0)
    names = sorted(path.name for path in images.iterdir())
    assert names == [f"{number:06}.0.tiff" for number in range(1, FRAMES + 1)]
    for number in (1, FRAMES):
        with Image.open(images / f"{number:06}.0.tiff") as image:
            assert maker.verify(np.array(image), number)
    assert len(list(files.iterdir())) == FRAMES // 10
    with h5py.File(files / "000002.0.hdf") as file:
        assert all(maker.verify(np.array(image), 11 + index) for index, image in enumerate(file["images"]))


@pytest.mark.slow
def test_outputs_batches_structures_and_runtime_parameters(tmp_path: Path) -> None:
    examples = Path(__file__).parents[2] / "examples" / "processors"
    (tmp_path / "rows.py").write_text(ROWS)
    report = run(
        tmp_path,
        workflow(
            "native",
            pool("bright", f"{examples}/threshold.py:Bright"),
            pool("means", f"{examples}/batches.py:BatchMeans", "params = { batch = 8 }", "ranks = 2"),
            'name = "gather"\nrole = "collector"\ninput = "means"',
            pool("halves", f"{examples}/halves.py:Halves"),
            pool("upper", "rows.py:Rows", f'params = {{ file = "{tmp_path}/upper.json" }}', source="halves"),
            pool("lower", "rows.py:Rows", f'params = {{ file = "{tmp_path}/lower.json" }}', "input_branch = 1",
                 source="halves"),
            pool("theirs", f"{examples}/rotate_pvapy.py:RotateProcessor"),
            frames=100,
        ),
        "means", "bright!threshold=high", "bright!treshold=1", "bright!threshold=70000", "theirs!turns=3",
    )  # fmt: skip
    assert report["error"] is None
    assert report["frames"]["lost"] == report["frames"]["failed"] == 0, report["failed_frames"]
    assert ranks(report, "means") == ranks(report, "gather") == {"processed": 100, "dropped": 0, "failed": 0}
    _check_halves(tmp_path)
    answers = report["answers"]
    assert "parameter 'threshold' = 'high': Expected `float`, got `str`" in answers["bright!threshold=high"]
    assert "unknown parameter 'treshold' (did you mean 'threshold'?)" in answers["bright!treshold=1"]
    assert answers["bright!threshold=70000"] == answers["theirs!turns=3"] == "configured"
    bright = ranks(report, "bright")
    assert bright["processed"] >= 30, "before it was configured"
    assert bright["dropped"] > 0, "no image is that bright"
    assert bright["processed"] + bright["dropped"] == 100


ROWS = """
import json
from pathlib import Path


class Rows:
    def __init__(self, *, file: str):
        self.file, self.seen = file, {}

    def process(self, frame):
        self.seen[frame.id] = frame.image.tolist()

    def stop(self):
        Path(self.file).write_text(json.dumps(self.seen))
"""


def _check_halves(folder: Path) -> None:
    maker = PayloadMaker(SHAPE, "uint16", seed=0)
    upper, lower = (json.loads((folder / f"{name}.json").read_text()) for name in ("upper", "lower"))
    assert upper.keys() == lower.keys() == {str(number) for number in range(1, 101)}
    for number in range(1, 101):
        image = np.array(upper[str(number)] + lower[str(number)], np.uint16)
        assert maker.verify(image, number), number


BAD = """
import os
import sys
import time


class Rubbish:
    output = {"total": float}

    def process(self, frame):
        return [object(), "text", {"totl": 1.0}, {"total": "much"}, {"total": None}, 7, frame.pv, {"total": 2}][
            frame.id % 8
        ]


class Exits:
    def process(self, frame):
        if frame.id == 5:
            sys.exit(0)
        return frame.pv


class Prints:
    def process(self, frame):
        print("x" * 1_000_000, flush=True)
        return frame.pv


class Crashes:
    def process(self, frame):
        if frame.id == 10:
            print("this is the last line")
            os.abort()
        return frame.pv


class Blocks:
    def process(self, frame):
        while frame.id == 20:
            time.sleep(0.01)
        return frame.pv


class Raises:
    def process(self, frame):
        raise ZeroDivisionError(f"no frame {frame.id}")
"""


def test_bad_processors_cost_their_frames_and_nobody_elses(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(BAD)
    names = ("Rubbish", "Exits", "Prints", "Crashes", "Blocks")
    more = {"Crashes": ["ranks = 2"]}
    pools = [pool(name.lower(), f"bad.py:{name}", *more.get(name, [])) for name in names]
    pools.append(pool("good", "beamcast.processors.passthrough:PassThrough"))
    report = run(tmp_path, workflow("bad", *pools, drain="10 s"), "blocks")

    assert report["error"] is None
    assert report["frames"]["source"] == FRAMES
    assert ranks(report, "good") == {"processed": FRAMES, "dropped": 0, "failed": 0}
    assert ranks(report, "prints") == {"processed": FRAMES, "dropped": 0, "failed": 0}
    assert ranks(report, "exits") == {"processed": FRAMES - 1, "dropped": 0, "failed": 1}
    assert ranks(report, "rubbish") == {"processed": FRAMES // 8, "dropped": 0, "failed": FRAMES * 7 // 8}
    # It stood still on frame 20, said so, and was ended with the run.
    assert ranks(report, "blocks") == {"processed": 19, "dropped": 0, "failed": 0}
    assert report["answers"]["blocks"]["processorStats"]["stuckTime"] > 1
    _check_crash(report)
    _check_logs(tmp_path / "run" / "logs", report)


def _check_crash(report: dict[str, Any]) -> None:
    [crashes] = [pool for pool in report["pools"] if pool["name"] == "crashes"]
    assert sum(rank["generation"] for rank in crashes["ranks"]) == 1, "one rank, restarted once"
    missing = [(entry["pool"], entry["rank"], entry["ids"]) for entry in report["missing"]]
    assert any(name == "crashes" and rank is not None and "10" in ids for name, rank, ids in missing), missing
    assert ("blocks", 0, "20") in missing
    assert [ids for name, _, ids in missing if name == "blocks"] == ["20", "21-40"]
    assert {name for name, _, _ in missing} == {"crashes", "blocks"}


def _check_logs(logs: Path, report: dict[str, Any]) -> None:
    printed = sum(path.stat().st_size for path in logs.glob("prints-0.log*"))
    assert 8_000_000 < printed < 17_000_000, "40 MB were printed"
    crashed = "".join(path.read_text() for path in logs.glob("crashes-*.log"))
    assert "Fatal Python error: Aborted" in crashed
    assert "this is the last line\n" in crashed, "P16: what was printed is in the log at once"
    exits = [frame for frame in report["failed_frames"] if frame["pool"] == "exits"]
    assert [(frame["id"], frame["error"]) for frame in exits] == [("5", "SystemExit: 0")]


STARTS_PROCESSES = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from beside import SCALE


def total(image):
    return SCALE * float(image.sum())


class Starts:
    output = {"total": float}

    def __init__(self, *, method: str):
        self._method = method

    def start(self, context):
        self._pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(self._method))

    def process(self, frame):
        return {"total": self._pool.submit(total, frame.image).result(30)}

    def stop(self):
        self._pool.shutdown()
"""


def test_a_processor_may_start_processes_in_any_way(tmp_path: Path) -> None:
    """C15: by spawn and forkserver all frames were lost, since the new process could not import the file."""
    (tmp_path / "starts processes").mkdir()
    (tmp_path / "starts processes" / "starts.py").write_text(STARTS_PROCESSES)
    (tmp_path / "starts processes" / "beside.py").write_text("SCALE = 2")
    methods = ("fork", "forkserver", "spawn")
    pools = [
        pool(method, "starts processes/starts.py:Starts", f'params = {{ method = "{method}" }}')
        for method in methods
    ]
    report = run(tmp_path, workflow("starts", *pools))
    assert report["error"] is None
    for method in methods:
        assert ranks(report, method) == {"processed": FRAMES, "dropped": 0, "failed": 0}


def test_a_pool_that_fails_on_every_frame_fails_the_run_at_its_limit(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(BAD)
    report = run(tmp_path, workflow("limit", pool("raises", "bad.py:Raises", "max_failed = 5"), frames=200))
    assert report["state"] == "failed"
    assert "frames failed in pool raises, max_failed is 5: ZeroDivisionError: no frame" in report["error"]
    assert 5 < ranks(report, "raises")["failed"] < 200


def main(folder: Path, asked: list[str]) -> None:
    import msgspec

    from beamcast.config.load import load_site, load_workflow
    from beamcast.launch.controller import Controller
    from beamcast.launch.plan import RunPlan
    from beamcast.launch.rundir.rundir import RunDir

    plan = RunPlan(
        run="test", loaded=load_workflow(folder / "workflow.toml"), site=load_site(str(folder / "site.toml"))
    )
    answers: dict[str, Any] = {}
    asking: list[threading.Thread] = []

    def watch(report: Any) -> None:
        if report.state in ("streaming", "draining") and report.frames.source >= 30 and not asking:
            asking.append(threading.Thread(target=ask, args=(plan, asked, answers), daemon=True))
            asking[0].start()

    controller = Controller(plan, RunDir(folder / "run"), watch=watch)
    report = msgspec.to_builtins(controller.run())
    error = str(controller.error) if controller.error is not None else None
    print(json.dumps({**report, "error": error, "answers": answers}), flush=True)
    os._exit(0)


def ask(plan: Any, asked: list[str], answers: dict[str, Any]) -> None:
    """Read status PVs ("pool") for as long as the run lives, and write to control PVs ("pool!parameter=value")."""
    import pvaccess

    for order in (word for word in asked if "!" in word):
        answers[order] = configure(plan, order)
    names = [word for word in asked if "!" not in word]
    channels = [pvaccess.Channel(plan.channels(name, 0).status) for name in names]
    KEPT.extend(channels)
    deadline = time.monotonic() + 6
    while time.monotonic() < deadline:
        for name, channel in zip(names, channels, strict=True):
            try:
                answers[name] = channel.get("field()").get()
            except pvaccess.PvaException as trouble:
                answers.setdefault(name, str(trouble))
        time.sleep(0.5)


def configure(plan: Any, order: str) -> str:
    """Write as PvaPy's users do; the answer is there when the time of the record has changed."""
    import pvaccess

    name, _, setting = order.partition("!")
    parameter, _, value = setting.partition("=")
    channel = pvaccess.Channel(plan.channels(name, 0).control)
    KEPT.append(channel)
    before = channel.get("field()")["objectTime"]
    given = int(value) if value.isdigit() else value
    command = {"command": "configure", "args": json.dumps({parameter: given})}
    channel.put(pvaccess.PvObject({"command": pvaccess.STRING, "args": pvaccess.STRING}, command))
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        pv = channel.get("field()")
        if pv["objectTime"] != before:
            return str(pv["statusMessage"])
        time.sleep(0.02)
    return "no answer"


KEPT: list[Any] = []

if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
