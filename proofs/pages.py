"""Writes a report, which is a list of blocks, as Markdown and as HTML."""

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final, TypeAlias, assert_never

from attrs import frozen

STYLE: Final = """\
body { font: 15px/1.45 sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 }
th, td { border: 1px solid #ccc; padding: .25em .6em; text-align: left; vertical-align: top }
th { background: #f2f2f2 }
pre { background: #f6f6f6; padding: .7em; overflow-x: auto; font-size: 12px }
code { background: #f6f6f6 }
svg { max-width: 100%; height: auto }
"""
PICTURE: Final = re.compile(r"^!\[.*\]\(([^/)]+\.svg)\)$", re.MULTILINE)


@frozen
class Heading:
    level: int
    text: str


@frozen
class Words:
    text: str


@frozen
class Table:
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@frozen
class Code:
    text: str


@frozen
class Picture:
    name: str
    svg: str
    title: str


Block: TypeAlias = Heading | Words | Table | Code | Picture


def write(place: Path, name: str, blocks: Sequence[Block]) -> None:
    """Write NAME.md, NAME.html, and a file for each picture of NAME.md."""
    place.mkdir(parents=True, exist_ok=True)
    page = place / f"{name}.md"
    # Only pictures that the old page shows: names of other reports may have the same prefix.
    for old in PICTURE.findall(page.read_text() if page.exists() else ""):
        (place / old).unlink(missing_ok=True)
    for block in blocks:
        if isinstance(block, Picture):
            (place / f"{name}-{block.name}.svg").write_text(block.svg)
    page.write_text(to_markdown(blocks, name))
    title = next(block.text for block in blocks if isinstance(block, Heading))
    body = "\n".join(_html(block) for block in blocks)
    head = (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{escape(title)}</title>'
    )
    (place / f"{name}.html").write_text(f"{head}\n<style>\n{STYLE}</style>\n{body}\n</html>\n")


def to_markdown(blocks: Sequence[Block], name: str) -> str:
    """Render a page; its pictures are files that begin with ``name``."""
    return "\n\n".join(_markdown(block, name) for block in blocks) + "\n"


def _markdown(block: Block, name: str) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {text}"
        case Words(text):
            return text
        case Table(head, rows):
            lines = [list(head), ["---"] * len(head), *rows]
            return "\n".join(f"| {' | '.join(_cell(c) for c in line)} |" for line in lines)
        case Code(text):
            fence = "````" if "```" in text else "```"
            return f"{fence}text\n{text}\n{fence}"
        case Picture(number, _, title):
            return f"![{title}]({name}-{number}.svg)"
        case _:
            assert_never(block)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _html(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"<h{level}>{_inline(text)}</h{level}>"
        case Words(text):
            return f"<p>{_inline(text)}</p>"
        case Table(head, rows):
            top = "".join(f"<th>{_inline(cell)}</th>" for cell in head)
            body = "".join(
                f"<tr>{''.join(f'<td>{_inline(cell)}</td>' for cell in row)}</tr>\n" for row in rows
            )
            return f"<table>\n<tr>{top}</tr>\n{body}</table>"
        case Code(text):
            return f"<pre>{escape(text)}</pre>"
        case Picture(_, svg, _):
            return svg
        case _:
            assert_never(block)


def _inline(text: str) -> str:
    """Escape a text; text between backticks is code."""
    parts = escape(text).split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    return "".join(f"<code>{p}</code>" if n % 2 else p for n, p in enumerate(parts))
