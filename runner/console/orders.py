"""``check`` and ``graph``: what an operator, or a CI, asks of gates before anything runs."""

import argparse
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from runner.console.arguments import answer
from runner.console.drawing import picture
from runner.console.subjects import Subject, find_subjects, of_app
from runner.reconcile import guard
from runner.reconcile.commands import run
from runner.reconcile.errors import ConfigError, ExitCode, OrderingError, UsageError
from runner.reconcile.ordering import UnitGraph, prove
from runner.reconcile.questions import Question
from runner.reconcile.unitgraph import ask_start_timeout, load_units, prove_live, read_live
from runner.warm_reconcile import find_app

DRAW_TIMEOUT: Final = 30.0
"""Seconds for Graphviz."""


@frozen
class Judged:
    """One probe, and why it is refused; empty if it is safe."""

    probe: str
    target_unit: str
    refused: str


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
            "probes": [
                {"probe": j.probe, "target_unit": j.target_unit, "refused": j.refused}
                for j in self.probes
            ],
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
        return lines


def check(arguments: argparse.Namespace) -> int:
    """Check configs, and prove that no gate waits for its caller; touch nothing."""
    subjects = find_subjects(arguments.app, file=arguments.config, config_dir=arguments.config_dir)
    graph = _load(arguments.units, subjects) if arguments.units else None
    checked = [_check(subject, graph) for subject in subjects]
    text = "\n".join(line for each in checked for line in each.to_lines())
    answer({each.subject.name: each.to_data() for each in checked}, text, as_json=arguments.json)
    return max(each.code for each in checked)


def graph(arguments: argparse.Namespace) -> int:
    """Draw the units that a gate asks, their order, and in red what can't work."""
    app = find_app(arguments.app, config=arguments.config, config_dir=arguments.config_dir)
    caller, questions = app.config.caller, app.config.probes
    units = (
        _load(arguments.units, [of_app(app)])
        if arguments.units
        else read_live([caller, *(question.target_unit for question in questions)])
    )
    drawn = picture(units, caller, questions)
    form = arguments.format
    text = drawn.to_mermaid() if form == "mermaid" else drawn.to_dot()
    answer(
        {"format": form, "drawing": text},
        _render(text) if form == "svg" else text,
        as_json=arguments.json,
    )
    return ExitCode.OK


def _load(directory: Path, subjects: list[Subject]) -> UnitGraph:
    asked = {q.target_unit for subject in subjects for q in subject.probes}
    return load_units(directory, also=sorted(asked | {subject.caller for subject in subjects}))


def _check(subject: Subject, units: UnitGraph | None) -> Checked:
    limit = ask_start_timeout(subject.caller) if units is None else None
    too_long = ""
    try:
        guard.fit(subject.caller, subject.longest, subject.explained, limit)
    except ConfigError as error:
        too_long = error.message
    probes = tuple(_judge(subject, question, units) for question in subject.probes)
    return Checked(subject, limit, too_long, probes)


def _judge(subject: Subject, question: Question, units: UnitGraph | None) -> Judged:
    target = subject.target(question)
    try:
        if units is None:
            prove_live(subject.caller, target)
        else:
            prove(units, subject.caller, target)
    except OrderingError as error:
        return Judged(question.name, question.target_unit, error.message)
    return Judged(question.name, question.target_unit, "")


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
