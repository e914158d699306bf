"""The updates that are compared, good and broken, and the two ways to update: this tool, Swarm's.

A way deploys a release on its own dockerd, under load, and records the decision and what serves.
"""

import re
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from attrs import frozen
from rows import BenchError
from swarm import broken as ways
from swarm.broken import Write
from swarm.engine import Engine
from swarm.harness import NEW, OLD, OVERLAY, PING, PROVIDER, RECIPE, WEB, WEB_SECURE, Host
from swarm.healthy import LAST_GOOD, token_of
from swarm.network import Load, wait_for
from typing_extensions import override

from runner.platforms.swarm.stack_document import RELEASE_LABEL

SPAN: Final = 45.0
"""Seconds from the beginning of an update until the serving release is determined."""
BEFORE: Final = 3.0
"""Seconds of requests before the update begins: in its first two seconds a Traefik ignores SIGTERM
(``providersThrottleDuration``), one that has served for a while does not."""
PAUSE: Final = 0.05
"""Seconds between two requests."""
LOOK: Final = 0.5
"""Seconds between two reads of Swarm's update status."""
WINDOW: Final = 10.0
DEADLINE: Final = 40.0
PREFLIGHT: Final = 20.0
MONITOR: Final = "5s"

HEALTH_CHECK: Final = "interval: 1s, timeout: 2s, retries: 3, start_period: 5s"
_OVERLAID: Final = (
    ("interval: 5s", HEALTH_CHECK.replace(", ", "\n      ")),
    ("  app:\n", "  app:\n    stop_grace_period: 1s\n"),
)
"""Changes of the overlay that all ways share."""
UPDATE_CONFIG: Final = f"failure_action: rollback, order: stop-first, monitor: {MONITOR}"
_OWN: Final = f"""\
version: "3.8"
services:
  app:
    environment: {{WARM_RECONCILE_TOKEN: "%s"}}
    deploy:
      update_config: {{{UPDATE_CONFIG}}}
      rollback_config: {{order: stop-first}}
"""
_FINAL: Final = ("completed", "rollback_completed", "paused", "rollback_paused")
_KEPT: Final = ("committed", "completed")
_BACK: Final = ("rolled back", "rollback_completed")
_NOTHING: Final = "nothing"


@frozen
class Case:
    """An update."""

    name: str
    write: Write
    is_good: bool = False


STOP_LATER: Final = """\
traefik "$@" &
until busybox wget -q -O /dev/null http://127.0.0.1/ping; do sleep 0.1; done 2>/dev/null
sleep 3
kill -STOP $!
wait $!"""

CASES: Final = (
    Case("good", lambda host, label: host.release(label), is_good=True),
    Case(
        "exits at once: a field of its static config is unknown",
        ways.static(('":80"\n', '":80"\n    nonsense: 1\n')),
    ),
    Case(
        "dies 3 s after its start, again and again",
        ways.scripted("traefik & sleep 3; kill -KILL $!; wait $!"),
    ),
    Case("dies 12 s after its start", ways.scripted("traefik & sleep 12; kill -KILL $!; wait $!")),
    Case("hangs 3 s after its first answer", ways.scripted(STOP_LATER)),
    Case("its dynamic config is no YAML", ways.dynamic("tls: {{{")),
    Case(
        "the middleware of its entrypoint is missing",
        ways.static(ways.at_web("nosuch@file")),
    ),
    Case("its entrypoint web-secure is missing", ways.static(ways.NO_WEB_SECURE)),
    Case("has no Docker socket", ways.compose((ways.SOCKET, ""))),
    Case(
        "another version under the right tag",
        lambda host, label: host.release(label, image=ways.variant(host, version=OLD)),
    ),
    Case("runs out of memory (16 MB)", ways.deploying("resources: {limits: {memory: 16M}}")),
)


@frozen
class Decision:
    """How an update was decided, when, and with which exit code."""

    word: str
    after: float | None
    """Seconds from its beginning; None: not within ``SPAN``."""
    code: int | None
    """None: the command was still waiting."""
    reason: str
    """The reason that was given."""


@frozen
class Serving:
    """The release that serves now."""

    label: str
    """The release that Docker was given last."""
    faults: tuple[str, ...]
    """Routes that do not answer, or answer as another deployment or version."""
    answers: bool
    """At least one route answers."""

    def is_whole(self, label: str) -> bool:
        return self.label == label and not self.faults

    def format(self) -> str:
        if not self.answers:
            return _NOTHING
        name = "last-good" if self.label == LAST_GOOD else "the new one"
        return ", ".join((name, *self.faults))


@frozen
class Seen:
    """The result of one update."""

    case: Case
    by: str
    decision: Decision
    asked: int
    failed: int
    outage: float
    """The longest time without a good answer, in seconds."""
    is_over: bool
    """There was a good answer after it."""
    serving: str
    is_right: bool
    """The release that should serve does so on all routes, and the decision matches."""


def look(host: Host) -> Serving:
    """Request each route and compare the token and version of the answer."""
    token = token_of(host)
    label = str(host.spec()["Labels"].get(RELEASE_LABEL, token))
    version = label.rpartition("+v")[2]
    faults: list[str] = []
    ping = host.network.get(PING, host="")
    answers = ping is not None and ping.status == 200
    if not answers:
        faults.append("no ping")
    for name, url in (("web", WEB), ("web-secure", WEB_SECURE), ("provider", PROVIDER)):
        who = host.ask(url)
        answers = answers or who is not None
        if who is None:
            faults.append(f"no answer by {name}")
        elif who.token != token:
            faults.append(f"another deployment by {name}")
        elif who.version != version:
            faults.append(f"which is {who.version} by {name}")
    return Serving(label, tuple(faults), answers)


class Way(ABC):
    """A way to update, on its own dockerd."""

    name: str

    def __init__(self, engine: Engine, place: Path) -> None:
        self.engine = engine
        self._place = place
        self._made = 0
        self._labels = 0

    def take(self, case: Case) -> Seen:
        """Update from last-good, under load, and determine what serves after ``SPAN``."""
        host = self.ready()
        self._labels += 1
        label = f"1.{self._labels}.0+v{NEW}"
        case.write(host, label)
        with host.network.load(PROVIDER, host="", pause=PAUSE) as load:
            time.sleep(BEFORE)
            began = time.monotonic()
            decision = self.update(host, label, began)
            time.sleep(max(0.0, began + SPAN - time.monotonic()))
        serving = look(host)
        print(f"{self.name}: {_tasks(host)}", file=sys.stderr)
        outage, is_over = _longest_outage(load)
        return Seen(
            case,
            self.name,
            decision,
            len(load.asked),
            load.failed(200),
            outage,
            is_over,
            serving.format(),
            serving.is_whole(label if case.is_good else LAST_GOOD)
            and decision.word in (_KEPT if case.is_good else _BACK),
        )

    @abstractmethod
    def ready(self) -> Host:
        """Return an app whose last-good serves."""

    @abstractmethod
    def update(self, host: Host, label: str, began: float) -> Decision:
        """Deploy the release and wait for the decision."""

    def fresh(self) -> Host:
        """Make a new app, with last-good to be deployed."""
        self.engine.remove_stacks()
        self._made += 1
        host = Host(self.engine, self._place / str(self._made))
        overlay = host.home / "overlay"
        overlay.mkdir()
        for name in OVERLAY:
            text = (RECIPE / name).read_text()
            for old, new in _OVERLAID if name.startswith("compose") else ():
                if old not in text:
                    raise BenchError(f"{name} has no {old!r}")
                text = text.replace(old, new, 1)
            (overlay / name).write_text(text)
        host.release(LAST_GOOD)
        return host


class ThisTool(Way):
    """Updates by runs of this tool."""

    def __init__(self, engine: Engine, place: Path, name: str, preflight: float) -> None:
        super().__init__(engine, place)
        self.name = name
        self._preflight = preflight
        self._host: Host | None = None

    @override
    def ready(self) -> Host:
        host = self._host
        if host is None or not look(host).is_whole(LAST_GOOD):
            self._host = host = self.fresh()
            self._configure(host, 0.5)
            ran = host.run()
            if ran.code != 0 or ran.outcome != "committed":
                raise BenchError(f"last-good is not committed: {ran}")
        self._configure(host, WINDOW)
        return host

    def _configure(self, host: Host, window: float) -> None:
        host.configure(
            source="directory",
            window=window,
            deadline=DEADLINE,
            preflight=self._preflight,
            platform=f'overlay = "{host.home / "overlay"}"',
        )

    @override
    def update(self, host: Host, label: str, began: float) -> Decision:
        ran = host.run()
        after = time.monotonic() - began
        word, reason = (ran.outcome, ran.reason) if ran.out else ("no report", "see its log")
        if word not in (*_KEPT, *_BACK):
            print(f"{self.name}, exit code {ran.code}:\n{ran.log}", file=sys.stderr)
        return Decision(word, after, ran.code, reason)


class SwarmsOwn(Way):
    """``docker stack deploy``, with Swarm's own rollback."""

    name = "Swarm's own"

    @override
    def ready(self) -> Host:
        host = self.fresh()
        deploy = self._deployment(host, LAST_GOOD)
        subprocess.run(deploy, env=self.engine.environment, capture_output=True, check=True)
        wait_for(
            lambda: True if look(host).is_whole(LAST_GOOD) else None,
            "last-good, deployed by hand",
        )
        return host

    @override
    def update(self, host: Host, label: str, began: float) -> Decision:
        wait = ("--detach=false",) if can_wait(self.engine) else ()
        with subprocess.Popen(
            self._deployment(host, label, *wait),
            env=self.engine.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as command:
            try:
                state, after = self._await_decision(host, began)
                code = self._end_of(command, began + SPAN)
            finally:
                command.kill()
        return Decision(state, after, code, self._status(host, "Message"))

    @staticmethod
    def _end_of(command: subprocess.Popen[bytes], limit: float) -> int | None:
        try:
            return command.wait(max(1.0, limit - time.monotonic()))
        except subprocess.TimeoutExpired:
            return None

    def _await_decision(self, host: Host, began: float) -> tuple[str, float | None]:
        state = ""
        while time.monotonic() < began + SPAN:
            state = self._status(host, "State")
            if state in _FINAL:
                return state, time.monotonic() - began
            time.sleep(LOOK)
        return state, None

    def _status(self, host: Host, of: str) -> str:
        shown = f"--format={{{{if .UpdateStatus}}}}{{{{.UpdateStatus.{of}}}}}{{{{end}}}}"
        return self.engine.docker("service", "inspect", shown, host.service)

    def _deployment(self, host: Host, label: str, *flags: str) -> list[str]:
        """Write the stack of a release, as this tool does; return the command that deploys it."""
        place = host.releases / label
        for path in (host.home / "overlay").iterdir():
            (place / path.name).write_text(path.read_text())
        (place / "compose.own.yml").write_text(_OWN % label)
        names = ("compose.yml", "compose.gate.yml", "compose.own.yml")
        files = [f"--compose-file={place / name}" for name in names]
        variables = {**host.variables, **_versions(place / "abra.sh")}
        stack = place / "stack.yml"
        stack.write_text(self.engine.docker("stack", "config", *files, environment=variables))
        given = ("--resolve-image=never", f"--compose-file={stack}")
        return ["docker", "stack", "deploy", *flags, *given, host.stack]


def can_wait(engine: Engine) -> bool:
    """Return whether this Docker client can wait for the end of an update."""
    return "--detach" in engine.docker("stack", "deploy", "--help")


def _tasks(host: Host) -> str:
    """List the tasks, to explain a decision."""
    shown = "--format={{.ID}} {{.DesiredState}}, {{.CurrentState}} {{.Error}}"
    return "; ".join(host.engine.listed("service", "ps", shown, host.service))


def _versions(script: Path) -> Mapping[str, str]:
    return dict(re.findall(r"^export (\w+)=(\w+)$", script.read_text(), re.MULTILINE))


def _longest_outage(load: Load) -> tuple[float, bool]:
    """Return the longest outage in seconds, one at the end included, and whether it is over."""
    good = [when for when, status in load.asked if status == 200]
    if not good:
        raise BenchError("no request had a good answer, not even before the update")
    last = load.asked[-1][0] - good[-1]
    before = load.longest_outage(200) if len(good) > 1 else 0.0
    return max(last, before), before >= last
