"""The config of an end-to-end assertion: probes that must pass once several units have started.

A unit of its own runs it, ordered after all units that it probes; a deployment that waited for it
would wait for other units to start. It deploys nothing, so it must not probe its own unit.
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
"""Below the directory of configs: a file directly in it would count as an app."""
MARGIN: Final = 30.0
"""Seconds that an assertion may take beside its gate: to start up, and to query systemd."""


@frozen(kw_only=True)
class AssertionConfig:
    """The config of one assertion."""

    caller: UnitName
    """The systemd unit that runs the assertion. It must start after every unit that it probes."""
    probes: tuple[Http | Tcp | UnitActive, ...]
    """The probes, all run in every round: kinds ``http``, ``tcp`` and ``unit`` only, because an
    assertion has no deployment of its own."""
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
        """Return that sum as text, for error messages."""
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
