"""The rules for metadata channels and Channel Access sources."""

from pathlib import Path

import pytest

from beamcast.config.check import check_workflow
from beamcast.config.load import load_workflow
from beamcast.config.units import TimeOffset, dec_hook
from beamcast.core.errors import ConfigError

REPOSITORY = Path(__file__).parents[3]
HEAD = 'name = "w"\n[source]\nchannel = "det:image"\n{source}\n'
POOL = '\n[[pools]]\nname = "p"\nrole = "consumer"\ninput = "source"\n'


def problems(folder: Path, metadata: str, source: str = "") -> list[str]:
    path = folder / "workflow.toml"
    path.write_text(HEAD.format(source=source) + metadata + POOL)
    try:
        check_workflow(load_workflow(path))
    except ConfigError as error:
        return [str(problem).removeprefix(f"{path}: ") for problem in error.problems]
    return []


def table(*lines: str, name: str = "x", channel: str = "ioc:x") -> str:
    return "\n".join(["[[metadata]]", f'name = "{name}"', f'channel = "{channel}"', *lines, ""])


NEAR = 'tolerance = "1 ms"'


@pytest.mark.parametrize(
    "lines",
    [
        [NEAR],
        [NEAR, 'offset = "-2 ms"', 'wait = "1 s"', 'unmatched = "drop"', "stamp = true"],
        ['match = "previous"', 'protocol = "ca"', 'absent = "go-on"'],
        ['match = "id"', 'id_field = "frameNumber"', 'address = "10.0.0.1:5075"'],
    ],
)
def test_metadata_that_fit(tmp_path: Path, lines: list[str]) -> None:
    assert problems(tmp_path, table(*lines)) == []


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (table(), "metadata[0].tolerance: the nearest value can be any time away, so it needs a limit"),
        (table(NEAR) + table(NEAR, channel="ioc:y"), "metadata[1].name: the name 'x' is taken"),
        (table(NEAR) + table(NEAR, name="y"), "metadata[1].channel: 'ioc:x' is joined already"),
        (table(NEAR, 'wait = "1 h"'), "metadata[0].wait: waiting 1 h for metadata outlasts the drain of 30 s"),
        (table(NEAR, "simulate = true"), "metadata[0].simulate: only the simulator of the run serves"),
        (table('match = "id"', 'protocol = "ca"'), "metadata[0].match: a Channel Access update carries no frame id"),
        (table(NEAR, 'protocol = "ca"', 'address = "h:1"'), "metadata[0].address: `address` is for pvAccess"),
        (table(NEAR, 'unmatched = "wait"'), "metadata[0].unmatched: expected one of 'drop', 'pass', got 'wait'"),
        (table(NEAR, "offset = true"), "metadata[0].offset: expected a time offset such as '-2 ms' or '1.5 s', got"),
    ],
)  # fmt: skip
def test_metadata_that_do_not_fit(tmp_path: Path, metadata: str, message: str) -> None:
    found = problems(tmp_path, metadata)
    assert len(found) == 1
    assert found[0].startswith(message)


@pytest.mark.parametrize(
    ("source", "where"),
    [
        ('protocol = "ca"\nid_field = "n"', "source.id_field"),
        ('protocol = "ca"\naddress = "h:1"', "source.address"),
        ('protocol = "ca"\n[mirror]\nqueue_bytes = "1 MiB"', "mirror.queue_bytes"),
    ],
)
def test_what_a_channel_access_source_can_not_have(tmp_path: Path, source: str, where: str) -> None:
    [problem] = problems(tmp_path, "", source)
    assert problem.startswith(where)


@pytest.mark.parametrize(
    ("given", "seconds"), [("-2 ms", -0.002), ("0 s", 0.0), (0, 0.0), (-1.5, -1.5), ("1 min", 60)]
)
def test_an_offset_may_be_negative_or_nothing(given: object, seconds: float) -> None:
    offset = dec_hook(TimeOffset, given)
    assert offset == seconds
    assert dec_hook(TimeOffset, str(offset)) == seconds


def test_the_example_fits() -> None:
    loaded = load_workflow(REPOSITORY / "examples" / "metadata" / "workflow.toml")
    check_workflow(loaded)
    assert [one.name for one in loaded.workflow.metadata] == ["motor", "current"]


def test_the_how_to_fits(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "how-to" / "metadata.md").read_text()
    first = page.split("```toml\n")[1].split("```")[0]
    assert problems(tmp_path, first) == []
