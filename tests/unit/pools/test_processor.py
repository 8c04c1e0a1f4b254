"""Loading: which class, with which arguments, by which interface."""

from pathlib import Path
from typing import Any

import pytest
from pool_fakes import FakeServer

from beamcast.core.errors import UsageError
from beamcast.pools.adapter import PvapyProcessor, is_pvapy_class
from beamcast.pools.context import Station
from beamcast.pools.native import NativeProcessor
from beamcast.pools.processor import load_processor

CODE = """
import sys


class Native:
    def __init__(self, *, threshold: float = 0.0):
        self.threshold = threshold

    def process(self, frame):
        return None


class Batch:
    batch = 4

    def process_batch(self, frames):
        return None


class Shaped:
    def __init__(self, configDict):
        self.config = configDict

    def process(self, pv):
        return pv


class Nothing:
    pass


class Quits:
    def __init__(self):
        sys.exit(3)

    def process(self, frame):
        return None


class NoBatch(Batch):
    batch = 0


class OddOutput(Native):
    output = 5


class TwoOutputs(Native):
    outputs = 2
    output = [{"a": float}, {"b": float}, {"c": float}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(CODE)
    return tmp_path


def station() -> Station:
    return Station(
        rank=3, input_channel="x:in", output_channel="x:out", id_fields=("uniqueId",), server=FakeServer()
    )


def load(folder: Path, spec: str, **params: object) -> Any:
    return load_processor(spec, params, base=folder, station=station())


def test_a_native_class_gets_its_parameters_by_name(folder: Path) -> None:
    processor = load(folder, "own.py:Native", threshold=3)
    assert isinstance(processor, NativeProcessor)
    assert processor.batch == processor.outputs == 1


def test_a_batch_class_says_how_many_frames_it_takes(folder: Path) -> None:
    assert load(folder, "own.py:Batch").batch == 4


def test_a_class_shaped_like_pvapys_gets_pvapys_dictionary(folder: Path) -> None:
    processor = load(folder, "own.py:Shaped", threshold=3, processorId=77)
    assert isinstance(processor, PvapyProcessor)
    config = processor._user.config
    assert config["threshold"] == 3
    assert config["processorId"] == 3, "as in PvaPy, the framework's word counts"
    assert (config["inputChannel"], config["outputChannel"]) == ("x:in", "x:out")
    assert config["objectIdField"] == "uniqueId"


@pytest.mark.parametrize(
    "name",
    [
        "userDataProcessor:UserDataProcessor",
        "adImageProcessor:AdImageProcessor",
        "adOutputFileProcessor:AdOutputFileProcessor",
        "hdf5AdImageWriter:Hdf5AdImageWriter",
    ],
)
def test_the_classes_of_the_wheel_are_recognised(name: str, folder: Path) -> None:
    processor = load(folder, f"pvapy.hpc.{name}", outputDirectory=str(folder / "out"))
    assert isinstance(processor, PvapyProcessor)


def test_our_own_processors_are_not_taken_for_pvapys() -> None:
    from beamcast.processors.passthrough import PassThrough
    from beamcast.processors.statistics import FrameStatistics

    assert not is_pvapy_class(PassThrough)
    assert not is_pvapy_class(FrameStatistics)


# PvaPy's own modules hold escapes that Python warns of when it compiles them.
@pytest.mark.filterwarnings("ignore:invalid escape sequence")
@pytest.mark.parametrize(
    ("spec", "params", "problem"),
    [
        ("own.py:Natif", {}, "did you mean 'Native'?"),
        ("other.py:Native", {}, "no file"),
        ("no.such.module:Native", {}, "can't import no.such.module"),
        ("own.py:Native", {"treshold": 1}, "did you mean 'threshold'?"),
        ("own.py:Native", {"threshold": "x"}, "Expected `float`, got `str`"),
        ("own.py:Nothing", {}, "has no method process(frame)"),
        ("own.py:Quits", {}, "can't be made: SystemExit: 3"),
        ("own.py:Shaped", {}, None),
        ("own.py:NoBatch", {}, "batch = 0 is not possible"),
        ("own.py:OddOutput", {}, "output = 5 is not possible"),
        ("own.py:TwoOutputs", {}, "output describes 3 outputs, but outputs = 2"),
        (
            "pvapy.hpc.adImageDataEncryptor:AdImageDataEncryptor",
            {"privateKeyFilePath": "no"},
            "does not exist",
        ),
    ],
)
def test_what_can_not_be_loaded_says_why(
    folder: Path, spec: str, params: dict[str, object], problem: str | None
) -> None:
    if problem is None:
        assert load(folder, spec, **params) is not None
        return
    with pytest.raises(UsageError) as refused:
        load(folder, spec, **params)
    assert problem in str(refused.value)
    assert spec in str(refused.value)


def test_a_file_that_exits_when_imported_is_an_error_with_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "exits.py").write_text("import sys\nsys.exit('no license')\n")
    with pytest.raises(UsageError, match=r"exits\.py fails: SystemExit: no license") as refused:
        load(tmp_path, "exits.py:Any")
    assert "sys.exit('no license')" in refused.value.__notes__[0]
