"""The page on saving frames, and the example, against the code."""

import inspect
import re
from pathlib import Path

import pytest

from beamcast.config.check import check_workflow
from beamcast.config.load import load_workflow
from beamcast.core.frame_layout import DATA, EPOCH, ID, METADATA, TIMESTAMP
from beamcast.pools.params import checked_arguments
from beamcast.processors.codecs import Compress, Decompress
from beamcast.processors.frame_file import COMPRESSIONS
from beamcast.processors.hdf5 import SaveHdf5
from beamcast.processors.images import SaveImages
from beamcast.pva.codecs import DECODERS

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "how-to" / "save-frames.md").read_text()
CLASSES = {made.__name__: made for made in (SaveHdf5, SaveImages, Compress, Decompress)}


def test_the_pools_of_the_page_load_and_their_parameters_fit(tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    path = tmp_path / "workflow.toml"
    path.write_text('name = "x"\n[source]\nchannel = "x"\n' + "\n".join(blocks))
    pools = load_workflow(path).workflow.pools
    assert {pool.processor.rpartition(":")[2] for pool in pools} == set(CLASSES)
    for pool in pools:
        made = CLASSES[pool.processor.rpartition(":")[2]]
        made(**checked_arguments(made, pool.params, what=pool.name))


def test_the_example_fits_together() -> None:
    loaded = load_workflow(ROOT / "examples" / "save-to-hdf5" / "workflow.toml")
    check_workflow(loaded)
    checked_arguments(SaveHdf5, loaded.workflow.pools[0].params, what="save")


@pytest.mark.parametrize("made", [SaveHdf5, SaveImages, Compress], ids=lambda made: made.__name__)
def test_every_parameter_is_on_the_page(made: type) -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \|", PAGE, re.MULTILINE)
    assert set(inspect.signature(made).parameters) <= set(rows)


def test_names_on_the_page_are_those_of_the_code() -> None:
    for name in (*COMPRESSIONS, *Path(DATA).parts[:1]):
        assert name in PAGE
    for codec in DECODERS:
        assert f"`{codec}`" in PAGE
    assert DATA in PAGE
    assert ID in PAGE
    assert METADATA in PAGE
    for path in (EPOCH, TIMESTAMP):
        assert f"`{path.rpartition('/')[2]}`" in PAGE
