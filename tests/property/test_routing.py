"""The unit that serves a host name, checked against an oracle that tries all that Traefik could do.

The oracle does not parse rules: it gets the result of each matcher. For an undecided matcher it
tries both. Traefik (https://doc.traefik.io/traefik/reference/routing-configuration/) tries TCP
routers before HTTP routers, and of these the one with the highest priority that matches; which of
equals, and whether a TCP router leaves a request to HTTP, is undecided.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Final

import pytest
from attrs import frozen
from hypothesis import event, given
from hypothesis import strategies as st

from runner.platforms.swarm.traefik_routers import Resolved, Router, Table, resolve
from runner.platforms.swarm.traefik_rules import Request, Truth, matches

# Rules --------------------------------------------------------------------------------------------

MATCHERS: Final[Mapping[str, Truth]] = {
    "Host(`a.test`)": True,
    "Host(`A.TEST`, `c.test`)": True,
    'Host("c.test" , "a.test.")': True,
    "Host(`b.test`)": False,
    "Host(`.test`)": False,
    "HostRegexp(`^.+$`)": True,
    "HostRegexp(`{host:.+}`)": True,
    "HostRegexp(`^a.+$`)": None,
    "HostSNI(`A.test`)": True,
    "HostSNI(`c.test`, `*`)": True,
    "HostSNI(`b.test`)": False,
    "Path(`/x/y`)": True,
    "Path(`/x`)": False,
    "Path(`/{any}`)": None,
    "PathPrefix(`/z`, `/x`)": True,
    "PathPrefix(`/y`)": False,
    "PathPrefix(`/x/y/z`)": False,
    "PathPrefix(`/{any}`)": None,
    "Method(`GET`)": None,
    "Header(`X`, `a || b`)": None,
}
"""The result of each for ``https://a.test/x/y``; None: it can't be decided."""
REQUEST: Final = Request("a.test", "/x/y")


@frozen
class Rule:
    """A rule, and its result for the request."""

    text: str
    truth: Truth


def negated(rule: Rule) -> Rule:
    return Rule(f"!({rule.text})", None if rule.truth is None else not rule.truth)


def combined(rules: list[Rule], *, by_or: bool) -> Rule:
    """Combine by trying every value of each undecided matcher."""
    open_ = [(True, False) if rule.truth is None else (rule.truth,) for rule in rules]
    found = {any(values) if by_or else all(values) for values in itertools.product(*open_)}
    word = "||" if by_or else "&&"
    return Rule(
        f" {word} ".join(f"({rule.text})" for rule in rules),
        found.pop() if len(found) == 1 else None,
    )


matchers = st.sampled_from([Rule(text, truth) for text, truth in MATCHERS.items()])
rules = st.recursive(
    matchers,
    lambda inner: (
        inner.map(negated)
        | st.builds(combined, st.lists(inner, min_size=2, max_size=3), by_or=st.booleans())
    ),
    max_leaves=6,
)


@given(rules)
def test_a_rule_combines_its_matchers(rule: Rule) -> None:
    """Every operator, in any nesting; an undecided matcher counts only where it matters."""
    event(str(rule.truth))
    assert matches(rule.text, REQUEST) is rule.truth


@given(st.lists(matchers, min_size=2, max_size=4), st.data())
def test_without_parentheses_not_binds_before_and_and_and_before_or(
    some: list[Rule], data: st.DataObject
) -> None:
    """The same rule with all its parentheses means the same."""
    flipped = [data.draw(st.booleans()) for _ in some]
    words = [data.draw(st.sampled_from(["&&", "||", " && ", "\t||  "])) for _ in some[1:]]
    text, groups = "", [list[Rule]()]
    for rule, not_, word in zip(some, flipped, ["", *words], strict=True):
        if "||" in word:
            groups.append([])
        groups[-1].append(negated(rule) if not_ else rule)
        text += word + ("!" if not_ else "") + rule.text
    whole = combined([combined(group, by_or=False) for group in groups], by_or=True)
    assert matches(text, REQUEST) is whole.truth


@given(rules, st.sampled_from(["&", "|", "Host(`a.test`)", "x", "_0", "`", "!", "&& ||"]))
def test_a_malformed_rule_is_undecided(rule: Rule, rubbish: str) -> None:
    """Any text behind a rule where an operator belongs."""
    assert matches(f"{rule.text} {rubbish}", REQUEST) is None


# Tables -------------------------------------------------------------------------------------------

UNITS: Final[Mapping[str, frozenset[str]]] = {
    "one@swarm": frozenset({"one.service"}),
    "One@docker": frozenset({"one.service"}),
    "two@swarm": frozenset({"two.service"}),
    "both@swarm": frozenset({"one.service", "two.service"}),
    "api@internal": frozenset({"proxy.service"}),
    "hand@swarm": frozenset({"", "one.service"}),
    "at@home@swarm": frozenset({"home.service"}),
    "gone@swarm": frozenset(),
    "one@file": frozenset(),
}
"""The unit that deployed each service; if someone else did: the empty name, or no entry."""
OWNERS: Final = {name: UNITS[f"{name}@swarm"] for name in ("one", "two", "both", "hand", "at@home")}


sometimes = st.sampled_from([True, False, False, False])


@st.composite
def drawn_tables(draw: st.DrawFn, *, has_tls: bool) -> list[tuple[Router, Rule]]:
    """Draw some routers: with few names and numbers, so that they meet."""
    drawn: list[tuple[Router, Rule]] = []
    for number in range(draw(st.integers(1, 5))):
        rule = draw(matchers | st.just(Rule("Host(`a.test`)", truth=True)))
        router = Router(
            name="dbace"[number],
            rule=rule.text,
            service=draw(st.sampled_from([*UNITS, *["one@swarm", "One@docker"] * 4])),
            priority=draw(st.integers(0, 3)),
            entrypoints=draw(st.frozensets(st.sampled_from(["web", "more"]), min_size=1)),
            has_tls=has_tls != draw(sometimes),
            is_tcp=draw(sometimes),
        )
        drawn.append((router, rule))
    return drawn


def winners(drawn: list[tuple[Router, Rule]], *, has_tls: bool) -> Iterator[Router]:
    """Yield every router that could get the request, by trying all that Traefik could do."""
    here = [(router, rule.truth) for router, rule in drawn if router.has_tls == has_tls]
    for entrypoint in ("web", "more"):
        there = [(r, truth) for r, truth in here if entrypoint in r.entrypoints]
        tcp = [r for r, truth in there if r.is_tcp and truth is not False]
        http = [(r, truth) for r, truth in there if not r.is_tcp]
        tried = itertools.product(*((True, False) if t is None else (t,) for _, t in http))
        first: list[Router] = []
        for truths in tried:
            matching = [r for (r, _), truth in zip(http, truths, strict=True) if truth]
            highest = max((r.priority for r in matching), default=0)
            first += [r for r in matching if r.priority == highest]
        yield from first
        if has_tls or first:  # an entrypoint that only passes bytes on speaks no HTTP
            yield from tcp


@pytest.mark.parametrize("has_tls", [True, False], ids=["https", "http"])
@given(data=st.data())
def test_a_unit_is_resolved_only_if_every_router_leads_to_it(
    data: st.DataObject, *, has_tls: bool
) -> None:
    """Names, priorities, entrypoints, TLS and TCP all count."""
    drawn = data.draw(drawn_tables(has_tls=has_tls))
    table = Table(tuple(router for router, _ in drawn), OWNERS, "proxy.service")
    url = f"http{'s' if has_tls else ''}://A.test/x/y"
    found = resolve(table, url)
    won = {router.name: UNITS[router.service] for router in winners(drawn, has_tls=has_tls)}
    units = frozenset[str]().union(*won.values())
    event(f"{type(found).__name__}, {len(won)} routers")
    if all(won.values()) and "" not in units and len(units) == 1:
        (unit,) = units
        assert found == Resolved(unit, ", ".join(sorted(won)))
    else:
        assert not isinstance(found, Resolved)
