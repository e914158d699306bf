"""One app under test: its recipe with version tags, its runs, and its state in Docker."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from attrs import frozen
from traefik.harness import (
    CALLER,
    IMPATIENT,
    NAME,
    NEW,
    OLD,
    ROUNDS,
    RUN_LIMIT,
    RUNNER,
    Ran,
    cache_directory,
)

from runner.platforms.process.platform import IDENTITY_PATH
from runner.reconcile.replies import TOKEN_HEADER
from swarm.engine import Engine
from swarm.network import Reply, clean_environment, wait_for

__all__ = ["NEW", "OLD", "OVERLAY", "RECIPE", "UPSTREAM", "Host", "Ran"]

RECIPE: Final = Path(__file__).parents[3] / "recipes" / "traefik"
"""The recipe of this project."""
UPSTREAM: Final = Path(__file__).parent / "upstream"
"""A recipe in the style of other authors."""
OVERLAY: Final = ("compose.gate.yml", "gate.yml")
LABEL: Final = "1.0.0+v3.7.15"
"""The label in both recipes, until a test releases them under another one."""

WEB: Final = f"http://127.0.0.1{IDENTITY_PATH}"
WEB_SECURE: Final = f"https://warm-reconcile.invalid{IDENTITY_PATH}"
DEFAULT_TLS: Final = f"https://tls.warm-reconcile.invalid{IDENTITY_PATH}"
PROVIDER: Final = "http://127.0.0.1/.warm-reconcile/provider"
PING: Final = "http://127.0.0.1/ping"
TASK_HEADER: Final = "X-Warm-Reconcile-Task"
KILLED_RUN: Final = Path(__file__).parent / "killed_run.py"


@frozen
class Who:
    """The identity that answered: token, task and version."""

    token: str
    task: str
    version: str

    @classmethod
    def of(cls, reply: Reply | None) -> "Who | None":
        if reply is None or reply.status != 200:
            return None
        headers = reply.headers
        return cls(
            headers.get(TOKEN_HEADER.lower(), ""),
            headers.get(TASK_HEADER.lower(), ""),
            json.loads(reply.body)["Version"],
        )


USUAL_GATEWAY: Final = "172.18.0.1"
"""Of docker_gwbridge: what the recipe takes it for, without a variable."""
AMPLE: Final = 300.0
"""Seconds for a gate: a release that is healthy, and one that was proven, pass long before."""


class Host:
    """A host with a dockerd and one app on it."""

    def __init__(self, engine: Engine, home: Path) -> None:
        self.engine = engine
        self.home = home
        self.network = engine.network
        self.stack = f"t{hashlib.sha256(str(home).encode()).hexdigest()[:8]}"
        self.checkout = home / "recipe"
        """A git repository; each release is a tag."""
        self.releases = home / "releases"
        """The same, a directory each."""
        self.config = home / "config" / f"{NAME}.toml"
        self.env_file = home / "app.env"
        self.variables = {
            "STACK_NAME": self.stack,
            "DOMAIN": "traefik.example.com",
            "DOCKER_SOCKET": str(engine.socket),
            "LOG_LEVEL": "DEBUG",
        }
        self._runs: list[subprocess.Popen[str]] = []
        self._released = 0
        self.checkout.mkdir(parents=True)
        self._git("init", "--quiet", "--initial-branch=main")
        self.configure()

    @property
    def service(self) -> str:
        return f"{self.stack}_app"

    # What there is to deploy ---------------------------------------------------------------------

    def release(
        self,
        label: str,
        *,
        image: str = "",
        recipe: Path = RECIPE,
        edits: Mapping[str, Sequence[tuple[str, str]]] | None = None,
        files: Mapping[str, str] | None = None,
    ) -> None:
        """Tag a version of a recipe: a good one, but for what a test changes.

        Args:
            label: the tag, such as ``1.0.0+v3.5.0``.
            image: what it runs; by default the Traefik that the label names.
            recipe: what to begin with, without its overlay.
            edits: by file, texts to replace; each has to be there.
            files: by name, the whole text.
        """
        image = image or f"traefik:{label.rpartition('+')[2]}"
        self._released += 1
        for old in self.checkout.iterdir():
            if old.name != ".git":
                old.unlink()
        for path in recipe.iterdir():
            if path.name not in OVERLAY:
                shutil.copy(path, self.checkout)
        self._edit("compose.yml", [("traefik:v3.7.15", image), (LABEL, label)])
        for name, changes in (edits or {}).items():
            self._edit(name, changes)
        for name, text in (files or {}).items():
            (self.checkout / name).write_text(text)
        # As maintainers of a recipe do when a config changes; here all of them change.
        self._edit("abra.sh", [("_VERSION=v1", f"_VERSION=v{self._released}")])
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", f"--message={label}")
        self._git("tag", label)
        shutil.copytree(self.checkout, self.releases / label, ignore=shutil.ignore_patterns(".git"))

    def _edit(self, name: str, changes: Sequence[tuple[str, str]]) -> None:
        path = self.checkout / name
        text = path.read_text()
        for old, new in changes:
            assert old in text, f"{name} has no {old!r}"
            text = text.replace(old, new)
        path.write_text(text)

    def _git(self, *arguments: str) -> None:
        who = ("-c", "user.name=Tester", "-c", "user.email=tester@example.com")
        subprocess.run(
            ["git", *who, "-c", "commit.gpgsign=false", *arguments],
            cwd=self.checkout,
            check=True,
            capture_output=True,
        )

    def configure(  # noqa: PLR0913 - each is a part of the file
        self,
        *,
        source: str = "git",
        window: float = 2.0,
        deadline: float = AMPLE,
        preflight: float = 0.0,
        platform: str = "",
        more: str = "",
        probes: str = "",
    ) -> None:
        """Write the config. Its deadline is one that a slow machine meets, too: see ``run_until``.

        Args:
            source: ``git`` or ``directory``.
            window: of the gate.
            deadline: of the gate, for new releases and proven ones.
            preflight: how long a new release may be tried in isolation.
            platform: more lines for ``[platform]``.
            more: more tables, such as probes.
            probes: other ones than those for Traefik.
        """
        where = {
            "git": f'kind = "git"\nurl = "{self.checkout}"',
            "directory": f'kind = "directory"\npath = "{self.releases}"',
        }[source]
        secure = 'address = "127.0.0.1:443"\nverify_tls = false\n'
        probes = probes or "".join(
            f'[[probes]]\nkind = "{kind}"\nname = "{name}"\nurl = "{url}"\n'
            f'target_unit = "{CALLER}"\n{extra}'
            for kind, name, url, extra in (
                ("traefik-ping", "ping", PING, ""),
                ("identity", "web", WEB, ""),
                ("identity", "web-secure", WEB_SECURE, secure),
                ("identity", "default-tls", DEFAULT_TLS, secure),
                ("identity", "provider", PROVIDER, ""),
            )
        )
        self.config.parent.mkdir(exist_ok=True)
        self.config.write_text(
            f'state_dir = "{self.home}/state"\ncaller = "{CALLER}"\n'
            f"[source]\n{where}\n"
            f'[platform]\nkind = "swarm"\nstack = "{self.stack}"\nenv_file = "{self.env_file}"\n'
            f'socket = "{self.engine.socket}"\npreflight = {preflight}\n{platform}\n'
            f"[budget]\ndeploy = {preflight + 60}\ntimeout_start = 10000\n"
            f"[gate]\nrise = 3\nwindow = {window}\ndeadline = {deadline}\n"
            f"verify_deadline = {deadline}\n"
            f"{probes}{more}"
        )
        self.env_file.write_text("".join(f"{k}={v}\n" for k, v in self.variables.items()))

    # Running it ----------------------------------------------------------------------------------

    def run(self, *flags: str) -> Ran:
        """Reconcile once, as systemd would: by the command, in dockerd's network namespace."""
        return self.end(self.begin(*flags))

    def run_until(self, reason: str) -> Ran:
        """Reconcile once; end the gate when this failure was seen in some rounds."""
        return self.end(self.begin_until(reason))

    def begin_until(self, reason: str) -> subprocess.Popen[str]:
        """Begin a run whose clock jumps past the deadline of the gate: see ``impatient_run.py``."""
        return self._start(str(IMPATIENT), str(self.config.parent), reason, str(ROUNDS))

    def begin(self, *flags: str) -> subprocess.Popen[str]:
        """Begin a run."""
        return self._start(str(RUNNER), NAME, "--config", str(self.config), "--json", *flags)

    def begin_killed(self, trace: Path, fatal: str = "0") -> subprocess.Popen[str]:
        """Begin a run that kills itself at an effect; see ``killed_run.py``."""
        return self._start(str(KILLED_RUN), str(self.config.parent), str(trace), fatal)

    def _start(self, *arguments: str) -> subprocess.Popen[str]:
        environment = clean_environment()
        environment["PYTHONPYCACHEPREFIX"] = str(cache_directory() / "bytecode")
        environment["PYTHONPATH"] = str(Path(__file__).parents[1])
        run = subprocess.Popen(
            [*self.network.prefix, sys.executable, *arguments],
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

    def deploy_by_hand(self, label: str, *, gate: bool = True, **variables: str) -> None:
        """Deploy a release as a person would, with the overlay or without.

        Args:
            label: of the release.
            gate: whether with the overlay.
            variables: of the service's environment, beside what the recipe sets.
        """
        place = self.home / "by-hand" / label
        shutil.copytree(self.releases / label, place, dirs_exist_ok=True)
        for name in OVERLAY:
            shutil.copy(RECIPE / name, place)
        (bridge,) = self.engine.inspect("network", "docker_gwbridge")
        gateway = bridge["IPAM"]["Config"][0]["Gateway"]
        if gate and gateway != USUAL_GATEWAY:  # Docker chose another range: see the recipe's README
            askers = ("127.0.0.0/8", "::1", gateway)
            rule = " || ".join(f"ClientIP(`{asker}`)" for asker in askers)
            variables.setdefault("WARM_RECONCILE_ASKERS", rule)
        app = {"version": "3.8", "services": {"app": {"environment": variables}}}
        (place / "compose.more.yml").write_text(json.dumps(app))  # JSON is YAML
        names = ("compose.yml", *OVERLAY[:1], "compose.more.yml") if gate else ("compose.yml",)
        files = [word for name in names for word in ("--compose-file", str(place / name))]
        versions = dict(
            re.findall(r"^export (\w+)=(\w+)$", (place / "abra.sh").read_text(), re.MULTILINE)
        )
        environment = {**self.variables, **versions}
        stack = self.engine.docker("stack", "config", *files, environment=environment)
        deploy = ("stack", "deploy", "--resolve-image=never", "--compose-file=-", self.stack)
        self.engine.docker(*deploy, given=stack.encode())

    def stop(self) -> None:
        """End every run, and remove everything from Docker."""
        for run in self._runs:
            if run.poll() is None:
                run.kill()
            run.communicate()
        try:
            self.engine.remove_stacks()
        except (AssertionError, subprocess.SubprocessError):
            self.engine.begin_anew()
            raise

    # What is so now ------------------------------------------------------------------------------

    def ask(self, url: str) -> Who | None:
        """Send a request to one of the routes of the gate, as the gate does."""
        host = None if url.startswith("https:") else ""
        return Who.of(self.network.get(url, address="127.0.0.1", host=host))

    def await_answer(self, url: str, token: str) -> Who:
        """Wait until the process with this token answers."""

        def look() -> Who | None:
            who = self.ask(url)
            return who if who is not None and who.token == token else None

        return wait_for(look, f"{token!r} at {url}")

    def spec(self) -> dict[str, Any]:
        """Read the spec of the gated service."""
        (service,) = self.engine.inspect("service", self.service)
        spec: dict[str, Any] = service["Spec"]
        return spec

    def tasks(self) -> list[dict[str, Any]]:
        """Read the tasks that should run now."""
        chosen = ("--filter", "desired-state=running", "--quiet", "--no-trunc")
        ids = self.engine.listed("service", "ps", *chosen, self.service)
        return self.engine.inspect("task", *ids) if ids else []

    def containers(self, *, stopped: bool = False) -> list[str]:
        """List the containers of the app, by their ids."""
        chosen = f"--filter=label=com.docker.swarm.service.name={self.service}"
        more = ("--all",) if stopped else ()
        return self.engine.listed("ps", "--quiet", "--no-trunc", chosen, *more)

    def log(self) -> str:
        """Read what the app's containers printed."""
        return "".join(map(self.engine.logs, self.containers(stopped=True)))
