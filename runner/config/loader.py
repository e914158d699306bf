"""Converts parsed TOML or JSON to typed values, and reports every mistake at once."""

from collections.abc import Callable, Iterable
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin

import attrs
import cattrs
from attrs import frozen
from cattrs.cols import (
    homogenous_tuple_structure_factory,
    is_mapping,
    mapping_structure_factory,  # pyright: ignore[reportUnknownVariableType] - untyped defaults
)
from cattrs.errors import (
    AttributeValidationNote,
    BaseValidationError,
    ClassValidationError,
    ForbiddenExtraKeysError,
    IterableValidationError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn
from typing_extensions import override

from runner.reconcile.field_types import Rule

_T = TypeVar("_T")
_Hook = Callable[[Any, Any], Any]

_PLAIN: dict[type, str] = {str: "a text", bool: "true or false"}
"""Types that need no rule of their own; numbers always have one."""
_SHOWN = 80
"""Characters of a wrong value that a message shows."""


@frozen
class Problem:
    """One mistake: its key, the value there, and the expected value."""

    key: str
    value: object
    expected: str

    @override
    def __str__(self) -> str:
        if self.value is _ABSENT:
            return f"{self.key}: missing; expected {self.expected}"
        return f"{self.key} = {_shown(self.value)}: expected {self.expected}"


def _shown(value: object) -> str:
    try:
        shown = repr(value)
    except (RecursionError, ValueError):  # nested too deeply; a number of too many digits
        return "(too long to show)"
    return shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "…"


class _Absent:
    pass


_ABSENT = _Absent()


class _BrokenRuleError(ValueError):
    def __init__(self, expected: str) -> None:
        super().__init__(expected)
        self.expected = expected


def structure(data: object, into: type[_T]) -> tuple[_T | None, list[Problem]]:
    """Convert ``data`` to an ``into``, or list all of its mistakes."""
    try:
        return _converter.structure(data, into), []
    except BaseValidationError as error:
        return None, _problems(error, "", data)
    except _BrokenRuleError as error:
        return None, [Problem("(the whole file)", data, error.expected)]


def _problems(error: BaseException, key: str, value: object) -> list[Problem]:
    """Walk the tree of errors down to the mistakes, keeping the path and the value with it."""
    if isinstance(error, ClassValidationError):
        found: list[Problem] = []
        grouped, others = error.group_exceptions()
        for inner, note in grouped:
            found += _problems(inner, _dotted(key, note), _member(value, note))
        for inner in others:
            found += _problems(inner, key, value)
        return found
    if isinstance(error, IterableValidationError):
        grouped_items, _ = error.group_exceptions()
        return [
            problem
            for inner, item in grouped_items
            for problem in _problems(inner, f"{key}[{item.index}]", _item(value, item))
        ]
    if isinstance(error, ForbiddenExtraKeysError):
        allowed = ", ".join(sorted(attribute.name for attribute in attrs.fields(error.cl)))
        return [
            Problem(
                _dotted_name(key, extra),
                _get(value, extra),
                f"no such key; the keys here are {allowed}",
            )
            for extra in sorted(error.extra_fields)
        ]
    if isinstance(error, _BrokenRuleError):
        return [Problem(key, value, error.expected)]
    if isinstance(error, KeyError):
        return [Problem(key, _ABSENT, "a value: it has no default")]
    return [Problem(key, value, str(error))]


def _dotted(key: str, note: AttributeValidationNote) -> str:
    return _dotted_name(key, note.name)


def _dotted_name(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _member(value: object, note: AttributeValidationNote) -> object:
    return _get(value, note.name)


def _get(value: object, name: str) -> object:
    return cast("dict[str, object]", value).get(name, _ABSENT) if isinstance(value, dict) else value


def _item(value: object, note: IterableValidationNote) -> object:
    if isinstance(note.index, int):
        return cast("list[object]", value)[note.index]
    return _get(value, str(note.index))


def _check_rule(value: Any, annotated: Any) -> Any:  # noqa: ANN401 - hooks get anything
    rule: Rule = annotated.__metadata__[0]
    if not rule.holds(value):
        raise _BrokenRuleError(rule.expected)
    return float(value) if get_args(annotated)[0] is float else value


def _has_rule(annotation: object) -> bool:
    return get_origin(annotation) is Annotated and isinstance(
        getattr(annotation, "__metadata__", (None,))[0], Rule
    )


def _check_plain(value: object, kind: type) -> object:
    """Never coerce: ``"3"`` is no number and ``0`` is not false."""
    if type(value) is not kind:
        raise _BrokenRuleError(_PLAIN[kind])
    return value


def _is_literal(annotation: object) -> bool:
    return get_origin(annotation) is Literal


def _check_literal(value: object, literal: object) -> object:
    words = get_args(literal)
    if not isinstance(value, str) or value not in words:
        raise _BrokenRuleError(_quoted(words))
    return value


def _quoted(words: Iterable[str]) -> str:
    return ", ".join(f'"{word}"' for word in words)


def _is_choice(annotation: object) -> bool:
    """Return whether this is a union of classes that differ in their ``kind``."""
    members = get_args(annotation)
    return get_origin(annotation) in {Union, UnionType} and all(map(attrs.has, members))


def _choose(converter: cattrs.Converter) -> _Hook:
    def hook(value: Any, union: Any) -> Any:  # noqa: ANN401 - hooks get anything
        members = {attrs.fields(member).kind.default: member for member in get_args(union)}
        kinds = _quoted(members)
        if not isinstance(value, dict):
            raise _BrokenRuleError(f"a table with a key kind, one of {kinds}")
        kind = cast("dict[str, object]", value).get("kind")
        if not isinstance(kind, str) or kind not in members:
            raise _BrokenRuleError(f"kind to be one of {kinds}")
        return converter.structure(value, members[kind])

    return hook


def _only_from(container: type, expected: str, hook: _Hook) -> _Hook:
    """Refuse a value that is no ``container`` before cattrs iterates over it."""

    def checked(value: Any, into: Any) -> Any:  # noqa: ANN401 - hooks get anything
        if not isinstance(value, container):
            raise _BrokenRuleError(expected)
        return hook(value, into)

    return checked


def _is_tuple(annotation: object) -> bool:
    return get_origin(annotation) is tuple


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)

    # cattrs calls these with a type form and wants a hook for it: nothing narrower than Any fits.
    def table(into: Any) -> _Hook:  # noqa: ANN401
        hook = make_dict_structure_fn(into, converter, _cattrs_forbid_extra_keys=True)
        return _only_from(dict, "a table", hook)

    def mapping(into: Any) -> _Hook:  # noqa: ANN401
        return _only_from(dict, "a table", mapping_structure_factory(into, converter))

    def several(into: Any) -> _Hook:  # noqa: ANN401
        return _only_from(list, "a list", homogenous_tuple_structure_factory(into, converter))

    for plain in _PLAIN:
        converter.register_structure_hook(plain, _check_plain)
    converter.register_structure_hook_func(_has_rule, _check_rule)
    converter.register_structure_hook_func(_is_literal, _check_literal)
    converter.register_structure_hook_factory(attrs.has, table)
    converter.register_structure_hook_factory(is_mapping, mapping)
    converter.register_structure_hook_factory(_is_tuple, several)
    converter.register_structure_hook_func(_is_choice, _choose(converter))
    return converter


_converter = _make_converter()
