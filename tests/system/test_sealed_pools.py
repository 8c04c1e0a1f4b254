"""`seal` and `open` as one word on a pool, in whole runs: with any processor, for images and for other structures."""

import json
from pathlib import Path

import pytest
from test_processors import CHECK, FRAMES, pool, ranks, run, workflow

from beamcast.security.keys import KeyRing

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

OTHERS = '''
import json
from pathlib import Path


class Total:
    """A structure of its own for each image."""

    output = {"total": int, "corner": {"first": int}}

    def process(self, frame):
        return {"total": int(frame.image.sum()), "corner": {"first": int(frame.image[0, 0])}}


class Spy:
    """Without the key: what can be seen of the frames on their way."""

    def __init__(self, *, file: str):
        self.file, self.codecs, self.fields = file, set(), set()

    def process(self, frame):
        if frame.pv.hasField("codec"):
            self.codecs.add(frame.pv["codec.name"])
        self.fields |= set(frame.pv.keys())

    def stop(self):
        Path(self.file).write_text(json.dumps({"codecs": sorted(self.codecs), "fields": sorted(self.fields)}))


class Flip:
    """Somebody on the way who changes one bit of every fourth frame."""

    def process(self, frame):
        if frame.id % 4 == 0:
            value = frame.pv.getUnion("value").getScalarArray("ubyteValue").copy()
            value[-9] ^= 4
            frame.pv.setUnion("value", {"ubyteValue": value})
        return frame.pv


class Replay:
    """Somebody on the way who has recorded frames, and plays one again now and then."""

    def __init__(self, configDict):
        self.kept = None

    def start(self): ...
    def stop(self): ...
    def configure(self, configDict): ...
    def resetStats(self): ...
    def getStats(self):
        return {}
    def getStatsPvaTypes(self):
        return {}
    def getInputPvObjectType(self):
        return None
    def getOutputPvObjectType(self, pv):
        return pv

    def process(self, pv):
        if pv["uniqueId"] % 8 == 4:
            self.kept = pv.copy()
        self.updateOutputChannel(pv)
        if pv["uniqueId"] % 8 == 0:
            self.updateOutputChannel(self.kept)
        return pv


class Totals:
    def __init__(self, *, file: str):
        self.file, self.seen = file, {}

    def process(self, frame):
        self.seen[frame.id] = [frame.pv["total"], frame.pv["corner.first"]]

    def stop(self):
        Path(self.file).write_text(json.dumps(self.seen))
'''
KEY = 'open = "stream.keys"'


def test_the_first_pool_seals_and_the_last_one_opens(tmp_path: Path) -> None:
    KeyRing.create().write(tmp_path / "stream.keys")
    KeyRing.create().write(tmp_path / "other.keys")
    (tmp_path / "others.py").write_text(OTHERS)
    (tmp_path / "check.py").write_text(CHECK)

    def file(name: str) -> str:
        return f"params = {{ file = {json.dumps(str(tmp_path / name))} }}"

    nothing = "beamcast.processors.passthrough:PassThrough"
    report = run(
        tmp_path,
        workflow(
            "sealed",
            pool("first", nothing, 'seal = "stream.keys"', "ranks = 2"),
            f'name = "last"\nrole = "collector"\ninput = "first"\nprocessor = "check.py:Check"\n{KEY}\n'
            + file("last.json"),
            pool("spy", "others.py:Spy", file("spy.json"), source="first"),
            pool("stranger", nothing, 'open = "other.keys"', source="first"),
            pool("flip", "others.py:Flip", source="first"),
            pool("behind", "check.py:Check", KEY, file("behind.json"), source="flip"),
            pool("replay", "others.py:Replay", source="first"),
            pool("after", "check.py:Check", KEY, file("after.json"), source="replay"),
            pool("total", "others.py:Total", 'seal = "stream.keys"'),
            pool("peek", "others.py:Spy", file("peek.json"), source="total"),
            pool("totals", "others.py:Totals", KEY, file("totals.json"), source="total"),
        ),
    )
    assert report["error"] is None
    assert report["frames"]["lost"] == 0, report["missing"]
    everybody = list(range(1, FRAMES + 1))

    last = json.loads((tmp_path / "last.json").read_text())
    assert last["ids"] == last["good"] == everybody
    spy = json.loads((tmp_path / "spy.json").read_text())
    assert spy["codecs"] == ["beamcast.aes256gcm"]
    peek = json.loads((tmp_path / "peek.json").read_text())
    assert peek == {"codecs": [], "fields": ["sealed", "timeStamp", "uniqueId"]}
    totals = json.loads((tmp_path / "totals.json").read_text())
    assert sorted(map(int, totals)) == everybody
    assert all(total > first >= 0 for total, first in totals.values())

    assert ranks(report, "stranger") == {"processed": 0, "dropped": 0, "failed": FRAMES}
    behind = json.loads((tmp_path / "behind.json").read_text())
    assert sorted(behind["good"]) == [number for number in everybody if number % 4]
    assert ranks(report, "behind")["failed"] == FRAMES // 4
    after = json.loads((tmp_path / "after.json").read_text())
    assert after["good"] == everybody, "each once"
    assert ranks(report, "after") == {"processed": 0, "dropped": FRAMES, "failed": 0}
    assert report["frames"]["duplicates"] == FRAMES // 8, "of replays"
    reasons = {frame["pool"]: frame["error"] for frame in report["failed_frames"]}
    assert "which we do not have" in reasons["stranger"]
    assert "is not as it was sealed" in reasons["behind"]
