"""The scenario of M2 on a running server: second run, reboot, upgrade, broken upgrades."""

import contextlib
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, Final

from swarm.harness import NEW, OLD
from swarm.network import Load

from proofs.fixtures.disk import PROXY, TRAEFIK, Setup
from proofs.fixtures.recipes import FAULTS
from proofs.fixtures.supplies import Supplies
from proofs.recorder import BOOT_LIMIT, PAGE, Record, Recorder, recorded
from proofs.scenarios.boot import Scenario, every_unit, explain
from proofs.scenarios.power import POWER_SCENARIOS
from proofs.serving import ask_apps, ask_serving

FIRST: Final = f"1.0.0+v{OLD}"
NEXT: Final = f"1.1.0+v{NEW}"
BAD_IN_TRIAL: Final = f"1.2.0+v{OLD}"
BAD_LATER: Final = f"1.3.0+v{OLD}"
"""An older Traefik than the one that serves, so the version identifies it."""
EVERY: Final = 0.05
"""Seconds between two requests of the load."""
BEFORE: Final = 2.0
"""Seconds of load before each event."""
OK: Final = 200


def settled(supplies: Supplies, scratch: Path) -> Record:
    """Boot everything from scratch; then run again, reboot, upgrade, and offer broken releases."""
    setup = Setup(units=every_unit(), offered=FIRST, versions=(OLD, NEW))
    title = "the whole control plane as shipped, from its first boot to a bad upgrade"
    with recorded("settled", title, setup, supplies, scratch) as on:
        on.await_boot()
        on.require_active(PROXY)
        on.ask("page", "the dashboard's page", PAGE)
        ask_apps(on)
        on.record.facts["first"] = _all(on)
        _run_again(on)
        _reboot(on)
        _offer(on, "upgrade", NEXT)
        _offer(on, "bad in its trial", BAD_IN_TRIAL, "bind")
        _offer(on, "bad later", BAD_LATER, "crash")
        on.capture(
            "history",
            "`history`",
            *"/opt/warm-reconcile/bin/warm-reconcile",
            "history",
            TRAEFIK,
        )
    return on.record


def _run_again(on: Recorder) -> None:
    """Start every job again, as a rebuild of the host would."""
    jobs = [name for name in every_unit() if name.endswith(".service")]
    with _loaded(on, "second run"):
        on.machine.run("systemctl", "restart", *jobs, timeout=BOOT_LIMIT)
    on.note_units("every job started again")
    on.record.facts["again"] = _all(on)


def _reboot(on: Recorder) -> None:
    on.reboot()
    on.machine.run("systemctl", "is-system-running", "--wait", timeout=BOOT_LIMIT)
    on.note_units("a warm reboot")
    on.ask("page after the reboot", "the dashboard's page after a warm reboot", PAGE)
    on.record.facts["rebooted"] = _all(on)


def _offer(on: Recorder, key: str, label: str, fault: str = "") -> None:
    edits = next((it.edits for it in FAULTS if it.key == fault), ())
    on.disk.offer_traefik(label, edits)
    with _loaded(on, key):
        on.run_job()
    state = on.note_units(key)[PROXY]
    on.record.facts[key] = {**_all(on), "exit": state.status, "state": state.state}
    on.ask(f"page after {key}", f"the dashboard's page after: {key}", PAGE)
    on.capture(f"why {key}", f"`explain`: {key}", *explain())


@contextlib.contextmanager
def _loaded(on: Recorder, key: str) -> Generator[Load]:
    """Request the dashboard's page all the while, and count failures."""
    with on.machine.load(PAGE, pause=EVERY) as load:
        time.sleep(BEFORE)
        yield load
    failed = load.failed(OK)
    on.record.facts[f"{key}: failed"] = failed
    on.record.facts[f"{key}: asked"] = len(load.asked)
    on.record.figures[f"{key}: requests for the page that failed"] = (
        f"{failed} of {len(load.asked)}; longest time without a good one"
        f" {load.longest_outage(OK):.1f} s"
    )


def _all(on: Recorder) -> dict[str, Any]:
    return {
        "serving": ask_serving(on),
        "services": on.services(),
        "containers": on.containers(),
    }


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "settled": settled,
    **POWER_SCENARIOS,
}
