"""`make mutants`: its changes, its samples, and that its verdict is that of the tests."""

from pathlib import Path

import pytest
from attrs import evolve

from mutation.modules import MODULES, ROOT, Module
from mutation.operators import Mutant, mutants
from mutation.run import Result, keep, read_equivalent, render, sample
from mutation.trial import Copy, Fate

AMPLE = 300.0
"""Seconds that no trial of a toy needs."""


def changes(source: str) -> set[str]:
    return {mutant.change for mutant in mutants(source)}


CASES: list[tuple[str, set[str]]] = [
    ("f(a < b)", {"a < b → a <= b", "a < b → a >= b", "f(a < b) → pass"}),
    ("x = a in b", {"a in b → a not in b"}),
    ("x = a and b", {"a and b → a or b", "a and b → b", "a and b → a"}),
    ("x = not a", {"not a → a"}),
    ("x = a if b else c", {"a if b else c → a", "a if b else c → c"}),
    ("x = [a for a in b if a]", {"for a in b if a → for a in b"}),
    ("x = any(a)", {"any(a) → all(a)"}),
    ("x = sorted(a)", {"sorted(a) → a"}),
    ("x = a.strip()", {"a.strip() → a"}),
    ("x = min(a, b)", {"min(a, b) → max(a, b)"}),
    ("x = f(a, k=b)", {"k=b → nothing"}),
    ("x = f(a, hint=b)", set()),
    ("x = f(a, b, c)", {"f(a, b, c) → f(b, a, c)", "f(a, b, c) → f(a, c, b)"}),
    ("x = a - b", {"a - b → a", "a - b → a + b"}),
    ("x = 7", {"7 → 8", "7 → 6"}),
    ("x = 0.0", {"0.0 → 1.0"}),
    ("x = True", {"True → False"}),
    ("x = 'word'", {"'word' → 'XXword'"}),
    ("x = 'some words'", set()),
    ("x = f'{a}'", set()),
    ("x = [a, b]", {"[a, b] → [b]", "[a, b] → [a]"}),
    ("x = (a, b)", set()),
    ("x = {a: 1}", {"{a: 1} → {}", "1 → 2", "1 → 0"}),
    ("x = a[:b]", {"a[:b] → a"}),
    ("x.a = b", {"x.a = b → pass"}),
    ("x: int = b", set()),
    ("assert_never(a)", set()),
    ("x: TypeAlias = A | B", set()),
    ("import x", set()),
    ("raise X(a)", {"raise X(a) → pass"}),
    ("with suppress(A): f()", {"with suppress(A): f() → f()", "f() → pass"}),
    ("try: x = a\nfinally: y = b", {"try: x = a finally: y = b → x = a"}),
    (
        "try: x = a\nexcept (A, B): y = b",
        {
            "except (A, B): y = b → except (B,): y = b",
            "except (A, B): y = b → except (A,): y = b",
            "except (A, B): y = b → except (A, B): raise",
        },
    ),
    (
        "match a:\n case A() | B() if c: x = d\n case _: x = e",
        {
            "case A() | B() if c: x = d → case A() | B(): x = d",
            "case A() | B() if c: x = d → case B() if c: x = d",
            "case A() | B() if c: x = d → case A() if c: x = d",
        },
    ),
    ("for a in b: f(a)", {"for a in b: f(a) → pass", "f(a) → pass"}),
    ("def f() -> bool: return a", {"return a → return True", "return a → return False"}),
    ("def f() -> str: return a", {"return a → return ''"}),
    ("def f() -> A: return a", {"return a → return None"}),
    ("def f():\n 'Say.'\n x = a\n y = b", {"the body → return None"}),
    (
        "x = 'SELECT a ORDER BY a DESC, b DESC'",
        {
            "'SELECT a ORDER BY a DESC, b DESC' → 'SELECT a ORDER BY a ASC, b DESC'",
            "'SELECT a ORDER BY a DESC, b DESC' → 'SELECT a ORDER BY a DESC, b ASC'",
        },
    ),
]


@pytest.mark.parametrize(("source", "expected"), CASES)
def test_each_kind_of_code_has_its_faults(source: str, expected: set[str]) -> None:
    """One change at a time; annotations, imports, messages and hints are left alone."""
    assert changes(source) == expected


def test_a_mutant_is_known_by_its_function_wherever_it_stands() -> None:
    """So that equivalents and samples survive a move; the second of two equal ones is numbered."""
    source = "class A:\n def f(self):\n  return a < 0 or b < 0\n"
    names = [(mutant.function, mutant.change) for mutant in mutants(source)]
    assert names == [(m.function, m.change) for m in mutants(f"import x\n\n\n{source}")]
    assert ("A.f", "0 → 1") in names
    assert ("A.f", "0 → 1 (#2)") in names
    assert len(set(names)) == len(names)


def test_a_sample_stays_when_code_is_added() -> None:
    """The same seed draws the same, in the same order; another one draws another."""
    some = [Mutant("f", str(number), "") for number in range(100)]
    drawn = sample("gate", some, 40, "1")
    assert len(set(drawn)) == 40
    assert drawn == sample("gate", some[::-1], 40, "1")
    assert drawn != sample("gate", some, 40, "2")
    more = sample("gate", [*some, Mutant("f", "new", "")], 40, "1")
    assert set(drawn) - set(more) <= {drawn[-1]}
    assert sample("gate", some, 1000, "1") == sample("gate", some, 100, "1")


def test_the_table_of_modules_names_existing_files() -> None:
    """Each module once, its tests once; a file that was renamed is missed here."""
    names = [module.name for module in MODULES]
    assert len(set(names)) == len(names)
    for module in MODULES:
        tests = [*module.tests, *module.slow]
        assert len(set(tests)) == len(tests)
        for path in (module.path, *tests):
            assert (ROOT / path.partition("::")[0]).is_file(), path


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_each_listed_equivalent_is_an_existing_mutant(module: Module) -> None:
    """A change of the code invalidates its entry; and each entry has a reason."""
    listed = {key[1:]: reason for key, reason in read_equivalent().items() if key[0] == module.name}
    if listed:
        found = {(m.function, m.change) for m in mutants((ROOT / module.path).read_text())}
        assert set(listed) <= found
        assert all(listed.values())


TOY = """\
def least(numbers: list[int]) -> int:
    found = numbers[0]
    for number in numbers:
        if number < found:
            found = number
    return found
"""
TEST = """\
from runner.reconcile.toy import least

def test_least() -> None:
    assert least([2, 1, 3]) == 1
"""


def test_the_tests_and_then_the_types_judge_a_mutant(tmp_path: Path) -> None:
    """One after the other on one copy: leftovers of one mutant don't affect the next."""
    pytest.importorskip("mypy")
    project = tmp_path / "project"
    (project / "runner/reconcile").mkdir(parents=True)
    (project / "runner/reconcile/toy.py").write_text(TOY)
    (project / "test_toy.py").write_text(TEST)
    copy = Copy(tmp_path / "copy", project)
    toy = Module("runner/reconcile/toy.py", ("test_toy.py",))

    def fate(old: str, new: str, limit: float = AMPLE) -> Fate:
        return copy.try_out(toy, Mutant("least", "", TOY.replace(old, new)), (limit, limit))

    assert copy.measure(toy.tests) > 0
    assert fate("number < found", "number > found") is Fate.KILLED
    assert fate("number < found", "number <= found") is Fate.SURVIVED
    assert fate("return found", "return found if numbers else None") is Fate.REFUSED
    assert fate("for number in numbers:", "while number := 1:", 3.0) is Fate.TIMEOUT
    assert fate("number < found", "number > found") is Fate.KILLED
    assert (project / "runner/reconcile/toy.py").read_text() == TOY
    with pytest.raises(SystemExit, match="fails its own tests: test_none"):
        copy.measure(("test_none.py",))


def test_the_table_has_a_row_a_module_and_names_what_survived(tmp_path: Path) -> None:
    """A module that is tried again replaces its row; the others stay, in the order of the code."""
    loop = Result("loop", "1", 99, 5, 1, 2, ("`f`: `a → b`",), ("`g`: `c → d`: same",), 7)
    machine = Result("machine", "2", 50, 40, 0, 0, (), (), 8)
    store = tmp_path / "store.json"
    keep([evolve(loop, killed=0, survivors=("`old`",))], store)
    keep([machine], store)
    table = render(keep([loop], store)).splitlines()
    rows = [line for line in table if line.startswith("| ")][1:]
    assert rows == [
        "| machine | 50 | 2 | 40 | 40 | 0 | 0 | 0 | 0 | 8 |",
        "| loop | 99 | 1 | 10 | 5 | 1 | 2 | 1 | 1 | 7 |",
    ]
    listed = [line for line in table if line.startswith(("- ", "## "))]
    assert listed == [
        *("## Survivors", "- loop: `f`: `a → b`"),
        *("## Equivalent", "- loop: `g`: `c → d`: same"),
    ]
