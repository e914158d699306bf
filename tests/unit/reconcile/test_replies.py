"""The check of each answer, without a server: every field and every limit."""

from pathlib import Path

import httpx
import pytest
from attrs import evolve

from runner.reconcile.model import Deployment, Outcome, ProbeResult, Release
from runner.reconcile.probes import Http, Tcp
from runner.reconcile.replies import (
    BODY_CAP,
    TASK_HEADER,
    TOKEN_HEADER,
    Expected,
    Reply,
    check_http,
    check_identity,
    printable,
    result,
    without_colours,
)

RECIPE = Path(__file__).parents[3] / "recipes" / "traefik"
UNIT = "proxy.service"
DEPLOYMENT = Deployment(Release("3.4.0+v3.5.1", "3.5.1", "d" * 64), "the-token")
PAGE = Http(name="page", target_unit=UNIT, url="http://127.0.0.1/")
OK = Reply(200, httpx.Headers({"X-A": "b"}), b"all is well", capped=False)
PASSED = ProbeResult(
    probe="page",
    outcome=Outcome.PASS,
    reason="status 200 as expected",
    target_unit=UNIT,
    status=200,
    excerpt="all is well",
)


def test_a_page_as_expected_is_a_pass_with_its_evidence() -> None:
    """Every field of it; nothing here is terminal."""
    assert check_http(PAGE, OK) == PASSED
    strict = evolve(PAGE, headers={"x-a": "b"}, body="all is well", body_contains="is")
    assert check_http(strict, OK) == PASSED


@pytest.mark.parametrize(
    ("probe", "reply", "reason"),
    [
        (evolve(PAGE, status=201), OK, "status 200, expected 201"),
        (
            PAGE,
            evolve(OK, status=302, headers=httpx.Headers({"Location": "/\x1b[1m"})),
            r"status 302, expected 200 (redirect to /\x1b[1m)",
        ),
        (PAGE, evolve(OK, capped=True), "the body is larger than 65536 bytes"),
        (evolve(PAGE, headers={"X-B": "b"}), OK, "header X-B is None, expected 'b'"),
        (evolve(PAGE, headers={"X-A": "b", "X-B": ""}), OK, "header X-B is None, expected ''"),
        (evolve(PAGE, headers={"X-A": "B"}), OK, "header X-A is 'b', expected 'B'"),
        (evolve(PAGE, body="all is"), OK, "the body is not 'all is'"),
        (evolve(PAGE, body=""), OK, "the body is not ''"),
        (evolve(PAGE, body_contains="ill"), OK, "the body does not contain 'ill'"),
        (evolve(PAGE, body="\ufffd"), evolve(OK, body=b"?"), "the body is not '\ufffd'"),
    ],
)
def test_the_first_difference_is_the_reason(probe: Http, reply: Reply, reason: str) -> None:
    """The result is a failure, with the answer as evidence."""
    shown = reply.body.decode()
    found = check_http(probe, reply)
    expected = evolve(
        PASSED, outcome=Outcome.FAIL, reason=reason, status=reply.status, excerpt=shown
    )
    assert found == expected


def test_a_body_that_is_no_text_is_compared_all_the_same() -> None:
    """Undecodable bytes count as the replacement character."""
    broken = evolve(OK, body=b"a\xffb")
    assert check_http(evolve(PAGE, body="a\ufffdb"), broken).outcome is Outcome.PASS
    assert check_http(evolve(PAGE, body_contains="b"), broken).excerpt == "a\ufffdb"


# Identity -----------------------------------------------------------------------------------------

HEADERS = httpx.Headers({TOKEN_HEADER: "the-token", TASK_HEADER: "task1"})
SELF = Reply(200, HEADERS, b'{"Version": "3.5.1"}', capped=False)
MINE = Expected(DEPLOYMENT)
TASKS = Expected(DEPLOYMENT, frozenset({"task0", "task1"}))


@pytest.mark.parametrize("expected", [MINE, TASKS, evolve(TASKS, tasks=frozenset({"task1"}))])
def test_the_deployment_itself_passes(expected: Expected) -> None:
    """By its token, its version and, if there are tasks, its task id."""
    assert check_identity(PAGE, SELF, expected) == evolve(PASSED, excerpt=SELF.body.decode())


def without(name: str) -> httpx.Headers:
    kept = HEADERS.copy()
    del kept[name]
    return kept


NOT_RUNNING = "answers, which Docker does not report as running"


@pytest.mark.parametrize(
    ("reply", "expected", "reason"),
    [
        (evolve(SELF, headers=without(TOKEN_HEADER)), MINE, "no X-Warm-Reconcile-Token header"),
        (evolve(SELF, status=404, headers=without(TOKEN_HEADER)), MINE, "status 404, expected 200"),
        (evolve(SELF, status=404), MINE, "status 404, expected 200: no identity"),
        (
            evolve(SELF, status=404, headers=httpx.Headers({TOKEN_HEADER: "x"})),
            MINE,
            "another deployment answers",
        ),
        (evolve(SELF, body=b'{"Version": "3.5.10"}'), MINE, "version 3.5.10 answers, expected"),
        (evolve(SELF, body=b'{"version": "3.5.1"}'), MINE, "the body names no Version"),
        (SELF, evolve(TASKS, tasks=frozenset({"task0"})), f"task task1 {NOT_RUNNING}"),
        (SELF, evolve(TASKS, tasks=frozenset()), f"task task1 {NOT_RUNNING}"),
        (evolve(SELF, headers=without(TASK_HEADER)), TASKS, f"task (none) {NOT_RUNNING}"),
    ],
)
def test_any_other_instance_fails_with_its_own_reason(
    reply: Reply, expected: Expected, reason: str
) -> None:
    """The token first: for another deployment nothing else matters."""
    found = check_identity(PAGE, reply, expected)
    assert (found.outcome, found.status) == (Outcome.FAIL, reply.status)
    assert found.reason.startswith(reason)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"\xff",
        b"null",
        b'["3.5.1"]',
        b"[" * 20_000,
        b"1" * 5000,
        b'{"version": ""}',
    ],
    ids=["empty", "no JSON", "no text", "null", "list", "deep", "long number", "no version"],
)
def test_an_answer_without_a_version_fails(body: bytes) -> None:
    """For any other body."""
    found = check_identity(PAGE, evolve(SELF, body=body), MINE)
    assert (found.outcome, found.reason) == (Outcome.FAIL, "the body names no Version")


def test_without_tasks_no_task_header_is_required() -> None:
    """Outside of a swarm there is no such header."""
    reply = evolve(SELF, headers=without(TASK_HEADER))
    assert check_identity(PAGE, reply, MINE).outcome is Outcome.PASS


def test_the_recipe_returns_the_expected_headers() -> None:
    """They are part of each deployed release: a change here breaks every release that is kept."""
    returned = (RECIPE / "gate.yml").read_text()
    for header in (TOKEN_HEADER, TASK_HEADER):
        assert f"{header}:" in returned
    assert (TOKEN_HEADER, TASK_HEADER) == ("X-Warm-Reconcile-Token", "X-Warm-Reconcile-Task")


# Words --------------------------------------------------------------------------------------------


def test_a_result_without_an_answer_names_its_probe() -> None:
    """Its name and its unit; no status and no text."""
    port = Tcp(name="port", target_unit=UNIT, address="127.0.0.1:1")
    found = result(port, Outcome.INCONCLUSIVE, "why")
    assert found == ProbeResult("port", Outcome.INCONCLUSIVE, "why", UNIT)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("grün 😀", "grün 😀"),
        ("a\nb\t\0", r"a\nb\t\x00"),
        ("'\"\\", "'\"\\"),
        ("x" * 200, "x" * 200),
        ("x" * 201, "x" * 200 + "…"),
        ("\n" * 201, r"\n" * 200 + "…"),
    ],
)
def test_an_excerpt_is_printable_and_short(text: str, shown: str) -> None:
    """Two hundred characters, and a sign that there was more."""
    assert printable(text) == shown


@pytest.mark.parametrize(
    "code", ["\x1b[0m", "\x1b[1;31m", "\x1b]0;title\x07", "\x1b]8;;x\x1b\\", "\x1bM", "\x1b[?25l"]
)
def test_control_sequences_are_removed_from_a_log(code: str) -> None:
    """All that a terminal would not show."""
    assert without_colours(f"a{code}b{code}") == "ab"


def test_the_cap_of_a_body_is_64_kib() -> None:
    """The number is also in messages."""
    assert BODY_CAP == 65_536
