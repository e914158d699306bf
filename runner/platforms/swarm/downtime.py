"""Measures downtime: sends requests to one identity route without a pause, as a client would.

It sees outages between two rounds of a gate, which fail the next round, and adds up the seconds
without an answer for the report.
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
"""Seconds between two requests: an outage is measured to within a tenth of a second."""
PATIENCE: Final = 1.0
"""Seconds without an answer after which a request counts as unanswered."""


@frozen
class Reading:
    """Requests since the last reading, and the downtime since the start."""

    requests: int
    unanswered: int
    """Of the requests since the last reading, how many had no answer."""
    seconds: float
    """Seconds since the start without an answer, each gap from its last answer to the next one."""


class DowntimeMeter:
    """Repeats the request of one identity probe of plain http, in a thread.

    A response with any token counts as an answer, also one of an older deployment.
    """

    def __init__(self, probe: Identity) -> None:
        self._probe = probe
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="downtime-meter", daemon=True)
        self._requests = 0
        self._unanswered = 0
        self._seconds = 0.0
        self._down_since: float | None = None

    @property
    def is_on(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        """Start, unless it has started; downtime before the start does not count."""
        if not self.is_on:
            self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self.is_on:
            self._thread.join()

    def read(self) -> Reading:
        """Return the counts since the last reading, and reset them."""
        with self._lock:
            seconds, unanswered = self._seconds, self._unanswered
            if self._down_since is not None:
                seconds += time.monotonic() - self._down_since
                unanswered = max(unanswered, 1)  # the request that is waiting for its answer
            reading = Reading(max(self._requests, unanswered), unanswered, seconds)
            self._requests = self._unanswered = 0
            return reading

    def _watch(self) -> None:
        asyncio.run(self._repeat())

    async def _repeat(self) -> None:
        last = time.monotonic()
        while not self._stop.wait(PAUSE):
            answered = await _is_answered(self._probe)
            now = time.monotonic()
            with self._lock:
                self._requests += 1
                if not answered:
                    self._unanswered += 1
                    # Counted from the last answer: the service may have stopped right after it.
                    self._down_since = last if self._down_since is None else self._down_since
                elif self._down_since is not None:
                    self._seconds += now - self._down_since
                    self._down_since = None
            if answered:
                last = now


async def _is_answered(probe: Identity) -> bool:
    """Send one request; return whether a response with a token came within ``PATIENCE``."""
    url = httpx.URL(probe.url)
    # Without a host name, as the identity probe: an entrypoint may redirect requests with one.
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
