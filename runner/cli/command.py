"""A subcommand of ``warm-reconcile``. Each file of ``commands/`` defines one, as ``COMMAND``."""

import argparse
from collections.abc import Callable

from attrs import frozen

from runner.app import App, find_app


@frozen(kw_only=True)
class Command:
    """A subcommand; its name is that of its file, with hyphens."""

    sentence: str
    """What it does, for ``--help``. Not a docstring: ``python -OO`` removes docstrings."""
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    """Returns the exit code.

    Raises:
        ReconcileError: an expected failure; it is printed, with its hint and exit code.
    """
    shows_exit_codes: bool = False


def app_of(arguments: argparse.Namespace) -> App:
    """Read the config of the app that the command line names."""
    return find_app(arguments.app, config=arguments.config, config_dir=arguments.config_dir)
