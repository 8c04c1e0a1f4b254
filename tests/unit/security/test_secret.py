import errno
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamcast.core.errors import UsageError
from beamcast.security.secret import Opened, Refused, ReplayGuard, RunSecret, seal, unseal

SECRET = RunSecret(bytes(range(32)))
MESSAGE = seal(SECRET, direction="request", sender="rank-3", counter=7, body=b"join")


@given(
    st.text(max_size=40),
    st.integers(0, 2**64 - 1),
    st.binary(max_size=200),
    st.sampled_from(["request", "answer"]),
)
def test_what_was_sealed_opens_to_the_same(sender: str, counter: int, body: bytes, direction: str) -> None:
    envelope = seal(SECRET, direction=direction, sender=sender, counter=counter, body=body)
    assert unseal(SECRET, envelope, direction=direction) == Opened(sender, counter, body)


def test_a_message_cut_at_any_byte_is_refused() -> None:
    for length in range(len(MESSAGE)):
        with pytest.raises(Refused):
            unseal(SECRET, MESSAGE[:length], direction="request")


@given(st.integers(0, len(MESSAGE) - 1), st.integers(1, 255))
def test_a_changed_byte_is_refused(at: int, flip: int) -> None:
    forged = bytearray(MESSAGE)
    forged[at] ^= flip
    with pytest.raises(Refused, match="not sealed with this run's secret"):
        unseal(SECRET, bytes(forged), direction="request")


@given(st.binary(max_size=200))
def test_rubbish_is_refused(rubbish: bytes) -> None:
    with pytest.raises(Refused):
        unseal(SECRET, rubbish, direction="request")


def test_a_message_of_another_run_is_refused() -> None:
    with pytest.raises(Refused, match="this run's secret"):
        unseal(RunSecret.create(), MESSAGE, direction="request")


def test_a_request_can_not_stand_for_an_answer() -> None:
    with pytest.raises(Refused, match="not a answer"):
        unseal(SECRET, MESSAGE, direction="answer")


def test_bytes_do_not_move_between_sender_and_body() -> None:
    one = seal(SECRET, direction="request", sender="ab", counter=1, body=b"c")
    other = seal(SECRET, direction="request", sender="a", counter=1, body=b"bc")
    assert one[-32:] != other[-32:]


def test_another_version_is_named() -> None:
    later = bytes([2]) + MESSAGE[1:-32]
    with pytest.raises(Refused, match="version 2, we speak 1"):
        unseal(SECRET, later + SECRET.mac(later), direction="request")


def test_a_message_is_admitted_once_and_counters_only_grow() -> None:
    guard = ReplayGuard()
    for counter in (0, 1, 5):
        guard.admit(Opened("rank-3", counter, b""))
    for counter in (5, 4, 0):
        with pytest.raises(Refused, match="second time"):
            guard.admit(Opened("rank-3", counter, b""))
    guard.admit(Opened("rank-4", 0, b""))


def test_the_secret_stays_in_its_file(tmp_path: Path) -> None:
    secret = RunSecret.create()
    path = tmp_path / "run secret"
    secret.write(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert RunSecret.read(path).mac(b"x") == secret.mac(b"x")
    assert path.read_text().strip() not in repr(secret) + str(secret)
    with pytest.raises(FileExistsError):
        secret.write(path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_secret_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret"
    RunSecret.create().write(path)
    path.chmod(mode)
    with pytest.raises(UsageError, match=r"read by others.*chmod 600"):
        RunSecret.read(path)


def test_refusals_survive_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(Refused("no", hint="try again")))
    assert str(error) == "no. try again"


def test_the_secret_of_another_user_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests may run as root, who can read everything."""

    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")

    RunSecret.create().write(tmp_path / "secret")
    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(UsageError, match="secret belongs to another user"):
        RunSecret.read(tmp_path / "secret")
