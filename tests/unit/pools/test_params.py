from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest

from beamcast.config.units import Seconds
from beamcast.core.errors import UsageError
from beamcast.pools.params import checked_arguments

ONE_SECOND = Seconds(1.0)


class Finder:
    def __init__(
        self,
        *,
        threshold: float,
        method: Literal["fast", "exact"] = "fast",
        size: Annotated[int, msgspec.Meta(ge=1)] = 3,
        where: Path = Path(),
        wait: Seconds = ONE_SECOND,
        model: Any = None,
    ) -> None:
        self.threshold = threshold


def test_values_are_converted_to_what_the_annotations_say() -> None:
    given = {"threshold": 3, "where": "maps", "wait": "2 s", "model": {"a": 1}}
    values = checked_arguments(Finder, given, what="it")
    assert values == {"threshold": 3.0, "where": Path("maps"), "wait": Seconds(2.0), "model": {"a": 1}}
    assert isinstance(values["threshold"], float)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"treshold": 3}, "unknown parameter 'treshold' (did you mean 'threshold'?)"),
        ({"zzz": 3, "threshold": 1}, "(it takes threshold, method, size, where, wait, model)"),
        ({}, "parameter 'threshold' is missing"),
        ({"threshold": "3"}, "parameter 'threshold' = '3': Expected `float`, got `str`"),
        ({"threshold": True}, "Expected `float`, got `bool`"),
        ({"threshold": 1, "size": 0}, "Expected `int` >= 1"),
        ({"threshold": 1, "method": "slow"}, "Invalid enum value 'slow'"),
        ({"threshold": 1, "wait": "2"}, "parameter 'wait' = '2'"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(given: dict[str, object], problem: str) -> None:
    with pytest.raises(UsageError) as refused:
        checked_arguments(Finder, given, what="processor 'x'")
    assert str(refused.value).startswith("processor 'x': ")
    assert problem in str(refused.value)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(UsageError, match=r"unknown parameter 'a'.*'threshold' is missing.*'size' = 'b'"):
        checked_arguments(Finder, {"a": 1, "size": "b"}, what="it")


def test_an_annotation_that_can_not_be_resolved_lets_everything_through() -> None:
    def configure(*, x: "NoSuchType", y: list["Finder"]) -> None:  # type: ignore[name-defined]  # noqa: F821
        """Annotated with names that are gone."""

    assert checked_arguments(configure, {"x": 1, "y": 2}, what="it") == {"x": 1, "y": 2}


def test_a_catch_all_takes_what_is_not_named() -> None:
    def configure(x: int, **rest: object) -> None:
        """Takes everything."""

    assert checked_arguments(configure, {"x": 1, "y": 2}, what="it") == {"x": 1, "y": 2}
    with pytest.raises(UsageError, match="'x' is missing"):
        checked_arguments(configure, {"y": 2}, what="it")
