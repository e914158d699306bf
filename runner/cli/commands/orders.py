"""``check`` and ``graph``: what an operator, or a CI, asks of gates before anything runs."""

import argparse
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final

from attrs import asdict, evolve, frozen

from runner import preconditions
from runner.app import find_app
from runner.cli.gates import Subject, find_subjects, of_app
from runner.cli.graph_text import picture
from runner.exit_codes import ExitCode
from runner.platforms.swarm.traefik_routers import (
    Table,
    Unresolved,
    Untold,
    is_of_traefik,
    resolve,
)
from runner.reconcile.errors import ConfigError, OrderingError, UsageError
from runner.reconcile.ordering import SafeUnit, Target, UnitGraph, prove
from runner.reconcile.probes import Probe
from runner.subprocesses import run
from runner.systemd.graph import Loaded, ask_start_timeout, load, prove_live, read_live
from runner.terminal.options import answer

DRAW_TIMEOUT: Final = 30.0
"""Seconds for Graphviz."""


UNIT_FILES: Final = Untold("unit files don't tell what Traefik routes")


@frozen
class Judged:
    """One probe, and what there is to say of it."""

    probe: str
    target_unit: str
    refused: str = ""
    """Why; empty if it is safe."""
    unresolved: str = ""
    """Why nobody but the config says who serves it; empty if somebody does."""


@frozen
class Checked:
    """One gate or assertion, and what is wrong with it."""

    subject: Subject
    limit: float | None
    """Seconds that systemd gives its caller; None if nothing ends it, or nobody knows."""
    too_long: str
    """Why it doesn't fit; empty if it does."""
    probes: tuple[Judged, ...]

    @property
    def code(self) -> ExitCode:
        if self.too_long:
            return ExitCode.CONFIG
        is_refused = any(judged.refused for judged in self.probes)
        return ExitCode.ORDERING_REFUSED if is_refused else ExitCode.OK

    def to_data(self) -> dict[str, Any]:
        return {
            "caller": self.subject.caller,
            "longest": self.subject.longest,
            "limit": self.limit,
            "refused": self.too_long,
            "probes": [asdict(judged) for judged in self.probes],
        }

    def to_lines(self) -> list[str]:
        subject = self.subject
        lines = [
            f"{subject.name}: run by {subject.caller}; the longest run takes {subject.longest:g} s"
        ]
        if self.too_long:
            lines.append(f"  REFUSED  {self.too_long}")
        for judged in self.probes:
            mark = "REFUSED" if judged.refused else "ok"
            lines.append(f"  {mark:<8} {judged.probe:<16} {judged.refused or judged.target_unit}")
            if judged.unresolved:
                lines.append(f"           {judged.unresolved}")
        return lines


def check(arguments: argparse.Namespace) -> int:
    subjects = find_subjects(arguments.app, file=arguments.config, config_dir=arguments.config_dir)
    loaded = _load(arguments.units, subjects) if arguments.units else None
    checked = [_check(subject, loaded) for subject in subjects]
    text = "\n".join(line for each in checked for line in each.to_lines())
    answer({each.subject.name: each.to_data() for each in checked}, text, as_json=arguments.json)
    return max(each.code for each in checked)


def graph(arguments: argparse.Namespace) -> int:
    app = find_app(arguments.app, config=arguments.config, config_dir=arguments.config_dir)
    subject = of_app(app)
    probes = subject.probes
    units = (
        _load(arguments.units, [subject]).units
        if arguments.units
        else read_live([subject.caller, *(probe.target_unit for probe in probes)])
    )
    judged = _judge(subject, _prover(subject, units), _table(subject, arguments.units))
    unresolved = {each.probe for each in judged if each.unresolved}
    refused = {each.probe for each in judged if each.refused}
    drawn = picture(units, subject.caller, probes, unresolved, refused)
    form = arguments.format
    text = drawn.to_mermaid() if form == "mermaid" else drawn.to_dot()
    answer(
        {"format": form, "drawing": text},
        _render(text) if form == "svg" else text,
        as_json=arguments.json,
    )
    return ExitCode.OK


def _load(directory: Path, subjects: list[Subject]) -> Loaded:
    asked = {q.target_unit for subject in subjects for q in subject.probes}
    return load(directory, also=sorted(asked | {subject.caller for subject in subjects}))


def _check(subject: Subject, loaded: Loaded | None) -> Checked:
    caller, units = subject.caller, loaded.units if loaded else None
    limit = loaded.start_limit(caller) if loaded else ask_start_timeout(caller)
    too_long = ""
    try:
        preconditions.fit(caller, subject.longest, subject.explained, limit)
    except ConfigError as error:
        too_long = error.message
    judged = _judge(subject, _prover(subject, units), _table(subject, units))
    return Checked(subject, limit, too_long, judged)


def _table(subject: Subject, units: object) -> Table | Untold:
    """Ask who serves what, unless it is about units that are not of this host."""
    return UNIT_FILES if units else preconditions.read_table(subject.probes, subject.socket)


def _prover(subject: Subject, units: UnitGraph | None) -> preconditions.Prove:
    if units is None:
        return prove_live if subject.is_app else preconditions.prove_onlooker
    known = units

    def prove_there(caller: str, target: Target) -> SafeUnit:
        return prove(known, caller, target if subject.is_app else Target(target.unit))

    return prove_there


def _judge(
    subject: Subject, prover: preconditions.Prove, table: Table | Untold
) -> tuple[Judged, ...]:
    return tuple(_judge_one(subject, probe, prover, table) for probe in subject.probes)


def _judge_one(
    subject: Subject, probe: Probe, prover: preconditions.Prove, table: Table | Untold
) -> Judged:
    judged = Judged(probe.name, probe.target_unit)
    of_traefik = is_of_traefik(subject.probes)
    try:
        preconditions.prove_declared(subject.caller, probe, prover, table, of_traefik=of_traefik)
    except OrderingError as error:
        return evolve(judged, refused=error.message)
    found = resolve(table, probe.routed_url) if probe.routed_url is not None else None
    if isinstance(found, Unresolved):
        return evolve(judged, unresolved=preconditions.tell_doubt(probe, found))
    return judged


def _render(dot: str) -> str:
    """Have Graphviz make an SVG."""
    try:
        with tempfile.NamedTemporaryFile("w", suffix=".dot") as file:
            file.write(dot)
            file.flush()
            return run(["dot", "-Tsvg", file.name], timeout=DRAW_TIMEOUT).decode()
    except OSError as error:
        raise UsageError(
            f"Graphviz can't be run: {error.strerror}",
            hint="install it, or draw with --format dot or mermaid",
        ) from error
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"Graphviz failed: {error}") from error
