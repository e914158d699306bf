"""Reads the router lists of the Traefik API on this host, from its task's network namespace.

The route to it (recipes/traefik/gate.yml) allows loopback clients only, so no port is opened; of
the API it exposes only the lists of HTTP and TCP routers.
"""

import asyncio
import functools
import itertools
import json
from collections.abc import Iterable
from typing import Any, Final

from attrs import frozen

from runner.platforms.swarm.engine_api import Engine
from runner.platforms.swarm.netns import run_inside
from runner.platforms.swarm.objects import STACK_LABEL, Service, Task, read_service, read_task
from runner.platforms.swarm.stack_document import UNIT_LABEL
from runner.platforms.swarm.traefik_routers import (
    Table,
    TableUnknown,
    Unresolved,
    describe_contradiction,
    read_owners,
    read_routers,
    resolve,
)
from runner.reconcile.errors import EngineUnreachableError
from runner.reconcile.http_client import httpx
from runner.reconcile.model import Outcome, ProbeResult, Round
from runner.reconcile.probes import Probe

TABLE_LABEL: Final = "warm-reconcile.table"
"""Label of the service whose tasks have the route; compose.gate.yml sets it."""
TABLE_PATH: Final = "/.warm-reconcile/api"
TIMEOUT: Final = 3.0
"""Seconds for both lists through one port."""
MOST: Final = 10_000
"""Routers in one page; Traefik's default is 100."""
DEFAULT_PORT: Final = 80
_NO_TRAEFIK: Final = "no Traefik on this swarm lists its routers"
_OK: Final = 200
_LAST_PAGE: Final = "1"
"""The number of the next page, in the header of the last one."""


class _NoTableError(Exception):
    """The router lists can't be read at a port."""


@frozen
class TraefikApi:
    """Reads the routers of the one Traefik that the swarm has."""

    engine: Engine

    def read(self) -> Table | TableUnknown:
        """Read the routers, and which units deployed their services. Never raises."""
        try:
            services = [read_service(data) for data in self.engine.all_services()]
            labelled = [service for service in services if TABLE_LABEL in service.labels]
            if len(labelled) != 1:
                names = ", ".join(sorted(service.name for service in labelled))
                return TableUnknown(
                    f"several Traefiks list their routers: {names}" if names else _NO_TRAEFIK
                )
            (traefik,) = labelled
            tasks = self._tasks_here(traefik)
        except EngineUnreachableError as error:
            return TableUnknown(error.message)
        if not tasks:
            return TableUnknown(f"no task of {traefik.name} runs on this host")
        ports = sorted(set(traefik.published.values())) or [DEFAULT_PORT]
        reasons: list[str] = []
        for task, port in itertools.product(tasks, ports):
            try:
                http, tcp = run_inside(task.pid, functools.partial(_fetch_in_thread, port))
                routers = read_routers(http, tcp)
            except PermissionError:
                return TableUnknown(
                    f"no permission to enter the network namespace of {traefik.name}"
                )
            except (_NoTableError, OSError, ValueError) as error:
                reasons.append(f"{port}: {error}")
                continue
            return Table(routers, read_owners(services), traefik.labels.get(UNIT_LABEL, ""))
        return TableUnknown(
            f"{traefik.name} doesn't list its routers (port {'; port '.join(reasons)})"
        )

    def check_targets(self, probes: Iterable[Probe]) -> Round:
        """Check, for each probe of a host name, the unit that it declares against the routers.

        Returns nothing if the routers can't be read: that was reported before the deployment.
        """
        routed = [(probe, probe.routed_url) for probe in probes if probe.routed_url is not None]
        table = self.read() if routed else TableUnknown("")
        if isinstance(table, TableUnknown):
            return ()
        return tuple(_check_target(table, probe, url) for probe, url in routed)

    def _tasks_here(self, service: Service) -> list[Task]:
        """List the running tasks of a service whose network this host can enter, newest first."""
        node = self.engine.swarm_node()
        stack = service.labels.get(STACK_LABEL, "")
        tasks = [read_task(data) for data in self.engine.tasks(stack)]
        here = [
            task
            for task in tasks
            if task.service == service.id and task.is_running and task.pid and task.node == node
        ]
        return sorted(here, key=lambda task: task.since, reverse=True)


def _check_target(table: Table, probe: Probe, url: str) -> ProbeResult:
    found = resolve(table, url)
    wrong = found.reason if isinstance(found, Unresolved) else describe_contradiction(probe, found)
    return ProbeResult(
        probe=f"route of {probe.name}",
        outcome=Outcome.FAIL if wrong else Outcome.PASS,
        reason=wrong or f"{probe.target_unit} serves it",
        target_unit=probe.target_unit,
    )


def _fetch_in_thread(port: int) -> tuple[Any, Any]:
    return asyncio.run(_fetch(port))


async def _fetch(port: int) -> tuple[Any, Any]:
    """Fetch the lists of HTTP and TCP routers.

    Raises:
        _NoTableError: they can't be read at this port.
        ValueError: the response is not JSON.
    """
    try:
        async with (
            asyncio.timeout(TIMEOUT),
            httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{port}{TABLE_PATH}",
                # Without a host name, which an entrypoint could redirect.
                headers={"Host": "", "Accept-Encoding": "identity"},
                params={"per_page": MOST},
                verify=False,
                timeout=None,
                trust_env=False,
            ) as client,
        ):
            http, tcp = [await client.get(f"/{kind}/routers") for kind in ("http", "tcp")]
    except (TimeoutError, httpx.TimeoutException):
        raise _NoTableError(f"no complete answer within {TIMEOUT:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _NoTableError(str(error) or type(error).__name__) from error
    return tuple(_read(response) for response in (http, tcp))


def _read(response: httpx.Response) -> Any:  # noqa: ANN401 - any JSON
    if response.status_code != _OK:
        raise _NoTableError(f"status {response.status_code}")
    if response.headers.get("x-next-page", _LAST_PAGE) != _LAST_PAGE:
        raise _NoTableError(f"more than {MOST} routers")
    return json.loads(response.content)
