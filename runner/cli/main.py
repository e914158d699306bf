"""The console script: what an operator types. Only ``run`` deploys."""

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

from runner.app import App, find_app
from runner.cli.app_state import survey
from runner.cli.commands import orders, views
from runner.cli.commands.converge import converge
from runner.cli.commands.free_ports import add_arguments, free_ports
from runner.cli.commands.sweep import sweep
from runner.exit_codes import ExitCode
from runner.storage.history import open_history
from runner.storage.journal import open_journal
from runner.storage.lock import hold
from runner.storage.paths import find_state
from runner.terminal.options import (
    EXIT_CODES,
    Parser,
    add_app_arguments,
    add_config_arguments,
    answer,
    guarded,
    positive,
)
from runner.terminal.run import DESCRIPTION, add_run_arguments, run_command

_Command = Callable[[argparse.Namespace], int]

DEFAULT_LINES: Final = 20
SENTENCES: Final = {
    "run": "Reconcile once and report.",
    "status": "Show what is last-good, what is live, and what is going on.",
    "plan": "Show what a run would do now, and why; touch nothing.",
    "history": "List the attempts, newest first.",
    "explain": "Tell an attempt step by step, with the evidence of each verdict.",
    "releases": "List the releases that the source offers or the journal knows, and what each is.",
    "check": "Check configs, and prove that no gate waits for its caller; touch nothing.",
    "graph": "Draw the units that a gate asks, their order, and in red what can't work.",
    "forget-quarantine": "Let releases in quarantine be tried again.",
    "converge": "Assert something from end to end: ask until it holds; deploy nothing.",
    "sweep": "Verify that last-good is live and healthy, and remove what no kept release needs.",
    "free-ports": "Start the engine again if it holds ports for no container.",
}
"""The help of each command. Not its docstring: `python -OO` removes docstrings."""


def _app(arguments: argparse.Namespace) -> App:
    return find_app(arguments.app, config=arguments.config, config_dir=arguments.config_dir)


def status(arguments: argparse.Namespace) -> int:
    view = views.status(survey(_app(arguments), ask_source=False))
    answer(view.data, view.text, as_json=arguments.json)
    return ExitCode.OK


def plan(arguments: argparse.Namespace) -> int:
    view = views.plan(survey(_app(arguments), ask_source=True, forced=arguments.force))
    answer(view.data, view.text, as_json=arguments.json)
    return ExitCode.OK


def releases(arguments: argparse.Namespace) -> int:
    app = _app(arguments)
    view = views.releases(survey(app, ask_source=True))
    answer(view.data, view.text, as_json=arguments.json)
    return ExitCode.OK


def history(arguments: argparse.Namespace) -> int:
    app = _app(arguments)
    with open_history(find_state(app.state_root, app.name)) as past:
        view = views.history(app.name, past.attempts(arguments.lines) if past else [])
    answer(view.data, view.text, as_json=arguments.json)
    return ExitCode.OK


def explain(arguments: argparse.Namespace) -> int:
    app = _app(arguments)
    with open_history(find_state(app.state_root, app.name)) as past:
        view = views.explain(app.name, past, arguments.number)
    answer(view.data, view.text, as_json=arguments.json)
    return ExitCode.OK


def forget_quarantine(arguments: argparse.Namespace) -> int:
    app = _app(arguments)
    state = find_state(app.state_root, app.name)
    forgotten = 0
    if state.journal.exists():
        with (
            hold(state.lock),
            contextlib.closing(open_journal(state, app.config.retention, time.time)) as journal,
        ):
            forgotten = journal.forget_quarantine(arguments.label)
    noun = "release" if forgotten == 1 else "releases"
    text = f"{app.name}: {forgotten} {noun} may be tried again"
    answer({"app": app.name, "forgotten": forgotten}, text, as_json=arguments.json)
    return ExitCode.OK


def make_parser() -> Parser:
    parser = Parser(
        prog="warm-reconcile",
        description=DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=version("warm-reconcile"))
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def declare(name: str, function: _Command) -> argparse.ArgumentParser:
        sentence = SENTENCES[name]
        command = commands.add_parser(
            name,
            help=sentence[0].lower() + sentence[1:].rstrip("."),
            description=sentence,
            epilog=EXIT_CODES if name in {"run", "converge", "sweep", "free-ports"} else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(function=function)
        return command

    def add(name: str, function: _Command, *, any_app: bool = False) -> argparse.ArgumentParser:
        command = declare(name, function)
        add_app_arguments(command, any_app=any_app)
        return command

    add_run_arguments(add("run", run_command))
    add("status", status)
    add("plan", plan).add_argument(
        "--force", action="store_true", help="as if the latest release were not in quarantine"
    )
    add("history", history).add_argument(
        "-n",
        "--lines",
        type=positive,
        default=DEFAULT_LINES,
        help="how many (default: %(default)s)",
    )
    add("explain", explain).add_argument(
        "--number", type=positive, help="the attempt's number in `history` (default: the last)"
    )
    add("releases", releases)
    drawn = add("graph", orders.graph)
    for command in (add("check", orders.check, any_app=True), drawn):
        command.add_argument(
            "--units",
            type=Path,
            metavar="DIR",
            help="take the units from unit files in DIR, not from the systemd of this host",
        )
    drawn.add_argument(
        "--format",
        choices=("mermaid", "dot", "svg"),
        default="mermaid",
        help="svg takes Graphviz (default: %(default)s)",
    )
    add("forget-quarantine", forget_quarantine).add_argument(
        "--label", help="only this release (default: all)"
    )
    asserting = declare("converge", converge)
    asserting.add_argument("name", help="the assertion, such as dashboard")
    add_config_arguments(asserting)
    add("sweep", sweep, any_app=True)
    add_arguments(declare("free-ports", free_ports))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and run; every expected failure becomes a message and a code."""

    def command() -> int:
        arguments = make_parser().parse_args(argv)
        chosen: _Command = arguments.function
        return chosen(arguments)

    return guarded(command)


if __name__ == "__main__":
    sys.exit(main())
