"""Fitting text and tables into a terminal: nothing breaks inside a word or a number. Pure."""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

GAP = "  "
LEAST_SHRUNK = 8


def flow(items: Iterable[str], width: int) -> list[str]:
    """Lines of at most `width` characters that break between items only; an item that is longer has a line."""
    lines: list[str] = []
    for item in items:
        if lines and len(lines[-1]) + len(GAP) + len(item) <= width:
            lines[-1] += GAP + item
        else:
            lines.append(item)
    return lines


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most `width` characters; those after the first are indented."""
    return textwrap.wrap(text, max(width, 20), subsequent_indent="  ", break_on_hyphens=False) or [""]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of short texts. `leave`: those with the highest number are left out first where the screen is narrow,
    0: never. `shrinks`: texts may be cut before anything is left out."""

    title: str
    cells: Sequence[Text]
    right: bool = False
    leave: int = 0
    shrinks: bool = False

    @property
    def width(self) -> int:
        """Of its widest text."""
        return max(len(self.title), *(len(cell) for cell in self.cells)) if self.cells else len(self.title)

    @property
    def least(self) -> int:
        """The width that it can do with."""
        return min(self.width, LEAST_SHRUNK) if self.shrinks else self.width


def fitting(columns: Sequence[Column], width: int) -> list[Column]:
    """The columns for which a screen of that width has room."""
    kept = list(columns)
    while sum(column.least for column in kept) + len(GAP) * (len(kept) - 1) > width:
        candidates = [column for column in kept if column.leave]
        if not candidates:
            break
        kept.remove(max(candidates, key=lambda column: column.leave))
    return kept


def table_of(columns: Sequence[Column], width: int) -> Table:
    """A table of one line for each row, without the columns for which there is no room."""
    kept = fitting(columns, width)
    table = Table(box=None, pad_edge=False, header_style="bold")
    spare = width - sum(column.least for column in kept) - len(GAP) * (len(kept) - 1)
    for column in kept:
        room = min(column.width, column.least + max(spare, 0))
        spare -= room - column.least
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=True,
            overflow="ellipsis",
            min_width=room,
            max_width=room,
        )
    for row in zip(*(column.cells for column in kept), strict=True):
        table.add_row(*row)
    return table
