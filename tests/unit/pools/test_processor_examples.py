"""The example processors load as their workflow says, and do what they are for."""

import re
from pathlib import Path

import numpy as np
import pytest
from pool_fakes import FakeServer

from beamcast.config.check import check_workflow
from beamcast.config.load import load_workflow
from beamcast.config.workflow import Pool
from beamcast.core.ids import FrameKey
from beamcast.core.place import Place
from beamcast.pools.context import Context, Station
from beamcast.pools.processor import load_processor, open_output
from beamcast.pools.tally import Tally
from beamcast.pools.work import make_work
from beamcast.pva.ndarray import image_view, make_ndarray

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples" / "processors"
LOADED = load_workflow(EXAMPLES / "workflow.toml")
IMAGE = np.arange(24, dtype=np.uint16).reshape(4, 6) * 20


def published(pool: Pool) -> tuple[FakeServer, Tally]:
    server, tally = FakeServer(), Tally()
    station = Station(
        rank=0, input_channel="in", output_channel="out", id_fields=("uniqueId",), server=server
    )
    processor = load_processor(pool.processor, pool.params, base=EXAMPLES, station=station)
    output = open_output(processor, station)
    work = make_work(processor, output, tally)
    place = Place(rank=0, size=1, node="n", node_index=0, nodes=1, local_rank=0, local_size=1)
    processor.start(Context(run="r", pool=pool.name, place=place, base=EXAMPLES))
    output.open(make_ndarray(IMAGE, frame_id=0, timestamp_s=0))
    for frame_id, image in ((1, IMAGE), (2, IMAGE // 100)):
        work.do(make_ndarray(image, frame_id=frame_id, timestamp_s=0), FrameKey(frame_id))
    work.flush()
    return server, tally


@pytest.mark.parametrize("pool", LOADED.workflow.pools, ids=lambda pool: pool.name)
def test_no_example_fails_a_frame(pool: Pool) -> None:
    server, tally = published(pool)
    assert tally.failed == []
    assert tally.processed[0] == 1
    assert server.updates


def test_the_workflow_fits_together() -> None:
    check_workflow(LOADED)


def test_what_the_examples_compute() -> None:
    pools = {pool.name: pool for pool in LOADED.workflow.pools}
    server, tally = published(pools["bright"])
    assert (tally.processed, tally.dropped) == ([1], [2])
    assert image_view(server.published[0]).mean() == pytest.approx(0)
    server, _ = published(pools["means"])
    assert [pv["mean"] for pv in server.published] == [IMAGE.mean(), (IMAGE // 100).mean()]
    server, _ = published(pools["halves"])
    assert (image_view(server.updates[1][1]) == IMAGE[2:]).all()
    server, _ = published(pools["rotate"])
    assert (image_view(server.published[0]) == np.rot90(IMAGE)).all()


@pytest.mark.parametrize("page", ["write-a-processor.md", "use-a-pvapy-processor.md"])
def test_the_pools_of_the_how_tos_load(page: str, tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "how-to" / page).read_text(), re.DOTALL)
    assert blocks
    path = tmp_path / "workflow.toml"
    path.write_text('name = "x"\n[source]\nchannel = "x"\n' + "\n".join(blocks))
    loaded = load_workflow(path)
    assert len(loaded.workflow.pools) == len(blocks)
