"""Evaluates the rule of a Traefik router for a request: it matches, it does not, or unknown. Pure.

A rule is an expression of matchers with ``&&``, ``||``, ``!`` and parentheses, which bind as they
do in Python: so Python's own parser reads it. A matcher is unknown if it is not about the host or
the path, or not implemented here.
"""

import ast
import re
from collections.abc import Iterator
from typing import Final, TypeAlias

from attrs import frozen

Truth: TypeAlias = bool | None
"""None: unknown."""

_TEXT: Final = r'`[^`]*`|"[^"\\]*"'
_MATCHER: Final = re.compile(
    rf"(?P<name>[A-Za-z]+)\((?P<texts>\s*(?:{_TEXT})(?:\s*,\s*(?:{_TEXT}))*)\s*\)"
)
_ANY_HOST: Final = frozenset({"^.+$", "{host:.+}"})
"""Traefik's own patterns for any host, in the router that redirects a whole entrypoint."""


@frozen
class Request:
    """The host and path of a request, which routers match."""

    host: str
    path: str


def matches(rule: str, request: Request) -> Truth:
    """Evaluate a rule for a request; unknown also if the rule can't be parsed."""
    truths: list[Truth] = []

    def remember(found: re.Match[str]) -> str:
        texts = [text[1:-1] for text in re.findall(_TEXT, found["texts"])]
        truths.append(_judge(found["name"], texts, request))
        return f" _{len(truths) - 1} "

    if re.fullmatch(r"(?:[\s()!]|&&|\|\|)*", _MATCHER.sub(" ", rule)) is None:
        return None
    words = (
        _MATCHER.sub(remember, rule)
        .replace("&&", " and ")
        .replace("||", " or ")
        .replace("!", " not ")
    )
    try:
        return _evaluate(ast.parse(words.strip(), mode="eval").body, truths)
    except (SyntaxError, RecursionError, MemoryError):
        return None


def _judge(name: str, texts: list[str], request: Request) -> Truth:
    match name:
        case "Host":
            return request.host.lower() in {text.lower().rstrip(".") for text in texts}
        case "HostSNI":
            return "*" in texts or request.host.lower() in {text.lower() for text in texts}
        case "HostRegexp" if _ANY_HOST.intersection(texts):
            return True
        case "Path" if _is_literal(texts, request):
            return request.path in texts
        case "PathPrefix" if _is_literal(texts, request):
            return any(request.path.startswith(text) for text in texts)
        case _:
            return None


def _is_literal(texts: list[str], request: Request) -> bool:
    """Return whether paths can be compared as text: no pattern of version 2, no escape."""
    return "{" not in "".join(texts) and "%" not in request.path


def _evaluate(node: ast.expr, truths: list[Truth]) -> Truth:
    match node:
        case ast.Name(id=name):
            return truths[int(name.removeprefix("_"))]
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            truth = _evaluate(operand, truths)
            return None if truth is None else not truth
        case ast.BoolOp(op=op, values=values):
            return _combine(isinstance(op, ast.Or), (_evaluate(value, truths) for value in values))
        case _:
            return None


def _combine(deciding: bool, truths: Iterator[Truth]) -> Truth:  # noqa: FBT001 - a truth among truths
    """Combine in Kleene logic: a ``deciding`` operand decides, else an unknown one does."""
    all_ = list(truths)
    if deciding in all_:
        return deciding
    return None if None in all_ else not deciding
