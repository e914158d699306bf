"""One app: finds its config, and reconciles it once, under its lock."""

import contextlib
import time
from pathlib import Path
from typing import Final

from attrs import frozen

from runner import preconditions
from runner.config import app as configs
from runner.config.app import AppConfig
from runner.platforms.build import SystemClock, make_platform
from runner.reconcile.errors import UnprovenError
from runner.reconcile.interfaces import Clock, Watcher
from runner.reconcile.loop import Policy, Run
from runner.report import Report
from runner.storage.journal import open_journal
from runner.storage.lock import hold
from runner.storage.paths import open_state

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
        OrderingError: the gate would wait for its own caller, or a probe declares a unit that does
            not serve its host name; nothing was touched.
        ReconcileError: the run could not begin, or its journal could not be written.
    """
    began = time.monotonic()
    probes = preconditions.clear_app(app.config, lambda said: watcher.warn(UnprovenError(said)))
    preconditions.check_budget(app.config)
    state = open_state(app.state_root, app.name)
    with hold(state.lock, wait=wait), make_platform(app.config, state, probes) as wired:
        journal = open_journal(state, app.config.retention, time.time)
        with contextlib.closing(journal):
            policy = Policy(app.config.gate, app.config.fallback_depth, forced)
            final, attempt = Run(journal, wired.platform, policy, clock, watcher).to_the_end()
            seconds = time.monotonic() - began
            return Report.of(
                app.name, final, attempt, journal.proven(), seconds, downtime=wired.downtime()
            )
