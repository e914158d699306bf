"""Asks the questions of a gate. Every answer is a ``ProbeResult``; nothing that fails escapes.

What keeps an answer honest:

* the timeout bounds the *whole* exchange: a body that drips, or never ends, ends at the deadline;
* no connection is kept between rounds: a kept one could still lead to an old, draining instance;
* redirects are not followed: another page's 200 is not this page's;
* proxies of the environment are ignored, and names are not resolved;
* trouble on the asking side (no file descriptors, no memory) is *inconclusive*, not a failure.
"""

import asyncio
import errno
import ssl
from typing import Final, assert_never

from attrs import evolve

from runner.reconcile.answers import (
    BODY_CAP,
    Expected,
    Reply,
    check_http,
    check_identity,
    printable,
    result,
)
from runner.reconcile.ordering import SafeQuestion
from runner.reconcile.questions import (
    Http,
    Identity,
    Question,
    TaskHttp,
    Tcp,
    TraefikPing,
    UnitActive,
)
from runner.reconcile.units import ask_active
from runner.reconcile.vocabulary import Answer, ProbeResult, Round
from runner.reconcile.web import httpx

OUR_FAULT: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EACCES}
)
"""Errors of connect(2) that speak of the asking host, not of what was asked."""


HANDSHAKE: Final = 0.8
"""Fraction of a probe's time that connecting, and then TLS, may take."""


class _CannotAskError(Exception):
    """The asking side lacks something."""

    def __init__(self, cause: OSError) -> None:
        self.cause = cause


class Prober:
    """Asks rounds of questions, each proven not to wait for whoever asks.

    Close it; use it from one thread.
    """

    def __init__(self, questions: tuple[SafeQuestion, ...]) -> None:
        self._questions = questions
        self._runner = asyncio.Runner()
        self._runner.get_loop()  # it needs descriptors of its own: now, not when they run out
        self._contexts: dict[tuple[bool, str | None], ssl.SSLContext] = {}

    def ask(self, expected: Expected, timeout: float) -> Round:
        """Ask all questions at once; take at most ``timeout`` seconds."""
        return self._runner.run(self._ask_all(expected, timeout))

    def close(self) -> None:
        self._runner.close()

    async def _ask_all(self, expected: Expected, timeout: float) -> Round:  # noqa: ASYNC109 - passed on
        results = await asyncio.gather(
            *(self._ask(safe.question, expected, timeout) for safe in self._questions)
        )
        return tuple(results)

    async def _ask(self, question: Question, expected: Expected, timeout: float) -> ProbeResult:  # noqa: ASYNC109
        limit = min(question.timeout, timeout)
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(limit):
                found = await self._exchange(question, expected, limit)
        except (TimeoutError, httpx.ConnectTimeout):
            # A systemctl that hangs says nothing about the unit that it was asked about.
            silent = Answer.INCONCLUSIVE if isinstance(question, UnitActive) else Answer.FAIL
            found = result(question, silent, f"no whole answer within {limit:.2g} s")
        except _CannotAskError as error:
            found = _cannot_ask(question, error.cause)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            found = _from_error(question, error)
        return evolve(found, latency=asyncio.get_running_loop().time() - began)

    async def _exchange(self, question: Question, expected: Expected, limit: float) -> ProbeResult:
        match question:
            case TraefikPing():
                ping = Http(
                    name=question.name,
                    target_unit=question.target_unit,
                    url=question.url,
                    body="OK",
                )
                return check_http(ping, await self._get(ping, limit))
            case Identity():
                who = Http(
                    name=question.name,
                    target_unit=question.target_unit,
                    url=question.url,
                    address=question.address,
                    verify_tls=question.verify_tls,
                )
                reply = await self._get(who, limit, anonymous=question.url.startswith("http:"))
                return check_identity(who, reply, expected)
            case TaskHttp():
                # Wherever the asking thread is: stackgate.py brings it inside.
                inside = Http(
                    name=question.name,
                    target_unit=question.target_unit,
                    url=f"http://127.0.0.1:{question.port}{question.path}",
                    status=question.status,
                    headers=question.headers,
                    body_contains=question.body_contains,
                )
                return check_http(inside, await self._get(inside, limit))
            case Http():
                return check_http(question, await self._get(question, limit))
            case Tcp():
                return await _connect(question)
            case UnitActive():
                return await ask_active(question)
            case _:
                assert_never(question)

    async def _get(self, question: Http, limit: float, *, anonymous: bool = False) -> Reply:
        url = httpx.URL(question.url)
        host_name = "" if anonymous else url.netloc.decode("ascii")
        headers = {"Host": host_name, "Accept-Encoding": "identity"}
        extensions = {"sni_hostname": url.host}
        if question.address is not None:
            host, _, port = question.address.rpartition(":")
            url = url.copy_with(host=host.strip("[]"), port=int(port))
        async with (
            httpx.AsyncClient(
                verify=self._context(question) if url.scheme == "https" else False,
                trust_env=False,
                follow_redirects=False,
                # httpx bounds each read, we the whole exchange; but a handshake that is cancelled
                # from outside would leave its socket open.
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

    def _context(self, question: Http) -> ssl.SSLContext:
        key = (question.verify_tls, question.ca_file)
        if key not in self._contexts:
            try:
                context = ssl.create_default_context(cafile=question.ca_file)
            except OSError as error:  # ssl.SSLError is one
                raise _CannotAskError(error) from error
            if not question.verify_tls:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            self._contexts[key] = context
        return self._contexts[key]


def _cannot_ask(question: Question, error: OSError) -> ProbeResult:
    why = printable(error.strerror or str(error))
    return result(question, Answer.INCONCLUSIVE, f"could not ask: {why}")


def _from_error(question: Question, error: BaseException) -> ProbeResult:
    """Tell trouble on our side from an answer that says no."""
    for cause in _chain(error):
        if isinstance(cause, OSError) and cause.errno in OUR_FAULT:
            return _cannot_ask(question, cause)
    for cause in _chain(error):
        if isinstance(cause, ConnectionRefusedError):
            return result(question, Answer.FAIL, "connection refused")
        if isinstance(cause, ssl.SSLError):
            return result(question, Answer.FAIL, f"TLS: {cause.reason or cause}")
    what = str(error) or type(error).__name__
    return result(question, Answer.FAIL, f"no HTTP answer: {printable(what)}")


def _chain(error: BaseException) -> list[BaseException]:
    """Unfold causes, contexts and groups: httpx, anyio and asyncio each wrap in their own way."""
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


async def _connect(question: Tcp) -> ProbeResult:
    host, _, port = question.address.rpartition(":")
    _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    writer.close()
    return result(question, Answer.PASS, "accepts connections")
