"""Sealed updates on their way in: what is refused moves nothing."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from beamcast.core.errors import DataError
from beamcast.core.ids import Epoch, EpochTracker, FixedEpoch, FrameId, frame_key
from beamcast.pools.opened import Admission, PoolOpener
from beamcast.pools.tally import Tally
from beamcast.pva.ndarray import image_view, make_ndarray
from beamcast.pva.sealed import NdArraySealer
from beamcast.security.keys import KeyRing
from beamcast.security.sealing import Sealer


class FakeWork:
    def __init__(self) -> None:
        self.tally = Tally()
        self.failures: list[tuple[int, BaseException]] = []

    def fail(self, key: int, error: BaseException) -> None:
        self.failures.append((key, error))


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    KeyRing.create().write(tmp_path / "stream.keys")
    return tmp_path / "stream.keys"


def sealed(keys: Path, *ids: int) -> list[Any]:
    seal = NdArraySealer(Sealer(KeyRing.read(keys), sender="s")).seal
    return [seal(make_ndarray(np.full((4, 5), i, np.uint8), frame_id=i, timestamp_s=1.0)) for i in ids]


def admission(keys: Path, *, repeats: bool = False) -> SimpleNamespace:
    work = FakeWork()
    admit = Admission(PoolOpener(keys, repeats=repeats), work)  # type: ignore[arg-type]
    return SimpleNamespace(admit=admit, work=work, tracker=EpochTracker(Epoch(0)))


def test_what_is_good_comes_open(keys: Path) -> None:
    at = admission(keys)
    opened = [at.admit(pv, pv["uniqueId"], at.tracker) for pv in sealed(keys, 1, 2)]
    assert [int(image_view(pv)[0, 0]) for pv in opened] == [1, 2]
    assert at.admit.refused == 0


def test_a_replay_is_a_duplicate_and_begins_no_epoch(keys: Path) -> None:
    at = admission(keys)
    frames = sealed(keys, 1, 2)
    old = frames[0].copy()
    for pv in frames:
        at.admit(pv, pv["uniqueId"], at.tracker)
        at.tracker.observe(pv["uniqueId"])
    assert at.admit(old, 1, at.tracker) is None
    assert (at.work.tally.duplicates, at.work.failures, at.admit.refused) == (1, [], 1)
    assert at.tracker.observe(FrameId(3)) == 3


def test_a_forged_id_fails_under_that_id_and_moves_nothing(keys: Path) -> None:
    at = admission(keys)
    at.tracker.observe(FrameId(7))
    [pv] = sealed(keys, 8)
    pv["uniqueId"] = 2
    assert at.admit(pv, 2, at.tracker) is None
    [(key, error)] = at.work.failures
    assert key == frame_key(Epoch(0), FrameId(2))
    assert isinstance(error, DataError)
    assert (at.tracker.last, at.tracker.epoch) == (7, 0)


def test_what_the_dispatcher_sends_again_opens_again(keys: Path) -> None:
    at = admission(keys, repeats=True)
    [pv] = sealed(keys, 4)
    for _ in range(2):
        assert at.admit(pv.copy(), 4, FixedEpoch()) is not None
    assert at.admit.refused == at.work.tally.duplicates == 0
