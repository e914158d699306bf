"""Watches a public listener without a pause, as a client would: how long nobody answered.

The rounds of a gate look now and then; what flaps between two of them is seen here. And it adds up
what an attempt cost those who wanted to be served.
"""

import contextlib
import http.client
import threading
import time
from typing import Final
from urllib.parse import urlsplit

from attrs import frozen

from runner.reconcile.answers import TOKEN_HEADER
from runner.reconcile.questions import Identity

PAUSE: Final = 0.05
"""Seconds between two questions: an outage is known to within a tenth of a second."""
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
    """Asks one identity question, of plain http, over and over.

    Any deployment of ours will do for an answer.
    """

    def __init__(self, question: Identity) -> None:
        self._question = question
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
            dark = self._dark
            if self._dark_since is not None:
                dark += time.monotonic() - self._dark_since
            sight = Sight(self._asked, self._missed, dark)
            self._asked = self._missed = 0
            return sight

    def _watch(self) -> None:
        last = time.monotonic()
        while not self._stop.wait(PAUSE):
            answered = _answers(self._question)
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


def _answers(question: Identity) -> bool:
    """Ask once; true if a deployment of ours answered, whichever."""
    parts = urlsplit(question.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE)
    with contextlib.closing(connection):
        try:
            connection.putrequest("GET", parts.path, skip_host=True)
            connection.putheader("Host", "")  # as the probes do: names are redirected
            connection.endheaders()
            return connection.getresponse().getheader(TOKEN_HEADER) is not None
        except (OSError, http.client.HTTPException):
            return False
