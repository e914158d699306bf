"""Command-line options, output and error messages; shared by both commands."""

import argparse
import contextlib
import json
import os
import sys
import textwrap
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn, TextIO

from typing_extensions import override

from runner.exit_codes import ExitCode
from runner.reconcile.errors import ReconcileError, UsageError

CONFIG_DIR: Final = "/etc/warm-reconcile"
_DIGITS: Final = 10
CONFIG_DIR_VARIABLE: Final = "WARM_RECONCILE_CONFIG_DIR"

_COLUMNS: Final = 80
"""Width of a help text: the least that a terminal has."""


def _describe_exit_codes() -> str:
    rows = (
        textwrap.fill(
            code.meaning,
            _COLUMNS,
            initial_indent=f"{code.value:4}  ",
            subsequent_indent=" " * 6,
            break_on_hyphens=False,
        )
        for code in ExitCode
    )
    return "\n".join(("exit codes:", *rows))


EXIT_CODES: Final = _describe_exit_codes()


class Parser(argparse.ArgumentParser):
    """Reports a wrong command line like every other error, and with our exit code."""

    @override
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"see {self.prog} --help")


def add_app_arguments(parser: argparse.ArgumentParser, *, any_app: bool = False) -> None:
    """Add the arguments of every command about an app: its name, its config, ``--json``."""
    if any_app:
        parser.add_argument("app", nargs="?", help="the app, such as traefik (default: all)")
    else:
        parser.add_argument("app", help="the app, such as traefik")
    add_config_arguments(parser)


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that find configs, and ``--json``."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="config file, TOML or JSON")
    parser.add_argument(
        "--config-dir",
        type=Path,
        metavar="DIR",
        default=Path(os.environ.get(CONFIG_DIR_VARIABLE, CONFIG_DIR)),
        help=f"directory of APP.toml or APP.json (default: ${CONFIG_DIR_VARIABLE} or {CONFIG_DIR})",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def positive(text: str) -> int:
    """Parse a whole number from 1 up to the largest that a journal can count to."""
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < _DIGITS else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number, 1 or more, not {text}")
    return number


def guarded(command: Callable[[], int]) -> int:
    """Run a command and return its exit code.

    An expected failure is printed as a message with a hint, a defect as a traceback.
    """
    code = _run(command)
    for stream in (sys.stdout, sys.stderr):
        _settle(stream)
    return code


def _run(command: Callable[[], int]) -> int:
    try:
        return command()
    except ReconcileError as error:
        print_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        print_error(ReconcileError("interrupted", hint="nothing is lost: the next run resumes"))
        return 130
    except Exception:  # noqa: BLE001 - the outermost frame: a defect gets its own exit code
        traceback.print_exc()
        return ExitCode.INTERNAL


def _settle(stream: TextIO) -> None:
    """Flush, or discard output that has no reader any more: the exit code must not change."""
    try:
        stream.flush()
    except OSError:
        # Python flushes once more at exit, and would exit with 120.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def print_error(error: ReconcileError) -> None:
    print_line(f"error: {error.message}", sys.stderr)
    if error.hint:
        print_line(f"hint: {error.hint}", sys.stderr)


def print_output(data: object, text: str, *, as_json: bool) -> None:
    """Print the result of a command, as JSON or as text."""
    print_line(json.dumps(data, indent=2, default=str) if as_json else text, sys.stdout)


def print_line(text: str, out: TextIO) -> None:
    """Print a line; ignore a closed or full output."""
    with contextlib.suppress(OSError):
        print(text, file=out)
