"""What the two commands have in common: arguments, exit codes, and how a failure is told."""

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
"""Of a help text: what a terminal has at least."""


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
    """Declare how every command finds an app, and in which form it answers."""
    if any_app:
        parser.add_argument("app", nargs="?", help="the app, such as traefik (default: all)")
    else:
        parser.add_argument("app", help="the app, such as traefik")
    add_config_arguments(parser)


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare where configs are, and in which form a command answers."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="its config, TOML or JSON")
    parser.add_argument(
        "--config-dir",
        type=Path,
        metavar="DIR",
        default=Path(os.environ.get(CONFIG_DIR_VARIABLE, CONFIG_DIR)),
        help=f"where APP.toml or APP.json is (default: ${CONFIG_DIR_VARIABLE} or {CONFIG_DIR})",
    )
    parser.add_argument("--json", action="store_true", help="answer in JSON, for machines")


def positive(text: str) -> int:
    """Read a whole number from 1 to what a journal can count."""
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < _DIGITS else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number, 1 or more, not {text}")
    return number


def guarded(command: Callable[[], int]) -> int:
    """Run a command; the two ways to end badly are a message with a hint, and a traceback."""
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
    """Flush, or give up on a reader that has gone: it must not change how the command ended."""
    try:
        stream.flush()
    except OSError:
        # Python flushes once more at exit, and would exit with 120.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def print_error(error: ReconcileError) -> None:
    say(f"error: {error.message}", sys.stderr)
    if error.hint:
        say(f"hint: {error.hint}", sys.stderr)


def answer(data: object, text: str, *, as_json: bool) -> None:
    """Print the answer of a command, in one of its two forms."""
    say(json.dumps(data, indent=2, default=str) if as_json else text, sys.stdout)


def say(text: str, out: TextIO) -> None:
    """Print a line, whether or not somebody still reads."""
    with contextlib.suppress(OSError):
        print(text, file=out)
