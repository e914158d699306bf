"""Asks the Traefik of this host for its own table of routers, from inside its task's network.

The route to it (recipes/traefik/gate.yml) answers nobody else: no port is opened, and of the API
nothing but the two lists of routers can be reached.
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
    Unresolved,
    Untold,
    contradict,
    read_owners,
    read_routers,
    resolve,
)
from runner.reconcile.errors import EngineUnreachableError
from runner.reconcile.http_client import httpx
from runner.reconcile.model import Outcome, ProbeResult, Round
from runner.reconcile.probes import Probe

TABLE_LABEL: Final = "warm-reconcile.table"
"""Of the service whose tasks tell their table: compose.gate.yml says so."""
TABLE_PATH: Final = "/.warm-reconcile/api"
TIMEOUT: Final = 3.0
"""Seconds for the whole table through one port."""
MOST: Final = 10_000
"""Routers; Traefik's pages hold 100 unless asked for more."""
DEFAULT_PORT: Final = 80
_NOBODY: Final = "no Traefik on this swarm tells what it routes"
_OK: Final = 200
_LAST_PAGE: Final = "1"
"""What the last page says is the next one."""


class _SilentError(Exception):
    """Nothing tells a table at a port."""


@frozen
class Routes:
    """The table of the one Traefik that the swarm has."""

    engine: Engine

    def read(self) -> Table | Untold:
        """Read what is routed now, and who deployed it. Never raises."""
        try:
            services = [read_service(data) for data in self.engine.all_services()]
            telling = [service for service in services if TABLE_LABEL in service.labels]
            if len(telling) != 1:
                names = ", ".join(sorted(service.name for service in telling))
                return Untold(f"there are several Traefiks: {names}" if names else _NOBODY)
            (traefik,) = telling
            tasks = self._tasks_here(traefik)
        except EngineUnreachableError as error:
            return Untold(error.message)
        if not tasks:
            return Untold(f"no task of {traefik.name} runs on this host")
        ports = sorted(set(traefik.published.values())) or [DEFAULT_PORT]
        reasons: list[str] = []
        for task, port in itertools.product(tasks, ports):
            try:
                http, tcp = run_inside(task.pid, functools.partial(_ask, port))
                routers = read_routers(http, tcp)
            except PermissionError:
                return Untold(f"this unit may not enter the network of {traefik.name}")
            except (_SilentError, OSError, ValueError) as error:
                reasons.append(f"{port}: {error}")
                continue
            return Table(routers, read_owners(services), traefik.labels.get(UNIT_LABEL, ""))
        return Untold(f"{traefik.name} tells no table (port {'; port '.join(reasons)})")

    def confirm(self, probes: Iterable[Probe]) -> Round:
        """Say of each probe about a name whether what it declares is what is routed now.

        Where no table can be had there is nothing to say: that was said before the deployment.
        """
        routed = [(probe, probe.routed_url) for probe in probes if probe.routed_url is not None]
        table = self.read() if routed else Untold("")
        if isinstance(table, Untold):
            return ()
        return tuple(_confirm(table, probe, url) for probe, url in routed)

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


def _confirm(table: Table, probe: Probe, url: str) -> ProbeResult:
    found = resolve(table, url)
    wrong = found.reason if isinstance(found, Unresolved) else contradict(probe, found)
    return ProbeResult(
        probe=f"route of {probe.name}",
        outcome=Outcome.FAIL if wrong else Outcome.PASS,
        reason=wrong or f"{probe.target_unit} serves it",
        target_unit=probe.target_unit,
    )


def _ask(port: int) -> tuple[Any, Any]:
    return asyncio.run(_fetch(port))


async def _fetch(port: int) -> tuple[Any, Any]:
    """Ask for both lists, whole or not at all.

    Raises:
        _SilentError: they can't be had here.
        ValueError: what answers speaks no JSON.
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
        raise _SilentError(f"no whole answer within {TIMEOUT:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _SilentError(str(error) or type(error).__name__) from error
    return tuple(_read(response) for response in (http, tcp))


def _read(response: httpx.Response) -> Any:  # noqa: ANN401 - whatever it sent
    if response.status_code != _OK:
        raise _SilentError(f"status {response.status_code}")
    if response.headers.get("x-next-page", _LAST_PAGE) != _LAST_PAGE:
        raise _SilentError(f"more than {MOST} routers")
    return json.loads(response.content)
