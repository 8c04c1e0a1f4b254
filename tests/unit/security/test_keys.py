import copy
import pickle
from pathlib import Path

import pytest

from beamcast.core.errors import UsageError
from beamcast.security.keys import Key, KeyRing

LINE = "01020304 " + "ab" * 32


def write(path: Path, text: str) -> Path:
    path.touch(0o600)
    path.write_text(text)
    return path


def test_a_ring_reads_back_as_it_was_written(tmp_path: Path) -> None:
    ring = KeyRing.create().rotated()
    ring.write(tmp_path / "keys of the beamline")
    again = KeyRing.read(tmp_path / "keys of the beamline")
    assert again.current == ring.current
    assert len(again) == 2
    assert (tmp_path / "keys of the beamline").stat().st_mode & 0o777 == 0o600


def test_rotation_keeps_the_latest_keys_and_makes_a_new_one_current(tmp_path: Path) -> None:
    first = KeyRing.create()
    second = first.rotated()
    third = second.rotated()
    assert second.find(first.current.id) == first.current
    assert third.find(second.current.id) == second.current
    assert third.find(first.current.id) is None
    first.write(tmp_path / "keys")
    second.replace(tmp_path / "keys")
    assert KeyRing.read(tmp_path / "keys").current == second.current
    assert [path.name for path in tmp_path.iterdir()] == ["keys"]


def test_an_existing_file_is_not_overwritten_by_accident(tmp_path: Path) -> None:
    KeyRing.create().write(tmp_path / "keys")
    with pytest.raises(FileExistsError):
        KeyRing.create().write(tmp_path / "keys")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o611])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "keys", LINE)
    path.chmod(mode)
    with pytest.raises(UsageError, match=r"read by others.*chmod 600"):
        KeyRing.read(path)


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "01020304", LINE[:-2], LINE + " x", LINE + "ab", "zz" + LINE[2:], "\x00\xff"]
)
def test_a_file_that_holds_no_keys_is_refused_without_showing_any(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"no key|not a key") as caught:
        KeyRing.read(write(tmp_path / "keys", text))
    assert "abab" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="keys: can't read the key file: No such file"):
        KeyRing.read(tmp_path / "keys")


def test_two_keys_with_one_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="same id"):
        KeyRing.read(write(tmp_path / "keys", f"{LINE}\n{LINE}\n"))
    with pytest.raises(UsageError, match="at least one"):
        KeyRing([])


def test_no_text_and_no_pickle_holds_a_key() -> None:
    key = Key(bytes(4), b"\xab" * 32)
    for thing in (key, KeyRing([key])):
        assert "abab" not in repr(thing)
        assert "\\xab" not in repr(thing)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(key)
    with pytest.raises(TypeError, match="not pickled"):
        copy.deepcopy(key)


def test_lengths_are_checked() -> None:
    for sizes in ((3, 32), (4, 16)):
        with pytest.raises(UsageError, match="32 bytes"):
            Key(bytes(sizes[0]), bytes(sizes[1]))
