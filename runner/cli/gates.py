"""Finds the gates of apps and the assertions of a host, and proves the start order of their units.

For the commands ``check`` and ``graph``.
"""

import argparse
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from attrs import evolve, frozen

from runner import preconditions
from runner.app import App, find_app
from runner.config import app as configs
from runner.config.app import DEFAULT_SOCKET
from runner.config.assertion import DIRECTORY, Assertion, find_assertion
from runner.platforms.swarm.traefik_routers import (
    Table,
    TableUnknown,
    Unresolved,
    is_of_traefik,
    resolve,
)
from runner.reconcile import budget
from runner.reconcile.errors import OrderingError, UsageError
from runner.reconcile.ordering import SafeUnit, Target, UnitGraph, prove
from runner.reconcile.probes import Probe
from runner.systemd.graph import Loaded, load, prove_live

UNIT_FILES: Final = TableUnknown("unit files do not contain Traefik's routers")


@frozen
class Subject:
    """A gate or an assertion: its caller, its probes, and how long it takes."""

    name: str
    caller: str
    probes: tuple[Probe, ...]
    longest: float
    """Seconds that the caller takes at worst."""
    explained: str
    """The sum of these seconds, as text."""
    socket: str | None
    """The Docker socket through which Traefik's routers are read; None: the app is a process."""
    is_app: bool = True
    """The caller deploys an app, so the gate may probe that deployment."""


def of_app(app: App) -> Subject:
    settings = app.config
    sum_of = (settings.budget, settings.gate, settings.fallback_depth)
    return Subject(
        name=app.name,
        caller=settings.caller,
        probes=settings.probes,
        longest=budget.worst_case(*sum_of),
        explained=budget.explain(*sum_of),
        socket=preconditions.engine_socket(settings),
    )


def of_assertion(assertion: Assertion) -> Subject:
    return Subject(
        name=f"{DIRECTORY}/{assertion.name}",
        caller=assertion.config.caller,
        probes=assertion.config.probes,
        longest=assertion.longest,
        explained=assertion.explain(),
        socket=DEFAULT_SOCKET,
        is_app=False,
    )


def find_subjects(app: str | None, *, file: Path | None, config_dir: Path) -> list[Subject]:
    """Read the config of the named app, or else of every app and every assertion.

    Raises:
        UsageError: there is none.
        ConfigError: one has mistakes.
    """
    find = functools.partial(find_app, config_dir=config_dir)
    if app is not None:
        return [of_app(find(app, config=file))]
    found = [of_app(find(name, config=None)) for name in configs.names(config_dir)]
    found += map(of_assertion, _assertions(config_dir))
    if not found:
        raise no_config_error(config_dir)
    return found


def no_config_error(directory: Path) -> UsageError:
    """Make the error for "all apps" when the config directory is empty."""
    return UsageError(f"no config in {directory}", hint="name an app, or give --config-dir")


def _assertions(directory: Path) -> Iterator[Assertion]:
    for name in configs.names(directory / DIRECTORY):
        yield find_assertion(name, config=None, config_dir=directory)


@frozen
class Judged:
    """One probe, and why it is refused or unresolved."""

    probe: str
    target_unit: str
    refused: str = ""
    """The reason; empty if the probe is safe."""
    unresolved: str = ""
    """Why only the config names the unit that serves it; empty if Traefik's routers name it too."""


def load_units(directory: Path, subjects: list[Subject]) -> Loaded:
    asked = {q.target_unit for subject in subjects for q in subject.probes}
    return load(directory, also=sorted(asked | {subject.caller for subject in subjects}))


def read_table(subject: Subject, units: object) -> Table | TableUnknown:
    """Read Traefik's routers, unless the units come from files and not from this host."""
    return UNIT_FILES if units else preconditions.read_table(subject.probes, subject.socket)


def choose_prover(subject: Subject, units: UnitGraph | None) -> preconditions.Prove:
    if units is None:
        return prove_live if subject.is_app else preconditions.prove_onlooker
    known = units

    def prove_there(caller: str, target: Target) -> SafeUnit:
        return prove(known, caller, target if subject.is_app else Target(target.unit))

    return prove_there


def judge(
    subject: Subject, prover: preconditions.Prove, table: Table | TableUnknown
) -> tuple[Judged, ...]:
    return tuple(_judge_one(subject, probe, prover, table) for probe in subject.probes)


def _judge_one(
    subject: Subject, probe: Probe, prover: preconditions.Prove, table: Table | TableUnknown
) -> Judged:
    judged = Judged(probe.name, probe.target_unit)
    of_traefik = is_of_traefik(subject.probes)
    try:
        preconditions.prove_declared(subject.caller, probe, prover, table, of_traefik=of_traefik)
    except OrderingError as error:
        return evolve(judged, refused=error.message)
    found = resolve(table, probe.routed_url) if probe.routed_url is not None else None
    if isinstance(found, Unresolved):
        return evolve(judged, unresolved=preconditions.format_doubt(probe, found))
    return judged


def add_units_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--units",
        type=Path,
        metavar="DIR",
        help="read the units from unit files in DIR, not from the systemd of this host",
    )
