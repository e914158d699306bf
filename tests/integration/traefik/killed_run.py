"""A run that kills itself: ``killed_run.py CONFIG_DIR TRACE EFFECT`` dies at that effect.

It is ``runner.app.reconcile`` with three things in between: a journal and a platform that count
every call, before and after, and an audit hook (PEP 578) that counts, before they happen, the
effects inside them: each file opened for writing, made, renamed or removed, each process started or
sent a signal. The trace gets a line for each. EFFECT is the number of such a line, or what it says;
with 0 no run is killed, and the trace lists the effects to try.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

import psutil
from attrs import evolve
from typing_extensions import override

from runner.app import find_app
from runner.platforms.build import SystemClock, make_platform
from runner.platforms.process.instances import Instances
from runner.platforms.process.platform import ProcessPlatform
from runner.preconditions import clear
from runner.reconcile.attempt import Attempt
from runner.reconcile.events import Effect, Event
from runner.reconcile.interfaces import Journal, Journaled, Platform
from runner.reconcile.loop import Policy, Run
from runner.reconcile.machine import State
from runner.reconcile.model import (
    Deployment,
    Healthy,
    LatestUnknown,
    NotLive,
    Release,
    Round,
)
from runner.storage.journal import SqliteJournal, open_journal
from runner.storage.lock import hold
from runner.storage.paths import open_state
from runner.terminal.progress import choose_watcher

APP: Final = "traefik"
CHANGES: Final = {
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.truncate",
    "os.kill",
    "subprocess.Popen",
}
"""Audit events of what changes something, besides ``open``."""
WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Countdown:
    """Counts effects, and kills this process at the fatal one."""

    def __init__(self, trace: Path, fatal: str, home: Path) -> None:
        self._trace = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._fatal = fatal
        self._count = 0
        self._home = f"{home}/"
        sys.addaudithook(self._audit)

    def tick(self, name: str) -> None:
        os.write(self._trace, f"{name}\n".encode())
        self._count += 1
        if self._fatal in {str(self._count), name}:
            # Not os.kill: that would be audited, too.
            signal.raise_signal(signal.SIGKILL)

    @contextlib.contextmanager
    def around(self, name: str) -> Generator[None]:
        self.tick(f"before {name}")
        yield
        self.tick(f"after {name}")

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in CHANGES:
            self.tick(event)
        elif event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & WRITES and str(path).startswith(self._home):
                self.tick(f"open {Path(path).name}")


class CountedInstances(Instances):
    """The instances of the app, counted."""

    def __init__(self, directory: Path, countdown: Countdown) -> None:
        super().__init__(directory)
        self._countdown = countdown

    @override
    def prepare(self, deployment: Deployment, files: Path, gate: str) -> Path:
        with self._countdown.around("prepare"):
            return super().prepare(deployment, files, gate)

    @override
    def start(self, deployment: Deployment, binary: Path) -> None:
        with self._countdown.around("start"):
            super().start(deployment, binary)

    @override
    def terminate_all(self) -> list[psutil.Process]:
        with self._countdown.around("terminate_all"):
            return super().terminate_all()

    @override
    def await_release(self, processes: list[psutil.Process], timeout: float) -> None:
        with self._countdown.around("await_release"):
            super().await_release(processes, timeout)

    @override
    def await_end(
        self, processes: list[psutil.Process], timeout: float, successor: str = ""
    ) -> None:
        with self._countdown.around("await_end"):
            super().await_end(processes, timeout, successor)


class CountedWorld:
    """A platform, counted; of a gate's rounds only the first, because how many there are varies."""

    def __init__(self, platform: Platform, countdown: Countdown) -> None:
        self._platform = platform
        self._countdown = countdown
        self._asked: set[str] = set()

    def latest(self) -> Release | LatestUnknown:
        with self._countdown.around("latest"):
            return self._platform.latest()

    def live(self) -> Deployment | NotLive:
        with self._countdown.around("live"):
            return self._platform.live()

    def deploy(self, deployment: Deployment) -> None:
        with self._countdown.around("deploy"):
            self._platform.deploy(deployment)

    def ask(self, deployment: Deployment, timeout: float) -> Round:
        if deployment.token in self._asked:
            return self._platform.ask(deployment, timeout)
        self._asked.add(deployment.token)
        with self._countdown.around("the first round of a gate"):
            return self._platform.ask(deployment, timeout)

    def seal(self, release: Release) -> None:
        with self._countdown.around("seal"):
            self._platform.seal(release)

    def prune(self, keep: frozenset[str]) -> None:
        with self._countdown.around("prune"):
            self._platform.prune(keep)


class CountedJournal:
    """A journal, counted."""

    def __init__(self, journal: SqliteJournal, countdown: Countdown) -> None:
        self._journal = journal
        self._countdown = countdown

    def begin(self) -> Attempt:
        with self._countdown.around("begin"):
            return self._journal.begin()

    def intend(self, state: State, effect: Effect) -> Journaled:
        with self._countdown.around(f"intend {type(effect).__name__}"):
            return self._journal.intend(state, effect)

    def observe(self, event: Event, state: State, attempt: Attempt) -> None:
        with self._countdown.around(f"observe {type(event).__name__}"):
            self._journal.observe(event, state, attempt)

    def commit(self, verdict: Healthy) -> None:
        with self._countdown.around("commit"):
            self._journal.commit(verdict)

    def proven(self) -> tuple[Release, ...]:
        return self._journal.proven()

    def quarantined(self) -> frozenset[str]:
        return self._journal.quarantined()

    def needed(self) -> frozenset[str]:
        return self._journal.needed()


def main(config_dir: Path, trace: Path, fatal: str) -> None:
    app = find_app(APP, config=None, config_dir=config_dir)
    state = open_state(app.state_root, APP)
    countdown = Countdown(trace, fatal, state.home)
    probes = clear(app.config.caller, app.config.probes)
    with hold(state.lock), make_platform(app.config, state, probes) as theirs:
        assert isinstance(theirs.platform, ProcessPlatform)
        platform = evolve(theirs.platform, instances=CountedInstances(state.instances, countdown))
        journal = open_journal(state, app.config.retention, time.time)
        with contextlib.closing(journal):
            counted: Journal = CountedJournal(journal, countdown)
            policy = Policy(app.config.gate, app.config.fallback_depth, forced=False)
            watcher = choose_watcher(sys.stderr, APP)
            run = Run(counted, CountedWorld(platform, countdown), policy, SystemClock(), watcher)
            print(run.to_the_end()[0].value)  # noqa: T201 - read by the test


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
