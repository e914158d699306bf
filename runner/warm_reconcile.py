"""Deploy the latest release of an app, gate it, commit it as last-good, or roll back.

This is what systemd calls: ``warm_reconcile.py traefik``. It reads the config, wires the
platform to the core, runs, and maps the outcome to an exit code.
"""

import argparse
import sys
from collections.abc import Sequence

from runner.terminal.options import (
    EXIT_CODES,
    Parser,
    add_app_arguments,
    guarded,
)
from runner.terminal.run import DESCRIPTION, add_run_arguments, run_command


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
