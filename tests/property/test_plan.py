"""``assess`` and ``choose_fallback``, checked against their rules one by one."""

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from promises import AGAIN, GOOD, NEW, OLD, OLDER, OLDEST

from runner.reconcile import events
from runner.reconcile.attempt import Attempt
from runner.reconcile.decisions import Facts, assess, choose_fallback
from runner.reconcile.model import Deployment, LatestUnknown, NotLive, Release

RELEASES = (NEW, GOOD, OLD, OLDER, OLDEST)
MAYBE = st.none() | st.sampled_from(RELEASES)


@st.composite
def rollbacks(draw: st.DrawFn) -> tuple[Attempt, tuple[Release, ...]]:
    """Draw a moment of a rollback, and the proven releases."""
    proven = draw(st.lists(st.sampled_from(RELEASES), unique=True, max_size=5))
    attempt = Attempt(
        "a",
        candidate=draw(MAYBE),
        target=draw(MAYBE),
        against=draw(st.sampled_from(["", "it failed"])),
        guilty=draw(st.booleans()),
        fallbacks=tuple(draw(st.lists(st.sampled_from(RELEASES), unique=True, max_size=3))),
        has_looked=draw(st.booleans()),
    )
    return attempt, tuple(proven)


@given(rollbacks(), st.none() | st.sampled_from(RELEASES), st.integers(0, 4))
def test_a_fallback_follows_the_rules(
    rollback: tuple[Attempt, tuple[Release, ...]], live: Release | None, depth: int
) -> None:
    """S3: of the proven releases, the newest that is older than each fallback before it and was not
    tried; none beyond the depth. Last-good that is live is looked at first, once.
    """
    attempt, proven = rollback
    tried = {attempt.candidate, attempt.target, *attempt.fallbacks}
    deployment = Deployment(live, "t") if live else NotLive()
    found = choose_fallback(attempt, proven, deployment, depth)

    oldest = max((proven.index(r) for r in attempt.fallbacks if r in proven), default=-1)
    allowed = [r for place, r in enumerate(proven) if place > oldest and r not in tried]
    if (
        proven
        and live == proven[0]
        and live not in tried
        and not attempt.fallbacks
        and not attempt.has_looked
    ):
        assert found == events.FallbackLive(Deployment(proven[0], "t"))
    elif allowed and len(attempt.fallbacks) < depth:
        assert found == events.FallbackChosen(allowed[0])
    elif attempt.against and not attempt.guilty and not attempt.fallbacks:
        assert found == events.NothingDecided("it failed")
    else:
        assert isinstance(found, events.NoFallback)


FACTS = Facts(
    latest=GOOD,
    live=Deployment(GOOD, "t"),
    proven=(GOOD, OLD),
    quarantined=frozenset(),
    forced=False,
    attempt=Attempt("a"),
)


def test_a_run_says_why_last_good_is_wanted() -> None:
    """Last-good is wanted because it is the latest, or because the latest is unknown or in
    quarantine: the event names the reason, beside the live release.
    """
    offline = evolve(FACTS, latest=LatestUnknown("no route"))
    shut_out = evolve(FACTS, latest=NEW, quarantined=frozenset({NEW.digest}))
    assert assess(FACTS) == events.LastGoodLive(Deployment(GOOD, "t"), "")
    assert assess(offline) == events.LastGoodLive(
        Deployment(GOOD, "t"), "the latest is unknown: no route"
    )
    assert assess(shut_out) == events.LastGoodLive(
        Deployment(GOOD, "t"), "the latest, 3-new, is in quarantine"
    )
    assert assess(evolve(offline, live=Deployment(OLD, "t"))) == events.LastGoodAbsent(
        GOOD, "1-old is live; the latest is unknown: no route"
    )
    assert assess(evolve(FACTS, live=NotLive("two are running"))) == events.LastGoodAbsent(
        GOOD, "two are running"
    )
    assert assess(evolve(FACTS, live=NotLive())) == events.LastGoodAbsent(GOOD, "")
    assert assess(evolve(shut_out, proven=())) == events.NothingDeployable(
        "no release is proven, and the latest, 3-new, is in quarantine"
    )


def test_only_the_deployment_on_trial_is_gated_again() -> None:
    """Another deployment of the candidate, or of the same label, is not the one on trial."""
    mine = Deployment(NEW, "a-1")
    trial = evolve(
        FACTS, latest=NEW, attempt=Attempt("a", candidate=NEW, target=NEW, deployment=mine)
    )
    assert assess(evolve(trial, live=mine)) == events.CandidateLive(mine)
    for other in (Deployment(NEW, "a-0"), Deployment(AGAIN, "a-1"), NotLive()):
        assert not isinstance(assess(evolve(trial, live=other)), events.CandidateLive)
    assert not isinstance(assess(evolve(trial, live=mine, forced=True)), events.CandidateLive)
