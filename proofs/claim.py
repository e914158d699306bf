"""A claim: a sentence, the machines that it is about, and checks that can fail."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from attrs import frozen

from proofs.machines.machine import UnitState
from proofs.recorder import Record


@frozen
class Check:
    """One expectation: its name, the value that was seen, and whether it holds."""

    what: str
    seen: str
    holds: bool


Records: TypeAlias = Mapping[str, Record]
Judge: TypeAlias = Callable[[Records], Sequence[Check]]


@frozen
class Claim:
    """A sentence of the report, and the function that judges it."""

    key: str
    sentence: str
    boots: tuple[str, ...]
    """The machines that it needs."""
    judge: Judge


@frozen
class Verdict:
    """A claim with its checks."""

    claim: Claim
    checks: tuple[Check, ...]

    @property
    def holds(self) -> bool:
        return bool(self.checks) and all(check.holds for check in self.checks)


def judge(claim: Claim, records: Records, broken: Mapping[str, str]) -> Verdict:
    """Judge a claim by the records of its machines.

    Args:
        claim: the claim to judge.
        records: the records of the machines. The record of a machine that failed has all that was
            seen before: the claims that need more fail.
        broken: machines without a record, and their error.
    """
    lost = [Check(f"the machine {n}", broken[n], holds=False) for n in claim.boots if n in broken]
    if lost:
        return Verdict(claim, tuple(lost))
    try:
        checks = tuple(claim.judge({name: records[name] for name in claim.boots}))
    except LookupError as error:
        checks = (Check("the record is complete", f"it lacks {error}", holds=False),)
    if not all(check.holds for check in checks):
        stopped = ((name, records[name].stopped) for name in claim.boots)
        checks += tuple(Check(f"the machine {n}", why, holds=False) for n, why in stopped if why)
    return Verdict(claim, checks)


def equals(what: str, seen: object, expected: object) -> Check:
    shown = str(seen) if seen == expected else f"{seen}, expected {expected}"
    return Check(what, shown, holds=seen == expected)


def contains(what: str, text: str, *words: str) -> Check:
    lacks = [word for word in words if word not in text]
    return Check(what, f"lacks {', '.join(lacks)}" if lacks else ", ".join(words), holds=not lacks)


def is_state(unit: UnitState, state: str) -> Check:
    return equals(f"`{unit.name}`", unit.state, state)


def began_after(later: UnitState, earlier: UnitState) -> Check:
    """Check by systemd's timestamps that a unit began after the start of another had ended."""
    begun, ended = later.left_inactive, earlier.settled
    seen = f"{_seconds(begun)} after {_seconds(ended)}"
    holds = begun is not None and ended is not None and begun >= ended
    return Check(
        f"`{later.name}` began when `{earlier.name}` had ended its start", seen, holds=holds
    )


def never_began(unit: UnitState) -> Check:
    return equals(f"`{unit.name}` left inactive", _seconds(unit.left_inactive), _seconds(None))


def _seconds(moment: float | None) -> str:
    return "never" if moment is None else f"{moment:.2f} s"
