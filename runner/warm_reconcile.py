"""Deploy the latest release of an app, gate it, commit it as last-good, or roll back.

This is what systemd calls: ``warm_reconcile.py traefik``. It reads the config, wires the real world
to the core, runs, and maps how the run ended to an exit code.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Final

from runner.app import find_app, reconcile
from runner.terminal.options import (
    EXIT_CODES,
    Parser,
    add_app_arguments,
    add_run_arguments,
    guarded,
    say,
)
from runner.terminal.progress import choose_watcher

DESCRIPTION: Final = "Deploy the latest release, gate it, commit it as last-good, or roll back."
"""For the help of both commands. Not a docstring: `python -OO` removes docstrings."""


def run_command(arguments: argparse.Namespace) -> int:
    app = find_app(arguments.app, config=arguments.config, config_dir=arguments.config_dir)
    watcher = choose_watcher(sys.stderr, app.name)
    report = reconcile(app, watcher, forced=arguments.force, wait=arguments.wait)
    say(report.to_json() if arguments.json else report.to_text(), sys.stdout)
    return report.exit_code(detailed=arguments.detailed_exit_code)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and run; every expected failure becomes a message and a code."""
    parser = Parser(
        prog="warm_reconcile.py",
        description=DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_app_arguments(parser)
    add_run_arguments(parser)
    return guarded(lambda: run_command(parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
