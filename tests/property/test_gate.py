"""The gate on its own: when it must not pass, and that it always ends in time."""

from itertools import pairwise

import pytest
from attrs import evolve
from fake_platform import FakeClock, release
from hypothesis import given
from hypothesis import strategies as st

from runner.reconcile.gate import EAGERNESS, Gate, GatePolicy, Progress, Wait, judge
from runner.reconcile.model import (
    Deployment,
    Healthy,
    Inconclusive,
    Outcome,
    ProbeResult,
    Round,
    Unhealthy,
    Verdict,
)

DEPLOYMENT = Deployment(release("candidate"), "token")
START = 1000.0
"""The time on the clock when a gate begins."""

policies = st.builds(
    GatePolicy,
    rise=st.integers(1, 5),
    window=st.floats(0, 20),
    deadline=st.floats(20.5, 60),
)
answers = st.sampled_from([Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE])


def results(outcome: Outcome, *, terminal: bool = False) -> Round:
    return (
        ProbeResult("process", Outcome.PASS, "running", "proxy.service"),
        ProbeResult("ping", outcome, f"it is {outcome.value}", "proxy.service", terminal=terminal),
    )


class Instance:
    """Answers by a schedule of (seconds that an answer takes, outcome); repeats the last entry."""

    def __init__(self, clock: FakeClock, schedule: list[tuple[float, Outcome]]) -> None:
        self._clock = clock
        self._schedule = schedule
        self.log: list[tuple[float, float, Outcome]] = []
        self.limits: list[float] = []
        """The time by which each round had to end."""
        self.progress: list[Progress] = []

    def ask(self, deployment: Deployment, timeout: float) -> Round:
        assert deployment == DEPLOYMENT
        place = min(len(self.log), len(self._schedule) - 1)
        takes, outcome = self._schedule[place]
        asked = self._clock.time
        self.limits.append(asked + timeout)
        self._clock.sleep(min(takes, timeout))
        self.log.append((asked, self._clock.time, outcome))
        return results(outcome)


def run(
    policy: GatePolicy, schedule: list[tuple[float, Outcome]]
) -> tuple[Verdict, Instance, float]:
    """Return the verdict, the rounds, and the seconds that the gate took."""
    clock = FakeClock(START)
    instance = Instance(clock, schedule)
    verdict = judge(policy, DEPLOYMENT, instance.ask, clock, instance.progress.append)
    return verdict, instance, clock.time - START


def pauses_of(instance: Instance) -> list[float]:
    """List the seconds between an answer and the next probe."""
    return [later[0] - earlier[1] for earlier, later in pairwise(instance.log)]


schedules = st.lists(st.tuples(st.floats(0, 3), answers), min_size=1, max_size=60)


@given(policies, schedules)
def test_healthy_means_that_it_held(
    policy: GatePolicy, schedule: list[tuple[float, Outcome]]
) -> None:
    """A healthy verdict rests on ``rise`` passes in a row that span the window."""
    verdict, instance, _ = run(policy, schedule)
    if not isinstance(verdict, Healthy):
        return
    streak = instance.log[-policy.rise :]
    assert [outcome for _, _, outcome in streak] == [Outcome.PASS] * policy.rise
    begin = len(instance.log)
    while begin and instance.log[begin - 1][2] is Outcome.PASS:
        begin -= 1
    first_answered, last_asked = instance.log[begin][1], instance.log[-1][0]
    assert max(0.0, last_asked - first_answered) >= policy.window
    assert verdict.deployment == DEPLOYMENT


@given(policies, schedules)
def test_a_gate_ends_by_its_deadline(
    policy: GatePolicy, schedule: list[tuple[float, Outcome]]
) -> None:
    """For any outcomes, however slow: each round gets the time that is left, and no more."""
    verdict, instance, ended = run(policy, schedule)
    assert isinstance(verdict, Healthy | Unhealthy | Inconclusive)
    deadline = START + policy.deadline
    expected = [max(asked, deadline) for asked, _, _ in instance.log]
    assert instance.limits == pytest.approx(expected)
    assert ended <= policy.deadline + policy.fastest + 1e-6


@given(policies, schedules.filter(lambda s: s[-1][1] is not Outcome.PASS))
def test_what_fails_again_and_again_never_passes(
    policy: GatePolicy, schedule: list[tuple[float, Outcome]]
) -> None:
    """An instance that never passes ``rise`` times in a row is never found healthy."""
    broken = [
        (takes, Outcome.FAIL if place % policy.rise == policy.rise - 1 else outcome)
        for place, (takes, outcome) in enumerate(schedule)
    ]
    verdict, _, _ = run(policy, [*broken, (0.01, Outcome.FAIL)])
    assert not isinstance(verdict, Healthy)


@given(policies, st.floats(0, 3))
def test_an_instance_that_always_passes_is_healthy(policy: GatePolicy, takes: float) -> None:
    """Reachability: a good instance is found healthy, soon after its window."""
    takes = min(takes, (policy.deadline - policy.window) / (4 * policy.rise))
    verdict, _, ended = run(policy, [(takes, Outcome.PASS)])
    assert isinstance(verdict, Healthy)
    rounds = policy.rise + 2
    assert ended <= policy.window + rounds * (takes + policy.slowest)


@given(
    policies,
    st.lists(st.floats(0, 1), min_size=1, max_size=9),
    st.sampled_from([(Outcome.FAIL, Unhealthy), (Outcome.INCONCLUSIVE, Inconclusive)]),
)
def test_terminal_evidence_ends_a_gate_at_once(
    policy: GatePolicy, delays: list[float], end: tuple[Outcome, type[Verdict]]
) -> None:
    """A fault that waiting can't heal gets not even one more round; its outcome stays."""
    outcome, ends_as = end
    clock = FakeClock(0.0)
    asked = 0

    def ask(deployment: Deployment, timeout: float) -> Round:
        nonlocal asked
        del deployment, timeout
        asked += 1
        clock.sleep(delays[0])
        return results(outcome, terminal=True)

    verdict = judge(policy, DEPLOYMENT, ask, clock, lambda _: None)
    assert isinstance(verdict, ends_as)
    assert not isinstance(verdict, Healthy)
    assert asked == 1
    assert verdict.reason == f"ping: it is {outcome.value}"


@given(policies)
def test_silence_is_inconclusive(policy: GatePolicy) -> None:
    """A gate whose probes could never run blames no release."""
    verdict, _, _ = run(policy, [(0.01, Outcome.INCONCLUSIVE)])
    assert isinstance(verdict, Inconclusive)


@given(policies)
def test_no_probe_at_all_is_inconclusive(policy: GatePolicy) -> None:
    """No probe is no evidence: an empty gate can't be passed."""
    clock = FakeClock(0.0)

    def ask(deployment: Deployment, timeout: float) -> Round:
        del deployment, timeout
        return ()

    verdict = judge(policy, DEPLOYMENT, ask, clock, lambda _: None)
    assert isinstance(verdict, Inconclusive)


def test_a_hopeless_gate_ends_before_its_deadline() -> None:
    """Once the window can't be held any more, waiting on would only lengthen the outage."""
    policy = GatePolicy(rise=3, window=10.0, deadline=60.0)
    verdict, _, ended = run(policy, [(0.001, Outcome.FAIL)])
    assert isinstance(verdict, Unhealthy)
    assert 50.0 <= ended < 52.0


@pytest.mark.parametrize("window", [10.0, 59.5])
@pytest.mark.parametrize("outcome", [Outcome.PASS, Outcome.FAIL])
def test_a_gate_waits_while_the_window_can_still_end_by_the_deadline(
    window: float, outcome: Outcome
) -> None:
    """Also where this leaves no moment to spare; the last round may be at the deadline itself."""
    policy = GatePolicy(rise=2, window=window, deadline=60.0)
    latest = START + policy.deadline - window
    late = Gate(policy, DEPLOYMENT, START).observe(results(outcome), latest, latest + 0.1)
    assert isinstance(late, Unhealthy)
    gate = Gate(policy, DEPLOYMENT, START)
    assert isinstance(gate.observe(results(outcome), latest, latest), Wait)
    if outcome is Outcome.PASS:
        ended = START + policy.deadline
        assert isinstance(gate.observe(results(outcome), ended, ended), Healthy)


@given(policies.filter(lambda policy: policy.window >= 1), st.floats(0, 1), st.floats(0, 0.005))
def test_an_instance_that_recovers_in_time_is_found_healthy(
    policy: GatePolicy, when: float, takes: float
) -> None:
    """Rounds come closer together towards the last moment at which the window can begin."""
    recovers = START + when * (policy.deadline - policy.window - 0.1)
    clock = FakeClock(START)

    def ask(deployment: Deployment, timeout: float) -> Round:
        del deployment, timeout
        outcome = Outcome.PASS if clock.time >= recovers else Outcome.FAIL
        clock.sleep(takes)
        return results(outcome)

    assert isinstance(judge(policy, DEPLOYMENT, ask, clock, lambda _: None), Healthy)


@given(policies.map(lambda policy: evolve(policy, verify_deadline=7.0)), answers)
def test_one_good_round_is_enough_to_verify(policy: GatePolicy, outcome: Outcome) -> None:
    """A live proven release needs one passing round; the deadline is its own."""
    verdict, instance, ended = run(policy.for_verifying(), [(0.01, outcome)])
    assert isinstance(verdict, Healthy) == (outcome is Outcome.PASS)
    if outcome is Outcome.PASS:
        assert len(instance.log) == 1
    else:
        assert 7.0 - policy.slowest <= ended <= 7.0 + policy.slowest


# Progress and reasons -----------------------------------------------------------------------------


@given(policies, schedules)
def test_progress_and_verdict_count_what_was_seen(
    policy: GatePolicy, schedule: list[tuple[float, Outcome]]
) -> None:
    """Rounds, passes in a row, the time that these span, and flaps."""
    verdict, instance, _ = run(policy, schedule)
    assert Gate(policy, DEPLOYMENT, START).progress((), START) == (
        Progress(0, 0, 0.0, 0.0, policy, ())
    )
    passes, flaps, first, held = 0, 0, 0.0, 0.0
    expected: list[Progress] = []
    for number, (asked, answered, outcome) in enumerate(instance.log, 1):
        flaps += passes > 0 and outcome is not Outcome.PASS
        passes = passes + 1 if outcome is Outcome.PASS else 0
        first = answered if passes == 1 else first
        held = max(0.0, asked - first) if passes else 0.0
        last = results(outcome)
        expected.append(Progress(number, passes, held, answered - START, policy, last))
    assert instance.progress == expected
    assert verdict.rounds == len(expected)
    assert verdict.evidence == expected[-1].last
    match verdict:
        case Healthy():
            assert verdict.held == held
        case Unhealthy():
            told = f" (it had passed and failed again, {flaps}x)"
            assert verdict.reason.endswith(told) if flaps else "again" not in verdict.reason
        case Inconclusive():
            pass


def probe(name: str, outcome: Outcome, reason: str, *, terminal: bool = False) -> ProbeResult:
    return ProbeResult(name, outcome, reason, "proxy.service", terminal=terminal)


FINE = probe("a", Outcome.PASS, "fine")
A_SILENT, B_SILENT = (probe(name, Outcome.FAIL, "no answer") for name in "ab")
B_REFUSED = probe("b", Outcome.FAIL, "refused")
B_UNASKED, C_UNASKED = (probe(name, Outcome.INCONCLUSIVE, f"{name} unasked") for name in "bc")
LATE = " (and the deadline of 60 s left no time to hold)"


@pytest.mark.parametrize(
    ("before", "last", "reason"),
    [
        ((), (FINE, B_SILENT), f"b: no answer{LATE}"),
        ((FINE, B_REFUSED), (FINE, B_SILENT), f"b: refused{LATE}"),
        ((FINE, B_REFUSED), (A_SILENT, B_SILENT), f"b: refused{LATE}"),
        ((FINE, B_UNASKED), (FINE, B_SILENT), f"b: no answer{LATE}"),
        ((FINE, C_UNASKED), (C_UNASKED, A_SILENT, B_SILENT), f"a: no answer{LATE}"),
        ((FINE, C_UNASKED), (FINE, B_UNASKED, C_UNASKED), "c: c unasked"),
        ((), (FINE, B_UNASKED), "b: b unasked"),
        ((FINE, B_REFUSED), (), "no probe ran"),
        (
            *((FINE, B_REFUSED), (FINE,)),
            "too late: 1 of 3 passes over 0.0 s of 10 s when the deadline of 60 s left no time",
        ),
    ],
)
def test_a_gate_that_runs_out_of_time_names_the_lasting_failure(
    before: Round, last: Round, reason: str
) -> None:
    """The last round may be cut short: a failure that the round before had, too, is the reason."""
    gate = Gate(GatePolicy(rise=3, window=10.0, deadline=60.0), DEPLOYMENT, START)
    assert isinstance(gate.observe(before, START, START + 1.0), Wait)
    verdict = gate.observe(last, START + 59.0, START + 60.0)
    assert isinstance(verdict, Unhealthy | Inconclusive)
    assert verdict.reason == reason


def test_only_the_worst_answer_can_be_terminal() -> None:
    """A terminal INCONCLUSIVE does not end a gate with a failing probe that may heal."""
    lasting = probe("c", Outcome.INCONCLUSIVE, "dockerd is stuck", terminal=True)
    gate = Gate(GatePolicy(), DEPLOYMENT, START)
    assert isinstance(gate.observe((lasting, B_REFUSED), START, START + 1.0), Wait)
    verdict = gate.observe((FINE, lasting), START + 2.0, START + 3.0)
    assert isinstance(verdict, Inconclusive)
    assert verdict.reason == "c: dockerd is stuck"


# When it looks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.PASS])
def test_rounds_are_frequent_first_and_then_rarer(outcome: Outcome) -> None:
    """The first pauses are 20 ms, the later ones a tenth of the time spent, at most a second.

    The last round of a streak is asked when the window ends.
    """
    policy = GatePolicy(rise=3, window=30.0, deadline=60.0)
    _, instance, ended = run(policy, [(0.0, outcome)])
    pauses = [round(pause, 6) for pause in pauses_of(instance)]
    assert pauses[0] == policy.fastest
    assert max(pauses) == policy.slowest
    patient = pauses[: len(pauses) // 2]
    assert patient == sorted(patient)
    assert policy.window <= ended <= policy.window + 2 * policy.fastest


@given(policies, schedules)
def test_a_decision_comes_at_most_a_tenth_later(
    policy: GatePolicy, schedule: list[tuple[float, Outcome]]
) -> None:
    """Of the time since the answer changed; each change starts with the shortest pause anew."""
    _, instance, _ = run(policy, schedule)
    phase, was_good = START, False
    for (_, answered, outcome), pause in zip(instance.log, pauses_of(instance), strict=False):
        if (outcome is Outcome.PASS) != was_good:
            phase, was_good = answered, outcome is Outcome.PASS
        tenth = EAGERNESS * (answered - phase)
        assert pause <= max(policy.fastest, min(policy.slowest, tenth)) + 1e-6
