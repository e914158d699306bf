"""The command that reconciles an app: ``warm_reconcile.py`` and ``warm-reconcile run``."""

import argparse
import sys
from typing import Final

from runner.app import find_app, reconcile
from runner.terminal.options import print_line
from runner.terminal.progress import choose_watcher

DESCRIPTION: Final = "Deploy the latest release, gate it, commit it as last-good, or roll back."
"""For the help of both commands. Not a docstring: `python -OO` removes docstrings."""


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that ``warm_reconcile.py`` and ``warm-reconcile run`` share."""
    parser.add_argument(
        "--force", action="store_true", help="try the latest release even if it is in quarantine"
    )
    parser.add_argument(
        "--wait",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="how long to wait while another run holds the app (default: 0, fail at once)",
    )
    parser.add_argument(
        "--detailed-exit-code",
        action="store_true",
        help="exit with 10 if a release was committed, 11 if last-good was restored (default: 0)",
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = float("nan")
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"expected 0 seconds or more, not {text}")
    return seconds


def run_command(arguments: argparse.Namespace) -> int:
    app = find_app(arguments.app, config=arguments.config, config_dir=arguments.config_dir)
    watcher = choose_watcher(sys.stderr, app.name)
    report = reconcile(app, watcher, forced=arguments.force, wait=arguments.wait)
    print_line(report.to_json() if arguments.json else report.to_text(), sys.stdout)
    return report.exit_code(detailed=arguments.detailed_exit_code)
