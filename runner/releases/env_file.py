"""Reads the variables of a recipe's compose files from abra's env file and from ``abra.sh``."""

import re
import shlex
from io import StringIO
from pathlib import Path
from typing import Final

from dotenv.parser import Binding, parse_stream

from runner.reconcile.errors import SourceUnreachableError

STACK_NAME: Final = "STACK_NAME"
COMPOSE_FILE: Final = "COMPOSE_FILE"
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REFERENCE: Final = re.compile(r"(\\)?\$(?:\{([A-Z0-9_]+)\}|([A-Z0-9_]+))")
"""Upper case only, as in abra."""
_EXPORT: Final = re.compile(r"export\s+(.*)")
_EXPANDED: Final = re.compile(r"[$`]")


def read_env_file(path: Path) -> dict[str, str]:
    """Read lines of ``NAME=value``; ``$NAME`` is replaced by the value from a line above.

    Raises:
        SourceUnreachableError: it can't be read, or has a line of another form.
    """
    text = _read(path)
    if "\0" in text:
        raise SourceUnreachableError(f"{path} is no text file")
    found: dict[str, str] = {}
    for binding in parse_stream(StringIO(text)):
        where = f"{path}, line {_line(binding)}"
        if binding.error or (binding.key is not None and binding.value is None):
            raise SourceUnreachableError(f"{where}: expected NAME=value")
        if binding.key is None or binding.value is None:
            continue
        if not _NAME.fullmatch(binding.key):
            raise SourceUnreachableError(f"{where}: {binding.key!r} is no name of a variable")
        found[binding.key] = _expand(binding, found, where)
    return found


def read_exports(path: Path) -> dict[str, str]:
    """Read the lines ``export NAME=value`` of a shell file, and ignore all others.

    Lines with ``$`` or a backquote are ignored, too. Without the file the result is empty.

    Raises:
        SourceUnreachableError: it can't be read.
    """
    found: dict[str, str] = {}
    if path.exists():
        for line in _read(path).splitlines():
            match = _EXPORT.fullmatch(line)
            if match is not None and not _EXPANDED.search(line):
                found.update(_assignments(match[1]))
    return found


def variables(stack: str, recipe: Path, env_file: Path | None) -> dict[str, str]:
    """Return the variables that the compose files of ``recipe`` may refer to.

    Raises:
        SourceUnreachableError: a file can't be read.
    """
    own = read_env_file(env_file) if env_file is not None else {}
    return {**read_exports(recipe / "abra.sh"), **own, STACK_NAME: stack}


def compose_files(environment: dict[str, str], recipe: Path) -> tuple[str, ...]:
    """Return the names of the compose files to use, in order; each is a file of the recipe.

    Raises:
        SourceUnreachableError: one does not exist, or its name has a directory.
    """
    names = tuple((environment.get(COMPOSE_FILE) or "compose.yml").split(":"))
    for name in names:
        if name in {"", ".", ".."} or "/" in name:
            raise SourceUnreachableError(
                f"{COMPOSE_FILE} names {name!r}: expected a file name",
                hint=f'such as {COMPOSE_FILE}="compose.yml:compose.other.yml"',
            )
        if not (recipe / name).is_file():
            raise SourceUnreachableError(f"{COMPOSE_FILE} names {name}, which doesn't exist")
    return names


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise SourceUnreachableError(f"{path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SourceUnreachableError(f"{path} is no text file") from error


def _line(binding: Binding) -> int:
    """Return the line number; the parser counts from the blank lines before a binding."""
    text = binding.original.string
    blank = text[: len(text) - len(text.lstrip())]
    return binding.original.line + blank.count("\n")


def _expand(binding: Binding, known: dict[str, str], where: str) -> str:
    value = binding.value or ""
    written = binding.original.string.partition("=")[2].lstrip()
    if written.startswith("'"):
        return value

    def replace(match: re.Match[str]) -> str:
        name = match[2] or match[3]
        if match[1]:
            return match[0][1:]
        if name not in known:
            raise SourceUnreachableError(
                f"{where}: ${name} is not set above",
                hint="a value in single quotes is taken as it stands",
            )
        return known[name]

    return _REFERENCE.sub(replace, value)


def _assignments(text: str) -> dict[str, str]:
    """Parse ``A=1 B='2'`` up to the first word that is not an assignment, e.g. a comment."""
    words = shlex.shlex(text, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    words.commenters = ""
    found: dict[str, str] = {}
    try:
        for word in words:
            name, equals, value = word.partition("=")
            if not equals or not _NAME.fullmatch(name):
                break
            found[name] = value
    except ValueError:  # a quote that is closed on a later line
        return {}
    return found
