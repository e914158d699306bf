"""``sweep``: check that last-good is live and healthy, then delete unused releases and images.

It deploys nothing and never changes last-good: the next run finds the same fault and restores it.
"""

import argparse
import contextlib
import time
from pathlib import Path
from typing import Any

from attrs import asdict, evolve, frozen

from runner import preconditions
from runner.app import App, find_app
from runner.cli.command import Command
from runner.cli.gates import no_config_error
from runner.config import app as configs
from runner.exit_codes import ExitCode
from runner.platforms.build import SystemClock, make_platform
from runner.reconcile.errors import EngineUnreachableError, LockedError, ReconcileError
from runner.reconcile.gate import judge
from runner.reconcile.interfaces import Platform
from runner.reconcile.loop import tidy
from runner.reconcile.model import Deployment, Healthy, NotLive, Unhealthy
from runner.storage.journal import SqliteJournal, open_journal
from runner.storage.lock import hold
from runner.storage.paths import StateDir, find_state
from runner.terminal.options import add_app_arguments, print_output
from runner.terminal.text import format_verdict


@frozen
class Swept:
    """The result of the check of one app."""

    app: str
    exit: ExitCode
    finding: str

    def to_data(self) -> dict[str, Any]:
        return {**asdict(self), "exit": int(self.exit)}


def _run(arguments: argparse.Namespace) -> int:
    directory: Path = arguments.config_dir
    names = [arguments.app] if arguments.app is not None else configs.names(directory)
    if not names:
        raise no_config_error(directory)
    file: Path | None = arguments.config
    swept = [_sweep_by_name(name, file, directory) for name in names]
    text = "\n".join(f"{each.app}: {each.finding}" for each in swept)
    print_output([each.to_data() for each in swept], text, as_json=arguments.json)
    return max(each.exit for each in swept)


def _sweep_by_name(name: str, file: Path | None, directory: Path) -> Swept:
    """Sweep one app; return its errors, so that the other apps are swept, too."""
    try:
        return sweep_app(find_app(name, config=file, config_dir=directory))
    except LockedError as error:
        return Swept(name, ExitCode.OK, f"skipped: {error.message}")
    except ReconcileError as error:
        in_one_line = error.message.replace(":\n  ", ": ").replace("\n  ", "; ")
        return Swept(name, error.exit_code, in_one_line)


def sweep_app(app: App) -> Swept:
    """Check one app under its lock, then delete what no kept release needs.

    Raises:
        LockedError: a run holds it.
        OrderingError: its gate would wait for its own caller.
        ReconcileError: its state or its journal is refused.
    """
    doubts: list[str] = []
    probes = preconditions.clear_app(app.config, doubts.append)
    state = find_state(app.state_root, app.name)
    if not state.journal.exists():
        return Swept(app.name, ExitCode.STRANDED, "it never ran")
    with hold(state.lock), make_platform(app.config, state, probes) as wired:
        found = _look(app, state, wired.platform)
    return evolve(found, finding="; ".join([found.finding, *doubts]))


def _look(app: App, state: StateDir, platform: Platform) -> Swept:
    journal = open_journal(state, app.config.retention, time.time)
    with contextlib.closing(journal):
        try:
            found = _verify(app, journal, platform)
        except EngineUnreachableError as error:
            return Swept(app.name, ExitCode.UNDECIDED, error.message)
        return _tidy(found, journal, platform)


def _verify(app: App, journal: SqliteJournal, platform: Platform) -> Swept:
    proven = journal.proven()
    if not proven:
        return Swept(app.name, ExitCode.STRANDED, "no release is proven")
    last_good, live = proven[0], platform.live()
    if not isinstance(live, Deployment) or live.release != last_good:
        return Swept(
            app.name,
            ExitCode.UNHEALTHY,
            f"last-good {last_good.label} is not live: {_name(live)}; the next run restores it",
        )
    policy = app.config.gate.for_verifying()
    verdict = judge(policy, live, platform.ask, SystemClock(), lambda _: None)
    found = f"last-good is live: {format_verdict(verdict)}"
    match verdict:
        case Healthy():
            return Swept(app.name, ExitCode.OK, f"last-good {last_good.label} is live and healthy")
        case Unhealthy():
            return Swept(app.name, ExitCode.UNHEALTHY, f"{found}; the next run restores it")
        case _:
            return Swept(app.name, ExitCode.UNDECIDED, found)


def _name(live: Deployment | NotLive) -> str:
    if isinstance(live, Deployment):
        return f"{live.release.label} is"
    return live.reason or "nothing is"


def _tidy(found: Swept, journal: SqliteJournal, platform: Platform) -> Swept:
    """Clean up as a run does at its end; here a failure counts, because this is the job."""
    for error in tidy(journal, platform):
        is_lost = isinstance(error, EngineUnreachableError)
        code = ExitCode.UNDECIDED if is_lost else ExitCode.STATE
        finding = f"{found.finding}; the cleanup failed: {error.message}"
        found = evolve(found, exit=max(found.exit, code), finding=finding)
    return found


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_app_arguments(parser, any_app=True)


COMMAND = Command(
    sentence="Check that last-good is live and healthy, then delete what no kept release needs.",
    add_arguments=_add_arguments,
    run=_run,
    shows_exit_codes=True,
)
