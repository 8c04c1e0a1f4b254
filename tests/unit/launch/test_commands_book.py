"""Commands to ranks: who is asked, what becomes of the answers, what a rank that comes back is given."""

import pytest

from beamcast.core.commands import parse_line
from beamcast.core.errors import UsageError
from beamcast.launch.commands import ANSWER_S, CommandBook, Ticket
from beamcast.pva.messages import CommandAnswer

LIVE = ["a/0", "a/1", "b/0"]


@pytest.fixture
def book() -> CommandBook:
    return CommandBook({"a": 2, "b": 1})


def ask(
    book: CommandBook, line: str, pool: str | None = None, rank: int | None = None, **more: object
) -> Ticket:
    return book.ask(parse_line(line), pool=pool, rank=rank, live=more.get("live", LIVE), now=0.0)  # type: ignore[arg-type]


def test_each_rank_of_the_pool_is_told_until_it_answers(book: CommandBook) -> None:
    ticket = ask(book, "reset_stats", "a")
    (order,) = book.orders("a/0")
    assert (order.number, order.name) == (ticket.number, "reset_stats")
    assert book.orders("b/0") == ()
    book.answered("a/0", [CommandAnswer(number=ticket.number, message="reset")])
    book.answered("a/0", [CommandAnswer(number=ticket.number, code=1, message="a repeat does not count")])
    assert book.orders("a/0") == ()
    assert ticket.waiting == {"a/1"}
    book.answered("a/1", [CommandAnswer(number=ticket.number, message="reset")])
    assert ticket.summary == (0, "2 ranks: reset")


def test_whoever_asked_is_told_once_with_what_went_wrong_where(book: CommandBook) -> None:
    told: list[tuple[int, str]] = []
    ticket = book.ask(
        parse_line("stop"),
        pool=None,
        rank=None,
        live=LIVE,
        now=0.0,
        done=lambda one: told.append(one.summary),
    )
    book.answered("a/0", [CommandAnswer(number=ticket.number, message="stopping")])
    book.tick(1.0, ["a/0", "b/0"])
    assert told == []
    book.tick(ANSWER_S + 1, ["a/0", "b/0"])
    ((code, said),) = told
    assert code == 1
    assert "a/1: it ended before it answered" in said
    assert "b/0: no answer within 30 s" in said


def test_parameters_are_kept_for_ranks_that_come_back(book: CommandBook) -> None:
    ticket = ask(book, 'configure {"gain": 3}', "a", live=["a/0"])
    assert book.configured("a/0") == book.configured("a/1") == ""
    book.answered("a/0", [CommandAnswer(number=ticket.number, message="configured")])
    assert book.configured("a/0") == book.configured("a/1") == '{"gain": 3}', "a/1 was dead when it was asked"
    book.answered("a/1", [CommandAnswer(number=0, arguments='{"mask": "b"}')])
    assert book.configured("a/1") == '{"gain": 3, "mask": "b"}'
    refused = ask(book, 'configure {"gain": 4}', "a")
    book.answered("a/0", [CommandAnswer(number=refused.number, code=1, message="not configured")])
    assert book.configured("a/0") == '{"gain": 3}'


@pytest.mark.parametrize(
    ("pool", "rank", "words"),
    [
        ("c", None, "no pool 'c'"),
        ("a", 2, "has ranks 0 to 1, not 2"),
        (None, 0, "say which pool"),
        ("b", 0, "nobody"),
    ],
)
def test_who_is_not_there_is_not_asked(
    book: CommandBook, pool: str | None, rank: int | None, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        ask(book, "stop", pool, rank, live=["a/0"])


def answer(book: CommandBook, ticket: Ticket, **codes: int) -> None:
    for member, code in codes.items():
        said = {
            0: "configured",
            1: "not configured: no",
            2: "not configured: this processor has no configure()",
        }
        name = member.replace("_", "/")
        book.answered(name, [CommandAnswer(number=ticket.number, code=code, message=said[code])])


def test_who_has_nothing_to_configure_is_not_meant_where_others_have(book: CommandBook) -> None:
    """P15: `configure` for the whole run, whose collector has no `configure`."""
    ticket = ask(book, 'configure {"gain": 3}')
    answer(book, ticket, b_0=2, a_0=0, a_1=0)
    assert ticket.summary == (0, "2 ranks: configured")
    assert ticket.answers["b/0"] == CommandAnswer(number=ticket.number, message="has nothing to configure")
    assert book.configured("b/0") == "", "and it is not given them when it comes back"

    none = ask(book, 'configure {"gain": 3}')
    answer(book, none, a_0=2, a_1=2, b_0=2)
    assert none.summary[0] == 1, "nobody took them"
    wrong = ask(book, 'configure {"gain": 3}')
    answer(book, wrong, a_0=1, a_1=0, b_0=2)
    assert wrong.summary == (1, "a/0: not configured: no")
    alone = ask(book, 'configure {"gain": 3}', "b")
    answer(book, alone, b_0=2)
    assert alone.summary[0] == 1, "it was asked by name"
