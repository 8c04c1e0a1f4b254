"""Commands as they come from control PVs and the command line."""

import pytest

from beamcast.core.commands import Command, parse_command, parse_line
from beamcast.core.errors import UsageError


def test_parameters_of_configure_are_a_json_object() -> None:
    assert parse_command("configure", '{"threshold": 3}') == Command("configure", {"threshold": 3})
    assert parse_line(' configure {"a b": "c d"} ') == Command("configure", {"a b": "c d"})


def test_other_commands_take_no_arguments_and_ignore_pvapys_empty_ones() -> None:
    assert parse_command("get_stats", "") == parse_line("get_stats") == Command("get_stats", {})


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("stopp", "", "did you mean 'stop'?"),
        ("", "", "unknown command ''"),
        ("x" * 1_000_000, "", "unknown command 'xxx"),
        ("configure", "threshold=3", "args are not JSON"),
        ("configure", "", "args are not JSON"),
        ("configure", "[1]", "must be a JSON object"),
        ("configure", "[" * 60_000, "args are not JSON"),
        ("configure", '{"a": "' + "x" * 1_000_000 + '"}', "args are too long: 1000009 characters"),
    ],
)
def test_what_is_no_command_is_refused_in_few_words(name: str, arguments: str, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_command(name, arguments)
    assert words in str(refused.value)
    assert len(str(refused.value)) < 300
