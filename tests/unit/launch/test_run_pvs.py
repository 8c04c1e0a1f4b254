"""I8: what the PVs of a run show, and their alarms."""

import msgspec

from beamcast.launch.run_pvs import MAJOR, MINOR, frame_numbers, source_state, state_alarm
from beamcast.observe.report import Frames, Report, SourceReport
from beamcast.pva.normative import NO_ALARM
from unit.observe.test_observe_tables import report


def of(frames: Frames, *, allow_lost: int = 0) -> Report:
    return msgspec.structs.replace(report(), frames=frames, allow_lost=allow_lost)


def test_frames_on_their_way_are_not_lost() -> None:
    numbers = frame_numbers(of(Frames(source=9, collected=6, lost=3)))
    assert numbers["outstanding"] == (3, NO_ALARM)
    assert numbers["lost"] == (0, NO_ALARM)
    assert numbers["source"] == (9, NO_ALARM)


def test_what_is_lost_or_failed_raises_an_alarm() -> None:
    frames = Frames(source=9, collected=5, failed=1, lost=3, lost_for_good=2)
    numbers = frame_numbers(of(frames))
    assert (numbers["lost"][0], numbers["lost"][1].severity) == (2, MAJOR)
    assert numbers["outstanding"] == (1, NO_ALARM)
    assert numbers["failed"][1].severity == MINOR
    assert frame_numbers(of(frames, allow_lost=2))["lost"][1].severity == MINOR


def test_a_failed_run_and_an_absent_source_are_alarms() -> None:
    run = of(Frames())
    assert state_alarm(run) == NO_ALARM
    assert state_alarm(msgspec.structs.replace(run, state="failed")).severity == MAJOR
    assert source_state(run) == ("present", NO_ALARM)
    text, alarm = source_state(
        msgspec.structs.replace(run, source=SourceReport(away_since=1.7e9, absences=1))
    )
    assert text.startswith("away since 2023-11-1")
    assert alarm.severity == MAJOR
