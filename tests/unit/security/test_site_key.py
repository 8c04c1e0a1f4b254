"""Sealing to a site: only its key opens, and every change is seen."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamcast.core.errors import DataError, UsageError
from beamcast.security.site_key import SiteKey, seal_to

KEY = SiteKey.create()


@given(st.binary(max_size=2000))
def test_what_is_sealed_comes_back(data: bytes) -> None:
    sealed = seal_to(KEY.public, data)
    assert KEY.unseal(sealed) == data
    assert sealed != seal_to(KEY.public, data)
    assert len(data) < 8 or data not in sealed


@given(st.data())
def test_every_change_is_refused(data: st.DataObject) -> None:
    sealed = bytearray(seal_to(KEY.public, b"the secret of a run"))
    # X25519 itself ignores the highest bit of the sender's key (RFC 7748); the key is in the derivation too.
    place = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[place // 8] ^= 1 << place % 8
    with pytest.raises(DataError):
        KEY.unseal(bytes(sealed))


def test_another_site_can_not_read_it() -> None:
    with pytest.raises(DataError, match="not sealed to this site's key"):
        SiteKey.create().unseal(seal_to(KEY.public, b"x"))
    with pytest.raises(DataError):
        KEY.unseal(b"")


def test_a_key_file_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "site.key"
    KEY.write(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert SiteKey.read(path).public == KEY.public
    with pytest.raises(FileExistsError):
        KEY.write(path)
    path.chmod(0o640)
    with pytest.raises(UsageError, match="may be read by others"):
        SiteKey.read(path)


def test_what_is_no_key(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="make one with"):
        SiteKey.read(tmp_path / "none")
    bad = tmp_path / "bad"
    bad.write_text("zz")
    bad.chmod(0o600)
    with pytest.raises(UsageError, match="is no site key"):
        SiteKey.read(bad)
    with pytest.raises(UsageError, match="no X25519 key"):
        seal_to("00", b"x")


def test_its_text_hides_it() -> None:
    assert repr(KEY) == "SiteKey(…)"
