"""Finds leaked ports: ports of this host that dockerd holds although no container publishes them.

After a power cut dockerd may restore the endpoint of a deleted container, and remove the endpoint
without releasing its ports: no container can publish them until dockerd is restarted (libnetwork's
populateEndpoints and cleanupLocalEndpoints). The Docker API does not list such ports, but for each
published port dockerd runs a ``docker-proxy`` process, whose arguments name the port. A leaked port
is one that has such a process and that neither a running container nor the routing mesh publishes.

The address of the container in those arguments decides nothing: Docker assigns the address of a
deleted container again, to another container or to the routing mesh (``ingress-sbox``).

A dockerd without such processes (``"userland-proxy": false``) can leak ports, too. Then only a task
that is denied its port shows it.
"""

import itertools
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, Protocol

from attrs import frozen

PROGRAM: Final = "docker-proxy"
SAMPLES: Final = 10
PAUSE: Final = 1.0
"""Seconds between two samples. Docker starts the proxies of a container before it lists it as
running, and ends them after that: each sample must find the same process without a container."""


@frozen
class Proxy:
    """A ``docker-proxy`` process, which holds a port of the host."""

    pid: int
    protocol: str
    host: str
    """The address of the host on which it listens."""
    port: int


class Publishing(Protocol):
    """The part of the Docker API that is used here. A port is (protocol, address or "", number)."""

    def published_ports(self) -> frozenset[tuple[str, str, int]]: ...

    def mesh_ports(self) -> frozenset[tuple[str, str, int]]: ...


def find_leaks(engine: Publishing, pid: int, proc: Path = Path("/proc")) -> frozenset[int]:
    """Return the host ports that dockerd holds although no container or service publishes them.

    Args:
        engine: the Docker API.
        pid: of dockerd, the parent of its proxies.
        proc: the procfs.

    Raises:
        EngineUnreachableError: Docker can't list the published ports.
    """
    leaked = _sample(engine, pid, proc)
    for _ in range(SAMPLES - 1):
        if not leaked:
            break
        time.sleep(PAUSE)
        leaked &= _sample(engine, pid, proc)
    return frozenset(proxy.port for proxy in leaked)


def _sample(engine: Publishing, pid: int, proc: Path) -> set[Proxy]:
    proxies = set(list_proxies(pid, proc))
    published = engine.published_ports() if proxies else frozenset[tuple[str, str, int]]()
    unexplained = {proxy for proxy in proxies if not _is_published(proxy, published)}
    if not unexplained:
        return set()
    meshed = engine.mesh_ports()
    return {proxy for proxy in unexplained if not _is_published(proxy, meshed)}


def _is_published(proxy: Proxy, published: frozenset[tuple[str, str, int]]) -> bool:
    return any((proxy.protocol, host, proxy.port) in published for host in (proxy.host, ""))


def list_proxies(parent: int, proc: Path = Path("/proc")) -> Iterator[Proxy]:
    """List the docker-proxy processes that a process has started."""
    for entry in proc.iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            words = (entry / "cmdline").read_text().split("\0")
            # After the name, which may contain any character: the state, then the parent.
            behind = (entry / "stat").read_text().rpartition(")")[2].split()
        except (OSError, UnicodeDecodeError):  # it has ended, or is not a proxy
            continue
        if Path(words[0]).name == PROGRAM and int(behind[1]) == parent:
            given = dict(itertools.pairwise(words))
            yield Proxy(
                int(entry.name), given["-proto"], given["-host-ip"], int(given["-host-port"])
            )


def format_ports(ports: Iterable[int]) -> str:
    """Format ports for a sentence: ``ports 80, 443``."""
    listed = sorted(ports)
    return f"port{'s' * (len(listed) > 1)} {', '.join(map(str, listed))}"
