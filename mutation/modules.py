"""The table of mutated modules, each with the tests that must kill its mutants."""

from pathlib import Path
from typing import Final

from attrs import frozen

ROOT: Final = Path(__file__).parents[1]

_SEARCH: Final = ("tests/property/test_stateful.py", "tests/property/test_exhaustive.py")
_DOCUMENTS: Final = "tests/test_linters.py::test_generated_documents_are_fresh"
_CORE: Final = (
    "tests/property/test_machine.py",
    "tests/property/test_plan.py",
    "tests/property/test_attempt.py",
    "tests/property/test_plays.py",
    "tests/property/test_outcomes.py",
)
_MEMORY: Final = ("tests/unit/storage/test_codec.py", "tests/unit/storage/test_journal.py")


@frozen
class Module:
    """A module and the tests that reach it."""

    path: str
    tests: tuple[str, ...]
    """Run first, in this order, until a test fails."""
    slow: tuple[str, ...] = ()
    """Run only for a mutant that passes ``tests``."""

    @property
    def name(self) -> str:
        return Path(self.path).stem


def _unit(*names: str) -> tuple[str, ...]:
    """Return the paths of unit tests: ``cli/check`` is ``tests/unit/cli/test_check.py``."""
    paths = map(Path, names)
    return tuple(str(Path("tests/unit", path.parent, f"test_{path.name}.py")) for path in paths)


def _core(first: str) -> tuple[str, ...]:
    """Return the tests of the core, the module's own first: they kill most mutants soonest."""
    return (first, *(tests for tests in _CORE if tests != first))


MODULES: Final = (
    Module(
        "runner/reconcile/machine.py",
        (*_CORE, _DOCUMENTS),
        (*_MEMORY, "tests/property/test_table_mutants.py", *_SEARCH),
    ),
    Module("runner/reconcile/decisions.py", _core("tests/property/test_plan.py"), _SEARCH),
    Module(
        "runner/reconcile/attempt.py",
        (*_core("tests/property/test_attempt.py"), *_MEMORY),
        (*_unit("cli/console"), *_SEARCH),
    ),
    Module(
        "runner/reconcile/gate.py", ("tests/property/test_gate.py", *_CORE, _DOCUMENTS), _SEARCH
    ),
    Module("runner/reconcile/loop.py", _core("tests/property/test_plays.py"), _SEARCH),
    Module("runner/reconcile/budget.py", (*_unit("preconditions", "config/app"), _DOCUMENTS)),
    Module(
        "runner/reconcile/ordering.py",
        (*_unit("reconcile/ordering"), "tests/property/test_ordering.py"),
        _unit("systemd/graph", "cli/check"),
    ),
    Module(
        "runner/preconditions.py",
        (*_unit("preconditions"), "tests/property/test_guard.py"),
        _unit("cli/check", "cli/converge", "cli/cli"),
    ),
    Module(
        "runner/storage/journal.py",
        (*_unit("storage/journal", "storage/transactions", "storage/sqlite"), _DOCUMENTS),
        _unit("cli/console"),
    ),
    Module(
        "runner/platforms/swarm/traefik_routers.py",
        (*_unit("platforms/swarm/traefik_routers"), "tests/property/test_routing.py"),
        (
            *_unit("preconditions", "platforms/swarm/traefik_api"),
            "tests/property/test_guard.py",
        ),
    ),
    Module(
        "runner/platforms/swarm/traefik_rules.py",
        (*_unit("platforms/swarm/traefik_rules"), "tests/property/test_routing.py"),
    ),
    Module("runner/reconcile/replies.py", _unit("reconcile/replies"), _unit("reconcile/probes")),
    Module(
        "runner/reconcile/probes.py", _unit("reconcile/probe_requests"), _unit("reconcile/probes")
    ),
    Module(
        "runner/reconcile/http_client.py",
        _unit("reconcile/probe_requests"),
        _unit("reconcile/probes"),
    ),
    Module("runner/storage/atomic.py", _unit("storage/atomic"), _unit("releases/store")),
)
