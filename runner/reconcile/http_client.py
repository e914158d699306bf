"""Sends the HTTP GET of a probe, and classifies its failure: about the server, or about this host.

httpx imports its command line, with rich and pygments, if click and rich are installed: more than
half of our start-up time. None in ``sys.modules`` makes that import fail, as if they were not.
"""

import errno
import ssl
import sys
from typing import Final, Protocol

sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]

import httpx  # noqa: E402

from runner.reconcile.model import Outcome  # noqa: E402
from runner.reconcile.replies import BODY_CAP, Reply, printable  # noqa: E402

__all__ = ["NO_ANSWER", "CannotAskError", "HttpClient", "Page", "explain", "httpx"]

OUR_FAULT: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EACCES}
)
"""Errors of connect(2) that are about this host, not about the server."""
HANDSHAKE: Final = 0.8
"""Fraction of a probe's time that connecting, and then TLS, may take."""


class CannotAskError(Exception):
    """The request needs something that this host lacks, for example a readable CA file."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


NO_ANSWER: Final = (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, CannotAskError)
"""The exceptions of a request that gets no answer; ``explain`` classifies them."""


class Page(Protocol):
    """The address of a page, and how to verify its server."""

    @property
    def url(self) -> str: ...
    @property
    def address(self) -> str | None:
        """Connect here, whatever host the URL names."""
        ...

    @property
    def verify_tls(self) -> bool: ...
    @property
    def ca_file(self) -> str | None: ...


class HttpClient:
    """Gets pages. Each request opens a connection of its own and closes it."""

    def __init__(self) -> None:
        self._contexts: dict[tuple[bool, str | None], ssl.SSLContext] = {}

    async def get(self, page: Page, limit: float, *, anonymous: bool = False) -> Reply:
        """Get a page.

        Args:
            page: to get.
            limit: seconds for the whole exchange; the caller ends it.
            anonymous: send an empty host name.

        Raises:
            httpx.ConnectTimeout: connecting took too long.
            NO_ANSWER: there is no answer.
        """
        url = httpx.URL(page.url)
        host_name = "" if anonymous else url.netloc.decode("ascii")
        headers = {"Host": host_name, "Accept-Encoding": "identity"}
        extensions = {"sni_hostname": url.host}
        if page.address is not None:
            host, _, port = page.address.rpartition(":")
            url = url.copy_with(host=host.strip("[]"), port=int(port))
        async with (
            httpx.AsyncClient(
                verify=self._context(page) if url.scheme == "https" else False,
                trust_env=False,
                follow_redirects=False,
                # httpx bounds each read, the caller the whole exchange; but a handshake that is
                # cancelled from outside would leave its socket open.
                timeout=httpx.Timeout(None, connect=HANDSHAKE * limit),
            ) as client,
            client.stream("GET", url, headers=headers, extensions=extensions) as response,
        ):
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > BODY_CAP:
                    break
            capped = len(body) > BODY_CAP
            return Reply(response.status_code, response.headers, bytes(body[:BODY_CAP]), capped)

    def _context(self, page: Page) -> ssl.SSLContext:
        key = (page.verify_tls, page.ca_file)
        if key not in self._contexts:
            try:
                context = ssl.create_default_context(cafile=page.ca_file)
            except OSError as error:  # ssl.SSLError is one
                raise CannotAskError(error) from error
            if not page.verify_tls:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            self._contexts[key] = context
        return self._contexts[key]


def explain(error: BaseException) -> tuple[Outcome, str]:
    """Classify an exception: trouble on this host is inconclusive, a server's silence a failure."""
    if isinstance(error, CannotAskError):
        return _our_fault(error.cause)
    for cause in _chain(error):
        if isinstance(cause, OSError) and cause.errno in OUR_FAULT:
            return _our_fault(cause)
    for cause in _chain(error):
        if isinstance(cause, ConnectionRefusedError):
            return Outcome.FAIL, "connection refused"
        if isinstance(cause, ssl.SSLError):
            return Outcome.FAIL, f"TLS: {cause.reason or cause}"
    what = str(error) or type(error).__name__
    return Outcome.FAIL, f"no HTTP answer: {printable(what)}"


def _our_fault(error: OSError) -> tuple[Outcome, str]:
    return Outcome.INCONCLUSIVE, f"could not probe: {printable(error.strerror or str(error))}"


def _chain(error: BaseException) -> list[BaseException]:
    """List an exception's causes, contexts and groups: httpx, anyio and asyncio all wrap errors."""
    found: list[BaseException] = []
    waiting = [error]
    while waiting:
        current = waiting.pop()
        if current in found:
            continue
        found.append(current)
        waiting += [e for e in (current.__cause__, current.__context__) if e is not None]
        waiting += getattr(current, "exceptions", ())
    return found
