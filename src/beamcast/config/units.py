"""Quantities with units, as they stand in configuration files: "30 s", "4 GiB", "500 Hz".

The choice: a quantity is a plain `float` or `int` in its base unit (seconds, bytes, hertz), so code
calculates with it as it is; only reading and printing know units. Text needs a unit; a bare number means
the base unit. A quantity is more than zero: "off" and "unlimited" are said by leaving the key out, never by 0
or -1.

`str()` and an empty f-string field give the human form ("30 s"); write `float(x)` or `int(x)` where another
program reads the number.
"""

import math
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import ClassVar, Self, TypeAlias

from beamcast.config.words import shown

# At most 40 digits and a short exponent: an exact fraction of a longer one would take for ever to build.
_TEXT = re.compile(r"\s*([-+]?[0-9]{1,40}(?:\.[0-9]{1,40})?(?:[eE][-+]?[0-9]{1,3})?)\s*([A-Za-zµ/]+)?\s*")
_CLOCK = re.compile(r"\s*([0-9]{1,6}):([0-5][0-9]):([0-5][0-9])\s*")


class _Quantity:
    """Reading and printing, shared by the quantities; UNITS ascend, and the base unit counts 1."""

    __slots__ = ()
    UNITS: ClassVar[Mapping[str, Fraction]]
    BASE: ClassVar[str]
    NOUN: ClassVar[str]
    EXAMPLES: ClassVar[str]
    SIGNED: ClassVar[bool] = False

    @classmethod
    def words(cls) -> str:
        """Return what a file may say, for messages and the schema."""
        return f"{cls.NOUN} such as {cls.EXAMPLES}"

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the quantity for a text with unit or a bare number in the base unit.

        Raises ValueError, with a message for people, for anything else, and for zero, negative and NaN.
        """
        if isinstance(given, cls):
            return given
        exact = cls._from_text(given) if isinstance(given, str) else cls._from_number(given)
        if exact <= 0 and not cls.SIGNED:
            raise cls._refused(given, "which is not more than 0")
        return cls._made(exact, given)

    @classmethod
    def _from_number(cls, given: object) -> Fraction:
        if isinstance(given, bool) or not isinstance(given, int | float):
            raise cls._refused(given)
        if given in (math.inf, -math.inf) or given != given:
            raise cls._refused(given)
        return Fraction(given)

    @classmethod
    def _from_text(cls, given: str) -> Fraction:
        match = _TEXT.fullmatch(given)
        if match is None:
            raise cls._refused(given)
        number, unit = match.groups()
        if unit is None:
            raise cls._refused(given, f"which has no unit ({', '.join(cls.UNITS)})")
        if unit not in cls.UNITS:
            raise cls._refused(given, f"whose unit {unit!r} is none of {', '.join(cls.UNITS)}")
        return Fraction(number) * cls.UNITS[unit]

    @classmethod
    def _made(cls, exact: Fraction, given: object) -> Self:
        raise NotImplementedError

    @classmethod
    def _refused(cls, given: object, why: str | None = None) -> ValueError:
        return ValueError(f"expected {cls.words()}, got {shown(given)}" + (f", {why}" if why else ""))

    @classmethod
    def _print(cls, value: Fraction, plain: str) -> str:
        """Return the whole number in the largest unit that gives one, else `plain` in the base unit."""
        for unit, factor in sorted(cls.UNITS.items(), key=lambda item: -item[1]):
            count = value / factor
            if count.denominator == 1 and 0 < count < 100_000:
                return f"{count.numerator} {unit}"
        return f"{plain} {cls.BASE}"


class _FloatQuantity(_Quantity, float):
    __slots__ = ()

    @classmethod
    def _made(cls, exact: Fraction, given: object) -> Self:
        try:
            value = float(exact)
        except OverflowError:
            raise cls._refused(given, "which is too large") from None
        if value == 0.0 and exact:
            raise cls._refused(given, "which is too small")
        return cls(value)

    def __str__(self) -> str:
        if not math.isfinite(self):
            return f"{float(self)!r} {self.BASE}"
        # Through the shortest decimal form: 0.1 s is meant as 100 ms, though no float is exactly that.
        plain = repr(float(self))
        return self._print(Fraction(plain), plain)

    def __reduce__(self) -> tuple[type[Self], tuple[float]]:
        return type(self), (float(self),)


class Seconds(_FloatQuantity):
    """A duration in seconds; from text: "250 ms", "30 s", "10 min", "2 h", "1:30:00"."""

    __slots__ = ()
    UNITS: ClassVar[Mapping[str, Fraction]] = {
        "us": Fraction(1, 1_000_000),
        "ms": Fraction(1, 1000),
        "s": Fraction(1),
        "min": Fraction(60),
        "h": Fraction(3600),
        "d": Fraction(86400),
    }
    BASE = "s"
    NOUN = "a duration"
    EXAMPLES = "'250 ms', '30 s', '2 h' or '1:30:00'"

    @classmethod
    def _from_text(cls, given: str) -> Fraction:
        clock = _CLOCK.fullmatch(given)
        if clock is None:
            return super()._from_text(given)
        hours, minutes, seconds = (int(part) for part in clock.groups())
        return Fraction(hours * 3600 + minutes * 60 + seconds)


class TimeOffset(Seconds):
    """A difference of two clocks in seconds, the one quantity that may be zero or negative; from text: "-2 ms"."""

    __slots__ = ()
    NOUN = "a time offset"
    EXAMPLES = "'-2 ms' or '1.5 s'"
    SIGNED = True


class Hertz(_FloatQuantity):
    """A rate in events per second; from text: "500 Hz", "2 kHz", "26000 fps"."""

    __slots__ = ()
    UNITS: ClassVar[Mapping[str, Fraction]] = {
        "Hz": Fraction(1),
        "fps": Fraction(1),
        "kHz": Fraction(1000),
        "MHz": Fraction(1_000_000),
    }
    BASE = "Hz"
    NOUN = "a rate"
    EXAMPLES = "'500 Hz', '2 kHz' or '100 fps'"


class Bytes(_Quantity, int):
    """A size in bytes; from text: "512 MiB", "4 GB" (kB, MB … count by 1000; KiB, MiB … by 1024)."""

    UNITS: ClassVar[Mapping[str, Fraction]] = {
        "B": Fraction(1),
        "kB": Fraction(10**3),
        "KiB": Fraction(2**10),
        "MB": Fraction(10**6),
        "MiB": Fraction(2**20),
        "GB": Fraction(10**9),
        "GiB": Fraction(2**30),
        "TB": Fraction(10**12),
        "TiB": Fraction(2**40),
    }
    BASE = "B"
    NOUN = "a size"
    EXAMPLES = "'64 kB', '512 MiB' or '4 GiB'"
    # What a signed 64-bit size can say: beyond it neither files nor sockets can count.
    _LARGEST = 2**63 - 1

    @classmethod
    def _made(cls, exact: Fraction, given: object) -> Self:
        if exact.denominator != 1:
            raise cls._refused(given, "which is not a whole number of bytes")
        if exact > cls._LARGEST:
            raise cls._refused(given, "which is more than 8 EiB")
        return cls(exact.numerator)

    def __str__(self) -> str:
        return self._print(Fraction(int(self)), repr(int(self)))

    def __reduce__(self) -> tuple[type[Self], tuple[int]]:
        return type(self), (int(self),)


Quantity: TypeAlias = Seconds | TimeOffset | Bytes | Hertz
QUANTITIES: tuple[type[Seconds], type[TimeOffset], type[Bytes], type[Hertz]] = (
    Seconds,
    TimeOffset,
    Bytes,
    Hertz,
)


def dec_hook(kind: type, given: object) -> object:
    """Turn a value of a file into the quantity `kind`, for msgspec; ValueError with a message for people."""
    for quantity in QUANTITIES:
        if kind is quantity:
            return quantity.parse(given)
    return given  # msgspec asks for `object` too: whatever the file says is right there


def enc_hook(value: object) -> str:
    """Turn a quantity into its text form, for msgspec; NotImplementedError for other types."""
    if isinstance(value, QUANTITIES):
        return str(value)
    raise NotImplementedError(f"a configuration does not hold {type(value).__name__}")


def schema_hook(kind: type) -> dict[str, object]:
    """Return the JSON schema of a quantity, for msgspec; NotImplementedError for other types."""
    for quantity in QUANTITIES:
        if kind is quantity:
            number: dict[str, object] = {"type": "number", "description": f"in {quantity.BASE}"}
            if not quantity.SIGNED:
                number["exclusiveMinimum"] = 0
            return {"anyOf": [{"type": "string", "description": quantity.words()}, number]}
    raise NotImplementedError(f"a configuration does not hold {kind.__name__}")
