"""Watches a public listener without a pause, as a client would: how long nobody answered.

The rounds of a gate look now and then; what flaps between two of them is seen here. And it adds up
what an attempt cost those who wanted to be served.
"""

import asyncio
import threading
import time
from typing import Final

from attrs import frozen

from runner.reconcile.http_client import httpx
from runner.reconcile.probes import Identity
from runner.reconcile.replies import TOKEN_HEADER

PAUSE: Final = 0.05
"""Seconds between two probes: an outage is known to within a tenth of a second."""
PATIENCE: Final = 1.0
"""Seconds that a client waits before it calls that an outage."""


@frozen
class Sight:
    """What was seen since the last look, and in all."""

    asked: int
    missed: int
    """Of those asked since the last look, how many had no answer."""
    dark: float
    """Seconds in all in which no deployment of ours answered, from one answer to the next."""


class Listener:
    """Asks one identity probe, of plain http, over and over.

    Any deployment of ours will do for an answer.
    """

    def __init__(self, probe: Identity) -> None:
        self._probe = probe
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="listener", daemon=True)
        self._asked = 0
        self._missed = 0
        self._dark = 0.0
        self._dark_since: float | None = None

    @property
    def is_on(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin, unless it has begun; what was before is nobody's outage."""
        if not self.is_on:
            self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self.is_on:
            self._thread.join()

    def look(self) -> Sight:
        """Tell what was seen, and begin to count anew."""
        with self._lock:
            dark, missed = self._dark, self._missed
            if self._dark_since is not None:
                dark += time.monotonic() - self._dark_since
                missed = max(missed, 1)  # the probe that is waiting for its answer
            sight = Sight(max(self._asked, missed), missed, dark)
            self._asked = self._missed = 0
            return sight

    def _watch(self) -> None:
        asyncio.run(self._keep_asking())

    async def _keep_asking(self) -> None:
        last = time.monotonic()
        while not self._stop.wait(PAUSE):
            answered = await _answers(self._probe)
            now = time.monotonic()
            with self._lock:
                self._asked += 1
                if not answered:
                    self._missed += 1
                    # Conservative: it may have stopped right after it answered last.
                    self._dark_since = last if self._dark_since is None else self._dark_since
                elif self._dark_since is not None:
                    self._dark += now - self._dark_since
                    self._dark_since = None
            if answered:
                last = now


async def _answers(probe: Identity) -> bool:
    """Ask once; true if a deployment of ours answered, whichever, within ``PATIENCE``."""
    url = httpx.URL(probe.url)
    # Without a host name, as the probes ask: names are redirected.
    request = b"GET %b HTTP/1.1\r\nHost: \r\nConnection: close\r\n\r\n" % url.raw_path
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(url.host, url.port or 80)
            try:
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
            finally:
                writer.close()
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return False
    return f"\r\n{TOKEN_HEADER}:".lower().encode() in head.lower()
