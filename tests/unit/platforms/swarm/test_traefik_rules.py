"""Rules of Traefik, evaluated for a request: a match, no match, or unknown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.platforms.swarm.traefik_rules import Request, Truth, matches

SITE = Request("ci.commoninternet.net", "/app/login")


@pytest.mark.parametrize(
    ("rule", "truth"),
    [
        ("Host(`ci.commoninternet.net`)", True),
        ('Host("CI.commoninternet.net")', True),
        ("Host(`ci.commoninternet.net.`)", True),
        ("Host(`a.test`, `ci.commoninternet.net`)", True),
        ("Host(`commoninternet.net`)", False),
        ("Host(`a.test`) || Host(`ci.commoninternet.net`)", True),
        ("Host(`ci.commoninternet.net`) && PathPrefix(`/app`)", True),
        ("Host(`ci.commoninternet.net`) && PathPrefix(`/api`)", False),
        ("Host(`ci.commoninternet.net`) && !Path(`/app/login`)", False),
        ("Host(`ci.commoninternet.net`) && Header(`X`, `y`)", None),
        ("Host(`a.test`) && Header(`X`, `y`)", False),
        ("Host(`ci.commoninternet.net`) || Method(`POST`)", True),
        ("!Host(`a.test`)", True),
        ("!Header(`X`, `y`)", None),
        ("HostRegexp(`^.+$`)", True),
        ("HostRegexp(`^ci\\..+$`)", None),
        ("Path(`/app/{page}`)", None),
        ("HostSNI(`*`)", True),
        ("HostSNI(`git.test`)", False),
        ("Host(`a.test`) && (Path(`/x`) || ClientIP(`::1`))", False),
        ("(Path(`/a`) || Path(`/b`)) && (ClientIP(`127.0.0.0/8`) || ClientIP(`::1`))", False),
        ("Host(`a.test`) || Path(`/x`) && Host(`ci.commoninternet.net`)", False),
        ("Host(`a.test`) && Path(`/x`) || Host(`ci.commoninternet.net`)", True),
        ("Host(`(a) && !(b) || _0`) || Host(`ci.commoninternet.net`)", True),
        ("", None),
        ("Host(`ci.commoninternet.net`", None),
        ("Host(`ci.commoninternet.net`) Host(`a.test`)", None),
        ("Host(`ci.commoninternet.net`) & Host(`a.test`)", None),
        ("(Host(`ci.commoninternet.net`))(Host(`a.test`))", None),
        ("Host(ci.commoninternet.net)", None),
        ("Nobody(`knows`)", None),
        ("_0", None),
        ("_7 || Host(`ci.commoninternet.net`)", None),
        ("!" * 2_000 + "Host(`ci.commoninternet.net`)", None),
        ("!" * 20_000 + "Host(`ci.commoninternet.net`)", None),
        ("(" * 1_000 + "Host(`ci.commoninternet.net`)" + ")" * 1_000, None),
    ],
)
def test_a_rule_matches_or_not_or_is_unknown(rule: str, truth: Truth) -> None:
    """Precedence is that of Traefik: not, and, or."""
    assert matches(rule, SITE) is truth


@pytest.mark.parametrize("host", ["ci.commoninternet.net", "CI.CommonInternet.NET"])
@pytest.mark.parametrize(
    "rule", ["Host(`Ci.commoninternet.net.`)", "HostSNI(`Ci.commoninternet.net`)"]
)
def test_a_name_has_no_case(rule: str, host: str) -> None:
    """Neither in the rule nor in the request."""
    assert matches(rule, Request(host, "/")) is True


def test_an_escaped_path_is_not_compared() -> None:
    """Traefik has its own idea of what it decodes."""
    assert matches("Path(`/a b`)", Request("a.test", "/a%20b")) is None


@given(st.text(alphabet="Host()`a!&|_0 \n\"',{}", max_size=40))
def test_no_text_breaks_it(rule: str) -> None:
    """A table may have any rule: an invalid one is unknown, not an error."""
    assert matches(rule, Request("a", "/")) is None or "Host(`" in rule
