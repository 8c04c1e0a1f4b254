"""The table of the suite, as text. Pure."""

from collections.abc import Iterator, Sequence

from chaos.verdict import Row

HEAD = (
    "scenario",
    "frames in",
    "results out",
    "lost",
    "twice",
    "re-sent",
    "whole after",
    "re-made after",
    "verdict",
)


def cells(row: Row) -> tuple[str, ...]:
    """One row as texts."""
    return (
        row.scenario,
        str(row.sent),
        str(row.results),
        str(len(row.lost)),
        str(len(row.duplicates)),
        str(row.sent_again),
        seconds(row.whole_after_s),
        seconds(row.remade_after_s),
        row.verdict.splitlines()[0],
    )


def seconds(value: float | None) -> str:
    """A time, or a dash where there is none."""
    return "-" if value is None else f"{value:.1f} s"


def table(rows: Sequence[Row]) -> Iterator[str]:
    """The lines of the table."""
    lines = [HEAD, *(cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    for line in lines:
        first, *numbers, verdict = line
        middle = (text.rjust(width) for text, width in zip(numbers, widths[1:-1], strict=True))
        yield "  ".join((first.ljust(widths[0]), *middle, verdict))
