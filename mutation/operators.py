"""Generates the mutants of a Python source: small changes of its syntax tree, like real faults.

A mutant is identified by its function and its change, not by its line, so that moved code keeps
its mutants. Annotations, docstrings, imports, prose in messages and ``hint=`` are not mutated.
"""

import ast
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias, TypeVar, cast

from attrs import frozen

Node: TypeAlias = ast.AST
Replacement: TypeAlias = Node | Sequence[Node]
"""The replacement of a node; in a list of nodes it may be any number of nodes."""

_T = TypeVar("_T")

_COMPARISONS: Final[dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_ARITHMETIC: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
_NAMES: Final = {
    "min": "max",
    "max": "min",
    "any": "all",
    "all": "any",
    "startswith": "endswith",
    "endswith": "startswith",
    "partition": "rpartition",
    "rpartition": "partition",
    "removeprefix": "removesuffix",
    "removesuffix": "removeprefix",
    "fullmatch": "search",
}
_WRAPPERS: Final = frozenset({"sorted", "frozenset", "set", "tuple", "list", "reversed", "str"})
_TRIMMERS: Final = frozenset(
    {"strip", "lstrip", "rstrip", "lower", "upper", "removeprefix", "removesuffix", "copy"}
)
_SQL: Final = (
    (" DESC", " ASC"),
    (" > ", " >= "),
    (" <= ", " < "),
    ("IS NOT NULL", "IS NULL"),
    (" IS NULL", " IS NOT NULL"),
    (" NOT IN ", " IN "),
    ("OR REPLACE", "OR IGNORE"),
    ("OR IGNORE", "OR REPLACE"),
    ("NULL OR ", "NULL AND "),
    (" AND ", " OR "),
    (" WHERE ", " WHERE 1 OR "),
)
_STATEMENTS: Final = ("SELECT", "INSERT", "UPDATE", "DELETE", "PRAGMA", "BEGIN", "COMMIT")
_EMPTY: Final[dict[str, tuple[str, ...]]] = {
    "bool": ("True", "False"),
    "str": ("''",),
    "int": ("0",),
    "float": ("0.0",),
    "tuple": ("()",),
    "list": ("[]",),
    "frozenset": ("frozenset()",),
    "set": ("set()",),
}
"""Values to return instead of a function's result, by the beginning of its annotation."""
_PROSE: Final = 40


@frozen
class Mutant:
    """One change of one module."""

    function: str
    change: str
    source: str


@frozen
class _Site:
    """A place in the tree, and its replacement."""

    function: str
    parent: Node
    field: str
    index: int | None
    """Its index, if the field is a list of nodes."""
    new: Replacement
    change: str


def mutants(source: str) -> Iterator[Mutant]:
    """Yield all mutants of a source, in source order."""
    tree = ast.parse(source)
    seen = {ast.unparse(tree)}
    names: Counter[tuple[str, str]] = Counter()
    for site in _walk(tree, "", None):
        text = _render(tree, site)
        if text in seen:
            continue
        seen.add(text)
        names[site.function, site.change] += 1
        count = names[site.function, site.change]
        change = site.change if count == 1 else f"{site.change} (#{count})"
        yield Mutant(site.function, change, text)


def _render(tree: ast.Module, site: _Site) -> str:
    value = getattr(site.parent, site.field)
    if site.index is None:
        setattr(site.parent, site.field, site.new)  # a node, or a list instead of the whole list
    else:
        new = [site.new] if isinstance(site.new, Node) else site.new
        setattr(site.parent, site.field, [*value[: site.index], *new, *value[site.index + 1 :]])
    text = ast.unparse(ast.fix_missing_locations(tree))
    setattr(site.parent, site.field, value)
    return text


def _show(what: Replacement) -> str:
    """Format a node on one line; a long one by its beginning and end."""
    nodes = [what] if isinstance(what, Node) else what
    text = " ".join("; ".join(map(ast.unparse, nodes)).split()) or "nothing"
    return text if len(text) <= 2 * _PROSE else f"{text[:_PROSE]} … {text[-_PROSE:]}"


def _walk(node: Node, function: str, returns: ast.expr | None) -> Iterator[_Site]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        function = f"{function}.{node.name}" if function else node.name
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        returns = node.returns
        yield from _emptied(node, function)
    for field, value in ast.iter_fields(node):
        if (type(node).__name__, field) in _LEFT_ALONE:
            continue
        for index, child in _children(value):
            if _is_left_alone(node, child):
                continue
            for new in _replacements(child, returns, is_listed=index is not None):
                change = f"{_show(child)} → {_show(new)}"
                yield _Site(function, node, field, index, new, change)
            yield from _walk(child, function, returns)


def _children(value: object) -> Iterator[tuple[int | None, Node]]:
    if isinstance(value, Node):
        yield None, value
    elif isinstance(value, list):
        for index, item in enumerate(cast("list[object]", value)):
            if isinstance(item, Node):
                yield index, item


_LEFT_ALONE: Final = frozenset(
    {
        ("FunctionDef", "returns"),
        ("FunctionDef", "decorator_list"),
        ("AsyncFunctionDef", "returns"),
        ("AsyncFunctionDef", "decorator_list"),
        ("ClassDef", "decorator_list"),
        ("ClassDef", "bases"),
        ("AnnAssign", "annotation"),
        ("AnnAssign", "target"),
        ("Assign", "targets"),
        ("arg", "annotation"),
        ("match_case", "pattern"),
    }
)


def _is_left_alone(parent: Node, child: Node) -> bool:
    match child:
        case ast.ClassDef(bases=bases):
            return any(ast.unparse(base).startswith("Protocol") for base in bases)
        case ast.AnnAssign(annotation=annotation):
            return "TypeAlias" in ast.unparse(annotation)
        case ast.Assign(value=value) if isinstance(parent, ast.Module):
            return _is_type(value)
        case ast.keyword(arg="hint") | ast.Expr(value=ast.Constant()):
            return True
        case _:
            kinds = ast.Import | ast.ImportFrom | ast.JoinedStr | ast.expr_context
            return isinstance(child, kinds)


def _is_type(value: ast.expr) -> bool:
    """Return whether a value is a type: ``Callable[...]``, ``A | B``, ``NewType(...)``."""
    match value:
        case ast.Call(func=ast.Name(id="TypeVar" | "NewType")):
            return True
        case ast.Subscript(slice=index):
            return not isinstance(index, ast.Slice)
        case _:
            return isinstance(value, ast.BinOp) and isinstance(value.op, ast.BitOr)


def _emptied(node: ast.FunctionDef | ast.AsyncFunctionDef, function: str) -> Iterator[_Site]:
    """Replace a body by ``return``, unless it has one statement: that has its own mutants."""
    first = 0 if ast.get_docstring(node) is None else 1
    is_generator = any(isinstance(inner, ast.Yield | ast.YieldFrom) for inner in ast.walk(node))
    if len(node.body) <= first + 1 or is_generator or node.name == "__init__":
        return
    for value in _empty_results(node.returns):
        new = [*node.body[:first], ast.Return(value)]
        change = f"the body → return {ast.unparse(value)}"
        yield _Site(function, node, "body", None, new, change)


def _empty_results(returns: ast.expr | None) -> Iterator[ast.expr]:
    """Yield values to return instead of a result, by the annotation."""
    kind = "None" if returns is None else ast.unparse(returns)
    if kind != "NoReturn":
        for text in _EMPTY.get(kind.partition("[")[0], ("None",)):
            yield ast.parse(text, mode="eval").body


def _replacements(  # noqa: C901, PLR0912 - one arm a kind of node
    node: Node, returns: ast.expr | None, *, is_listed: bool
) -> Iterator[Replacement]:
    match node:
        case ast.stmt():
            yield from _of_statement(node, returns)
        case ast.Compare(left=left, ops=[op], comparators=comparators):
            for other in _COMPARISONS[type(op)]:
                yield ast.Compare(left, [other()], comparators)
        case ast.BoolOp(op=op, values=values):
            yield ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
            yield from (ast.BoolOp(op, less) if less[1:] else less[0] for less in _less(values))
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield operand
        case ast.IfExp(body=body, orelse=orelse):
            yield from (body, orelse)
        case ast.BinOp(left=left, op=op, right=right) if not _is_text(left) | _is_text(right):
            yield left
            if (other_op := _ARITHMETIC.get(type(op))) is not None:
                yield ast.BinOp(left, other_op(), right)
        case ast.comprehension(ifs=[_, *_]):
            yield ast.comprehension(node.target, node.iter, [], node.is_async)
        case ast.Call():
            yield from _of_call(node)
        case ast.Constant(value=value):
            yield from map(ast.Constant, _of_constant(value))
        case ast.Tuple() | ast.List() | ast.Set() if _is_list(node):
            yield from (_sequence_of(node, less) for less in _less(node.elts) if less)
        case ast.Dict(keys=keys, values=values):
            for index in range(len(keys)):
                yield ast.Dict(_without(keys, index), _without(values, index))
        case ast.Subscript(value=value, slice=ast.Slice()):
            yield value
        case ast.keyword() if is_listed:
            yield []
        case ast.ExceptHandler():
            yield from _of_handler(node)
        case ast.match_case():
            yield from _of_case(node)
        case _:
            pass


def _of_statement(node: ast.stmt, returns: ast.expr | None) -> Iterator[Replacement]:
    match node:
        case ast.Return(value=ast.expr()):
            yield from (ast.Return(empty) for empty in _empty_results(returns))
        case ast.Continue():
            yield from (ast.Pass(), ast.Break())
        case ast.Break():
            yield from (ast.Pass(), ast.Continue())
        case ast.If(body=body, orelse=orelse):
            yield body
            yield orelse or ast.Pass()
        case ast.With() | ast.AsyncWith() if all(i.optional_vars is None for i in node.items):
            yield node.body
        case ast.Try(finalbody=[_, *_]):
            kept = ast.Try(node.body, node.handlers, node.orelse, [])
            yield kept if node.handlers else node.body
        case _ if _can_be_dropped(node):
            yield ast.Pass()
        case _:
            pass


def _can_be_dropped(node: ast.stmt) -> bool:
    """Return whether a statement has an effect other than binding a name.

    Without a binding the following code fails at once, so that mutant would prove nothing.
    """
    match node:
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript(), *_]):
            return True
        case ast.AnnAssign(target=ast.Attribute(), value=ast.expr()):
            return True
        case ast.Expr(value=ast.Call(func=ast.Name(id="assert_never"))):
            return False  # a check by mypy; no value of the right type reaches it
        case _:
            kinds = ast.Expr | ast.Raise | ast.AugAssign | ast.Delete | ast.Return
            return isinstance(node, kinds | ast.While | ast.For | ast.AsyncFor)


def _of_call(node: ast.Call) -> Iterator[ast.expr]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
    match node.func:
        case ast.Name() if name in _NAMES:
            yield ast.Call(ast.Name(_NAMES[name], ast.Load()), node.args, node.keywords)
        case ast.Attribute(value=value) if name in _NAMES:
            other = ast.Attribute(value, _NAMES[name], ast.Load())
            yield ast.Call(other, node.args, node.keywords)
        case _:
            pass
    match node:
        case ast.Call(func=ast.Name(), args=[ast.Set()]):
            pass  # a set behaves as a frozenset unless it is written to
        case ast.Call(func=ast.Name(), args=[only], keywords=[]) if name in _WRAPPERS:
            yield only
        case ast.Call(func=ast.Attribute(value=value)) if name in _TRIMMERS:
            yield value
        case ast.Call(args=[_, _, _, *_] as args):
            for index in range(1, len(args)):
                swapped = [args[index], args[index - 1]]
                exchanged = [*args[: index - 1], *swapped, *args[index + 1 :]]
                yield ast.Call(node.func, exchanged, node.keywords)
        case _:
            pass


def _of_constant(value: object) -> Iterator[bool | float | str | bytes]:
    match value:
        case bool():
            yield not value
        case int():
            yield value + 1
            yield value - 1
        case float():
            yield value * 2 if value else 1.0
            yield value / 2
        case str() if value.lstrip().startswith(_STATEMENTS):
            yield from _of_sql(value)
        case str() if " " not in value and len(value) < _PROSE:
            yield f"XX{value}"
        case bytes():
            yield b"XX" + value
        case _:
            pass


def _of_sql(sql: str) -> Iterator[str]:
    """Change one place of a statement."""
    for old, new in _SQL:
        parts = sql.split(old)
        for index in range(1, len(parts)):
            yield old.join(parts[:index]) + new + old.join(parts[index:])


def _of_handler(node: ast.ExceptHandler) -> Iterator[ast.ExceptHandler]:
    if isinstance(node.type, ast.Tuple):
        for less in _less(node.type.elts):
            yield ast.ExceptHandler(ast.Tuple(less, ast.Load()), node.name, node.body)
    yield ast.ExceptHandler(node.type, node.name, [ast.Raise()])


def _of_case(node: ast.match_case) -> Iterator[Replacement]:
    """Drop a case, its guard, or one of its alternatives."""
    pattern = node.pattern
    if node.guard is not None:
        yield ast.match_case(pattern, None, node.body)
    if isinstance(pattern, ast.MatchOr):
        for less in _less(pattern.patterns):
            yield ast.match_case(ast.MatchOr(less), node.guard, node.body)
    elif not isinstance(pattern, ast.MatchAs) or pattern.pattern is not None:
        yield []


def _is_list(node: ast.Tuple | ast.List | ast.Set) -> bool:
    """Return whether a display is a list of like things: no target of unpacking, no pair."""
    is_pair = isinstance(node, ast.Tuple) and len(node.elts) == 2  # noqa: PLR2004
    return not isinstance(getattr(node, "ctx", None), ast.Store) and (
        not is_pair or all(isinstance(element, ast.Tuple) for element in node.elts)
    )


def _sequence_of(node: ast.Tuple | ast.List | ast.Set, elements: list[ast.expr]) -> ast.expr:
    if isinstance(node, ast.Set):
        return ast.Set(elements)
    return type(node)(elements, ast.Load())


def _less(items: list[_T]) -> Iterator[list[_T]]:
    return (_without(items, index) for index in range(len(items)))


def _without(items: list[_T], index: int) -> list[_T]:
    return [*items[:index], *items[index + 1 :]]


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
