"""The examples of the how-to page, run."""

import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from beamcast.security.keys import KeyRing

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "encrypt-a-stream.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_the_key_file_is_made_and_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for block in blocks("python"):
        exec(block, {})
    assert len(KeyRing.read(Path("stream.keys"))) == 2


def test_the_pools_make_their_processors() -> None:
    (text,) = blocks("toml")
    for pool in tomllib.loads(text)["pools"]:
        module, _, name = pool["processor"].partition(":")
        assert callable(getattr(import_module(module), name)(**pool["params"]).process)
