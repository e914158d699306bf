"""What docs/design.md promises, as functions over one step. Each says what it found, or nothing."""

from explorer import Edge, Node
from worlds import release

from runner.reconcile.machine import State
from runner.reconcile.vocabulary import Release

OLD, GOOD, NEW = release("1-old"), release("2-good"), release("3-new")


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
    if deployment.token not in before.passed:
        return f"{newest.label} was committed without passing its gate"
    return ""


def s1_nothing_proven_is_lost(before: Node, after: Node) -> str:
    """A proven release stays proven."""
    lost = set(before.disk.proven) - set(after.disk.proven)
    return f"forgotten: {lost}" if lost else ""


def s2_no_quarantined_release_is_deployed(before: Node, after: Node) -> str:
    """What is in quarantine is not deployed (none of these runs is forced)."""
    for deployment in after.deployed[len(before.deployed) :]:
        if deployment.release.digest in before.disk.quarantine:
            return f"{deployment.release.label} was deployed in quarantine"
    return ""


def s3_one_trial_then_strictly_older(before: Node, after: Node) -> str:
    """A run deploys at most one candidate; after it only proven releases, each older."""
    del before
    if not after.deployed:
        return ""
    first, *rest = (deployment.release for deployment in after.deployed)
    proven = list(after.disk.proven)
    places = [proven.index(r) if r in proven else -1 for r in rest]
    if -1 in places:
        return "a second unproven release was deployed"
    if places != sorted(set(places)):
        return f"fallbacks are not strictly older: {[r.label for r in rest]}"
    if first in rest:
        return f"{first.label} was deployed twice in one run"
    return ""


def outcome_tells_the_truth(before: Node, after: Node) -> str:
    """Each final state says exactly what it is documented to say."""
    del before
    if after.state is None or not after.state.is_final:
        return ""
    live = after.live.release if after.live else None
    held = after.live is not None and after.live.token in after.passed
    proven: tuple[Release, ...] = after.disk.proven
    committed = proven[:1] != ((after.last_good,) if after.last_good else ())
    trial = after.deployed[0].release if after.deployed else None
    match after.state:
        case State.UNCHANGED:
            truth = not after.deployed and held and live == after.last_good
        case State.COMMITTED:
            truth = committed and held and live == proven[0]
        case State.RESTORED:
            truth = held and live == after.last_good == trial
        case State.ROLLED_BACK:
            truth = held and live in proven
        case State.STRANDED:
            truth = not held
        case _:
            truth = not committed
    if committed != (after.state is State.COMMITTED):
        return f"{after.state.name}, but last-good went from {after.last_good} to {proven[:1]}"
    return "" if truth else f"{after.state.name} is not true: live {live}, held {held}"


def quarantine_is_just(before: Node, after: Node) -> str:
    """Only a candidate is blamed, and only where last-good passed in the same run."""
    blamed = after.disk.quarantine - before.disk.quarantine
    if not blamed:
        return ""
    live = after.live.release if after.live else None
    if before.state is not State.REGATING or live != before.last_good:
        return f"{set(blamed)} was blamed in {before.state}, with {live} live"
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


ALL = (
    s1_only_what_passed_is_proven,
    s1_nothing_proven_is_lost,
    s2_no_quarantined_release_is_deployed,
    s3_one_trial_then_strictly_older,
    outcome_tells_the_truth,
    quarantine_is_just,
    an_undecided_attempt_stays_open,
)


def check(before: Node, edge: Edge, after: Node) -> str:
    """Hold one step against all promises."""
    if edge.what == "quarantine expires":
        return ""
    for promise in ALL:
        if violation := promise(before, after):
            return f"{promise.__name__}: {violation}"
    return ""
