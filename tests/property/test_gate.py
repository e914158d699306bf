"""The gate by itself: what it may never pass, and that it always ends in time."""

from fake_platform import FakeClock, release
from hypothesis import given
from hypothesis import strategies as st

from runner.reconcile.gate import GatePolicy, Progress, judge
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
    """Answers by a schedule of (seconds it takes, what it is), and then for ever the last."""

    def __init__(self, clock: FakeClock, schedule: list[tuple[float, Outcome]]) -> None:
        self._clock = clock
        self._schedule = schedule
        self.log: list[tuple[float, float, Outcome]] = []
        self.progress: list[Progress] = []

    def ask(self, deployment: Deployment, timeout: float) -> Round:
        assert deployment == DEPLOYMENT
        place = min(len(self.log), len(self._schedule) - 1)
        takes, outcome = self._schedule[place]
        asked = self._clock.time
        self._clock.sleep(min(takes, timeout))
        self.log.append((asked, self._clock.time, outcome))
        return results(outcome)


def run(
    policy: GatePolicy, schedule: list[tuple[float, Outcome]]
) -> tuple[Verdict, Instance, float]:
    clock = FakeClock(0.0)
    instance = Instance(clock, schedule)
    verdict = judge(policy, DEPLOYMENT, instance.ask, clock, instance.progress.append)
    return verdict, instance, clock.time


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
def test_it_ends_by_its_deadline(policy: GatePolicy, schedule: list[tuple[float, Outcome]]) -> None:
    """Whatever answers, and however slowly, the verdict comes by the deadline."""
    verdict, _, ended = run(policy, schedule)
    assert isinstance(verdict, Healthy | Unhealthy | Inconclusive)
    assert ended <= policy.deadline + policy.slowest + 1e-6


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
def test_terminal_evidence_ends_it_at_once(
    policy: GatePolicy, delays: list[float], end: tuple[Outcome, type[Verdict]]
) -> None:
    """What can't heal is not waited for, not even for one more round; it stays what it is."""
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
    """A gate that could never ask blames nobody."""
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


def test_a_flap_is_told() -> None:
    """The reason says that it had passed before."""
    policy = GatePolicy(rise=3, window=5.0, deadline=20.0)
    verdict, _, _ = run(policy, [(0.01, Outcome.PASS), (0.01, Outcome.PASS), (0.01, Outcome.FAIL)])
    assert isinstance(verdict, Unhealthy)
    assert "passed and failed again, 1x" in verdict.reason


def test_it_looks_often_first_and_then_less() -> None:
    """The first pauses are 20 ms, the later ones a tenth of the time spent, at most a second."""
    policy = GatePolicy(rise=3, window=30.0, deadline=60.0)
    _, instance, _ = run(policy, [(0.0, Outcome.FAIL)])
    pauses = [
        round(later[0] - earlier[1], 6)
        for earlier, later in zip(instance.log, instance.log[1:], strict=False)
    ]
    assert pauses[0] == policy.fastest
    assert max(pauses) == policy.slowest
    patient = pauses[: len(pauses) // 2]
    assert patient == sorted(patient)
