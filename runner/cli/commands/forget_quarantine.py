"""``forget-quarantine``: end the quarantine of releases, so that a run may try them again."""

import argparse
import contextlib
import time

from runner.cli.command import Command, app_of
from runner.exit_codes import ExitCode
from runner.storage.journal import open_journal
from runner.storage.lock import hold
from runner.storage.paths import find_state
from runner.terminal.options import add_app_arguments, print_output


def _run(arguments: argparse.Namespace) -> int:
    app = app_of(arguments)
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
    print_output({"app": app.name, "forgotten": forgotten}, text, as_json=arguments.json)
    return ExitCode.OK


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_app_arguments(parser)
    parser.add_argument("--label", help="label of the only release to free (default: all)")


COMMAND = Command(
    sentence="End the quarantine of releases, so that a run may try them again.",
    add_arguments=_add_arguments,
    run=_run,
)
