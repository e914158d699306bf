"""Reads the Docker Engine API over its socket; all writes go through the ``docker`` command.

The API is HTTP with JSON, spoken by httpx. Paths carry no version: dockerd then uses its newest,
and none of the fields that are read here has changed since 1.25 (Docker 1.13).
"""

import asyncio
import json
from typing import Any, Final, TypeAlias

from attrs import frozen

from runner.config.app import DEFAULT_SOCKET
from runner.platforms.swarm.objects import STACK_LABEL
from runner.reconcile.errors import EngineUnreachableError
from runner.reconcile.http_client import httpx

Json: TypeAlias = dict[str, Any]
"""An object of the API."""
Published: TypeAlias = tuple[str, str, int]
"""A published port: protocol, address of the host ("" for all), number."""

TIMEOUT: Final = 6.0
"""Seconds for one response. A manager without a quorum returns an error after 5 s."""
LOG_LINES: Final = 5
_STREAMS: Final = frozenset({0, 1, 2, 3})
"""Stream types of a log: stdin, stdout, stderr, and errors of dockerd itself."""
_FRAME: Final = 8
"""Bytes of the header before each piece of a log: stream type and length."""
_OK: Final = 200
_NOT_FOUND: Final = 404


class _SlowError(EngineUnreachableError):
    """No complete response in time."""


@frozen
class Engine:
    """The Docker Engine API on one socket."""

    socket: str = DEFAULT_SOCKET
    timeout: float = TIMEOUT
    """Seconds for one response."""

    @property
    def url(self) -> str:
        """The socket as ``DOCKER_HOST`` names it."""
        return f"unix://{self.socket}"

    def info(self) -> Json:
        return self._object("/info")

    def swarm_node(self) -> str:
        """Return the id of this node, which has to be a swarm manager.

        Raises:
            EngineUnreachableError: it is not, or Docker can't be asked.
        """
        swarm = self.info().get("Swarm", {})
        if swarm.get("LocalNodeState") != "active" or not swarm.get("ControlAvailable"):
            raise EngineUnreachableError(
                f"dockerd at {self.socket} is not a swarm manager"
                f" ({swarm.get('LocalNodeState') or 'inactive'})",
                hint="start a swarm: docker swarm init --advertise-addr 127.0.0.1",
            )
        return str(swarm["NodeID"])

    def services(self, stack: str) -> list[Json]:
        return self.services_labelled(f"{STACK_LABEL}={stack}")

    def services_labelled(self, label: str) -> list[Json]:
        return self._list("/services", {"status": "true"}, label=label)

    def all_services(self) -> list[Json]:
        return self._list("/services")

    def configs_labelled(self, label: str) -> list[Json]:
        return self._list("/configs", label=label)

    def tasks(self, stack: str) -> list[Json]:
        return self._list("/tasks", label=f"{STACK_LABEL}={stack}")

    def nodes(self) -> list[Json]:
        return self._list("/nodes")

    def network(self, name: str) -> Json | None:
        return self._find(f"/networks/{name}")

    def config(self, name: str) -> Json | None:
        return self._find(f"/configs/{name}")

    def secret(self, name: str) -> Json | None:
        return self._find(f"/secrets/{name}")

    def image(self, reference: str) -> Json | None:
        return self._find(f"/images/{reference}/json")

    def container(self, identity: str) -> Json | None:
        return self._find(f"/containers/{identity}/json")

    def published_ports(self) -> frozenset[Published]:
        """List the ports of this host that running containers publish.

        Containers that could not be started are left out, although they name the ports that they
        asked for.
        """
        found: set[Published] = set()
        for container in self._list("/containers/json"):
            ports: list[Json] = container.get("Ports") or []
            public = (port for port in ports if port.get("PublicPort"))
            found |= {(port["Type"], port.get("IP", ""), port["PublicPort"]) for port in public}
        return frozenset(found)

    def mesh_ports(self) -> frozenset[Published]:
        """List the ports that services publish through the routing mesh, on every address.

        Only a manager knows them; elsewhere the list is empty.
        """
        if not self.info().get("Swarm", {}).get("ControlAvailable"):
            return frozenset()
        found: set[Published] = set()
        for service in self.all_services():
            ports: list[Json] = service.get("Endpoint", {}).get("Ports") or []
            meshed = (port for port in ports if port.get("PublishMode") == "ingress")
            found |= {(port["Protocol"], "", port["PublishedPort"]) for port in meshed}
        return frozenset(found)

    def registry_digest(self, reference: str) -> str | None:
        """Query the registry through dockerd for the digest of an image; None if it has none."""
        try:
            response = self._get(f"/distribution/{reference}/json")
        except _SlowError:  # it is the registry that is slow: dockerd waits for it
            return None
        if response.status_code != _OK:
            return None
        found: Json = self._read(response)
        return str(found["Descriptor"]["digest"])

    def health(self, container: str, *, only: str = "") -> str:
        """Return the output of a container's last health check; empty if there was none.

        Args:
            container: its id.
            only: return it only in this state of health; empty: in any.
        """
        found = self.container(container)
        health: Json | None = found["State"].get("Health") if found is not None else None
        if health is None or (only and health.get("Status") != only):
            return ""
        log: list[Json] = health.get("Log") or []
        return str(log[-1].get("Output", "")).strip() if log else ""

    def was_oom_killed(self, container: str) -> bool:
        """Return whether the kernel killed a container for exceeding its memory limit."""
        found = self.container(container)
        return found is not None and bool(found["State"].get("OOMKilled"))

    def last_log_lines(self, container: str) -> str:
        """Return the last lines of a container's log; empty if its log driver keeps none."""
        parameters = {"stdout": "1", "stderr": "1", "tail": str(LOG_LINES)}
        response = self._get(f"/containers/{container}/logs", parameters)
        if response.status_code != _OK:
            return ""
        return _unframe(response.content).decode("utf-8", "replace").strip()

    def _list(
        self, path: str, parameters: dict[str, str] | None = None, **filters: str
    ) -> list[Json]:
        chosen = json.dumps({key: [value] for key, value in filters.items()})
        found: list[Json] = self._read(self._get(path, {**(parameters or {}), "filters": chosen}))
        return found

    def _object(self, path: str) -> Json:
        found: Json = self._read(self._get(path))
        return found

    def _find(self, path: str) -> Json | None:
        response = self._get(path)
        if response.status_code == _NOT_FOUND:
            return None
        found: Json = self._read(response)
        return found

    def _get(self, path: str, parameters: dict[str, str] | None = None) -> httpx.Response:
        try:
            return asyncio.run(self._fetch(path, parameters or {}))
        except (TimeoutError, httpx.TimeoutException) as error:
            raise _SlowError(
                f"dockerd at {self.socket} doesn't answer: no complete response within"
                f" {self.timeout:g} s",
                hint="is it busy, or does it hang? systemctl status docker.service",
            ) from error
        except (httpx.HTTPError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise EngineUnreachableError(
                f"dockerd at {self.socket} doesn't answer: {reason}",
                hint="systemctl status docker.service; this user needs access to the socket",
            ) from error

    async def _fetch(self, path: str, parameters: dict[str, str]) -> httpx.Response:
        """Send one request on a new connection. httpx bounds each read, `timeout` their sum."""
        transport = httpx.AsyncHTTPTransport(uds=self.socket, verify=False)
        async with (
            asyncio.timeout(self.timeout),
            httpx.AsyncClient(
                transport=transport,
                base_url="http://docker",
                timeout=None,
                trust_env=False,
            ) as client,
        ):
            return await client.get(path, params=parameters)

    def _read(self, response: httpx.Response) -> Any:  # noqa: ANN401 - any JSON
        """Parse a response; raise for any status but 200 (without a quorum: 500)."""
        if response.status_code != _OK:
            try:
                said = str(response.json()["message"])
            except (ValueError, KeyError, TypeError):
                said = f"status {response.status_code}"
            raise EngineUnreachableError(f"dockerd at {self.socket} returned an error: {said}")
        try:
            return response.json()
        except ValueError as error:
            raise EngineUnreachableError(
                f"the response at {self.socket} is not JSON: expected the Docker API"
            ) from error


def _unframe(log: bytes) -> bytes:
    """Remove the stream headers from a log; the log of a container with a TTY has none."""
    pieces: list[bytes] = []
    rest = log
    while len(rest) >= _FRAME and rest[0] in _STREAMS and rest[1:4] == b"\0\0\0":
        length = int.from_bytes(rest[4:_FRAME], "big")
        pieces.append(rest[_FRAME : _FRAME + length])
        rest = rest[_FRAME + length :]
    return b"".join(pieces) + rest
