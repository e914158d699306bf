"""The claims of the virtual machine: the same boots with their own kernel, and the routing mesh."""

import functools
import json
from collections.abc import Sequence
from typing import Final

from proofs.claim import Check, Claim, Records, began_after, contains, equals, is_state
from proofs.claims.boot import REFUSED, TIMED_OUT, asserted, converged, deadlock, shipped
from proofs.fixtures.disk import DASHBOARD, FIRST, PROXY
from proofs.scenarios.vm import LIMIT, MESH_PORTS, NEXT, PROBE_URLS
from proofs.serving import serves

OLD: Final = "vm-old"
NEW: Final = "vm-new"


def _own_kernel(records: Records) -> Sequence[Check]:
    checks: list[Check] = []
    for name, it in records.items():
        checks.append(equals(f"{name}: `systemd-detect-virt`", it.facts["virtualization"], "qemu"))
        same = it.facts["kernel is the host's"]
        checks.append(equals(f"{name}: its kernel is that of the host", same, expected=False))
    return checks


def _old(records: Records) -> Sequence[Check]:
    it = records[OLD]
    proxy, dashboard = it.units[PROXY], it.units[DASHBOARD]
    return [
        is_state(proxy, TIMED_OUT),
        equals("the ping of Traefik, meanwhile", it.facts["ping"], 200),
        equals("the page of the dashboard, meanwhile", it.facts["page"], 404),
        began_after(dashboard, proxy),
        is_state(dashboard, "active"),
        equals("the page of the dashboard, afterwards", it.facts["page afterwards"], 200),
    ]


def _guard(records: Records) -> Sequence[Check]:
    it = records[OLD]
    return [
        equals("exit status of the tool", it.facts["guard: status"], REFUSED),
        equals("services are the very same", it.facts["untouched"], expected=True),
        contains(
            "it names the chain", it.captures["guard"].text, f"{DASHBOARD} → After= → {PROXY}"
        ),
    ]


def _new(records: Records) -> Sequence[Check]:
    it = records[NEW]
    proxy, dashboard = it.units[PROXY], it.units[DASHBOARD]
    took, limit = proxy.took, LIMIT * it.figures["slowness"]
    return [
        is_state(proxy, "active"),
        equals("Result of its first start", proxy.result, "success"),
        equals("exit status of the job", proxy.status, 0),
        began_after(dashboard, proxy),
        *serves(it.facts["serving"], FIRST),
        Check(
            "it took less time than the old gate had",
            "never ended" if took is None else f"{took:.0f} s of {limit:.0f} s",
            holds=took is not None and took < limit,
        ),
    ]


def _mesh(records: Records) -> Sequence[Check]:
    it = records[NEW]
    published = json.loads(it.captures["ports"].text)
    modes = {port["PublishedPort"]: port["PublishMode"] for port in published}
    servers = it.captures["virtual servers"].text
    balanced = [line.split()[1] for line in servers.splitlines() if line.startswith("FWM")]
    return [
        equals("mode of each published port", modes, dict.fromkeys(MESH_PORTS, "ingress")),
        Check("virtual servers in the kernel", ", ".join(balanced) or "none", holds=bool(balanced)),
        *_identity(it.facts["identity"], it.facts["tasks"]),
        equals("a neighbour, asking for the ping", it.facts["ping from outside"], 200),
    ]


def _upgrade(records: Records) -> Sequence[Check]:
    before = records[NEW].facts["tasks"]
    seen = records[NEW].facts["upgrade"]
    return [
        equals("the order that the tool chose", seen["order"], "start-first"),
        equals("exit status of `systemctl restart`", seen["started"], 0),
        equals("exit status of the job", seen["exit"], 0),
        *serves(seen["serving"], NEXT),
        *_identity(seen["identity"], seen["tasks"]),
        equals("tasks of before that still run", sorted({*before} & {*seen["tasks"]}), []),
        Check("answers to a neighbour", str(seen["answered"]), holds=seen["answered"] > 0),
    ]


def _identity(found: dict[str, str | None], tasks: list[str]) -> list[Check]:
    """Check that exactly one task runs, and that it answers on each route of the gate."""
    count = equals("tasks that run", len(tasks), 1)
    routes = [equals(f"the task behind `{name}`", found[name], tasks[0]) for name in PROBE_URLS]
    return [count, *routes]


VM: Final = (
    Claim(
        "vm-kernel",
        "Each machine is a virtual one, with its own kernel.",
        (OLD, NEW),
        _own_kernel,
    ),
    Claim(
        "vm-old",
        "With the old gate, a boot from scratch fails: deploy-proxy.service ends with"
        " Result=timeout, and only then the dashboard begins, although Traefik answers all the"
        " while.",
        (OLD,),
        _old,
    ),
    Claim(
        "vm-deadlock",
        "While it hangs, systemd's job queue shows the deadlock: the proxy's job runs and blocks"
        " the job of the dashboard, whose page it waits for.",
        (OLD,),
        functools.partial(deadlock, OLD),
    ),
    Claim(
        "vm-guard",
        "During the boot that hangs, the tool refuses that gate at once and changes nothing.",
        (OLD,),
        _guard,
    ),
    Claim(
        "vm-new",
        "With the new gate, deploy-proxy.service is active before the dashboard begins, in less"
        " time than the old one had.",
        (NEW,),
        _new,
    ),
    Claim(
        "vm-converged",
        "Then everything converges: every consumer after the proxy, the page answers, and the"
        " end-to-end assertion passes.",
        (NEW,),
        functools.partial(converged, NEW),
    ),
    Claim(
        "vm-asserted",
        "The end-to-end assertion really probes: it fails while the dashboard is stopped, and"
        " passes again afterwards.",
        (NEW,),
        functools.partial(asserted, NEW),
    ),
    Claim(
        "vm-mesh",
        "Traefik is published through the ingress routing mesh, and through it the gate's probes"
        " are answered by the one task that runs.",
        (NEW,),
        _mesh,
    ),
    Claim(
        "vm-upgrade",
        "Through the mesh an upgrade starts the new task beside the old one, and is committed when"
        " the new one alone answers.",
        (NEW,),
        _upgrade,
    ),
    shipped((OLD, NEW)),
)
