"""Deploy the latest release of an app, gate it, commit it as last-good, or roll back.

This is what systemd calls: ``warm_reconcile.py traefik``. It reads the config, wires the real world
to the core, runs, and maps how the run ended to an exit code.
"""

import argparse
import contextlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from attrs import frozen

from runner import preconditions
from runner.config import app as configs
from runner.config.app import AppConfig
from runner.platforms.build import SystemClock, make_world
from runner.reconcile.errors import UnprovenError
from runner.reconcile.interfaces import Clock, Watcher
from runner.reconcile.loop import Policy, Run
from runner.report import Report
from runner.storage.journal import open_journal
from runner.storage.lock import hold
from runner.storage.paths import open_state
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

SYSTEM_CLOCK: Final = SystemClock()


@frozen
class App:
    """One app, found and checked: its name, its config, and where its state is."""

    name: str
    config: AppConfig

    @property
    def state_root(self) -> Path:
        return Path(self.config.state_dir)


def find_app(name: str, *, config: Path | None, config_dir: Path) -> App:
    """Read the config of an app.

    Raises:
        UsageError: no such app.
        ConfigError: its config has mistakes.
    """
    path = config if config is not None else configs.find(config_dir, name)
    return App(name, configs.load(path))


def reconcile(
    app: App,
    watcher: Watcher,
    *,
    forced: bool = False,
    wait: float = 0.0,
    clock: Clock = SYSTEM_CLOCK,
) -> Report:
    """Run once, under the app's lock.

    Args:
        app: to reconcile.
        watcher: sees each step.
        forced: try the latest release even if it is in quarantine.
        wait: seconds to wait for the lock.
        clock: of the gates.

    Raises:
        OrderingError: the gate would wait for its own caller, or declares who doesn't serve what
            it asks; nothing was touched.
        ReconcileError: the run could not begin, or its journal could not be written.
    """
    began = time.monotonic()
    questions = preconditions.clear_app(app.config, lambda said: watcher.warn(UnprovenError(said)))
    preconditions.check_budget(app.config)
    state = open_state(app.state_root, app.name)
    with hold(state.lock, wait=wait), make_world(app.config, state, questions) as wired:
        journal = open_journal(state, app.config.retention, time.time)
        with contextlib.closing(journal):
            policy = Policy(app.config.gate, app.config.fallback_depth, forced)
            final, attempt = Run(journal, wired.world, policy, clock, watcher).to_the_end()
            seconds = time.monotonic() - began
            return Report.of(
                app.name, final, attempt, journal.proven(), seconds, downtime=wired.downtime()
            )


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
