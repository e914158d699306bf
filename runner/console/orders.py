"""``check`` and ``graph``: what an operator, or a CI, asks of gates before anything runs."""

import argparse
import functools
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from attrs import frozen

from runner.console.arguments import answer
from runner.console.drawing import picture
from runner.reconcile import budget
from runner.reconcile.commands import run
from runner.reconcile.config import SUFFIXES
from runner.reconcile.errors import ExitCode, OrderingError, UsageError
from runner.reconcile.ordering import UnitGraph, prove, target_of
from runner.reconcile.questions import Question
from runner.reconcile.unitgraph import load_units, prove_live, read_live
from runner.warm_reconcile import App, find_app

DRAW_TIMEOUT: Final = 30.0
"""Seconds for Graphviz."""


@frozen
class Judged:
    """One probe of one app, and why it is refused; empty if it is safe."""

    probe: str
    target_unit: str
    refused: str


def check(arguments: argparse.Namespace) -> int:
    """Check configs, and prove that no gate waits for its caller; touch nothing."""
    apps = _find_apps(arguments)
    graph = _load(arguments.units, apps) if arguments.units else None
    judged = {app.name: [_judge(app, q, graph) for q in app.config.probes] for app in apps}
    text = "\n".join(line for app in apps for line in _tell(app, judged[app.name]))
    data = {
        name: [
            {"probe": j.probe, "target_unit": j.target_unit, "refused": j.refused} for j in found
        ]
        for name, found in judged.items()
    }
    answer(data, text, as_json=arguments.json)
    is_refused = any(j.refused for found in judged.values() for j in found)
    return ExitCode.ORDERING_REFUSED if is_refused else ExitCode.OK


def graph(arguments: argparse.Namespace) -> int:
    """Draw the units that a gate asks, their order, and in red what can't work."""
    app = find_app(arguments.app, config=arguments.config, config_dir=arguments.config_dir)
    caller, questions = app.config.caller, app.config.probes
    units = (
        _load(arguments.units, [app])
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


def _find_apps(arguments: argparse.Namespace) -> list[App]:
    """Find the app that was named, or else every one that has a config."""
    find = functools.partial(find_app, config_dir=arguments.config_dir)
    if arguments.app is not None:
        return [find(arguments.app, config=arguments.config)]
    directory: Path = arguments.config_dir
    names = sorted(path.stem for path in directory.glob("*") if path.suffix in SUFFIXES)
    if not names:
        raise UsageError(f"no config in {directory}", hint="name an app, or give --config-dir")
    return [find(name, config=None) for name in names]


def _load(directory: Path, apps: list[App]) -> UnitGraph:
    asked = {q.target_unit for app in apps for q in app.config.probes}
    return load_units(directory, also=sorted(asked | {app.config.caller for app in apps}))


def _judge(app: App, question: Question, units: UnitGraph | None) -> Judged:
    try:
        if units is None:
            prove_live(app.config.caller, target_of(question))
        else:
            prove(units, app.config.caller, target_of(question))
    except OrderingError as error:
        return Judged(question.name, question.target_unit, error.message)
    return Judged(question.name, question.target_unit, "")


def _tell(app: App, judged: list[Judged]) -> list[str]:
    config = app.config
    worst = budget.worst_case(config.budget, config.gate, config.fallback_depth)
    lines = [f"{app.name}: run by {config.caller}; the longest run takes {worst:g} s"]
    for found in judged:
        mark = "REFUSED" if found.refused else "ok"
        lines.append(f"  {mark:<8} {found.probe:<16} {found.refused or found.target_unit}")
    return lines


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
