"""Rows of samples that a measurement returns, and their Markdown table."""

from collections.abc import Sequence
from statistics import median
from string import ascii_lowercase
from typing import Final, Literal

from attrs import frozen

Unit = Literal["ms", "MB"]
"""MB is 10^6 bytes."""

HEAD: Final = (
    "| | measured | median | min to max | against | difference | ratio |\n"
    "|---|---|--:|--:|---|--:|--:|"
)


class BenchError(Exception):
    """The measurement failed."""


@frozen
class Row:
    """Samples of one quantity in ``unit``, and the row that it is compared with."""

    name: str
    """Unique in a table."""
    meaning: str
    samples: tuple[float, ...]
    unit: Unit = "ms"
    floor: "Row | None" = None
    """Measured in the same run, alternately with this one."""

    @property
    def middle(self) -> float:
        return median(self.samples)


@frozen
class Section:
    """One measurement: a title, its method in a sentence or two, and its rows."""

    title: str
    method: str
    rows: tuple[Row, ...]


def milliseconds(seconds: Sequence[float]) -> tuple[float, ...]:
    return tuple(1000 * s for s in seconds)


def megabytes(sizes: Sequence[int]) -> tuple[float, ...]:
    """Turn bytes into MB."""
    return tuple(size / 1e6 for size in sizes)


def table(sections: Sequence[Section]) -> str:
    """Return all rows as one Markdown table."""
    numbers = [key for number, section in enumerate(sections, 1) for key in _keys(number, section)]
    rows = [row for section in sections for row in section.rows]
    keys = dict(zip((row.name for row in rows), numbers, strict=True))
    return "\n".join([HEAD, *(_line(row, keys) for row in rows)])


def legend(sections: Sequence[Section]) -> str:
    """Return the method and the meaning of each row; rows with the same meaning share a line."""
    parts: list[str] = []
    for number, section in enumerate(sections, 1):
        shared: dict[str, list[str]] = {}
        for key, row in zip(_keys(number, section), section.rows, strict=True):
            shared.setdefault(row.meaning, []).append(key)
        meanings = [f"- **{', '.join(keys)}** {meaning}" for meaning, keys in shared.items()]
        parts.append(
            "\n".join([f"### {number}. {section.title}", "", section.method, "", *meanings])
        )
    return "\n\n".join(parts)


def _keys(number: int, section: Section) -> list[str]:
    """Give the rows of a section their numbers: 1a, 1b, and so on."""
    return [f"{number}{letter}" for letter in ascii_lowercase[: len(section.rows)]]


def _line(row: Row, keys: dict[str, str]) -> str:
    middle = f"{_number(row.middle)} {row.unit}"
    spread = f"{_number(min(row.samples))} to {_number(max(row.samples))}"
    against = difference = ratio = ""
    if row.floor is not None:
        against = keys[row.floor.name]
        difference = f"{_number(row.middle - row.floor.middle, sign='+')} {row.unit}"
        ratio = f"{row.middle / row.floor.middle:.2f}"
    cells = (keys[row.name], row.name, middle, spread, against, difference, ratio)
    return f"| {' | '.join(cells)} |"


def _number(value: float, sign: str = "") -> str:
    """Format a number with about three digits."""
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:{sign}.{digits}f}"
