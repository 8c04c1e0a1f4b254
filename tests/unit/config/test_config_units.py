import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamcast.config.units import QUANTITIES, Bytes, Hertz, Quantity, Seconds, dec_hook, enc_hook, schema_hook

POSITIVE = st.floats(min_value=1e-300, max_value=1e300, allow_nan=False)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30 s", 30.0),
        ("30s", 30.0),
        (" 250 ms ", 0.25),
        ("50 us", 50e-6),
        ("10 min", 600.0),
        ("1.5 h", 5400.0),
        ("2 d", 172800.0),
        ("1:30:00", 5400.0),
        ("100:00:01", 360001.0),
        ("1e3 ms", 1.0),
        (3, 3.0),
        (0.5, 0.5),
    ],
)
def test_seconds(text: object, seconds: float) -> None:
    assert Seconds.parse(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1 B", 1),
        ("64 kB", 64_000),
        ("1.5 KiB", 1536),
        ("512 MiB", 512 * 2**20),
        ("4 GB", 4 * 10**9),
        ("4 GiB", 4 * 2**30),
        ("2 TB", 2 * 10**12),
        ("2 TiB", 2**41),
        (7, 7),
        (2.0, 2),
    ],
)
def test_bytes(text: object, size: int) -> None:
    assert Bytes.parse(text) == size


@pytest.mark.parametrize(
    ("text", "rate"), [("500 Hz", 500.0), ("2 kHz", 2000.0), ("1 MHz", 1e6), ("30 fps", 30.0), (8, 8.0)]
)
def test_hertz(text: object, rate: float) -> None:
    assert Hertz.parse(text) == rate


@pytest.mark.parametrize(
    ("kind", "came", "why"),
    [
        (Seconds, "30", "got '30', which has no unit (us, ms, s, min, h, d)"),
        (Seconds, "3 parsec", "got '3 parsec', whose unit 'parsec' is none of us, ms, s, min, h, d"),
        (Seconds, "0 s", "got '0 s', which is not more than 0"),
        (Seconds, "-3 s", "got '-3 s', which is not more than 0"),
        (Seconds, -1, "got -1, which is not more than 0"),
        (Seconds, math.nan, "got nan"),
        (Seconds, math.inf, "got inf"),
        (Seconds, -math.inf, "got -inf"),
        (Seconds, "1e999 s", "got '1e999 s', which is too large"),
        (Seconds, "1e-400 s", "got '1e-400 s', which is too small"),
        (Seconds, 10**400, "got a number of more than 40 digits, which is too large"),
        (Seconds, "1:60:00", "got '1:60:00'"),
        (Seconds, "12:00", "got '12:00'"),
        (Seconds, "", "got ''"),
        (Seconds, "nan s", "got 'nan s'"),
        (Seconds, True, "got true"),
        (Seconds, [1], "got a list"),
        (Bytes, "0.3 B", "got '0.3 B', which is not a whole number of bytes"),
        (Bytes, "4 GIB", "whose unit 'GIB' is none of B, kB, KiB, MB, MiB, GB, GiB, TB, TiB"),
        (Bytes, "9000000 TiB", "which is more than 8 EiB"),
        (Hertz, "٣ Hz", "got '٣ Hz'"),
        (Hertz, "1" * 100 + " Hz", "111...'"),
    ],
)
def test_refused(kind: type[Quantity], came: object, why: str) -> None:
    with pytest.raises(ValueError, match="expected a") as caught:
        kind.parse(came)
    assert str(caught.value).startswith(f"expected {kind.words()}, got ")
    assert str(caught.value).endswith(why)


@pytest.mark.parametrize(
    ("quantity", "text"),
    [
        (Seconds(30.0), "30 s"),
        (Seconds(90.0), "90 s"),
        (Seconds(5400.0), "90 min"),
        (Seconds(3600.0), "1 h"),
        (Seconds(0.1), "100 ms"),
        (Seconds(math.pi), "3.141592653589793 s"),
        (Seconds(math.inf), "inf s"),
        (Bytes(4 * 2**30), "4 GiB"),
        (Bytes(4 * 10**9), "4 GB"),
        (Bytes(2**62 + 1), "4611686018427387905 B"),
        (Hertz(26000.0), "26 kHz"),
        (Hertz(0.5), "0.5 Hz"),
    ],
)
def test_printed(quantity: Quantity, text: str) -> None:
    assert f"{quantity}" == str(quantity) == text


@pytest.mark.parametrize("kind", [Seconds, Hertz])
@given(value=POSITIVE)
def test_float_quantities_read_back_what_they_print(kind: type[Seconds] | type[Hertz], value: float) -> None:
    quantity = kind(value)
    assert kind.parse(str(quantity)) == quantity
    assert pickle.loads(pickle.dumps(quantity)) == quantity


@given(value=st.integers(min_value=1, max_value=2**63 - 1))
def test_bytes_read_back_what_they_print(value: int) -> None:
    assert Bytes.parse(str(Bytes(value))) == value


@given(came=st.one_of(st.text(max_size=30), st.integers(), st.floats(), st.booleans(), st.none()))
@pytest.mark.parametrize("kind", QUANTITIES)
def test_parse_gives_a_finite_quantity_positive_unless_signed_or_value_error(
    kind: type[Quantity], came: object
) -> None:
    try:
        quantity = kind.parse(came)
    except ValueError as error:
        lines = str(error).splitlines()
        quantity = None
    else:
        lines = [str(quantity)]
    assert len(lines) == 1
    assert quantity is None or (
        type(quantity) is kind and math.isfinite(quantity) and (quantity > 0 or kind.SIGNED)
    )


def test_hooks() -> None:
    assert dec_hook(Seconds, "2 s") == Seconds(2.0)
    assert dec_hook(object, "2 s") == "2 s"
    assert enc_hook(Bytes(1024)) == "1 KiB"
    assert "anyOf" in schema_hook(Hertz)
    with pytest.raises(NotImplementedError, match="does not hold set"):
        enc_hook({1})
    with pytest.raises(NotImplementedError, match="does not hold complex"):
        schema_hook(complex)
