import pickle

import pytest

from beamcast.core.errors import BeamcastError, ConfigError, DataError, Problem, UsageError, WorldError


@pytest.mark.parametrize(
    ("where", "hint", "text"),
    [
        (None, None, "it broke"),
        ("rank 3", None, "rank 3: it broke"),
        (None, "Mend it", "it broke. Mend it"),
        ("rank 3", "Mend it", "rank 3: it broke. Mend it"),
    ],
)
def test_one_clear_sentence(where: str | None, hint: str | None, text: str) -> None:
    assert str(BeamcastError("it broke", where=where, hint=hint)) == text
    assert str(Problem("it broke", where, hint)) == text


def test_a_hint_after_a_question_needs_no_full_stop() -> None:
    assert str(UsageError("is it on?", hint="Look")) == "is it on? Look"


def test_exit_codes() -> None:
    assert (UsageError.exit_code, ConfigError.exit_code) == (2, 2)
    assert (DataError.exit_code, WorldError.exit_code) == (1, 1)


def test_of_one_problem_takes_its_attributes() -> None:
    error = ConfigError.of([Problem("wrong", "a.toml: x", "Mend it")])
    assert (error.message, error.where, error.hint) == ("wrong", "a.toml: x", "Mend it")


def test_of_many_problems_prints_a_line_for_each() -> None:
    error = ConfigError.of([Problem("one", "a"), Problem("two", "b")])
    assert str(error) == "a: one\nb: two"
    assert error.message == "2 problems in the configuration"


def test_of_no_problem_is_our_mistake() -> None:
    with pytest.raises(ValueError, match="at least one problem"):
        ConfigError.of([])


def test_inside_puts_the_file_before_the_path() -> None:
    assert Problem("m", "a.b").inside("f.toml").where == "f.toml: a.b"
    assert Problem("m").inside("f.toml").where == "f.toml"


@pytest.mark.parametrize(
    "error",
    [
        WorldError("gone", retry_may_help=True, where="node 1", hint="Wait"),
        ConfigError.of([Problem("one", "a"), Problem("two", "b")]),
        DataError("short frame", where="det:image"),
    ],
)
def test_travels_by_pickle(error: BeamcastError) -> None:
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert vars(back) == vars(error)
