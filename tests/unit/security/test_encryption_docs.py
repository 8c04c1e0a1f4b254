"""The examples of the how-to page, run."""

import re
import tomllib
from importlib import import_module
from pathlib import Path

import msgspec
import pytest

from beamcast.cli.main import call
from beamcast.config.units import dec_hook
from beamcast.config.workflow import Pool
from beamcast.security.keys import KeyRing

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "encrypt-a-stream.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_the_key_file_is_made_and_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for line in "".join(blocks("sh")).splitlines():
        program, *arguments = line.split()
        assert program == "beamcast"
        assert call(arguments) == 0
    assert len(KeyRing.read(Path("stream.keys"))) == 2


def test_the_pools_are_as_a_workflow_has_them_and_make_their_processors() -> None:
    words, processors = (tomllib.loads(text)["pools"] for text in blocks("toml"))
    assert [msgspec.convert(pool, Pool, dec_hook=dec_hook).seal for pool in words] == ["stream.keys"] * 2
    for pool in processors:
        module, _, name = pool["processor"].partition(":")
        assert callable(getattr(import_module(module), name)(**pool["params"]).process)
