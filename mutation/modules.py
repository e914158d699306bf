"""Which modules are mutated, and which tests must notice: the one table of their names."""

from pathlib import Path
from typing import Final

from attrs import frozen

ROOT: Final = Path(__file__).parents[1]
PACKAGE: Final = "runner/reconcile"

_SEARCH: Final = ("tests/property/test_stateful.py", "tests/property/test_exhaustive.py")
_DOCUMENTS: Final = "tests/test_linters.py::test_generated_documents_are_fresh"
_CORE: Final = (
    "tests/property/test_machine.py",
    "tests/property/test_plan.py",
    "tests/property/test_attempt.py",
    "tests/property/test_plays.py",
    "tests/property/test_outcomes.py",
)
_MEMORY: Final = ("tests/unit/test_records.py", "tests/unit/test_journal.py")


@frozen
class Module:
    """A module and the tests that reach it."""

    name: str
    tests: tuple[str, ...]
    """Run first, in this order; the first test that fails ends it."""
    slow: tuple[str, ...] = ()
    """Run only for a mutant that passes ``tests``."""

    @property
    def path(self) -> str:
        return f"{PACKAGE}/{self.name}.py"


def _core(first: str) -> tuple[str, ...]:
    """Return the tests of the core, beginning with those of the module itself: they end sooner."""
    return (first, *(tests for tests in _CORE if tests != first))


MODULES: Final = (
    Module(
        "machine",
        (*_CORE, _DOCUMENTS),
        (*_MEMORY, "tests/property/test_table_mutants.py", *_SEARCH),
    ),
    Module("decide", _CORE, _SEARCH),
    Module("plan", _core("tests/property/test_plan.py"), _SEARCH),
    Module(
        "attempt",
        (*_core("tests/property/test_attempt.py"), *_MEMORY),
        ("tests/unit/test_console.py", *_SEARCH),
    ),
    Module("gate", ("tests/property/test_gate.py", *_CORE, _DOCUMENTS), _SEARCH),
    Module("driver", _core("tests/property/test_plays.py"), _SEARCH),
    Module("budget", ("tests/unit/test_guard.py", "tests/unit/test_config.py", _DOCUMENTS)),
    Module(
        "ordering",
        ("tests/unit/test_ordering.py", "tests/property/test_ordering.py"),
        ("tests/unit/test_unitgraph.py", "tests/unit/test_orders.py"),
    ),
    Module(
        "guard",
        ("tests/unit/test_guard.py", "tests/property/test_guard.py"),
        ("tests/unit/test_orders.py", "tests/unit/test_converge.py", "tests/unit/test_cli.py"),
    ),
    Module(
        "journal",
        (
            "tests/unit/test_journal.py",
            "tests/unit/test_transactions.py",
            "tests/unit/test_database.py",
            _DOCUMENTS,
        ),
        ("tests/unit/test_console.py",),
    ),
    Module(
        "routing",
        ("tests/unit/test_routing.py", "tests/property/test_routing.py"),
        ("tests/unit/test_guard.py", "tests/property/test_guard.py", "tests/unit/test_routes.py"),
    ),
    Module("matching", ("tests/unit/test_matching.py", "tests/property/test_routing.py")),
    Module("answers", ("tests/unit/test_answers.py",), ("tests/unit/test_probes.py",)),
    Module("probes", ("tests/unit/test_probe_requests.py",), ("tests/unit/test_probes.py",)),
    Module("durable", ("tests/unit/test_durable.py",), ("tests/unit/test_store.py",)),
)
