"""One app under test: its releases, its runs, and what they leave behind."""

import contextlib
import hashlib
import http
import http.client
import io
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Final, TypeVar

from attrs import evolve, frozen

from runner.config.app import load
from runner.platforms.build import make_platform
from runner.platforms.process.instances import Instances
from runner.platforms.process.platform import IDENTITY_PATH, ProcessPlatform
from runner.preconditions import clear
from runner.reconcile.attempt import Attempt
from runner.reconcile.events import Commit, Committed
from runner.reconcile.loop import Policy, Run
from runner.reconcile.replies import TOKEN_HEADER
from runner.storage.history import History, open_history
from runner.storage.journal import open_journal
from runner.storage.lock import hold
from runner.storage.paths import StateDir, find_state, open_state
from runner.terminal.progress import choose_watcher
from traefik import impatient_run
from traefik.impatient_run import Impatience

T = TypeVar("T")

NAME: Final = "traefik"
NEW: Final = "3.7.15"
OLD: Final = "3.5.0"
CALLER: Final = "deploy-proxy.service"
PING: Final = "ping: {entryPoint: web}"
API: Final = "api: {}"
RUNNER: Final = Path(__file__).parents[3] / "runner" / "warm_reconcile.py"
IMPATIENT: Final = Path(impatient_run.__file__)
NEVER: Final = "(?!)"
"""A reason that no gate reports."""
ROUNDS: Final = 3
"""How often a failure has to be seen before a gate need not be waited for."""
RUN_LIMIT: Final = 600.0
"""Seconds after which a run counts as hung. None of ours may take a tenth of it."""
PATIENCE: Final = 120.0
"""Seconds until a condition that has to come true counts as missed."""


def cache_directory() -> Path:
    """Return the cache directory that all test runs share: binaries, compiled modules."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "warm-reconcile-tests"


def wait_for(look: Callable[[], T | None], what: str) -> T:
    """Look until there is something to see; fail if there is nothing in time."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if (seen := look()) is not None:
            return seen
        time.sleep(0.01)
    raise AssertionError(f"not within {PATIENCE:g} s: {what}")


def kill(pid: int) -> None:
    """End a process as a power cut does, and wait until its last thread has let go of its port."""
    pidfd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        ready, _, _ = select.select([pidfd], [], [], PATIENCE)
        assert ready, f"process {pid} survived SIGKILL"
    finally:
        os.close(pidfd)


@frozen
class Reply:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: str


def get(port: int, path: str, timeout: float = PATIENCE) -> Reply | None:
    """Send one request on a new connection; None without an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        # Without a host name, which an entrypoint could redirect.
        connection.request("GET", path, headers={"Host": ""} if path == IDENTITY_PATH else {})
        reply = connection.getresponse()
        body = reply.read().decode("utf-8", "replace")
        return Reply(reply.status, {k.lower(): v for k, v in reply.getheaders()}, body)
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def wait_for_ping(port: int) -> None:
    """Wait until a Traefik answers its ping."""

    def look() -> Reply | None:
        reply = get(port, "/ping")
        return reply if reply is not None and reply.status == http.HTTPStatus.OK else None

    wait_for(look, f"a ping on port {port}")


@frozen
class Binary:
    """An executable file and the hash that a release promises."""

    path: Path
    sha256: str

    @classmethod
    def of(cls, path: Path) -> "Binary":
        with path.open("rb") as file:
            return cls(path, hashlib.file_digest(file, "sha256").hexdigest())


@frozen
class Ran:
    """How a run ended, and what it said."""

    code: int
    out: str
    log: str

    @property
    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.out)
        return report

    @property
    def outcome(self) -> str:
        return str(self.report["outcome"])

    @property
    def reason(self) -> str:
        return str(self.report["reason"])

    @property
    def serving(self) -> object:
        return self.report["serving"]


class App:
    """An app of its own: ports, releases, a config and a state directory."""

    def __init__(self, home: Path, port: int, other_port: int, real: dict[str, Binary]) -> None:
        self.home = home
        self.port = port
        self.other_port = other_port
        """Free, too; nothing listens there unless a test makes it."""
        self.real = real
        """The Traefik of each version."""
        self.state = StateDir(home / "state", NAME)
        self.instances = Instances(self.state.instances)
        self.releases = home / "releases"
        self.releases.mkdir(parents=True)
        self._runs: list[subprocess.Popen[str]] = []
        self.configure()

    @property
    def config_dir(self) -> Path:
        return self.home / "config"

    # What there is to deploy ---------------------------------------------------------------------

    def configure(
        self,
        *,
        window: float = 0.3,
        deadline: float = PATIENCE,
        timeout: float = PATIENCE,
        stop_timeout: float = 15.0,
        git: str = "",
    ) -> None:
        """Write the config. Its deadline is one that a slow machine meets, too: see ``run_until``.

        Args:
            window: of the gate.
            deadline: of the gate, from its window on.
            timeout: of each probe; short only where no answer is what makes a probe fail.
            stop_timeout: of an instance.
            git: a repository to take the releases from.
        """
        where = (
            f'kind = "git"\nurl = "{git}"'
            if git
            else f'kind = "directory"\npath = "{self.releases}"'
        )
        probes = "".join(
            f'[[probes]]\nkind = "{kind}"\ntarget_unit = "{CALLER}"\ntimeout = {timeout}\n'
            f'url = "http://127.0.0.1:{self.port}{path}"\n'
            for kind, path in (("traefik-ping", "/ping"), ("identity", IDENTITY_PATH))
        )
        self.config_dir.mkdir(exist_ok=True)
        (self.config_dir / f"{NAME}.toml").write_text(
            f'state_dir = "{self.state.root}"\ncaller = "{CALLER}"\n'
            f"[source]\n{where}\n"
            f'[platform]\nkind = "process"\nstop_timeout = {stop_timeout}\n'
            f"[budget]\nfetch = 1200\ndeploy = {stop_timeout + 60}\ntimeout_start = 10000\n"
            f"[gate]\nrise = 2\nwindow = {window}\ndeadline = {window + deadline}\n"
            f"verify_deadline = {deadline}\n"
            f"{probes}"
        )

    def static(
        self,
        *,
        port: int | None = None,
        web: str = "",
        ping: str = PING,
        api: str = API,
        more: str = "",
    ) -> str:
        """Write a static configuration: a good one, but for what a test changes."""
        address = f'address: "127.0.0.1:{port or self.port}"'
        return "\n".join(
            (
                f"entryPoints: {{web: {{{address}{web and f', {web}'}}}}}",
                ping,
                api,
                "providers: {providersThrottleDuration: 50ms, file: {directory: dynamic}}",
                "global: {checkNewVersion: false, sendAnonymousUsage: false}",
                "log: {noColor: true}",
                more,
            )
        )

    def release(
        self,
        label: str,
        *,
        version: str = NEW,
        binary: Binary | None = None,
        static: str = "",
        dynamic: str = "",
        into: Path | None = None,
    ) -> Path:
        """Write a release: a good one of ``version``, but for what a test changes."""
        binary = binary or self.real[version]
        self._lend(binary)
        spec = f'binary = "{binary.path}"\nbinary_sha256 = "{binary.sha256}"\n'
        return self.lay_out(into or self.releases / label, version, spec, static, dynamic)

    def lay_out(
        self, home: Path, version: str, spec: str, static: str = "", dynamic: str = ""
    ) -> Path:
        """Write the files of a release."""
        (home / "dynamic").mkdir(parents=True, exist_ok=True)
        (home / "release.toml").write_text(f'version = "{version}"\n{spec}')
        (home / "traefik.yml").write_text(static or self.static())
        (home / "dynamic" / "site.yml").write_text(dynamic or "# nothing is routed\n")
        return home

    def executable(self, name: str, content: str | bytes) -> Binary:
        """Write a file for a release to run."""
        path = self.home / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return Binary.of(path)

    def _lend(self, binary: Binary) -> None:
        """Put a real binary where the app keeps its own: as a link, where it would make a copy.

        What the app checks before each deployment, it checks all the same: the promised hash is
        beside the link, and the content is read again.
        """
        entry = self.state.binaries / f"file-{binary.sha256}"
        if binary not in self.real.values() or entry.exists():
            return
        for directory in (self.state.root, self.state.home, self.state.binaries, entry):
            directory.mkdir(mode=0o700, exist_ok=True)
        link_or_copy(str(binary.path), str(entry / "traefik"))
        (entry / "sha256").write_text(f"{binary.sha256}\n")

    # Running it ----------------------------------------------------------------------------------

    def run(self, *flags: str) -> Ran:
        """Reconcile once, as systemd would: through the command."""
        return self.end(self.begin(*flags))

    def run_until(self, reason: str, *flags: str, rounds: int = ROUNDS) -> Ran:
        """Reconcile once; end the gate when this failure was seen in so many rounds."""
        return self.end(self.begin_until(reason, *flags, rounds=rounds))

    def begin(self, *flags: str) -> subprocess.Popen[str]:
        """Begin a run."""
        return self.start(str(RUNNER), NAME, "--config-dir", str(self.config_dir), "--json", *flags)

    def begin_until(self, reason: str, *flags: str, rounds: int = ROUNDS) -> subprocess.Popen[str]:
        """Begin a run whose clock jumps past the deadline of the gate: see ``impatient_run.py``."""
        return self.start(str(IMPATIENT), str(self.config_dir), reason, str(rounds), *flags)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a Python program of ours."""
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = str(cache_directory() / "bytecode")
        run = subprocess.Popen(
            [sys.executable, *arguments],
            env=environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._runs.append(run)
        return run

    def end(self, run: subprocess.Popen[str]) -> Ran:
        """Await the end of a run."""
        out, log = run.communicate(timeout=RUN_LIMIT)
        return Ran(run.returncode, out, log)

    def reconcile_here(self, until: str = NEVER) -> str:
        """Do in this process what a run does, without the time that starting Python takes.

        Only for what a test needs to be there first; what it is about goes through ``run``.

        Args:
            until: the failure that ends a gate, as for ``run_until``.
        """
        config = load(self.config_dir / f"{NAME}.toml")
        state = open_state(self.state.root, NAME)
        probes = clear(config.caller, config.probes)
        with (
            hold(state.lock),
            make_platform(config, state, probes) as theirs,
        ):
            assert isinstance(theirs.platform, ProcessPlatform)
            platform = evolve(theirs.platform, instances=self.instances)
            with contextlib.closing(open_journal(state, config.retention, time.time)) as journal:
                clock = Impatience(choose_watcher(io.StringIO(), NAME), until, ROUNDS)
                policy = Policy(config.gate, config.fallback_depth, forced=False)
                run = Run(journal, platform, policy, clock, clock)
                return run.to_the_end()[0].value

    def make_last_good(self, label: str = "1.0.0", *, static: str = "") -> int:
        """Commit a good release; return the process that serves it."""
        self.release(label, static=static)
        assert self.reconcile_here() == "committed"
        return self.assert_serving(label)

    def stop(self) -> None:
        """End every process of the app, and every run of it."""
        for run in self._runs:
            if run.poll() is None:
                run.kill()
            run.communicate()
        self.instances.stop_all(5)
        assert self.instances.running() == {}
        for child in self.instances._children.values():
            child.wait(PATIENCE)  # its last thread, too: until then its port is taken

    def kill_instances(self) -> None:
        """End every process of the app without a warning, as a power cut does."""
        for group in self.instances.running().values():
            for process in group:
                kill(process.pid)

    # What is so now ------------------------------------------------------------------------------

    def assert_serving(self, label: str) -> int:
        """Check that one process of the app runs, is ``label``, and says so; return its pid."""
        running = self.instances.running()
        assert len(running) == 1, running
        ((token, processes),) = running.items()
        assert len(processes) == 1, processes
        deployment = self.instances.read(token)
        assert deployment is not None
        assert deployment.release.label == label
        identity = get(self.port, IDENTITY_PATH)
        assert identity is not None
        assert identity.headers[TOKEN_HEADER.lower()] == token
        assert json.loads(identity.body)["Version"] == deployment.release.version
        ping = get(self.port, "/ping")
        assert ping is not None
        assert (ping.status, ping.body) == (200, "OK")
        return int(processes[0].pid)

    def answering_token(self, others: frozenset[str] = frozenset()) -> str | None:
        """Return the token of the instance that answers; None without one, or for one of these."""
        identity = get(self.port, IDENTITY_PATH)
        token = identity.headers.get(TOKEN_HEADER.lower()) if identity is not None else None
        return None if token in others else token

    @contextlib.contextmanager
    def history(self) -> Generator[History]:
        """Read the journal beside whatever happens."""
        with open_history(find_state(self.state.root, NAME)) as history:
            assert history is not None
            yield history

    def proven(self) -> list[str]:
        """List the labels that were ever committed, newest first, those in quarantine included."""
        with self.history() as history:
            return [release.label for release in history.proven(100, float("inf"))]

    def quarantined(self) -> dict[str, str]:
        """List the labels that are not to be tried now, with the reasons."""
        with self.history() as history:
            return {q.release.label: q.reason for q in history.quarantine(time.time())}

    def open_attempt(self) -> Attempt | None:
        """Read the attempt that the next run would take up."""
        with self.history() as history:
            return history.open_attempt()

    def assert_never_committed(self, label: str) -> None:
        """Check that nothing in the journal made the release last-good, or meant to."""
        assert label not in self.proven()
        with self.history() as history:
            for attempt in history.attempts(1000):
                for _, entry in history.story(attempt.number):
                    match entry:
                        case Commit(verdict):
                            assert verdict.deployment.release.label != label
                        case Committed(release):
                            assert release.label != label
                        case _:
                            pass


def link_or_copy(source: str, target: str) -> None:
    """Hard-link a file that is never written to; copy it across file systems."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
