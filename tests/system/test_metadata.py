"""Metadata in real runs: every frame gets its own values, none gets another's, and what is missing is counted.

The simulator's metadata channels hold a value that proves which frame and which channel it is of. pvaccess reads its
environment once, so each run has a process of its own: this file, started with a folder that holds `workflow.toml`; it
prints the report as JSON.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from launching import site_here

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]
CHANNELS = 6
FRAMES = 400

FIRST_PORT = 29000

CHECK = '''
import json
import time
from pathlib import Path
from beamcast.sim.metadata import simulated_value


class Check:
    """Compares the metadata of each frame with what its id tells."""

    def __init__(self, *, folder: str, slow_s: float = 0.0, attributes: bool = False):
        self.folder, self.slow_s, self.attributes = Path(folder), slow_s, attributes
        self.good, self.wrong, self.without = [], [], []

    def start(self, context):
        self.file = self.folder / f"seen-{context.pool}-{context.place.rank}-{time.time_ns()}.json"

    def process(self, frame):
        time.sleep(self.slow_s)
        metadata = frame.metadata
        if self.attributes:
            found = frame.pv["attribute"]
            metadata = {one["name"]: one["value"][0]["value"] for one in found}
        names = [name for name in metadata if name.startswith("m")]
        right = [metadata[name] == simulated_value(frame.id, int(name[1:])) for name in names]
        (self.wrong if not all(right) else self.good if len(names) == 6 else self.without).append(frame.id)
        if (len(self.good) + len(self.without)) % 5 == 0:
            self.write()
        return frame.pv

    def write(self):
        part = self.file.with_suffix(".part")
        part.write_text(json.dumps({"good": self.good, "wrong": self.wrong, "without": self.without}))
        part.rename(self.file)

    def stop(self):
        self.write()
'''


def metadata(prefix: str, *more: str, simulate: bool = True) -> str:
    """Six channels that are updated with each frame."""
    tables = []
    for number in range(CHANNELS):
        table = [f'name = "m{number}"', f'channel = "{prefix}:m{number}"', 'tolerance = "1 ms"', *more]
        tables.append("\n".join(["[[metadata]]", *table, *(["simulate = true"] if simulate else [])]))
    return "\n".join(tables)


def workflow(
    name: str, *tables: str, rate: int = 400, frames: int = FRAMES, head: str = ""
) -> tuple[str, str]:
    """The workflow and its prefix."""
    prefix = f"bcm:{name}:{os.getpid()}"
    text = f"""
name = "{name}"
prefix = "{prefix}"
{head}
[source]
channel = "{prefix}:image"
appear_timeout = "10 s"
[source.simulate]
frames = {frames}
rate = "{rate} Hz"
shape = [64, 64]
first_id = 1
"""
    return text + "\n".join(table.replace("PREFIX", prefix) for table in tables), prefix


def pool(
    folder: Path, *more: str, ranks: int = 1, processor: str = "check.py:Check", params: str = ""
) -> str:
    values = f'folder = "{folder}"{params}'
    return "\n".join(
        ["[[pools]]", 'name = "check"', 'role = "consumer"', 'input = "source"', f"ranks = {ranks}",
         f'processor = "{processor}"', f"params = {{ {values} }}", *more]
    )  # fmt: skip


def run(folder: Path, text: str, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The report of the run, with `error`."""
    (folder / "workflow.toml").write_text(text)
    (folder / "site.toml").write_text(site_here(FIRST_PORT))
    (folder / "check.py").write_text(CHECK)
    done = subprocess.run(
        [sys.executable, __file__, str(folder)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={**os.environ, **(environment or {})},
    )
    assert done.returncode == 0, done.stderr[-6000:]
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def seen(folder: Path) -> dict[str, list[int]]:
    """What the checking processors noted, over all ranks and their lives."""
    parts = [json.loads(path.read_text()) for path in folder.glob("seen-*.json")]
    return {
        kind: sorted(frame for part in parts for frame in part[kind]) for kind in ("good", "wrong", "without")
    }


@pytest.mark.parametrize(
    "ranks", [pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow), 4]
)
def test_six_channels_at_every_frame_are_all_associated_and_none_is_wrong(tmp_path: Path, ranks: int) -> None:
    text, _ = workflow(f"six{ranks}", metadata("PREFIX"), pool(tmp_path, ranks=ranks))
    report = run(tmp_path, text)
    assert (report["state"], report["error"]) == ("done", None)
    assert report["frames"]["processed"] == FRAMES
    found = seen(tmp_path)
    assert found["wrong"] == []
    assert found["without"] == []
    assert found["good"] == list(range(1, FRAMES + 1))
    for one in report["metadata"]:
        assert (one["matched"], one["unmatched"], one["unusable"]) == (FRAMES, 0, 0)


@pytest.mark.slow
def test_at_least_once_a_killed_rank_costs_no_frame_its_metadata(tmp_path: Path) -> None:
    checks = pool(tmp_path, ranks=2, params=", slow_s = 0.003")
    gather = '[[pools]]\nname = "gather"\nrole = "collector"\ninput = "check"'
    deadlines = '[deadlines]\nsilence = "3 s"'
    text, _ = workflow(
        "killed",
        *(metadata("PREFIX"), checks, gather, deadlines),
        rate=150,
        frames=900,
        head='delivery = "at-least-once"',
    )
    report = run(tmp_path, text, {"KILL_RANK": "1"})
    assert (report["state"], report["error"]) == ("done", None)
    assert (report["frames"]["lost"], report["frames"]["collected"]) == (0, 900)
    assert report["pools"][0]["ranks"][1]["generation"] >= 1
    found = seen(tmp_path)
    assert found["wrong"] == []
    assert found["without"] == []
    # The killed rank did not write its last ones down.
    assert len(set(found["good"])) >= 900 - 5


@pytest.mark.parametrize("delivery", ["at-least-once", pytest.param("at-most-once", marks=pytest.mark.slow)])
def test_the_run_goes_on_when_the_process_that_joins_the_metadata_is_killed(
    tmp_path: Path, delivery: str
) -> None:
    """The frames that come meanwhile have no metadata, and are counted."""
    checks = pool(tmp_path, ranks=2)
    gather = '[[pools]]\nname = "gather"\nrole = "collector"\ninput = "check"'
    text, _ = workflow(
        "joiner", metadata("PREFIX"), checks, gather, rate=150, frames=1500, head=f'delivery = "{delivery}"'
    )
    report = run(tmp_path, text, {"KILL_MEMBER": "beamcast.members.metadata"})
    assert (report["state"], report["error"]) == ("done", None)
    assert (report["frames"]["lost"], report["frames"]["collected"]) == (0, 1500)
    found = seen(tmp_path)
    assert found["wrong"] == []
    assert sorted(found["good"] + found["without"]) == list(range(1, 1501))
    # It was away for some seconds, once: what came before and after is as ever.
    assert 0 < len(found["without"]) < 900
    # Of the frames around its successor's first ones some have theirs: updates came before it listened.
    assert found["without"][-1] - found["without"][0] < len(found["without"]) + 30
    assert found["good"][-1] == 1500
    assert sum(rank["without_metadata"] for rank in report["pools"][0]["ranks"]) == len(found["without"])
    for one in report["metadata"]:
        # What the dead one had counted counts too, up to its last heartbeat.
        assert one["matched"] >= len(found["good"]) - 75
        # Of the successor's first frames, whose updates came before it listened.
        assert one["unmatched"] <= 30


@pytest.mark.slow
def test_values_are_stamped_as_attributes_on_request(tmp_path: Path) -> None:
    text, _ = workflow(
        "stamp", metadata("PREFIX", "stamp = true"), pool(tmp_path, params=", attributes = true")
    )
    report = run(tmp_path, text)
    assert report["state"] == "done", report["error"]
    assert seen(tmp_path)["good"] == list(range(1, FRAMES + 1))


@pytest.mark.slow
def test_unmatched_frames_are_passed_or_dropped_and_counted(tmp_path: Path) -> None:
    # An offset far beyond the tolerance: no value can belong to any frame of this channel.
    for policy in ("pass", "drop"):
        folder = tmp_path / policy
        folder.mkdir()
        odd = f'[[metadata]]\nname = "odd"\nchannel = "PREFIX:odd"\ntolerance = "1 ms"\noffset = "-1 h"\nsimulate = true\nunmatched = "{policy}"\n'  # noqa: E501
        text, _ = workflow(f"odd-{policy}", metadata("PREFIX"), odd, pool(folder), frames=100)
        report = run(folder, text)
        assert report["state"] == "done", report["error"]
        [counted] = [one for one in report["metadata"] if one["name"] == "odd"]
        assert counted["unmatched"] == 100
        wanted = ("processed", "dropped") if policy == "pass" else ("dropped", "processed")
        assert [report["frames"][kind] for kind in wanted] == [100, 0]


@pytest.mark.slow
def test_a_channel_that_never_appears_ends_the_run_with_its_name_or_is_done_without(tmp_path: Path) -> None:
    absent = (
        '[[metadata]]\nname = "ring"\nchannel = "PREFIX:ring"\naddress = "127.0.0.1:9"\ntolerance = "1 ms"\n'
    )
    for policy in ("fail", "go-on"):
        folder = tmp_path / policy
        folder.mkdir()
        tables = (metadata("PREFIX"), f'{absent}absent = "{policy}"\n', pool(folder))
        text, prefix = workflow(f"absent-{policy}", *tables, frames=100)
        report = run(folder, text.replace('appear_timeout = "10 s"', 'appear_timeout = "4 s"'))
        if policy == "fail":
            assert report["state"] == "failed"
            assert f"no update came within 4 s from metadata ring (pva {prefix}:ring)" in report["error"]
        else:
            assert report["state"] == "done", report["error"]
            assert seen(folder)["good"] == list(range(1, 101))
            [ring] = [one for one in report["metadata"] if one["name"] == "ring"]
            assert (ring["updates"], ring["unmatched"]) == (0, 100)


PVAPY = '''
import json
from pathlib import Path
import pvaccess as pva
from pvapy.hpc.adImageProcessor import AdImageProcessor
from pvapy.utility.timeUtility import TimeUtility


class Associate(AdImageProcessor):
    """Written to PvaPy's documentation: a queue for each channel, times compared, attributes appended."""

    def __init__(self, configDict={}):
        AdImageProcessor.__init__(self, configDict)
        self.folder = Path(configDict["folder"])
        self.current, self.good, self.wrong, self.without = {}, [], [], []

    def process(self, pvObject):
        frameId = pvObject["uniqueId"]
        when = TimeUtility.getTimeStampAsFloat(pvObject["timeStamp"])
        attributes = list(pvObject["attribute"])
        values = {}
        for channel, queue in self.metadataQueueMap.items():
            while True:
                if channel not in self.current:
                    try:
                        self.current[channel] = queue.get(0)
                    except pva.QueueEmpty:
                        break
                update = self.current[channel]
                difference = TimeUtility.getTimeStampAsFloat(update["timeStamp"]) - when
                if abs(difference) <= 0.001:
                    values[channel] = update["value"]
                    attributes.append(pva.NtAttribute(channel, pva.PvFloat(update["value"])))
                    del self.current[channel]
                    break
                if difference > 0:
                    break
                del self.current[channel]
        pvObject["attribute"] = attributes
        right = [value == frameId * 100 + int(channel[-1]) for channel, value in values.items()]
        (self.wrong if not all(right) else self.good if len(values) == 6 else self.without).append(frameId)
        self.updateOutputChannel(pvObject)
        return pvObject

    def stop(self):
        kinds = {"good": self.good, "wrong": self.wrong, "without": self.without}
        (self.folder / f"seen-pvapy-{self.processorId}.json").write_text(json.dumps(kinds))
'''


@pytest.mark.slow
def test_the_metadata_queues_of_pvapy_work_for_its_processors(tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_text(PVAPY)
    text, _ = workflow(
        "pvapy", metadata("PREFIX"), pool(tmp_path, ranks=2, processor="theirs.py:Associate"), rate=200
    )
    report = run(tmp_path, text)
    assert report["state"] == "done", report["error"]
    found = seen(tmp_path)
    assert (found["wrong"], found["without"]) == ([], [])
    assert found["good"] == list(range(1, FRAMES + 1))


IOC = '''
import sys
import time
from caproto import ChannelType
from caproto.server import PVGroup, pvproperty, run


class Ioc(PVGroup):
    """One counter, a waveform full of it, and a text, all written with the same time."""

    count = pvproperty(value=0, name="count")
    wave = pvproperty(value=[0.0] * 8, name="wave", dtype=float)
    word = pvproperty(value="-", name="word", dtype=ChannelType.STRING)

    @count.startup
    async def count(self, instance, library):
        number = 0
        while True:
            number += 1
            now = time.time()
            await self.word.write(f"step {number}", timestamp=now)
            await instance.write(number, timestamp=now)
            await self.wave.write([float(number)] * 8, timestamp=now)
            await library.sleep(0.02)


run(Ioc(prefix=sys.argv[1]).pvdb, interfaces=["127.0.0.1"], log_pv_names=True)
'''

CA_CHECK = '''
import json
from pathlib import Path


class CaCheck:
    """Each frame is a waveform of the count; its metadata have to be those of the same step."""

    output = {"step": float}

    def __init__(self, *, folder: str):
        self.folder, self.good, self.wrong, self.without = Path(folder), [], [], []

    def process(self, frame):
        step = float(frame.pv["value"][0])
        count, word = frame.metadata.get("count"), frame.metadata.get("word")
        if count is None or word is None:
            self.without.append(frame.id)
        elif count == step and word == f"step {int(step)}":
            self.good.append(frame.id)
        else:
            self.wrong.append((frame.id, step, count, word))
        return {"step": step}

    def stop(self):
        kinds = {"good": self.good, "wrong": self.wrong, "without": self.without}
        (self.folder / f"seen-{id(self)}.json").write_text(json.dumps(kinds))
'''


@contextmanager
def ca_ioc(folder: Path, prefix: str) -> Iterator[dict[str, str]]:
    """A real CA server; yields the environment of its clients."""
    from beamcast.pva.environment import free_port

    (folder / "ioc.py").write_text(IOC)
    port = free_port(57000, 57900, "127.0.0.1", prefer=os.getpid() % 800)
    environment = {
        "EPICS_CA_SERVER_PORT": str(port),
        "EPICS_CA_REPEATER_PORT": str(port + 1),
        "EPICS_CA_ADDR_LIST": "127.0.0.1",
        "EPICS_CA_AUTO_ADDR_LIST": "NO",
        "EPICS_CAS_INTF_ADDR_LIST": "127.0.0.1",
        "EPICS_CAS_BEACON_ADDR_LIST": "127.0.0.1",
        "EPICS_CAS_AUTO_BEACON_ADDR_LIST": "NO",
    }
    command = [sys.executable, str(folder / "ioc.py"), prefix]
    with (folder / "ioc.log").open("w") as log:
        ioc = subprocess.Popen(command, env={**os.environ, **environment}, stdout=log, stderr=log)
        try:
            yield environment
        finally:
            ioc.kill()
            ioc.wait()


@pytest.mark.parametrize("kills", ["", pytest.param("beamcast.members.mirror", marks=pytest.mark.slow)])
def test_a_channel_access_source_with_channel_access_metadata(tmp_path: Path, kills: str) -> None:
    prefix = f"bcm:ca:{os.getpid()}"
    (tmp_path / "ca_check.py").write_text(CA_CHECK)
    text = f"""
name = "ca"
prefix = "{prefix}:run"
[source]
channel = "{prefix}:wave"
protocol = "ca"
[[metadata]]
name = "count"
channel = "{prefix}:count"
protocol = "ca"
tolerance = "2 ms"
[[metadata]]
name = "word"
channel = "{prefix}:word"
protocol = "ca"
match = "previous"
tolerance = "2 ms"
{pool(tmp_path, ranks=2, processor="ca_check.py:CaCheck")}
"""
    with ca_ioc(tmp_path, f"{prefix}:") as environment:
        report = run(tmp_path, text, {**environment, "STOP_AFTER": "200", "KILL_MEMBER": kills})
    assert report["state"] == "done", report["error"]
    found = seen(tmp_path)
    assert report["frames"]["lost"] <= (5 if kills else 0), report["missing"]
    assert found["wrong"] == []
    assert len(found["good"]) >= 150
    # Channel Access leaves updates out for a client that is busy (its flow control), so some frames may be without on a
    # machine that is; each is counted.
    for one in report["metadata"]:
        assert one["unmatched"] <= 0.05 * one["matched"], one
    ranks = (rank for pool in report["pools"] for rank in pool["ranks"])
    assert len(found["without"]) <= sum(rank["without_metadata"] for rank in ranks)


def main(folder: Path) -> None:
    import msgspec

    from beamcast.config.check import check_workflow
    from beamcast.config.load import load_site, load_workflow
    from beamcast.launch.controller import Controller
    from beamcast.launch.plan import RunPlan
    from beamcast.launch.rundir.rundir import RunDir

    loaded = load_workflow(folder / "workflow.toml")
    check_workflow(loaded)
    plan = RunPlan(run="test", loaded=loaded, site=load_site(str(folder / "site.toml")))
    victim = os.environ.get("KILL_RANK")
    kills = os.environ.get("KILL_MEMBER")
    stop_after = int(os.environ.get("STOP_AFTER", "0"))
    done: set[str] = set()

    def watch(report: Any) -> None:
        if report.state != "streaming":
            return
        if victim is not None and report.frames.source >= 200 and "killed" not in done:
            done.add("killed")
            os.kill(report.pools[0].ranks[int(victim)].pid, signal.SIGKILL)
        if kills and report.frames.source >= 100 and "killed" not in done:
            done.add("killed")
            (child,) = [child for child in psutil.Process().children() if kills in child.cmdline()]
            child.kill()
        if stop_after and report.frames.source >= stop_after and "stopped" not in done:
            done.add("stopped")
            controller.ask_stop()

    controller = Controller(plan, RunDir(folder / "run"), watch=watch)
    report = msgspec.to_builtins(controller.run())
    error = str(controller.error) if controller.error is not None else None
    print(json.dumps({**report, "error": error}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
