"""``make run``: a demonstration with real Traefik releases as local processes. No root, no Docker.

It deploys and commits an older release, then the latest one, then a broken one, which is rolled
back. Meanwhile an independent observer requests Traefik's front page in a loop.
"""

import contextlib
import http.client
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Final

from attrs import define, field

from runner.app import App, reconcile
from runner.config import app as configs
from runner.exit_codes import ExitCode
from runner.platforms.process.instances import Instances
from runner.report import Report
from runner.storage.paths import StateDir, find_state
from runner.terminal.options import guarded
from runner.terminal.progress import TerminalWatcher

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
HOME: Final = Path.cwd() / ".demo"
BINARIES: Final = HOME / "binaries"
"""A cache that outlives a demonstration: its store deletes binaries that no kept release needs."""
ADDRESS: Final = "127.0.0.1:18080"
STORY: Final = (
    ("3.5.0", "An older Traefik, on a host that has none", ExitCode.COMMITTED),
    ("3.7.15", "A newer release appears", ExitCode.COMMITTED),
    (
        "3.8.0",
        "A broken release appears: its port is no number",
        ExitCode.ROLLED_BACK,
    ),
    ("3.8.0", "The same run once more: the broken release is not tried again", ExitCode.OK),
)
OBSERVE_EVERY: Final = 0.02
"""Seconds."""


@define
class Observer:
    """Requests Traefik's front page in a loop, and adds up the time without an answer."""

    port: int
    outage: float = 0.0
    """Seconds without an answer since the last reset."""
    has_answered: bool = False
    _stop: threading.Event = field(factory=threading.Event)

    def watch(self) -> None:
        last = time.monotonic()
        while not self._stop.wait(OBSERVE_EVERY):
            answered = self._request()
            now = time.monotonic()
            if answered:
                self.has_answered = True
            elif self.has_answered:
                self.outage += now - last
            last = now

    def stop(self) -> None:
        self._stop.set()

    def _request(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status == http.HTTPStatus.OK
        except OSError:
            return False
        except http.client.HTTPException:
            return False
        finally:
            connection.close()


def main() -> int:
    """Run the demonstration; return 0 if every step ended with the expected exit code."""
    began = time.monotonic()
    port = _free_port()
    with _prepared(port) as (app, releases):
        observer = Observer(port)
        thread = threading.Thread(target=observer.watch, daemon=True)
        thread.start()
        passed = [_chapter(app, releases, observer, *chapter) for chapter in STORY]
        observer.stop()
        thread.join()
    _print(f"\nTraefik is stopped again. {time.monotonic() - began:.0f} s in all.")
    _print(
        f"The journal is kept: .venv/bin/warm-reconcile history traefik --config-dir {HOME.name}"
    )
    return ExitCode.OK if all(passed) else ExitCode.INTERNAL


def _chapter(
    app: App, releases: Path, observer: Observer, label: str, title: str, expected: ExitCode
) -> bool:
    _print(f"\n{title} ({label})")
    target = releases / label
    if not target.exists():
        shutil.copytree(EXAMPLES / "releases" / label, target)
        _replace(target / "traefik.yml", ADDRESS, f"127.0.0.1:{observer.port}")
    observer.outage = 0.0
    store = StateDir(app.state_root, app.name).binaries
    _link_new(BINARIES, store)
    report = reconcile(app, TerminalWatcher(sys.stdout))
    _link_new(store, BINARIES)
    _print(f"  => {report.to_text()}")
    _print(f"     not answering for {observer.outage:.1f} s")
    return _is_as_expected(report, expected)


def _is_as_expected(report: Report, expected: int) -> bool:
    if report.exit != expected:
        _print(f"     unexpected exit code {report.exit}, expected {expected}")
    return report.exit == expected


@contextlib.contextmanager
def _prepared(port: int) -> Generator[tuple[App, Path]]:
    """Make an app without state, keep only cached binaries; stop every Traefik at the end."""
    releases = HOME / "releases"
    state = find_state(HOME / "state", "traefik")
    instances = Instances(state.instances)
    instances.stop_all(5.0)
    for leftover in (HOME / "state", releases):
        shutil.rmtree(leftover, ignore_errors=True)
    releases.mkdir(parents=True)
    if not BINARIES.exists():
        _print("Fetching two versions of Traefik (50 MB each, once) ...")
    config = HOME / "traefik.toml"
    shutil.copy(EXAMPLES / "traefik.toml", config)
    _replace(config, "/var/lib/warm-reconcile", str(HOME / "state"))
    _replace(config, "/srv/releases", str(releases))
    _replace(config, ADDRESS, f"127.0.0.1:{port}")
    try:
        yield App("traefik", configs.load(config)), releases
    finally:
        instances.stop_all(5.0)


def _link_new(source: Path, dest: Path) -> None:
    """Hard-link the entries of ``source`` that ``dest`` lacks."""
    for entry in source.glob("*-*"):
        if not (dest / entry.name).exists():
            shutil.copytree(entry, dest / entry.name, copy_function=os.link)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _replace(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the output of the demonstration


if __name__ == "__main__":
    sys.exit(guarded(main))
