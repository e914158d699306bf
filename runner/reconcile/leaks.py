"""Ports of this host that the engine holds for no container.

After a cut of the power it may come back with the endpoint of a container that is no more, and
remove that without giving back its ports: nothing can start there until it is started again itself
(libnetwork's populateEndpoints and cleanupLocalEndpoints). It has no word for it; but for each port
it runs a proxy, whose arguments name the address that it is for. An engine without such proxies
(``"userland-proxy": false``) can leak, too: then only a task that is denied its port tells.
"""

import itertools
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, Protocol

from attrs import frozen

PROGRAM: Final = "docker-proxy"
PAUSE: Final = 1.0
"""Seconds between two looks: a container that ends in between takes its proxies with it."""


@frozen
class Proxy:
    """A process that holds a port of the host for an address inside."""

    pid: int
    port: int
    address: str


class Attached(Protocol):
    """The engine, as far as it is asked here."""

    def bridge_addresses(self) -> frozenset[str]: ...


def find_leaks(engine: Attached, pid: int, proc: Path = Path("/proc")) -> frozenset[int]:
    """List the ports that the engine holds for nobody, in two looks.

    Args:
        engine: to ask for the addresses of all that is attached to its bridges.
        pid: of its process, whose children its proxies are.
        proc: where processes are listed.

    Raises:
        EngineUnreachableError: it can't be asked.
    """
    leaked = _look(engine, pid, proc)
    if leaked:
        time.sleep(PAUSE)
        leaked &= _look(engine, pid, proc)
    return frozenset(proxy.port for proxy in leaked)


def _look(engine: Attached, pid: int, proc: Path) -> set[Proxy]:
    # In this order: an endpoint is there before its proxy, and goes after it.
    proxies = set(list_proxies(pid, proc))
    addresses = engine.bridge_addresses() if proxies else frozenset[str]()
    return {proxy for proxy in proxies if proxy.address not in addresses}


def list_proxies(parent: int, proc: Path = Path("/proc")) -> Iterator[Proxy]:
    """Find the proxies that a process has started."""
    for entry in proc.iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            words = (entry / "cmdline").read_text().split("\0")
            # Behind the name, which may have any character: state, then the parent.
            behind = (entry / "stat").read_text().rpartition(")")[2].split()
        except (OSError, UnicodeDecodeError):  # it has ended, or is none of the engine's
            continue
        if Path(words[0]).name == PROGRAM and int(behind[1]) == parent:
            given = dict(itertools.pairwise(words))
            yield Proxy(int(entry.name), int(given["-host-port"]), given["-container-ip"])


def tell_ports(ports: Iterable[int]) -> str:
    """Name ports in a sentence: ``ports 80, 443``."""
    listed = sorted(ports)
    return f"port{'s' * (len(listed) > 1)} {', '.join(map(str, listed))}"
