"""P6: a detector that goes away is told while it is, and is found soon when it is back, by UDP as others find it."""

import json
import signal
import socket
import time
from typing import Any

import numbered_source
import pytest
from launching import detector
from test_run import Case, case, until

__all__ = ["case"]
pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

# A pvaccess client searches after 0.2, 0.5, 1, 2, 4, 8, 16 s: one that is back then would be unseen for 7 s more.
AWAY_S = 8.5
BACK_WITHIN_S = 5.0


def source_of(case: Case) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((case.folder / "run" / "state.json").read_text())["source"]
    return found


@pytest.mark.parametrize("delivery", ["at-most-once", pytest.param("at-least-once", marks=pytest.mark.slow)])
def test_a_source_that_is_away_is_told_and_found_soon_when_it_is_back(
    case: Case, monkeypatch: pytest.MonkeyPatch, delivery: str
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        udp_port = str(probe.getsockname()[1])
    monkeypatch.setenv("UDP_PORT", udp_port)
    words = [numbered_source.__file__, "pvxs", "uniqueId", f"{case.prefix}:image", str(case.folder)]
    ids = ",".join(map(str, range(1, 401)))
    settings = {
        "EPICS_PVA_ADDR_LIST": "127.0.0.1",
        "EPICS_PVA_AUTO_ADDR_LIST": "NO",
        "EPICS_PVA_BROADCAST_PORT": udp_port,
    }
    case.write(simulate=False, top=f'delivery = "{delivery}"\nallow_lost = 400')
    with detector(*words, ids):
        running = case.start("--set", "source.appear_timeout=30 s", environment=settings)
        running.wait_for("is ready", 90)
    gone_at = time.time()
    until(lambda: bool(source_of(case)["away_since"]), 20, lambda: running.output[-2000:])
    assert abs(source_of(case)["away_since"] - gone_at) < 10
    running.wait_for("source: away since", 10)
    time.sleep(max(0.0, gone_at + AWAY_S - time.time()))
    (case.folder / "go").touch()
    with detector(*words, ids):
        back_at = time.monotonic()
        until(lambda: not source_of(case)["away_since"], 20, lambda: running.output[-2000:])
        assert time.monotonic() - back_at < BACK_WITHIN_S
        running.wait_for("streaming: source", 30)
        running.process.send_signal(signal.SIGINT)
        running.wait(60)
    source = case.report()["source"]
    assert source["absences"] == 1
    assert source["away_s"] > AWAY_S - 3
    assert "source: it was away once" in running.output
    case.assert_nothing_left()
