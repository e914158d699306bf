"""Reads the state of an app (journal, live release, source of releases) without changing it."""

import tempfile
import time
from pathlib import Path

from attrs import frozen

from runner.app import App
from runner.platforms.build import make_platform, make_source
from runner.reconcile.attempt import Attempt
from runner.reconcile.decisions import Facts
from runner.reconcile.errors import EngineUnreachableError
from runner.reconcile.model import Deployment, LatestUnknown, NotLive, Quarantine, Release
from runner.releases.store import identify
from runner.releases.versions import Label
from runner.storage.history import History, PastAttempt, open_history
from runner.storage.lock import holder_of
from runner.storage.paths import StateDir, find_state


@frozen
class AppState:
    """The state of an app: the facts that the next run decides on, and details for the operator."""

    app: str
    facts: Facts
    offered: tuple[Label, ...]
    quarantine: tuple[Quarantine, ...]
    last: PastAttempt | None
    holder: int | None
    """The pid of the run that holds the lock; None if there is none."""
    engine: str
    """The error if Docker is unreachable; empty otherwise."""
    fallback_depth: int


def read_app_state(app: App, *, ask_source: bool, forced: bool = False) -> AppState:
    """Read the journal, the live deployment and, with ``ask_source``, the source of releases.

    Raises:
        StateError: the state directory or the journal is refused.
    """
    state = find_state(app.state_root, app.name)
    live, engine = _live(app, state)
    latest, offered = (
        _latest(app, state) if ask_source else (LatestUnknown("the source was not read"), ())
    )
    now = time.time()
    with open_history(state) as past:
        quarantine = tuple(past.quarantine(now)) if past else ()
        facts = Facts(
            latest=latest,
            live=live,
            proven=past.proven(app.config.retention.proven, now) if past else (),
            quarantined=frozenset(q.release.digest for q in quarantine),
            forced=forced,
            attempt=(past.open_attempt() if past else None) or Attempt("none"),
        )
        return AppState(
            app=app.name,
            facts=facts,
            offered=offered,
            quarantine=quarantine,
            last=_last(past),
            holder=holder_of(state.lock),
            engine=engine,
            fallback_depth=app.config.fallback_depth,
        )


def _last(past: History | None) -> PastAttempt | None:
    attempts = past.attempts(1) if past else []
    return attempts[0] if attempts else None


def _live(app: App, state: StateDir) -> tuple[Deployment | NotLive, str]:
    with make_platform(app.config, state, ()) as wired:
        try:
            return wired.platform.live(), ""
        except EngineUnreachableError as error:
            return NotLive(), error.message


def _latest(app: App, state: StateDir) -> tuple[Release | LatestUnknown, tuple[Label, ...]]:
    with (
        tempfile.TemporaryDirectory() as scratch,
        make_platform(app.config, state, ()) as wired,
    ):
        source = make_source(app.config, Path(scratch) / "mirror.git")
        return identify(source, wired.packaging)
