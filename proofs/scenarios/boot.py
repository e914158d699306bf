"""The scenarios of M1: one machine each, booted from scratch with the old or the new gate."""

import functools
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Final, TypeAlias

from swarm.harness import NEW, OLD

from proofs.fixtures.disk import DASHBOARD, GOLDEN, PROXY, TRAEFIK, Gate, Setup
from proofs.fixtures.recipes import FAULTS, Fault
from proofs.fixtures.supplies import Supplies
from proofs.recorder import BOOT_LIMIT, PAGE, PING, Record, Recorder, recorded
from proofs.serving import ask_apps, ask_serving, read_disk

Scenario: TypeAlias = Callable[[Supplies, Path], Record]
"""Boots a machine and returns its record."""

LIMIT: Final = 40
"""TimeoutStartSec= that ends the wait of the old gate; the shipped unit has 900. It must leave time
for a run of the real tool, which ``_try_the_guard`` starts."""
SHORTER: Final = f"[Service]\nTimeoutStartSec={LIMIT}\n"
SHORTEST: Final = "[Service]\nTimeoutStartSec=20\n"
"""For scenarios that only need the end of the wait."""
QUICK: Final = {"gate": {"window": 2, "deadline": 30, "verify_deadline": 30}}
"""A gate with a shorter window, for boots that do not test the gate."""
HASTY: Final = {"gate": {"window": 2, "deadline": 20, "verify_deadline": 20}}
PATIENT: Final = {"gate": {"window": 2, "deadline": 45, "verify_deadline": 45}}
"""Last-good has to come up within it, after a hung Traefik was stopped."""
AFTER: Final = {
    "rolled-back-1": tuple(fault for fault in FAULTS if fault.key in {"bind", "ping"}),
    "rolled-back-2": tuple(fault for fault in FAULTS if fault.key in {"crash", "hang"}),
}
"""The faults of the releases that are offered to each machine."""
LAST_GOOD: Final = Setup(
    units=(PROXY,),
    offered=f"1.0.0+v{OLD}",
    versions=(OLD, NEW),
    config={**PATIENT, "platform": {"preflight": 0}},
)
"""Its last-good is an older Traefik than the broken ones, so the version identifies it."""
BROKEN_BOOT: Final = "the boot with a broken release"
NEXT_BOOT: Final = "the boot after it"
DEPLOYED_HERE: Final = "traefik_ci_commoninternet_net_app"
DASHBOARD_HERE: Final = "ci_commoninternet_net_app"
CONVERGE: Final = "converge.service"
CONVERGE_CONFIG: Final = "/etc/warm-reconcile/assertions/converge.json"
CONVERGE_DEADLINE: Final = 15
WITHOUT: Final = "without the dashboard"
WITH: Final = "with the dashboard again"
SWEEP: Final = "nightly-sweep.service"
SWEEP_TIMER: Final = "nightly-sweep.timer"
DUE_AT_BOOT: Final = "[Timer]\nOnBootSec=1\nRandomizedDelaySec=0\n"
HOLD: Final = "proof-hold.service"
HOLDING: Final = """\
[Unit]
Description=Holds the dashboard back

[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=/bin/sleep infinity
"""
HELD: Final = f"[Unit]\nAfter={HOLD}\nWants={HOLD}\n"
OLD_PROBES: Final = [
    {
        "kind": "identity",
        "name": "web",
        "target_unit": PROXY,
        "url": "http://127.0.0.1/.warm-reconcile/identity",
    },
    {
        "kind": "http",
        "name": "dashboard",
        "target_unit": DASHBOARD,
        "url": PAGE,
        "address": "127.0.0.1:443",
        "verify_tls": False,
    },
]
SHORT_RUN: Final = {
    "platform": {"preflight": 0},
    "budget": {"fetch": 1, "deploy": 30, "margin": 1},
    "gate": {"window": 1, "deadline": 2, "verify_deadline": 1},
    "fallback_depth": 0,
}
"""Limits that fit into the start timeout, so that the run is refused for its gate, not its time."""
OLD_CONFIG: Final = "/opt/proofs/old-gate-config.json"


def without_order() -> str:
    """Return the dashboard's unit without deploy-proxy.service.

    A drop-in could not do this: it can only add dependencies.
    """
    text = (GOLDEN / "units" / DASHBOARD).read_text()
    changed = text.replace(f"{PROXY} ", "")
    assert changed.count(PROXY) == 0, changed
    assert text.count(PROXY) == 2, text
    return changed


# The matrix --------------------------------------------------------------------------------------


def old_after(supplies: Supplies, scratch: Path) -> Record:
    setup = Setup(gate="old", drop_ins={PROXY: SHORTER}, others=QUICK)
    title = "old gate, the dashboard After=deploy-proxy.service"
    with recorded("old-after", title, setup, supplies, scratch) as on:
        on.await_answer(PING)
        on.await_any_answer(PAGE)
        capture_the_wait(on)
        _try_the_guard(on)
        on.await_boot()
        on.await_answer(PAGE)
        on.ask("page afterwards", "the page, after systemd has ended the wait", PAGE)
    return on.record


def capture_the_wait(on: Recorder) -> None:
    on.ask("ping", "Traefik while the job hangs", PING)
    on.ask("page", "the page that the old gate requests, while the job hangs", PAGE)
    on.capture("jobs after", "waiting jobs", "systemctl", "list-jobs", "--after")
    on.capture("jobs before", "jobs waited for", "systemctl", "list-jobs", "--before")
    on.capture("job", "the job while it hangs", "systemctl", "status", "--no-pager", PROXY)


def _try_the_guard(on: Recorder) -> None:
    """Run the real tool with the old gate, during the boot that hangs."""
    on.disk.write_config(OLD_CONFIG, {"probes": OLD_PROBES, **SHORT_RUN})
    before = on.services()
    tool = "/opt/warm-reconcile/bin/warm-reconcile"
    on.capture(
        "guard",
        "a run of the tool with that gate",
        *(tool, "run", "--config", OLD_CONFIG, TRAEFIK),
    )
    changed = before.items() ^ on.services().items()
    on.record.facts["changed"] = sorted(name for name, _ in changed)


def old_free(supplies: Supplies, scratch: Path) -> Record:
    setup = Setup(
        gate="old", drop_ins={PROXY: SHORTER}, replaced={DASHBOARD: without_order()}, others=QUICK
    )
    title = "old gate, the dashboard without an order"
    with recorded("old-free", title, setup, supplies, scratch) as on:
        on.await_boot()
        on.ask("ping", "Traefik", PING)
        on.ask("page", "the dashboard's page", PAGE)
    return on.record


def new_after(supplies: Supplies, scratch: Path) -> Record:
    title = "new gate, the dashboard After=deploy-proxy.service"
    with recorded("new-after", title, Setup(config=QUICK, others=QUICK), supplies, scratch) as on:
        on.await_boot()
        on.ask("ping", "Traefik", PING)
        on.ask("page", "the dashboard's page", PAGE)
    return on.record


def new_free(supplies: Supplies, scratch: Path) -> Record:
    setup = Setup(replaced={DASHBOARD: without_order()}, config=QUICK, others=QUICK)
    title = "new gate, the dashboard without an order"
    with recorded("new-free", title, setup, supplies, scratch) as on:
        on.await_boot()
        on.ask("ping", "Traefik", PING)
        on.ask("page", "the dashboard's page", PAGE)
    return on.record


def whole(supplies: Supplies, scratch: Path) -> Record:
    """Boot all shipped units; the nightly sweep is due during the boot."""
    setup = Setup(units=every_unit(), drop_ins={SWEEP_TIMER: DUE_AT_BOOT})
    title = "the whole control plane, as shipped, and a sweep that is due"
    with recorded("whole", title, setup, supplies, scratch) as on:
        on.await_boot()
        on.ask("ping", "Traefik", PING)
        on.ask("page", "the dashboard's page", PAGE)
        ask_apps(on)
        on.capture("services", "services of Swarm", "docker", "service", "ls")
        on.capture("why", "`explain`", *explain())
        on.capture("sweep", "journal of the sweep", *journal_of(SWEEP))
        converge_without_dashboard(on)
    return on.record


def converge_without_dashboard(on: Recorder) -> None:
    """Run the end-to-end assertion with the dashboard stopped, and again with it started."""
    shorter = f's/"deadline": [0-9.]*/"deadline": {CONVERGE_DEADLINE * on.machine.slowness:g}/'
    on.machine.run("sed", "--in-place", shorter, CONVERGE_CONFIG).check()
    for tasks, status, later in ((0, HTTPStatus.NOT_FOUND, WITHOUT), (1, HTTPStatus.OK, WITH)):
        scale = ("docker", "service", "scale", "--detach", f"{DASHBOARD_HERE}={tasks}")
        on.machine.run(*scale).check()
        on.await_answer(PAGE, status)
        on.machine.run("systemctl", "restart", CONVERGE, timeout=BOOT_LIMIT)
        on.note_units(later)
        on.capture(later, f"journal of the assertion {later}", *journal_of(CONVERGE))


def every_unit() -> tuple[str, ...]:
    return tuple(sorted(path.name for path in (GOLDEN / "units").iterdir()))


# The dashboard held back, and absent -------------------------------------------------------------


def held(gate: Gate, supplies: Supplies, scratch: Path) -> Record:
    """Hold the dashboard back by another unit than the proxy's; with the new gate, release it."""
    drop_ins = {DASHBOARD: HELD, **({PROXY: SHORTEST} if gate == "old" else {})}
    config = {} if gate == "old" else QUICK
    setup = Setup(gate=gate, drop_ins=drop_ins, more={HOLD: HOLDING}, config=config, others=QUICK)
    title = f"{gate} gate, the dashboard held back by another unit"
    with recorded(f"{gate}-held", title, setup, supplies, scratch) as on:
        on.await_state(PROXY, "active", "failed")
        on.note_units()
        on.capture("jobs after", "waiting jobs", "systemctl", "list-jobs", "--after")
        on.ask("ping", "Traefik, without the dashboard", PING)
        on.ask("page", "the dashboard's page, without the dashboard", PAGE)
        if gate == "new":
            on.machine.run("systemctl", "stop", HOLD).check()
            on.await_state(DASHBOARD, "active", "failed")
            on.note_units("the dashboard let go")
            on.ask("page afterwards", "the page, after the dashboard was let go", PAGE)
    return on.record


def absent(gate: Gate, supplies: Supplies, scratch: Path) -> Record:
    drop_ins = {PROXY: SHORTEST} if gate == "old" else {}
    config = {} if gate == "old" else QUICK
    setup = Setup(gate=gate, units=(PROXY,), drop_ins=drop_ins, config=config)
    title = f"{gate} gate, no dashboard at all"
    with recorded(f"{gate}-absent", title, setup, supplies, scratch) as on:
        on.await_boot()
        on.ask("ping", "Traefik", PING)
        on.ask("page", "the dashboard's page", PAGE)
    return on.record


# Refused gates, and broken releases --------------------------------------------------------------


def guard(supplies: Supplies, scratch: Path) -> Record:
    setup = Setup(config={"probes": OLD_PROBES}, units=(PROXY, DASHBOARD))
    title = "the shipped job, configured with the old gate"
    with recorded("guard", title, setup, supplies, scratch) as on:
        on.await_state(PROXY, "active", "failed")
        on.note_units()
        on.record.facts["services"] = sorted(on.services())
        state = on.disk.root / "var/lib/warm-reconcile"
        on.record.facts["state"] = sorted(entry.name for entry in state.iterdir())
        on.capture("services", "services of Swarm", "docker", "service", "ls")
        on.capture("job", "the job", "systemctl", "status", "--no-pager", PROXY)
    return on.record


def stranded(number: int, supplies: Supplies, scratch: Path) -> Record:
    """Boot with a broken Traefik and no proven release."""
    fault = FAULTS[number]
    setup = Setup(units=(PROXY,), edits=fault.edits, config=HASTY)
    name = f"stranded-{fault.key}"
    with recorded(
        name, f"no last-good, and a Traefik that {fault.name}", setup, supplies, scratch
    ) as on:
        on.await_boot()
        on.record.facts["proven"] = read_disk(on).proven
        on.capture("why", "`explain`", *explain())
    return on.record


def rolled_back(name: str, supplies: Supplies, scratch: Path) -> Record:
    """Commit a release from scratch, then offer one broken Traefik after the other."""
    title = "a last-good that serves, and broken releases after it"
    with recorded(name, title, LAST_GOOD, supplies, scratch) as on:
        on.await_boot()
        on.require_active(PROXY)
        for number, fault in enumerate(AFTER[name]):
            label = on.disk.offer_traefik(f"1.{number + 1}.0+v{NEW}", fault.edits)
            on.run_job()
            state = on.note_units(fault.name)[PROXY]
            on.record.facts[fault.key] = {
                "serving": ask_serving(on),
                "offered": label,
                "exit": state.status,
                "ping": on.ask(f"ping {fault.key}", f"after one that {fault.name}", PING),
            }
            on.capture(f"why {fault.key}", f"a Traefik that {fault.name}", *explain())
    return on.record


def rolled_back_at_boot(supplies: Supplies, scratch: Path) -> Record:
    """Commit a release; boot with a broken one on the disk; boot again."""
    title = "a last-good on its disk, and a broken release that was offered while it was off"
    fault = next(fault for fault in FAULTS if fault.key == "crash")
    with recorded("rolled-back-at-boot", title, LAST_GOOD, supplies, scratch) as on:
        on.await_boot()
        on.require_active(PROXY)
        on.machine.power_off()
        on.record.facts["offered"] = on.disk.offer_traefik(f"1.1.0+v{NEW}", fault.edits)
        on.machine.boot()
        _note_boot(on, BROKEN_BOOT)
        on.reboot()
        _note_boot(on, NEXT_BOOT)
    return on.record


def _note_boot(on: Recorder, later: str) -> None:
    on.await_state(PROXY, "active", "failed")
    on.note_units(later)
    on.record.facts[later] = ask_serving(on)
    on.ask(f"ping {later}", f"Traefik after {later}", PING)
    on.capture(f"why {later}", f"`explain` after {later}", *explain())


# A warm reboot -----------------------------------------------------------------------------------


def warm(supplies: Supplies, scratch: Path) -> Record:
    """Boot with the new gate; then boot again from the same disk with the old gate."""
    setup = Setup(config=QUICK, others=QUICK)
    title = "Docker's state kept: the old gate on the disk of a boot with the new gate"
    with recorded("warm", title, setup, supplies, scratch) as on:
        on.await_boot()
        on.require_active(PROXY)
        on.disk.set_gate("old")
        on.disk.drop_in(PROXY, SHORTER)
        on.reboot()
        on.await_state(PROXY, "active", "failed")
        on.note_units("warm reboot with the old gate")
    return on.record


def explain() -> tuple[str, ...]:
    return ("/opt/warm-reconcile/bin/warm-reconcile", "explain", TRAEFIK)


def journal_of(unit: str) -> tuple[str, ...]:
    return ("journalctl", "--boot", f"--unit={unit}", "--output=cat")


def _by_fault(fault: Fault) -> tuple[str, Scenario]:
    return f"stranded-{fault.key}", functools.partial(stranded, FAULTS.index(fault))


SCENARIOS: Final[dict[str, Scenario]] = {
    **{name: functools.partial(rolled_back, name) for name in AFTER},  # the longest ones first
    "rolled-back-at-boot": rolled_back_at_boot,
    "whole": whole,
    "new-after": new_after,
    "old-after": old_after,
    "warm": warm,
    "old-held": functools.partial(held, "old"),
    "old-absent": functools.partial(absent, "old"),
    "new-free": new_free,
    "old-free": old_free,
    "new-held": functools.partial(held, "new"),
    "new-absent": functools.partial(absent, "new"),
    **dict(map(_by_fault, FAULTS)),
    "guard": guard,
}
