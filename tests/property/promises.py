"""The promises of docs/architecture.md over one step. Each returns the violation, or ""."""

from collections.abc import Callable

from explorer import Edge, Node
from fake_platform import FOREIGN, Disk, release

from runner.reconcile.decisions import CRASH_LIMIT
from runner.reconcile.machine import State
from runner.reconcile.model import Release

OLDEST, OLDER = release("0-oldest"), release("0-older")
OLD, GOOD, NEW = release("1-old"), release("2-good"), release("3-new")
AGAIN = release("3-new", digest="the same label, other content")
NEWEST = release("4-newest")


def s1_only_what_passed_is_proven(before: Node, after: Node) -> str:
    """Last-good changes only in COMMITTING, to a release that passed after its own deployment."""
    if before.disk.proven == after.disk.proven:
        return ""
    if before.state is not State.COMMITTING:
        return f"last-good changed in {before.state}"
    deployment = before.attempt.deployment if before.attempt else None
    newest = after.disk.proven[0]
    if deployment is None or deployment.release != newest:
        return f"{newest.label} was committed, but is not what was deployed"
    if deployment.token == FOREIGN:
        return f"{newest.label} was committed, but someone else deployed it"
    if deployment.token not in before.passed:
        return f"{newest.label} was committed without passing its gate in this run"
    return ""


def s1_nothing_proven_is_lost(before: Node, after: Node) -> str:
    """A proven release stays proven."""
    lost = set(before.disk.proven) - set(after.disk.proven)
    return f"forgotten: {lost}" if lost else ""


def s2_no_quarantined_release_is_tried(before: Node, after: Node) -> str:
    """A release in quarantine is neither deployed nor committed, unless the run is forced."""
    if before.settings is None or before.settings.forced:
        return ""
    quarantine = before.disk.quarantine
    for _, release_ in after.deployed[len(before.deployed) :]:
        if release_.digest in quarantine:
            return f"{release_.label} was deployed in quarantine"
    if before.disk.proven != after.disk.proven and after.disk.proven[0].digest in quarantine:
        return f"{after.disk.proven[0].label} was committed in quarantine"
    return ""


def s3_one_trial_then_strictly_older(before: Node, after: Node) -> str:  # noqa: PLR0911
    """A run deploys one release; then only proven ones, each older than the one before it, and
    at most as many as its depth.
    """
    if after.settings is None or len(after.deployed) == len(before.deployed):
        return ""
    labels = [f"{state.name}: {release_.label}" for state, release_ in after.deployed]
    firsts = [release_ for state, release_ in after.deployed if state is not State.ROLLING_BACK]
    fallbacks = [release_ for state, release_ in after.deployed if state is State.ROLLING_BACK]
    if len(firsts) > 1:
        return f"more than one release was tried: {labels}"
    if len(fallbacks) > after.settings.depth:
        return f"{len(fallbacks)} fallbacks with a depth of {after.settings.depth}"
    ranks = [_rank(after.disk, release_) for release_ in fallbacks]
    if -1 in ranks:
        return f"an unproven release was a fallback: {labels}"
    if ranks != sorted(set(ranks)):
        return f"fallbacks are not strictly older: {labels}"
    if set(firsts) & set(fallbacks):
        return f"a release was deployed twice in one run: {labels}"
    return ""


def _rank(disk: Disk, release_: Release) -> int:
    return disk.proven.index(release_) if release_ in disk.proven else -1


def s4_no_token_is_used_twice(before: Node, after: Node) -> str:
    """Each deployment has a token that nothing had before, also after a crash."""
    if after.attempt is None or len(after.deployed) == len(before.deployed):
        return ""
    assert after.attempt.deployment is not None
    token = after.attempt.deployment.token
    old = {d.token for d in (before.live, before.attempt and before.attempt.deployment) if d}
    later = {memory.next_token for memory in (after.attempt, after.disk.memory) if memory}
    return f"the token {token} is used twice" if token in old | later else ""


def outcome_tells_the_truth(before: Node, after: Node) -> str:
    """Each final state means exactly what its documentation says."""
    del before
    if after.state is None or not after.state.is_final:
        return ""
    live = after.live.release if after.live else None
    held = after.live is not None and after.live.token in after.passed
    proven: tuple[Release, ...] = after.disk.proven
    first = after.deployed[0][1] if after.deployed else None
    match after.state:
        case State.UNCHANGED:
            truth = not after.deployed and held and live == after.last_good
        case State.COMMITTED:
            truth = held and live == proven[0] and (not after.deployed or live == first)
        case State.RESTORED:
            truth = held and live == after.last_good == first
        case State.ROLLED_BACK:
            truth = held and live in proven
        case State.STRANDED:
            truth = not held
        case _:
            truth = True
    return "" if truth else f"{after.state.name} is not true: live {live}, held {held}"


def only_committed_changes_last_good(before: Node, after: Node) -> str:
    """COMMITTED says that last-good is new, or confirmed anew; no other outcome changes it."""
    if before.disk.proven != after.disk.proven and after.state not in {State.COMMITTED, None}:
        return f"{after.state} after last-good went to {after.disk.proven[0].label}"
    return ""


def quarantine_is_just(before: Node, after: Node) -> str:
    """A candidate is blamed for its own failure or for the runs that died of it, and only where
    last-good passed in the same run.
    """
    blamed = after.disk.quarantine - before.disk.quarantine
    if not blamed:
        return ""
    live = after.live.release if after.live else None
    if before.state is not State.REGATING or live != before.last_good:
        return f"{set(blamed)} was blamed in {before.state}, with {live} live"
    failed = before.failed.digest if before.failed else None
    killer = before.deaths[0].digest if before.deaths and before.deaths[1] >= CRASH_LIMIT else None
    if blamed - {failed, killer}:
        return f"{set(blamed)} was blamed without evidence"
    return ""


def an_undecided_attempt_stays_open(before: Node, after: Node) -> str:
    """UNDECIDED, and only it, leaves the attempt to the next run."""
    del before
    if after.state is None or not after.state.is_final:
        return ""
    is_open = after.disk.memory is not None
    return (
        "" if is_open == (after.state is State.UNDECIDED) else f"open: {is_open} in {after.state}"
    )


Promise = Callable[[Node, Node], str]

ALL: tuple[Promise, ...] = (
    s1_only_what_passed_is_proven,
    s1_nothing_proven_is_lost,
    s2_no_quarantined_release_is_tried,
    s3_one_trial_then_strictly_older,
    s4_no_token_is_used_twice,
    outcome_tells_the_truth,
    only_committed_changes_last_good,
    quarantine_is_just,
    an_undecided_attempt_stays_open,
)


def check(before: Node, edge: Edge, after: Node) -> str:
    """Check one step of a run against all promises."""
    del edge
    if not before.is_in_run:
        return ""
    for promise in ALL:
        if violation := promise(before, after):
            return f"{promise.__name__}: {violation}"
    return ""
