"""The probes of a gate: one class for each kind, and ``Prober``, which runs a round of them.

A kind has every member of ``ProbeKind``. All other modules go through probes by these members and
never by their class, so that mypy finds all that a new kind lacks (docs/architecture.md has the
recipe). Every probe names its **target unit**, the systemd unit that serves the answer: a gate that
probes a unit ordered after its own caller would wait for itself.

Rules that keep a result reliable:

* the timeout bounds the *whole* exchange: a body that drips, or never ends, ends at the deadline;
* no connection is kept between rounds: a kept one could still lead to an old, draining instance;
* redirects are not followed: another page's 200 is not this page's;
* proxies of the environment are ignored, and names are not resolved;
* trouble on this host (no file descriptors, no memory) is *inconclusive*, not a failure.
"""

import asyncio
import os
from collections.abc import Mapping
from enum import Enum, unique
from typing import IO, ClassVar, Final, Literal, Protocol, Self, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from attrs import evolve, field, frozen

from runner.reconcile.field_types import (
    AbsolutePath,
    Address,
    Name,
    Port,
    Seconds,
    Status,
    Text,
    UnitName,
    Url,
    UrlPath,
    is_numeric_url,
)
from runner.reconcile.http_client import NO_ANSWER, HttpClient, explain, httpx
from runner.reconcile.model import Outcome, ProbeResult, Round
from runner.reconcile.ordering import Safe, Served
from runner.reconcile.replies import (
    BODY_CAP,
    Expected,
    check_http,
    check_identity,
    printable,
    result,
)
from runner.subprocesses import systemctl_environment

PROBE_TIMEOUT: Final = 2.0
"""Seconds for one whole exchange. HAProxy's and Kubernetes' defaults are 2 s and 1 s."""
DEFAULT_PORTS: Final = {"http": 80, "https": 443}
UNIT_STATES: Final = frozenset(
    {"active", "activating", "deactivating", "failed", "inactive", "maintenance", "refreshing"}
    | {"reloading"}
)
"""ActiveState= as systemd(1) knows it."""


@unique
class AskedFrom(Enum):
    """The place from which a probe runs."""

    HOST = "the host"
    TASK = "the network of each task"
    """Also without a published port. Docker Swarm has tasks, a local process has none."""
    SYSTEMD = "systemd"


class ProbeKind(Protocol):
    """The members of a kind of probe. ``target_unit`` and ``served``: see ``ordering.py``."""

    @property
    def kind(self) -> str:
        """Its name in a config."""
        ...

    @property
    def name(self) -> str: ...
    @property
    def target_unit(self) -> str: ...
    @property
    def timeout(self) -> float:
        """Seconds for one whole exchange."""
        ...

    served: ClassVar[Served]
    """Which part of the target unit answers: the unit itself, or its deployment."""
    asked_from: ClassVar[AskedFrom]
    proves_candidate: ClassVar[bool]
    """Only the deployment on trial can pass it: no older instance and no other program."""
    asks_traefik: ClassVar[bool]
    """Only Traefik answers it, so a gate that has one is a gate of Traefik."""
    silence: ClassVar[Outcome]
    """The outcome if there is no answer in time."""

    @property
    def routed_url(self) -> str | None:
        """The URL, if Traefik's routers decide who serves its host name."""
        ...

    @property
    def unresolved_url(self) -> str | None:
        """The URL, if its host name would need a resolver."""
        ...

    def inside(self, ports: Mapping[int, int]) -> Self | None:
        """Return the form of the probe that runs inside a task's network; None: it has none.

        Args:
            ports: from the published ports to the task's own.
        """
        ...

    async def ask(self, client: HttpClient, expected: Expected, limit: float) -> ProbeResult:
        """Run the probe once; the caller ends it after ``limit`` seconds.

        Raises:
            NO_ANSWER: there is no answer.
        """
        ...


@frozen(kw_only=True)
class TraefikPing:
    """Traefik's ping handler: status 200 and the body ``OK``, whole."""

    kind: Literal["traefik-ping"] = "traefik-ping"
    name: Name = "ping"
    target_unit: UnitName
    """The systemd unit that serves the answer."""
    url: Url
    timeout: Seconds = PROBE_TIMEOUT

    served: ClassVar = Served.BY_ITS_DEPLOYMENT
    asked_from: ClassVar = AskedFrom.HOST
    proves_candidate: ClassVar = False
    asks_traefik: ClassVar = True
    silence: ClassVar = Outcome.FAIL

    @property
    def routed_url(self) -> None:
        return None

    @property
    def unresolved_url(self) -> str | None:
        return _if_named(self.url)

    def inside(self, ports: Mapping[int, int]) -> Self:
        return evolve(self, url=_local(self.url, ports))

    async def ask(self, client: HttpClient, expected: Expected, limit: float) -> ProbeResult:
        page = Http(name=self.name, target_unit=self.target_unit, url=self.url, body="OK")
        return await page.ask(client, expected, limit)


@frozen(kw_only=True)
class Identity:
    """Checks the identity of the instance: the token of this deployment, and the release's version.

    Over plain http the request has no host name: an entrypoint that redirects to another one does
    so for every host name, before any router, but not for a request without one.
    """

    kind: Literal["identity"] = "identity"
    name: Name = "identity"
    target_unit: UnitName
    """The systemd unit that serves the answer."""
    url: Url
    address: Address | None = None
    """Connect here whatever host the URL names: with https, TLS needs a host name (SNI)."""
    verify_tls: bool = True
    timeout: Seconds = PROBE_TIMEOUT

    served: ClassVar = Served.BY_ITS_DEPLOYMENT
    asked_from: ClassVar = AskedFrom.HOST
    proves_candidate: ClassVar = True
    asks_traefik: ClassVar = True
    silence: ClassVar = Outcome.FAIL

    @property
    def routed_url(self) -> None:
        return None

    @property
    def unresolved_url(self) -> str | None:
        return None if self.address else _if_named(self.url)

    def inside(self, ports: Mapping[int, int]) -> Self:
        if self.address is not None:
            port = int(self.address.rpartition(":")[2])
            return evolve(self, address=f"127.0.0.1:{ports.get(port, port)}")
        return evolve(self, url=_local(self.url, ports))

    async def ask(self, client: HttpClient, expected: Expected, limit: float) -> ProbeResult:
        page = Http(
            name=self.name,
            target_unit=self.target_unit,
            url=self.url,
            address=self.address,
            verify_tls=self.verify_tls,
        )
        reply = await client.get(page, limit, anonymous=self.url.startswith("http:"))
        return check_identity(page, reply, expected)


@frozen(kw_only=True)
class TaskHttp:
    """Sends an HTTP request to every task of this deployment, each from inside its own network.

    Only the task can answer there, and Docker knows for which deployment it was started. An app
    that can't return its token is identified by this instead of an ``identity``. On Docker Swarm
    only.
    """

    kind: Literal["task"] = "task"
    name: Name = "task"
    target_unit: UnitName
    """The systemd unit that serves the answer."""
    port: Port
    """The port that the task listens on, published or not."""
    path: UrlPath = "/"
    status: Status = 200
    headers: dict[str, str] = field(factory=dict[str, str])
    """Headers that the answer must have, with these values."""
    body_contains: Text | None = None
    timeout: Seconds = PROBE_TIMEOUT

    served: ClassVar = Served.BY_ITS_DEPLOYMENT
    asked_from: ClassVar = AskedFrom.TASK
    proves_candidate: ClassVar = True
    asks_traefik: ClassVar = False
    silence: ClassVar = Outcome.FAIL

    @property
    def routed_url(self) -> None:
        return None

    @property
    def unresolved_url(self) -> None:
        return None

    def inside(self, ports: Mapping[int, int]) -> Self:
        del ports  # it names the task's own
        return self

    async def ask(self, client: HttpClient, expected: Expected, limit: float) -> ProbeResult:
        page = Http(
            name=self.name,
            target_unit=self.target_unit,
            url=f"http://127.0.0.1:{self.port}{self.path}",
            status=self.status,
            headers=self.headers,
            body_contains=self.body_contains,
        )
        return await page.ask(client, expected, limit)


@frozen(kw_only=True)
class Http:
    """An HTTP answer with the expected status, headers and body. Redirects are not followed."""

    kind: Literal["http"] = "http"
    name: Name
    target_unit: UnitName
    """The systemd unit that serves the answer."""
    url: Url
    address: Address | None = None
    """Connect here whatever host the URL names: a gate must not wait for a resolver."""
    status: Status = 200
    headers: dict[str, str] = field(factory=dict[str, str])
    """Headers that the answer must have, with these values."""
    body: str | None = None
    """The whole body, exactly."""
    body_contains: Text | None = None
    verify_tls: bool = True
    ca_file: AbsolutePath | None = None
    timeout: Seconds = PROBE_TIMEOUT

    served: ClassVar = Served.BY_ITS_DEPLOYMENT
    asked_from: ClassVar = AskedFrom.HOST
    proves_candidate: ClassVar = False
    asks_traefik: ClassVar = False
    silence: ClassVar = Outcome.FAIL

    @property
    def routed_url(self) -> str | None:
        return _if_named(self.url)

    @property
    def unresolved_url(self) -> str | None:
        return None if self.address else _if_named(self.url)

    def inside(self, ports: Mapping[int, int]) -> None:
        del ports

    async def ask(self, client: HttpClient, expected: Expected, limit: float) -> ProbeResult:
        del expected
        return check_http(self, await client.get(self, limit))


@frozen(kw_only=True)
class Tcp:
    """The address accepts TCP connections. By itself that proves next to nothing."""

    kind: Literal["tcp"] = "tcp"
    name: Name
    target_unit: UnitName
    """The systemd unit that serves the answer."""
    address: Address
    timeout: Seconds = PROBE_TIMEOUT

    served: ClassVar = Served.BY_ITS_DEPLOYMENT
    asked_from: ClassVar = AskedFrom.HOST
    proves_candidate: ClassVar = False
    asks_traefik: ClassVar = False
    silence: ClassVar = Outcome.FAIL

    @property
    def routed_url(self) -> None:
        return None

    @property
    def unresolved_url(self) -> None:
        return None

    def inside(self, ports: Mapping[int, int]) -> None:
        del ports

    async def ask(self, client: HttpClient, expected: Expected, limit: float) -> ProbeResult:
        del client, expected, limit
        host, _, port = self.address.rpartition(":")
        _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        writer.close()
        return result(self, Outcome.PASS, "accepts connections")


@frozen(kw_only=True)
class UnitActive:
    """systemd says that the target unit is active."""

    kind: Literal["unit"] = "unit"
    name: Name
    target_unit: UnitName
    """The systemd unit that serves the answer."""
    timeout: Seconds = PROBE_TIMEOUT

    served: ClassVar = Served.BY_ITSELF
    asked_from: ClassVar = AskedFrom.SYSTEMD
    proves_candidate: ClassVar = False
    asks_traefik: ClassVar = False
    silence: ClassVar = Outcome.INCONCLUSIVE
    """A systemctl that hangs says nothing about the unit."""

    @property
    def routed_url(self) -> None:
        return None

    @property
    def unresolved_url(self) -> None:
        return None

    def inside(self, ports: Mapping[int, int]) -> None:
        del ports

    async def ask(self, client: HttpClient, expected: Expected, limit: float) -> ProbeResult:
        """Run ``systemctl show``: it needs no D-Bus library."""
        del client, expected, limit
        command = ("systemctl", "show", "--property=ActiveState", "--value", "--", self.target_unit)
        # Files, not pipes: a child of systemctl that keeps a pipe open would outlast any timeout.
        with _open_memory() as out, _open_memory() as err:
            try:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    env=systemctl_environment(),
                )
            except OSError as error:
                return result(self, Outcome.INCONCLUSIVE, f"systemctl: {error.strerror}")
            try:
                status = await process.wait()
            except asyncio.CancelledError:
                process.kill()
                await process.wait()
                raise
            state, complaint = (_read_back(file) for file in (out, err))
        if status != 0 or state not in UNIT_STATES:
            why = complaint or state or "no answer"
            return result(self, Outcome.INCONCLUSIVE, f"systemctl: {why}")
        answer = Outcome.PASS if state == "active" else Outcome.FAIL
        return evolve(result(self, answer, f"the unit is {state}"), terminal=state == "failed")


Probe: TypeAlias = TraefikPing | Identity | TaskHttp | Http | Tcp | UnitActive
"""Every kind that a gate may have."""
SafeProbe: TypeAlias = Safe[Probe]
"""A probe that is proven not to wait for its caller."""


def _if_named(url: str) -> str | None:
    """Return the URL if its host is a name; None if it is an address."""
    return None if is_numeric_url(url) else url


def _local(url: str, ports: Mapping[int, int]) -> str:
    """Relocate a URL to this host, and from a published port to the task's own."""
    parts = urlsplit(url)
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    return urlunsplit(parts._replace(netloc=f"127.0.0.1:{ports.get(port, port)}"))


def _open_memory() -> IO[bytes]:
    return open(os.memfd_create("systemctl"), "w+b")  # noqa: PTH123 - there is no path


def _read_back(file: IO[bytes]) -> str:
    file.seek(0)
    return printable(file.read(BODY_CAP).decode("utf-8", "replace").strip())


class Prober:
    """Runs rounds of probes, each proven not to wait for the caller. A failure is a result.

    Close it; use it from one thread.
    """

    def __init__(self, probes: tuple[SafeProbe, ...]) -> None:
        self._probes = probes
        self._runner = asyncio.Runner()
        self._runner.get_loop()  # it needs descriptors of its own: now, not when they run out
        self._client = HttpClient()

    def ask(self, expected: Expected, timeout: float) -> Round:
        """Run all probes at once; take at most ``timeout`` seconds."""
        return self._runner.run(self._ask_all(expected, timeout))

    def close(self) -> None:
        self._runner.close()

    async def _ask_all(self, expected: Expected, timeout: float) -> Round:  # noqa: ASYNC109 - passed on
        results = await asyncio.gather(
            *(self._ask(safe.probe, expected, timeout) for safe in self._probes)
        )
        return tuple(results)

    async def _ask(self, probe: ProbeKind, expected: Expected, timeout: float) -> ProbeResult:  # noqa: ASYNC109
        limit = min(probe.timeout, timeout)
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(limit):
                found = await probe.ask(self._client, expected, limit)
        except (TimeoutError, httpx.ConnectTimeout):
            found = result(probe, probe.silence, f"no whole answer within {limit:.2g} s")
        except NO_ANSWER as error:
            found = result(probe, *explain(error))
        return evolve(found, latency=asyncio.get_running_loop().time() - began)
