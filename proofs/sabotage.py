"""Sabotages of the machines: for each claim a fault that must make the claim fail.

A sabotage changes files on the disk of a machine before its first boot: a unit, a config, or the
installed copy of the product. The checkout is never touched.
"""

from typing import Final

from attrs import frozen

from proofs.claim import Check, Verdict
from proofs.fixtures.disk import DASHBOARD, PROXY
from proofs.fixtures.recipes import FAULTS, Edit

UNITS: Final = "etc/systemd/system"
PRODUCT: Final = "opt/warm-reconcile/lib/python3*/site-packages/runner"


@frozen
class Sabotage:
    """A fault that makes one claim fail."""

    claim: str
    sentence: str
    edits: tuple[Edit, ...]
    """Edits of files on the disk: a glob of paths, a text in them (empty: all of it), and its
    replacement."""
    red: str
    """Prefix of the name of the check that must fail, so that the claim fails for this reason."""
    machines: tuple[str, ...] = ()
    """The machines to boot, if fewer than those of the claim are enough."""

    def caused(self, verdict: Verdict) -> list[Check]:
        """List the failed checks named ``red``; none if the claim passed, or failed otherwise."""
        return [c for c in verdict.checks if not c.holds and c.what.startswith(self.red)]


NO_ORDER: Final = (
    "the dashboard is not ordered after the proxy",
    ((f"{UNITS}/{DASHBOARD}", f"{PROXY} ", ""),),
)
NO_GUARD: Final = (
    "the guard sees no order of units",
    (
        (
            f"{PRODUCT}/systemd/graph.py",
            "    ahead = _query_ahead(target.unit)\n",
            "    return prove(UnitGraph(frozenset({caller, target.unit}), ()), caller, target)\n",
        ),
    ),
)
GATE_PASSES: Final = (
    "the gate passes whatever its probes find",
    (
        (
            f"{PRODUCT}/reconcile/gate.py",
            "        outcome = _combine(results)\n",
            "        outcome = Outcome.PASS\n",
        ),
    ),
)
ASKS_DASHBOARD: Final = (
    "the new gate asks for a page of the dashboard",
    (
        (
            "etc/warm-reconcile/traefik.json",
            "http://127.0.0.1/ping",
            "http://127.0.0.1/page-of-the-dashboard",
        ),
    ),
)
ASSERTS_NOTHING: Final = (
    "`converge` asks nothing",
    (
        (
            f"{PRODUCT}/cli/commands/converge.py",
            "    outcome = assert_now(assertion, SystemClock())\n",
            '    outcome = Converged(assertion.name, "converged", ExitCode.OK, "", ())\n',
        ),
    ),
)
SWEEPS_AT_ONCE: Final = (
    "the nightly sweep is ordered after nothing",
    ((f"{UNITS}/nightly-sweep.service", "After=", "# After="),),
)
NO_QUARANTINE: Final = (
    "no release is in quarantine",
    (
        (
            f"{PRODUCT}/storage/journal.py",
            '"SELECT digest FROM quarantine WHERE until > ?"',
            '"SELECT digest FROM quarantine WHERE until < -?"',
        ),
    ),
)
CHANGED_UNIT: Final = (
    "a unit has one more comment than the shipped one",
    ((f"{UNITS}/{PROXY}", "[Unit]\n", "[Unit]\n# not shipped\n"),),
)
OTHER_APP: Final = (
    "the unit of one app names an app that there is not",
    ((f"{UNITS}/deploy-reports.service", "warm_reconcile.py reports", "warm_reconcile.py none"),),
)
ALWAYS_DEPLOYS: Final = (
    "a run deploys last-good although it is live",
    (
        (
            f"{PRODUCT}/reconcile/decisions.py",
            "        if isinstance(facts.live, Deployment) and facts.live.release == wanted:\n",
            "        if not wanted:\n",
        ),
    ),
)
OLDEST: Final = (
    "the oldest release is taken for the latest",
    ((f"{PRODUCT}/releases/versions.py", "reverse=True", "reverse=False"),),
)
ONLY_FROM_SCRATCH: Final = (
    "the job starts on an empty disk only",
    (
        (
            f"{UNITS}/{PROXY}",
            "[Service]\n",
            "[Service]\nExecStartPre=/usr/bin/test ! -e /var/lib/warm-reconcile/traefik\n",
        ),
    ),
)
FREES_NOTHING: Final = (
    "the unit that frees leaked ports does nothing",
    (
        (
            f"{UNITS}/free-ports.service",
            "ExecStart=/opt/warm-reconcile/bin/warm-reconcile free-ports",
            "ExecStart=/usr/bin/true",
        ),
    ),
)
NO_MESH: Final = (
    "the product publishes every port on the host itself",
    (
        (
            f"{PRODUCT}/platforms/swarm/compose.py",
            "    if not _is_job(deploy):  # Swarm refuses it there\n",
            '    [port.update(mode="host") for port in service.get("ports", [])]\n    if True:\n',
        ),
    ),
)
NO_VIRTUAL: Final = (
    "the machine says that it is no virtual one",
    (("usr/bin/systemd-detect-virt", "", "#!/bin/sh\necho none\n"),),
)
GATE_OF_PROXY: Final = f"new gate: `{PROXY}`"
STATUS: Final = "exit status of the job"

BOOT: Final = (
    (
        Sabotage("old-after", *NO_ORDER, f"`{PROXY}`"),
        Sabotage("deadlock", *NO_ORDER, "`list-jobs --before`"),
        Sabotage("looks-well", *NO_ORDER, f"`{PROXY}`"),
        Sabotage("warm", *NO_ORDER, "from scratch, old gate"),
    ),
    (
        Sabotage("cause", *ASKS_DASHBOARD, f"new-after: `{PROXY}`"),
        Sabotage("held", *ASKS_DASHBOARD, GATE_OF_PROXY),
        Sabotage("absent", *ASKS_DASHBOARD, GATE_OF_PROXY),
    ),
    (
        Sabotage("guard-boot", *NO_GUARD, STATUS),
        Sabotage("guard-live", *NO_GUARD, "exit status of the tool"),
    ),
    (
        *(Sabotage(f"stranded-{f.key}", *GATE_PASSES, f"`{PROXY}`") for f in FAULTS),
        *(Sabotage(f"rolled-back-{f.key}", *GATE_PASSES, STATUS) for f in FAULTS),
    ),
    (Sabotage("rolled-back-at-boot", *NO_QUARANTINE, f"{STATUS}, the boot after it"),),
    (
        Sabotage("consumers", *NO_ORDER, f"`{DASHBOARD}` began when"),
        Sabotage("asserted", *ASSERTS_NOTHING, "`converge.service`, without"),
        Sabotage("sweep", *SWEEPS_AT_ONCE, "`nightly-sweep.service` began when"),
    ),
    (Sabotage("units", *CHANGED_UNIT, "new-absent: units that", ("new-absent",)),),
)
SERVER: Final = (
    (
        Sabotage("from-scratch", *OTHER_APP, "the system"),
        Sabotage("bad-in-trial", *GATE_PASSES, STATUS),
        Sabotage("bad-later", *GATE_PASSES, STATUS),
    ),
    (
        Sabotage("second-run", *ALWAYS_DEPLOYS, "containers are the same"),
        Sabotage("upgrade", *OLDEST, "the version that Traefik answers"),
    ),
    (Sabotage("warm-reboot", *ONLY_FROM_SCRATCH, f"`{PROXY}`"),),
    (Sabotage("power-loss", *GATE_PASSES, "broken releases among the proven", ("power-1",)),),
    (
        Sabotage("leaked-ports", *FREES_NOTHING, "with the unit, the job"),
        Sabotage("units", *FREES_NOTHING, "leaked: units that", ("leaked",)),
    ),
)
VM: Final = (
    (
        Sabotage("vm-kernel", *NO_VIRTUAL, "vm-old: `systemd-detect-virt`", ("vm-old",)),
        Sabotage("vm-old", *NO_ORDER, f"`{PROXY}`"),
        Sabotage("vm-deadlock", *NO_ORDER, "`list-jobs --before`"),
        Sabotage("vm-guard", *NO_ORDER, "exit status of the tool"),
        Sabotage("units", *NO_ORDER, "vm-old: units that are not as shipped", ("vm-old",)),
    ),
    (
        Sabotage("vm-new", *NO_ORDER, f"`{DASHBOARD}` began when"),
        Sabotage("vm-converged", *NO_ORDER, f"`{DASHBOARD}` began when"),
        Sabotage("vm-asserted", *ASSERTS_NOTHING, "`converge.service`, without"),
        Sabotage("vm-mesh", *NO_MESH, "mode of each published port"),
        Sabotage("vm-upgrade", *NO_MESH, "the order that the tool chose"),
    ),
)
