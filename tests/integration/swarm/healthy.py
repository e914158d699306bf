"""Helpers for tests of whole runs on a swarm: short runs, a proven release, and checks."""

import contextlib
import time
from collections.abc import Generator
from pathlib import Path
from typing import Final

from traefik.harness import NAME

from runner.platforms.swarm.objects import TOKEN_VARIABLE
from runner.platforms.swarm.stack_document import RELEASE_LABEL
from runner.reconcile.events import Commit, Committed
from runner.storage.history import History, open_history
from runner.storage.paths import find_state
from swarm.engine import Engine
from swarm.harness import AMPLE, OLD, OVERLAY, PROVIDER, RECIPE, WEB, WEB_SECURE, Host

LAST_GOOD: Final = f"1.0.0+v{OLD}"
_IN_A_HURRY: Final = (
    ("interval: 5s", "interval: 1s"),
    ("  app:\n", "  app:\n    stop_grace_period: 1s\n"),
)
"""Additions to the overlay: tasks become healthy sooner, and end sooner."""


def prepare(
    host: Host,
    *,
    preflight: float = 0.0,
    window: float = 1.5,
    deadline: float = AMPLE,
    platform: str = "",
    more: str = "",
) -> None:
    """Write a config for short runs. What passes in the end gets all the time that it needs."""
    overlay = host.home / "overlay"
    overlay.mkdir(exist_ok=True)
    for name in OVERLAY:
        text = (RECIPE / name).read_text()
        for old, new in _IN_A_HURRY if name.startswith("compose") else ():
            assert old in text
            text = text.replace(old, new, 1)
        (overlay / name).write_text(text)
    host.configure(
        source="directory",
        window=window,
        deadline=deadline,
        preflight=preflight,
        platform=f'overlay = "{overlay}"\n{platform}',
        more=more,
    )


def make_last_good(host: Host, label: str = LAST_GOOD) -> str:
    """Commit a good release; return the container that serves it."""
    host.release(label)
    ran = host.run()
    assert (ran.code, ran.outcome, ran.serving) == (0, "committed", label), ran
    return assert_serving(host, label)


def assert_serving(host: Host, label: str) -> str:
    """Check that one task of the app runs, is of this release, and says so; return its container.

    The token is in the present spec, so it is that of the deployment that is live.
    """
    spec = host.spec()
    assert spec["Labels"][RELEASE_LABEL] == label
    (task,) = host.tasks()
    for url in (WEB, WEB_SECURE, PROVIDER):
        who = host.ask(url)
        assert who is not None, url
        assert (who.token, who.task) == (token_of(host), task["ID"]), url
        assert who.version == label.rpartition("+v")[2]
    containers = host.containers()
    assert containers == [task["Status"]["ContainerStatus"]["ContainerID"]]
    return containers[0]


def token_of(host: Host) -> str:
    """Read the environment of the gated service's tasks."""
    entries = map(str, host.spec()["TaskTemplate"]["ContainerSpec"]["Env"])
    (token,) = (e.partition("=")[2] for e in entries if e.startswith(f"{TOKEN_VARIABLE}="))
    return token


@contextlib.contextmanager
def history(host: Host) -> Generator[History]:
    """Read the journal beside whatever happens."""
    with open_history(find_state(host.home / "state", NAME)) as found:
        assert found is not None
        yield found


def proven(host: Host) -> list[str]:
    """List the labels that were ever committed, newest first, those in quarantine included."""
    with history(host) as past:
        return [release.label for release in past.proven(1000, float("inf"))]


def quarantined(host: Host) -> dict[str, str]:
    """List the labels that are not to be tried now, with the reasons."""
    with history(host) as past:
        return {q.release.label: q.reason for q in past.quarantine(time.time())}


def assert_never_committed(host: Host, label: str) -> None:
    """Check that nothing in the journal made the release last-good, or meant to."""
    assert label not in proven(host)
    with history(host) as past:
        for attempt in past.attempts(1000):
            for _, entry in past.story(attempt.number):
                match entry:
                    case Commit(verdict):
                        assert verdict.deployment.release.label != label
                    case Committed(release):
                        assert release.label != label
                    case _:
                        pass


class Keeper:
    """Keeps one app with a last-good from test to test: each of them has to leave it serving."""

    def __init__(self, engine: Engine, place: Path) -> None:
        self._engine = engine
        self._place = place
        self._made = 0
        self._labels = 0
        self._host: Host | None = None

    def serve(self) -> Host:
        """Return the app, as it was left; a new one if it is not as it should be."""
        if self._host is not None and self._is_serving(self._host):
            return self._host
        self.stop()
        self._made += 1
        self._host = Host(self._engine, self._place / str(self._made))
        prepare(self._host)
        make_last_good(self._host)
        return self._host

    def label(self, version: str) -> str:
        """Name the next release."""
        self._labels += 1
        return f"1.{self._labels}.0+v{version}"

    def stop(self) -> None:
        """Remove everything from Docker."""
        if self._host is not None:
            self._host.stop()
            self._host = None
        self._engine.remove_stacks()

    def _is_serving(self, host: Host) -> bool:
        try:
            assert_serving(host, LAST_GOOD)
        except (AssertionError, KeyError, ValueError):  # it is gone, or another one
            return False
        return proven(host) == [LAST_GOOD]
