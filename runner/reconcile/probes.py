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
import json
import os
import ssl
import sys
from typing import IO, Final, assert_never

from attrs import evolve, frozen

from runner.reconcile.questions import Http, Identity, Question, Tcp, TraefikPing, UnitActive
from runner.reconcile.vocabulary import Answer, Deployment, ProbeResult, Round

# httpx loads its own command line, with rich and pygments, wherever click and rich happen to be
# installed: more than half of our start-up time. None makes that import fail, as if they were not.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]

import httpx  # noqa: E402

TOKEN_HEADER: Final = "X-Warm-Reconcile-Token"  # noqa: S105 - the name of a header
BODY_CAP: Final = 64 * 1024
"""Bytes of a body that are read. No health endpoint needs more."""
EXCERPT: Final = 200
"""Characters of an answer kept as evidence."""
OUR_FAULT: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EACCES}
)
"""Errors of connect(2) that speak of the asking host, not of what was asked."""


HANDSHAKE: Final = 0.8
"""Fraction of a probe's time that connecting, and then TLS, may take."""
CLOSING_TURNS: Final = 3
"""Turns of the event loop in which connections that were broken off get closed (TLS takes most)."""
UNIT_STATES: Final = frozenset(
    {"active", "activating", "deactivating", "failed", "inactive", "maintenance", "refreshing"}
    | {"reloading"}
)
"""ActiveState= as systemd(1) knows it."""


class _CannotAskError(Exception):
    """The asking side lacks something."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


@frozen
class _Reply:
    status: int
    headers: httpx.Headers
    body: bytes
    capped: bool


class Prober:
    """Asks rounds of questions. Close it; use it from one thread."""

    def __init__(self, questions: tuple[Question, ...]) -> None:
        self._questions = questions
        self._runner = asyncio.Runner()
        self._runner.get_loop()  # it needs descriptors of its own: now, not when they run out
        self._contexts: dict[tuple[bool, str | None], ssl.SSLContext] = {}

    def ask(self, deployment: Deployment, timeout: float) -> Round:
        """Ask all questions at once; take at most ``timeout`` seconds."""
        return self._runner.run(self._ask_all(deployment, timeout))

    def close(self) -> None:
        self._runner.close()

    async def _ask_all(self, deployment: Deployment, timeout: float) -> Round:  # noqa: ASYNC109 - passed on
        results = await asyncio.gather(
            *(self._ask(question, deployment, timeout) for question in self._questions)
        )
        for _ in range(CLOSING_TURNS):
            await asyncio.sleep(0)
        return tuple(results)

    async def _ask(self, question: Question, deployment: Deployment, timeout: float) -> ProbeResult:  # noqa: ASYNC109
        limit = min(question.timeout, timeout)
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(limit):
                result = await self._exchange(question, deployment, limit)
        except (TimeoutError, httpx.ConnectTimeout):
            result = _result(question, Answer.FAIL, f"no whole answer within {limit:.2g} s")
        except _CannotAskError as error:
            result = _cannot_ask(question, error.cause)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            result = _from_error(question, error)
        return evolve(result, latency=asyncio.get_running_loop().time() - began)

    async def _exchange(
        self, question: Question, deployment: Deployment, limit: float
    ) -> ProbeResult:
        match question:
            case TraefikPing():
                ping = Http(
                    name=question.name,
                    target_unit=question.target_unit,
                    url=question.url,
                    body="OK",
                )
                return _check_http(ping, await self._get(ping, limit))
            case Identity():
                who = Http(
                    name=question.name,
                    target_unit=question.target_unit,
                    url=question.url,
                    verify_tls=question.verify_tls,
                )
                return _check_identity(who, await self._get(who, limit), deployment)
            case Http():
                return _check_http(question, await self._get(question, limit))
            case Tcp():
                return await _connect(question)
            case UnitActive():
                return await _ask_systemd(question)
            case _:
                assert_never(question)

    async def _get(self, question: Http, limit: float) -> _Reply:
        url = httpx.URL(question.url)
        headers = {"Host": url.netloc.decode("ascii"), "Accept-Encoding": "identity"}
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
            return _Reply(response.status_code, response.headers, bytes(body[:BODY_CAP]), capped)

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


# Judging one reply --------------------------------------------------------------------------------


def _check_http(question: Http, reply: _Reply) -> ProbeResult:
    return _reply_result(question, reply, _mismatch(question, reply))


def _mismatch(question: Http, reply: _Reply) -> str:
    """Name the first difference from what was expected; empty if there is none."""
    if reply.status != question.status:
        where = reply.headers.get("location")
        towards = f" (redirect to {_printable(where)})" if where else ""
        return f"status {reply.status}, expected {question.status}{towards}"
    if reply.capped:
        return f"the body is larger than {BODY_CAP} bytes"
    for name, value in question.headers.items():
        if reply.headers.get(name) != value:
            return f"header {name} is {reply.headers.get(name)!r}, expected {value!r}"
    text = reply.body.decode("utf-8", "replace")
    if question.body is not None and text != question.body:
        return f"the body is not {question.body!r}"
    if question.body_contains is not None and question.body_contains not in text:
        return f"the body does not contain {question.body_contains!r}"
    return ""


def _check_identity(question: Http, reply: _Reply, deployment: Deployment) -> ProbeResult:
    """Hold the answer against the one deployment that may give it.

    The token alone tells deployments apart. The version, told by the running program and not by its
    config, catches another program under the right label.
    """
    return _reply_result(question, reply, _stranger(question, reply, deployment))


def _stranger(question: Http, reply: _Reply, deployment: Deployment) -> str:
    token = reply.headers.get(TOKEN_HEADER)
    if token is not None and token != deployment.token:
        return "another deployment answers: its token is not this one's"
    if mismatch := _mismatch(question, reply):
        return f"{mismatch}: no identity; is it another program, or is its api or dynamic/ off?"
    if token is None:
        return "a stranger answers: it returned no token"
    try:
        version = json.loads(reply.body)["Version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "it did not tell its version"
    if version != deployment.release.version:
        return f"version {_printable(str(version))} answers, expected {deployment.release.version}"
    return ""


def _reply_result(question: Http, reply: _Reply, wrong: str) -> ProbeResult:
    return ProbeResult(
        probe=question.name,
        answer=Answer.FAIL if wrong else Answer.PASS,
        reason=wrong or f"status {reply.status} as expected",
        target_unit=question.target_unit,
        status=reply.status,
        excerpt=_printable(reply.body.decode("utf-8", "replace")),
    )


def _result(question: Question, answer: Answer, reason: str) -> ProbeResult:
    return ProbeResult(question.name, answer, reason, question.target_unit)


def _cannot_ask(question: Question, error: OSError) -> ProbeResult:
    why = _printable(error.strerror or str(error))
    return _result(question, Answer.INCONCLUSIVE, f"could not ask: {why}")


def _from_error(question: Question, error: BaseException) -> ProbeResult:
    """Tell trouble on our side from an answer that says no."""
    for cause in _chain(error):
        if isinstance(cause, OSError) and cause.errno in OUR_FAULT:
            return _cannot_ask(question, cause)
    for cause in _chain(error):
        if isinstance(cause, ConnectionRefusedError):
            return _result(question, Answer.FAIL, "connection refused")
        if isinstance(cause, ssl.SSLError):
            return _result(question, Answer.FAIL, f"TLS: {cause.reason or cause}")
    what = str(error) or type(error).__name__
    return _result(question, Answer.FAIL, f"no HTTP answer: {_printable(what)}")


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


def _printable(text: str) -> str:
    # Not the codec "unicode_escape": it would be imported when it is needed, with a file to open.
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:EXCERPT])
    return shown if len(text) <= EXCERPT else shown + "…"


# Other ways to ask --------------------------------------------------------------------------------


async def _connect(question: Tcp) -> ProbeResult:
    host, _, port = question.address.rpartition(":")
    _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    writer.close()
    return _result(question, Answer.PASS, "accepts connections")


async def _ask_systemd(question: UnitActive) -> ProbeResult:
    command = ("systemctl", "show", "--property=ActiveState", "--value", "--", question.target_unit)
    # Files, not pipes: a child of systemctl that keeps a pipe open would outlast any timeout.
    with _open_memory() as out, _open_memory() as err:
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=err
            )
        except OSError as error:
            why = f"systemctl: {error.strerror}"
            return _result(question, Answer.INCONCLUSIVE, why)
        try:
            status = await process.wait()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        state, complaint = (_read_back(file) for file in (out, err))
    if status != 0 or state not in UNIT_STATES:
        return _result(
            question, Answer.INCONCLUSIVE, f"systemctl: {complaint or state or 'no answer'}"
        )
    answer = Answer.PASS if state == "active" else Answer.FAIL
    return evolve(_result(question, answer, f"the unit is {state}"), terminal=state == "failed")


def _open_memory() -> IO[bytes]:
    return open(os.memfd_create("systemctl"), "w+b")  # noqa: PTH123 - there is no path


def _read_back(file: IO[bytes]) -> str:
    file.seek(0)
    return _printable(file.read(BODY_CAP).decode("utf-8", "replace").strip())
