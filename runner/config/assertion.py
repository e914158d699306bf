"""An end-to-end assertion: what must hold once several units have done their work.

It is asked by a unit of its own, ordered after all that it asks; a deployment that waited for it
would wait for others to start. It deploys nothing, so nothing that it asks is its own.
"""

from pathlib import Path
from typing import Final

from attrs import field, frozen

from runner.config.app import check_gate, check_probes, find, load_as
from runner.config.loader import Problem
from runner.reconcile.field_types import UnitName
from runner.reconcile.gate import GatePolicy
from runner.reconcile.probes import Http, Tcp, UnitActive

DIRECTORY: Final = "assertions"
"""Below the directory of configs: what lies beside them would be taken for an app."""
MARGIN: Final = 30.0
"""Seconds that an assertion may take beside its gate: for starting up, and for asking systemd."""


@frozen(kw_only=True)
class AssertionConfig:
    """All that one assertion needs to know."""

    caller: UnitName
    """The systemd unit that asks. It must start after every unit that serves an answer."""
    probes: tuple[Http | Tcp | UnitActive, ...]
    """What must hold, all of it in every round: kinds ``http``, ``tcp`` and ``unit`` only, because
    there is no deployment that could tell who it is."""
    gate: GatePolicy = field(factory=GatePolicy)


@frozen
class Assertion:
    """One assertion, found and checked."""

    name: str
    config: AssertionConfig

    @property
    def longest(self) -> float:
        """Seconds that it takes at worst."""
        return self.config.gate.deadline + MARGIN

    def explain(self) -> str:
        """Write that sum out, for whoever has to make it fit."""
        deadline = self.config.gate.deadline
        return f"gate {deadline:g} + margin {MARGIN:g} = {self.longest:g} s"


def find_assertion(name: str, *, config: Path | None, config_dir: Path) -> Assertion:
    """Read the config of an assertion.

    Raises:
        UsageError: no such assertion.
        ConfigError: its config has mistakes.
    """
    path = config if config is not None else find(config_dir / DIRECTORY, name, "assertion")
    return Assertion(name, load_as(path, AssertionConfig, _check))


def _check(config: AssertionConfig) -> list[Problem]:
    nothing = [] if config.probes else [Problem("probes", [], "one probe or more")]
    return [*nothing, *check_probes(config.probes), *check_gate(config.gate)]
