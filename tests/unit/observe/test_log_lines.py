"""Log lines for people, and whose logs are asked for."""

import pytest

from beamcast.observe.log_lines import for_people, member_of, wanted


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("plain words", "plain words"),
        (
            '{"event": "run a is ready", "level": "info", "logger": "x", "timestamp": "2026-12-01T02:41:51.187913Z"}',
            "02:41:51 run a is ready",
        ),
        (
            '{"event": "died", "level": "warning", "timestamp": "2026-12-01T02:41:51Z", "rank": 3}',
            "02:41:51 warning: died rank=3",
        ),
        ('{"event": "no", "level": "error", "exception": "Traceback\\n  x"}', "error: no\nTraceback\n  x"),
        ('{"threshold": 3}', '{"threshold": 3}'),
        ("{not json", "{not json"),
        ("", ""),
    ],
)
def test_a_line_is_shown_for_people(line: str, shown: str) -> None:
    assert for_people(line) == shown


def test_members_are_asked_for_by_name_by_pool_or_all_together() -> None:
    there = [member_of(stem) for stem in ("controller", "mirror", "stats-0", "stats-10", "my-pool-1")]
    assert there == ["controller", "mirror", "stats/0", "stats/10", "my-pool/1"]
    assert wanted(there, None) == there
    assert wanted(there, "stats/10") == ["stats/10"]
    assert wanted(there, "stats-10") == ["stats/10"]
    assert wanted(there, "stats") == ["stats/0", "stats/10"]
    assert wanted(there, "my-pool") == ["my-pool/1"]
    assert wanted(there, "mirror") == ["mirror"]
    assert wanted(there, "stats/1") == []
