"""The claims of M1, judged by the Result= and the order of units in each machine's first boot."""

import functools
import re
from collections.abc import Iterable, Sequence
from typing import Final

from proofs.claim import (
    Check,
    Claim,
    Records,
    began_after,
    contains,
    equals,
    is_state,
    never_began,
)
from proofs.fixtures.disk import DASHBOARD, NOT_UP, PROXY
from proofs.fixtures.recipes import FAULTS, Fault
from proofs.recorder import Record
from proofs.scenarios.boot import (
    AFTER,
    BROKEN_BOOT,
    CONVERGE,
    DEPLOYED_HERE,
    LAST_GOOD,
    LIMIT,
    NEXT_BOOT,
    SWEEP,
    WITH,
    WITHOUT,
    every_unit,
)
from proofs.serving import apps_answer, serves

ROLLED_BACK: Final = 12
STRANDED: Final = 20
NOT_CONVERGED: Final = 22
REFUSED: Final = 77
TIMED_OUT: Final = "failed/timeout"
MATRIX: Final = {
    "old-after": (TIMED_OUT, "active"),
    "old-free": ("active", "active"),
    "new-after": ("active", "active"),
    "new-free": ("active", "active"),
}
"""Final state of the proxy and of the dashboard, by machine."""


def _old_after(records: Records) -> Sequence[Check]:
    it = records["old-after"]
    proxy, dashboard = it.units[PROXY], it.units[DASHBOARD]
    return [
        is_state(proxy, TIMED_OUT),
        equals(f"TimeoutStartSec= of `{PROXY}`", proxy.start_timeout, f"{LIMIT}s"),
        began_after(dashboard, proxy),
        equals("Traefik's ping, meanwhile", it.facts["ping"], 200),
        equals("the dashboard's page, meanwhile", it.facts["page"], 404),
    ]


def deadlock(name: str, records: Records) -> Sequence[Check]:
    """Check that the job queue of a hanging machine shows the dashboard waiting for the proxy."""
    it = records[name]
    after, before = (it.captures[key].text for key in ("jobs after", "jobs before"))
    return [
        _matches(
            "`list-jobs --after`", after, rf"{PROXY} +start running(\n└─.*)*{DASHBOARD}/start"
        ),
        _matches(
            "`list-jobs --before`", before, rf"{DASHBOARD} +start waiting(\n└─.*)*{PROXY}/start"
        ),
    ]


def _cause(records: Records) -> Sequence[Check]:
    checks: list[Check] = []
    for name, (proxy, dashboard) in MATRIX.items():
        units = records[name].units
        checks.append(equals(f"{name}: `{PROXY}`", units[PROXY].state, proxy))
        checks.append(equals(f"{name}: `{DASHBOARD}`", units[DASHBOARD].state, dashboard))
    return checks


def _looks_well(records: Records) -> Sequence[Check]:
    it = records["old-after"]
    return [
        is_state(it.units[PROXY], TIMED_OUT),
        is_state(it.units[DASHBOARD], "active"),
        equals("the dashboard's page, afterwards", it.facts["page afterwards"], 200),
    ]


def _held(records: Records) -> Sequence[Check]:
    old, new = records["old-held"], records["new-held"]
    let_go = new.later["the dashboard let go"]
    return [
        equals(f"old gate: `{PROXY}`", old.units[PROXY].state, TIMED_OUT),
        equals(f"new gate: `{PROXY}`", new.units[PROXY].state, "active"),
        never_began(new.units[DASHBOARD]),
        equals("new gate: Traefik's ping, without the dashboard", new.facts["ping"], 200),
        equals("new gate: the page, without the dashboard", new.facts["page"], 404),
        equals(f"let go: `{DASHBOARD}`", let_go[DASHBOARD].state, "active"),
        equals("let go: the page", new.facts["page afterwards"], 200),
    ]


def _absent(records: Records) -> Sequence[Check]:
    old, new = records["old-absent"], records["new-absent"]
    return [
        equals(f"old gate: `{PROXY}`", old.units[PROXY].state, TIMED_OUT),
        equals("old gate: Traefik's ping all the same", old.facts["ping"], 200),
        equals(f"new gate: `{PROXY}`", new.units[PROXY].state, "active"),
        equals(f"new gate: `{DASHBOARD}`", new.units[DASHBOARD].state, "not-found"),
        equals("new gate: the page", new.facts["page"], 404),
    ]


def _guard_at_boot(records: Records) -> Sequence[Check]:
    it = records["guard"]
    proxy = it.units[PROXY]
    services = [name for name in it.facts["services"] if name == DEPLOYED_HERE]
    return [
        is_state(proxy, "failed/exit-code"),
        equals("exit status of the job", proxy.status, REFUSED),
        equals("services of Traefik in the swarm", services, []),
        equals("entries of its state directory", it.facts["state"], []),
        contains("the journal names the chain", it.captures["job"].text, DASHBOARD, "After="),
    ]


def _guard_live(records: Records) -> Sequence[Check]:
    it = records["old-after"]
    return [
        equals("exit status of the tool", it.facts["guard: status"], REFUSED),
        equals("services that changed", it.facts["changed"], []),
        contains(
            "it names the chain", it.captures["guard"].text, f"{DASHBOARD} → After= → {PROXY}"
        ),
    ]


def _stranded(fault: Fault, records: Records) -> Sequence[Check]:
    it = records[f"stranded-{fault.key}"]
    return [
        is_state(it.units[PROXY], "failed/exit-code"),
        equals("exit status of the job", it.units[PROXY].status, STRANDED),
        equals("proven releases on the disk", it.facts["proven"], []),
        _matches("the reason that it gives", it.captures["why"].text, fault.reason),
    ]


def _rolled_back(fault: Fault, records: Records) -> Sequence[Check]:
    it = records[_machine_of(fault)]
    seen = it.facts[fault.key]
    return [
        equals("the first boot", it.units[PROXY].state, "active"),
        equals(f"`{PROXY}` afterwards", it.later[fault.name][PROXY].state, "active"),
        equals("exit status of the job", seen["exit"], ROLLED_BACK),
        *serves(seen["serving"], LAST_GOOD.offered),
        equals("Traefik's ping", seen["ping"], 200),
        contains("quarantine on the disk", str(seen["serving"].memory.quarantine), seen["offered"]),
        _matches("the reason that it gives", it.captures[f"why {fault.key}"].text, fault.reason),
    ]


def _rolled_back_at_boot(records: Records) -> Sequence[Check]:
    it = records["rolled-back-at-boot"]
    checks = [equals("the first boot", it.units[PROXY].state, "active")]
    for later, status in ((BROKEN_BOOT, ROLLED_BACK), (NEXT_BOOT, 0)):
        proxy, seen = it.later[later][PROXY], it.facts[later]
        checks += [
            equals(f"`{PROXY}`, {later}", proxy.state, "active"),
            equals(f"exit status of the job, {later}", proxy.status, status),
            *serves(seen, LAST_GOOD.offered, f", {later}"),
            equals(f"Traefik's ping, {later}", it.facts[f"ping {later}"], 200),
            equals(
                f"quarantine on the disk, {later}", seen.memory.quarantine, [it.facts["offered"]]
            ),
        ]
    return checks


def _machine_of(fault: Fault) -> str:
    return next(name for name, faults in AFTER.items() if fault in faults)


def converged(name: str, records: Records) -> Sequence[Check]:
    """Check that every unit of a machine came up, in the order of the units."""
    units = records[name].units
    consumers = [u for n, u in units.items() if n in every_unit() and n.endswith(".service")]
    consumers = [u for u in consumers if u.name not in {PROXY, CONVERGE, *NOT_UP}]
    return [
        equals("the system", records[name].facts["system"], "running"),
        is_state(units[PROXY], "active"),
        equals("exit status of the proxy's job", units[PROXY].status, 0),
        *(
            check
            for u in consumers
            for check in (is_state(u, "active"), began_after(u, units[PROXY]))
        ),
        is_state(units[CONVERGE], "active"),
        *(began_after(units[CONVERGE], u) for u in consumers),
        *apps_answer(records[name]),
    ]


def asserted(name: str, records: Records) -> Sequence[Check]:
    """Check that the end-to-end assertion fails without the dashboard, and passes with it."""
    later = records[name].later
    without, again = later[WITHOUT][CONVERGE], later[WITH][CONVERGE]
    return [
        equals(f"`{CONVERGE}`, {WITHOUT}", without.state, "failed/exit-code"),
        equals(f"its exit status, {WITHOUT}", without.status, NOT_CONVERGED),
        equals(f"`{CONVERGE}`, {WITH}", again.state, "active"),
    ]


def _sweep(records: Records) -> Sequence[Check]:
    units = records["whole"].units
    sweep = units[SWEEP]
    jobs = [n for n in units if n in every_unit() and n.endswith(".service")]
    jobs = [name for name in jobs if name not in {CONVERGE, *NOT_UP}]
    ran = sweep.main_ended is not None
    return [
        *(began_after(sweep, units[name]) for name in jobs),
        Check("it ran", "yes" if ran else "no", holds=ran),
        equals("its exit status", sweep.status, 0),
    ]


def _warm(records: Records) -> Sequence[Check]:
    it = records["warm"]
    second = it.later["warm reboot with the old gate"]
    return [
        equals("the first boot, new gate", it.units[PROXY].state, "active"),
        equals("the warm reboot, old gate", second[PROXY].state, "active"),
        equals("from scratch, old gate", records["old-after"].units[PROXY].state, TIMED_OUT),
    ]


def _shipped(records: Records) -> Sequence[Check]:
    def seen(it: Record) -> list[str]:
        changed = [name for name, found in it.hashes.items() if not found.endswith("as shipped")]
        return changed if it.hashes else ["none was read"]

    free = {"old-free", "new-free"}
    return [
        equals(
            f"{name}: units that are not as shipped",
            seen(it),
            [DASHBOARD] if name in free else [],
        )
        for name, it in records.items()
    ]


def _matches(what: str, text: str, pattern: str) -> Check:
    found = re.search(pattern, text)
    seen = f"nothing like `{pattern}`" if found is None else " ".join(found.group().split())
    return Check(what, seen, holds=found is not None)


M1: Final = (
    Claim(
        "old-after",
        "With the old gate, and the dashboard After=deploy-proxy.service, a boot from scratch"
        " fails: deploy-proxy.service ends with Result=timeout, and only then the dashboard begins,"
        " although Traefik itself answers all the while.",
        ("old-after",),
        _old_after,
    ),
    Claim(
        "deadlock",
        "While it hangs, systemd's job queue shows the deadlock: the proxy's job runs and blocks"
        " the job of the dashboard, whose page it waits for.",
        ("old-after",),
        functools.partial(deadlock, "old-after"),
    ),
    Claim(
        "cause",
        "Of the four combinations of gate (old, new) and order (After=, none), only the old gate"
        " with After= fails.",
        tuple(MATRIX),
        _cause,
    ),
    Claim(
        "looks-well",
        "Afterwards the host looks healthy: the page answers 200. Only the Result= of the first"
        " boot shows the fault.",
        ("old-after",),
        _looks_well,
    ),
    Claim(
        "warm",
        "A warm reboot hides the fault: on a disk with Docker's state the old gate passes.",
        ("warm", "old-after"),
        _warm,
    ),
    Claim(
        "held",
        "With the dashboard held back by another unit, the old gate fails; the new one passes with"
        " Traefik alone, and the dashboard comes up as soon as it is let go.",
        ("old-held", "new-held"),
        _held,
    ),
    Claim(
        "absent",
        "Without a dashboard the old gate fails, and the new one passes.",
        ("old-absent", "new-absent"),
        _absent,
    ),
    Claim(
        "guard-boot",
        f"Configured with the old gate, the shipped job refuses it at boot with exit status"
        f" {REFUSED}; nothing is deployed or written.",
        ("guard",),
        _guard_at_boot,
    ),
    Claim(
        "guard-live",
        "During the boot that hangs, the tool refuses that gate at once and changes nothing.",
        ("old-after",),
        _guard_live,
    ),
    *(
        Claim(
            f"stranded-{fault.key}",
            f"Without a last-good, a Traefik that {fault.name} is never committed: the unit fails.",
            (f"stranded-{fault.key}",),
            functools.partial(_stranded, fault),
        )
        for fault in FAULTS
    ),
    *(
        Claim(
            f"rolled-back-{fault.key}",
            f"With a last-good, a Traefik that {fault.name} is rolled back, and last-good serves.",
            (_machine_of(fault),),
            functools.partial(_rolled_back, fault),
        )
        for fault in FAULTS
    ),
    Claim(
        "rolled-back-at-boot",
        "A boot that finds a broken Traefik rolls it back: the job is active, last-good serves."
        " The next boot doesn't try it again.",
        ("rolled-back-at-boot",),
        _rolled_back_at_boot,
    ),
    Claim(
        "consumers",
        "The whole control plane comes up from scratch: deploy-proxy.service without the dashboard,"
        " then every consumer, and last the end-to-end assertion.",
        ("whole",),
        functools.partial(converged, "whole"),
    ),
    Claim(
        "asserted",
        "The end-to-end assertion really probes: it fails while the dashboard is stopped, and"
        " passes again afterwards.",
        ("whole",),
        functools.partial(asserted, "whole"),
    ),
    Claim(
        "sweep",
        "A nightly sweep that is due during a boot begins after the start of every deployment has"
        " ended, and succeeds.",
        ("whole",),
        _sweep,
    ),
)


def shipped(boots: Iterable[str]) -> Claim:
    """Make the claim about the units of all these machines."""
    return Claim(
        "units",
        "In every boot the units are byte for byte those that nix/modules render, except in the"
        " machines that lack one edge on purpose.",
        tuple(boots),
        _shipped,
    )
