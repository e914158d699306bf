"""Messages and help texts use plain words (STYLE.md): the worst words of riddles are counted."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
MODULES: Final = sorted((ROOT / "runner").rglob("*.py"))
RIDDLES: Final = re.compile(
    r"\b(nobody|somebody|whoever|another hand|what is|tells|a stranger)\b", re.IGNORECASE
)
"""Words that take the place of the name of a thing."""


def texts(module: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each string that is no docstring: messages, hints, help."""
    tree = ast.parse(module.read_text("utf-8"))
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in bare:
            yield node.lineno, node.value


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_messages_and_help_name_things(module: Path) -> None:
    """The subject of a message is the thing, by its name."""
    assert [(line, text) for line, text in texts(module) if RIDDLES.search(text)] == []


def test_the_count_sees_a_riddle_and_spares_docstrings(tmp_path: Path) -> None:
    """In a plain string and in an f-string."""
    module = tmp_path / "a.py"
    module.write_text(
        '"""Nobody."""\nA = "it tells nobody"\nB = f"{A}: whoever asks"\nC = "fine"\n'
    )
    found = [line for line, text in texts(module) if RIDDLES.search(text)]
    assert found == [2, 3]
