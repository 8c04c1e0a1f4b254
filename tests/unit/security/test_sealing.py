import copy
import os
import pickle
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beamcast.core.errors import DataError, UsageError
from beamcast.security import envelope, sealing
from beamcast.security.envelope import Malformed, Replayed, SealError, Tampered, UnknownKey
from beamcast.security.keys import Key, KeyRing
from beamcast.security.opening import Opener
from beamcast.security.sealing import Sealer

RING = KeyRing.create()


def array(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)


def sealed_once(data: bytes = b"pixels", *, context: bytes = b"id 5") -> np.ndarray:
    return Sealer(RING, sender="rank 0").seal([array(data)], note=b"note", context=context).copy()


@given(
    st.lists(st.binary(max_size=300), min_size=1, max_size=4),
    st.binary(max_size=50),
    st.binary(max_size=50),
    st.text(min_size=1, max_size=20),
)
def test_what_was_sealed_opens_to_the_same(
    parts: list[bytes], note: bytes, context: bytes, sender: str
) -> None:
    sealed = Sealer(RING, sender=sender).seal([array(part) for part in parts], note=note, context=context)
    opened = Opener(RING).open(sealed, context=context)
    assert [part.tobytes() for part in opened.parts] == parts
    assert (opened.sender, opened.counter, opened.note) == (sender, 0, note)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope, "PIECE_BYTES", 16)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_frames_of_many_pieces_and_changing_sizes(threads: int) -> None:
    sealer, opener = Sealer(RING, sender="a", threads=threads), Opener(RING, threads=threads)
    try:
        for sizes in ((0,), (15,), (16,), (17,), (1000, 0, 333), (1000, 0, 333), (1,), (160, 160)):
            parts = [array(os.urandom(size)) for size in sizes]
            opened = opener.open(sealer.seal(parts))
            assert [part.tobytes() for part in opened.parts] == [part.tobytes() for part in parts]
    finally:
        sealer.close()
        opener.close()


@pytest.mark.usefixtures("small_pieces")
def test_pieces_can_not_change_places_or_be_cut_off() -> None:
    sealed = Sealer(RING, sender="a").seal([array(bytes(128))]).copy()
    head = envelope.read_head(sealed.data).size
    pieces = sealed[head:].reshape(-1, 32)
    pieces[[0, 1]] = pieces[[1, 0]]
    opener = Opener(RING, threads=2)
    with pytest.raises(Tampered):
        opener.open(sealed)
    opener.close()
    with pytest.raises(Malformed, match="bytes were sealed"):
        opener.open(sealed[:-32])


@settings(max_examples=300)
@given(st.data())
def test_a_flipped_bit_anywhere_is_an_error_and_the_genuine_frame_still_opens(data: st.DataObject) -> None:
    sealed = sealed_once()
    forged = sealed.copy()
    forged[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    opener = Opener(RING)
    with pytest.raises(SealError):
        opener.open(forged, context=b"id 5")
    assert opener.open(sealed, context=b"id 5").parts[0].tobytes() == b"pixels"


def test_a_frame_cut_at_any_byte_or_with_more_behind_it_is_malformed() -> None:
    sealed = sealed_once()
    for length in range(len(sealed)):
        with pytest.raises(Malformed):
            Opener(RING).open(sealed[:length], context=b"id 5")
    with pytest.raises(Malformed):
        Opener(RING).open(np.append(sealed, np.uint8(0)), context=b"id 5")


@given(st.binary(max_size=200), st.booleans())
def test_rubbish_is_malformed(rubbish: bytes, with_magic: bool) -> None:
    with pytest.raises(SealError):
        Opener(RING).open(array((b"BCS\x01" + RING.current.id if with_magic else b"") + rubbish))


def test_a_head_that_claims_huge_parts_allocates_nothing() -> None:
    fixed = sealed_once()[:35].tobytes()
    for sizes in ([2**63], [2**64 - 1, 17], [2**40] * 1000):
        head = (
            fixed[:-4]
            + struct.pack("<HH", 0, len(sizes))
            + b"rank 0"
            + struct.pack(f"<{len(sizes)}Q", *sizes)
        )
        with pytest.raises(Malformed):
            Opener(RING).open(array(head + bytes(100)))


def test_other_context_is_refused() -> None:
    with pytest.raises(Tampered):
        Opener(RING).open(sealed_once(), context=b"id 6")


def test_wrong_keys_are_refused() -> None:
    with pytest.raises(UnknownKey, match="same key file"):
        Opener(KeyRing.create()).open(sealed_once(), context=b"id 5")
    same_id = KeyRing([Key(RING.current.id, bytes(32))])
    with pytest.raises(Tampered, match="the key is another one"):
        Opener(same_id).open(sealed_once(), context=b"id 5")


def test_frames_of_the_earlier_key_open_after_a_rotation() -> None:
    rotated = RING.rotated()
    assert Opener(rotated).open(sealed_once(), context=b"id 5").sender == "rank 0"
    with pytest.raises(UnknownKey):
        Opener(RING).open(Sealer(rotated, sender="x").seal([array(b"")]))


def test_a_sender_that_is_not_expected_is_refused() -> None:
    assert Opener(RING, sender="rank 0").open(sealed_once(), context=b"id 5").counter == 0
    with pytest.raises(UnknownKey, match="only 'rank 1' is accepted"):
        Opener(RING, sender="rank 1").open(sealed_once(), context=b"id 5")


def test_a_frame_opens_once_and_in_any_order() -> None:
    sealer, opener = Sealer(RING, sender="a"), Opener(RING)
    frames = [sealer.seal([array(b"x")]).copy() for _ in range(5)]
    for number in (3, 0, 4, 1, 2):
        assert opener.open(frames[number]).counter == number
    for frame in frames:
        with pytest.raises(Replayed, match="second time"):
            opener.open(frame)


def test_looking_leaves_no_trace() -> None:
    opener, frame = Opener(RING), sealed_once()
    for _ in range(2):
        opener.open(frame, context=b"id 5", look_only=True)
    opener.open(frame, context=b"id 5")
    opener.open(frame, context=b"id 5", look_only=True)
    with pytest.raises(Replayed):
        opener.open(frame, context=b"id 5")


def test_a_forged_frame_does_not_move_the_window() -> None:
    sealer, opener = Sealer(RING, sender="a"), Opener(RING)
    first, second = (sealer.seal([array(b"x")]).copy() for _ in range(2))
    opener.open(first)
    forged = second.copy()
    envelope.COUNTER.pack_into(forged, envelope.COUNTER_OFFSET, 10**9)
    with pytest.raises(Tampered):
        opener.open(forged)
    assert opener.open(second).counter == 1


def test_no_key_and_nonce_come_twice() -> None:
    """Two sealers of one name, as before and after a restart, do not share a session; nor do counters repeat."""
    sealers = [Sealer(RING, sender="a") for _ in range(2)]
    frames = [sealer.seal([array(b"same")]).tobytes() for sealer in sealers for _ in range(3)]
    heads = [envelope.read_head(memoryview(frame)) for frame in frames]
    assert len({(head.salt, head.counter) for head in heads}) == 6
    assert len({frame[heads[0].size :] for frame in frames}) == 6


def test_a_call_that_fails_uses_up_its_counter() -> None:
    sealer = Sealer(RING, sender="a")
    sealer.seal([array(b"x")])
    with pytest.raises(TypeError):
        sealer.seal([array(b"x")], context="no bytes")  # type: ignore[arg-type]
    assert envelope.read_head(sealer.seal([array(b"x")]).data).counter == 2


def test_a_session_ends_before_its_key_is_worn_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "_MAX_SESSION_BYTES", 200)
    sealer, opener = Sealer(RING, sender="a"), Opener(RING)
    opened = [opener.open(sealer.seal([array(b"x" * 20)])).counter for _ in range(6)]
    assert opened == [0, 1, 2, 0, 1, 2]


def test_a_forked_sealer_starts_its_own_session() -> None:
    sealer = Sealer(RING, sender="a")
    before = envelope.read_head(sealer.seal([array(b"x")]).data).salt
    sealing._after_fork()
    head = envelope.read_head(sealer.seal([array(b"x")]).data)
    assert head.salt != before
    assert head.counter == 0


def test_sealers_are_not_copied_and_show_no_key() -> None:
    sealer = Sealer(RING, sender="a")
    for make in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError, match="same nonces"):
            make(sealer)
    assert RING.current.secret.hex() not in repr(sealer) + repr(Opener(RING))


def test_names_and_notes_have_a_limit() -> None:
    with pytest.raises(UsageError, match="255"):
        Sealer(RING, sender="x" * 256).seal([array(b"")])
    with pytest.raises(UsageError, match="parts"):
        Sealer(RING, sender="x").seal([])


def test_errors_are_data_errors_that_travel() -> None:
    for kind in (Malformed, UnknownKey, Tampered, Replayed):
        error = pickle.loads(pickle.dumps(kind("no", hint="look")))
        assert isinstance(error, DataError)
        assert error.hint == "look"
