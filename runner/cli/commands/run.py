"""``run``: reconcile an app once and print the report, as ``warm_reconcile.py`` does."""

import argparse

from runner.cli.command import Command
from runner.terminal.options import add_app_arguments
from runner.terminal.run import add_run_arguments, run_command


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_app_arguments(parser)
    add_run_arguments(parser)


COMMAND = Command(
    sentence="Reconcile an app once and print the report.",
    add_arguments=_add_arguments,
    run=run_command,
    shows_exit_codes=True,
)
