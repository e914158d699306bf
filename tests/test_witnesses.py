"""Promises beyond the type checker: where a witness is made, and code that must not type-check."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
MUST_FAIL = ROOT / "tests" / "typing" / "must_fail.py"


def makers(name: str) -> set[str]:
    """List the files below runner/ that call ``name(...)`` or ``module.name(...)``."""
    found: set[str] = set()
    for path in (ROOT / "runner").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Name(called) | ast.Attribute(attr=called)) if called == name:
                    found.add(path.name)
                case _:
                    pass
    return found


def test_only_the_journal_makes_a_journaled_effect() -> None:
    """``perform`` takes nothing but ``Journaled``: no effect without its write-ahead record."""
    assert makers("Journaled") == {"journal.py"}


def test_only_the_gate_finds_a_release_healthy() -> None:
    """``Commit`` takes nothing but ``Healthy``: no commit without a passed gate."""
    assert makers("Healthy") == {"gate.py"}


def test_only_decisions_commit() -> None:
    """The proof is checked where the effect is made, and it is made in one place."""
    assert makers("Commit") == {"decisions.py"}


def test_only_the_proof_makes_a_safe_unit() -> None:
    """A target is safe only because no path leads from it to its caller."""
    assert makers("SafeUnit") == {"ordering.py"}


def test_only_the_preconditions_and_the_proof_make_a_probe_safe() -> None:
    """A prober takes nothing but ``SafeProbe``: no probe before its target is proven."""
    assert makers("SafeProbe") == {"preconditions.py"}
    assert makers("Safe") == {"ordering.py"}


def test_probers_are_made_where_probes_are_cleared_or_passed_on() -> None:
    """They get cleared probes: tests/property/test_guard.py holds which these are."""
    assert makers("Prober") == {"build.py", "gate_round.py"}


def test_mistakes_do_not_type_check() -> None:
    """Every line of must_fail.py that says ``# E: code`` is an error of that code, and no other."""
    expected = {
        (number, line.partition("# E: ")[2].strip())
        for number, line in enumerate(MUST_FAIL.read_text().splitlines(), 1)
        if "# E: " in line
    }
    assert expected
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--no-error-summary",
            "--hide-error-context",
            str(MUST_FAIL),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found = {
        (int(line.split(":")[1]), line.rpartition("[")[2].rstrip("]"))
        for line in done.stdout.splitlines()
        if ": error: " in line
    }
    assert found == expected, done.stdout
