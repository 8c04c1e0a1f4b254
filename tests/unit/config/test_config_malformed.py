"""A corpus of malformed workflow files; each says, in `# expect:` lines, what the message has to contain."""

from pathlib import Path

import pytest

from beamcast.config.load import load_workflow
from beamcast.core.errors import ConfigError

CORPUS = sorted((Path(__file__).parent / "malformed").glob("*.toml"))
MARK = "# expect: "


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_malformed_workflow(path: Path) -> None:
    expected = [line.removeprefix(MARK) for line in path.read_text().splitlines() if line.startswith(MARK)]
    with pytest.raises(ConfigError) as caught:
        load_workflow(path)
    text = str(caught.value)
    assert expected
    assert [piece for piece in expected if piece not in text] == [], text
    assert all(line.startswith(f"{path}: ") for line in text.splitlines())
    assert all(len(line) < 600 for line in text.splitlines())


def test_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "workflow.toml"
    path.write_bytes(b'name = "\xff"')
    with pytest.raises(ConfigError, match=r"not UTF-8 at byte 8\. TOML files are UTF-8 text"):
        load_workflow(path)


def test_too_large(tmp_path: Path) -> None:
    path = tmp_path / "frames.bin"
    path.write_bytes(b"#" * (4 * 1024 * 1024 + 1))
    with pytest.raises(ConfigError, match=r"too large for a configuration file \(more than 4 MiB\)"):
        load_workflow(path)


@pytest.mark.parametrize(
    ("name", "words"), [("none.toml", "no such file"), (".", "can't be read: Is a directory")]
)
def test_no_file(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_workflow(tmp_path / name)
