"""``history``: list the attempts, newest first."""

import argparse
from collections.abc import Iterable
from typing import Final

from runner.cli.attempt_text import attempt_data, attempt_line
from runner.cli.command import Command, app_of
from runner.cli.view import View
from runner.storage.history import PastAttempt, open_history
from runner.storage.paths import find_state
from runner.terminal.options import add_app_arguments, positive

DEFAULT_LINES: Final = 20


def view_of(app: str, attempts: Iterable[PastAttempt]) -> View:
    listed = list(attempts)
    lines = [attempt_line(attempt) for attempt in listed]
    return View([attempt_data(a) for a in listed], "\n".join(lines) or f"{app} never ran")


def _run(arguments: argparse.Namespace) -> int:
    app = app_of(arguments)
    with open_history(find_state(app.state_root, app.name)) as past:
        view = view_of(app.name, past.attempts(arguments.lines) if past else [])
    return view.show(as_json=arguments.json)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_app_arguments(parser)
    parser.add_argument(
        "-n",
        "--lines",
        type=positive,
        default=DEFAULT_LINES,
        help="number of attempts to list (default: %(default)s)",
    )


COMMAND = Command(
    sentence="List the attempts, newest first.",
    add_arguments=_add_arguments,
    run=_run,
)
