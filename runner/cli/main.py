"""The console script ``warm-reconcile``. Of its commands only ``run`` deploys."""

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from runner.cli import commands
from runner.cli.command import Command
from runner.terminal.options import EXIT_CODES, Parser, guarded
from runner.terminal.run import DESCRIPTION


def load_commands() -> Mapping[str, Command]:
    """Import every command, by its name."""
    found: dict[str, Command] = {}
    for file in pkgutil.iter_modules(commands.__path__):
        module = importlib.import_module(f"{commands.__name__}.{file.name}")
        found[file.name.replace("_", "-")] = module.COMMAND
    return found


def make_parser() -> Parser:
    parser = Parser(
        prog="warm-reconcile",
        description=DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=version("warm-reconcile"))
    subparsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, command in load_commands().items():
        subparser = subparsers.add_parser(
            name,
            help=command.sentence[0].lower() + command.sentence[1:].rstrip("."),
            description=command.sentence,
            epilog=EXIT_CODES if command.shows_exit_codes else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(subparser)
        subparser.set_defaults(command=command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and run; every expected failure becomes a message and a code."""

    def run() -> int:
        arguments = make_parser().parse_args(argv)
        command: Command = arguments.command
        return command.run(arguments)

    return guarded(run)


if __name__ == "__main__":
    sys.exit(main())
