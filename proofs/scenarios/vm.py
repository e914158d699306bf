"""The scenarios in a virtual machine: the old and the new gate, behind the ingress routing mesh."""

import contextlib
import os
import subprocess
from collections.abc import Generator
from http import HTTPStatus
from pathlib import Path
from typing import Final

from swarm.harness import DEFAULT_TLS, NEW, PROVIDER, WEB, WEB_SECURE, Who
from swarm.network import Reply

from proofs.fixtures.disk import DASHBOARD, PROXY, TRAEFIK, Disk, Setup
from proofs.fixtures.recipes import Edit
from proofs.fixtures.supplies import INTERPRETER, Supplies
from proofs.machines.image import fresh_disk, lend, prepare_base, write_image
from proofs.machines.qemu import Qemu
from proofs.machines.slowness import longer_starts, measure_slowness, slow_down
from proofs.recorder import PAGE, PING, Record, Recorder, record_machine
from proofs.scenarios.boot import (
    DEPLOYED_HERE,
    OLD_CONFIG,
    OLD_PROBES,
    SHORT_RUN,
    Scenario,
    capture_the_wait,
    converge_without_dashboard,
    every_unit,
    explain,
)
from proofs.serving import ask_apps, ask_serving

LIMIT: Final = 60
"""TimeoutStartSec= that ends the wait of the old gate, to be multiplied by the slowness; the
shipped unit has 900."""
MESH: Final[tuple[Edit, ...]] = (
    ("compose.yml", "mode: host}", "mode: ingress}"),
    # Old and new task can run together: no port or volume is exclusive, and no order is set.
    ("compose.yml", "        order: stop-first\n", ""),
    ("compose.yml", "      - letsencrypt:/etc/letsencrypt\n", ""),
    ("compose.yml", "\nvolumes:\n  letsencrypt:\n", ""),
    # The health check starts another Traefik process, on an emulated processor.
    ("compose.yml", "      timeout: 5s\n", "      timeout: 30s\n"),
    ("compose.yml", "      start_period: 30s\n", "      start_period: 120s\n"),
)
"""Edits that publish the release through the routing mesh."""
MESH_PORTS: Final = (80, 443)
NEXT: Final = f"1.1.0+v{NEW}"
HELD_BACK: Final = "refs/proof/next"
CHECKOUT: Final = "/root/.abra/recipes/traefik"
MESH_SPACE: Final = "/run/docker/netns/ingress_sbox"
"""The network namespace in which Docker balances requests to published ports."""
PROBE_URLS: Final = {
    "web": WEB,
    "web-secure": WEB_SECURE,
    "default-tls": DEFAULT_TLS,
    "provider": PROVIDER,
}


@contextlib.contextmanager
def recorded_vm(
    name: str, title: str, setup: Setup, supplies: Supplies, scratch: Path
) -> Generator[tuple[Recorder, Qemu]]:
    """Boot a virtual machine from scratch, on its own disk."""
    base = prepare_base()
    place = scratch / name
    image = place / "disk.img"
    with fresh_disk(base, place) as root:
        if not INTERPRETER.is_relative_to("/usr"):
            lend(root, INTERPRETER)
        disk = Disk(root, supplies, setup)
        slow_down(disk)
        _prepare(disk)
        write_image(root, image)
    machine = Qemu(base, image, place / "console", measure_slowness())
    with record_machine(machine, disk, Record(name, title)) as on:
        _note_kernel(on)
        on.record.figures["slowness"] = machine.slowness
        yield on, machine
    image.unlink()


def _prepare(disk: Disk) -> None:
    """Write later releases and configs onto the disk now: only the machine writes to it later."""
    disk.write_config(OLD_CONFIG, {"probes": OLD_PROBES, **SHORT_RUN})
    disk.offer_traefik(NEXT, disk.setup.edits)
    checkout = disk.sources[TRAEFIK].place
    for order in (("update-ref", HELD_BACK, NEXT), ("tag", "--delete", NEXT)):
        subprocess.run(["git", *order], cwd=checkout, check=True, capture_output=True, timeout=60)


def _note_kernel(on: Recorder) -> None:
    kind = on.machine.run("systemd-detect-virt").out.strip()
    kernel = on.machine.run("uname", "-r").check().strip()
    on.record.facts["virtualization"] = kind
    on.record.facts["kernel is the host's"] = kernel == os.uname().release


# The old gate ------------------------------------------------------------------------------------


def old(supplies: Supplies, scratch: Path) -> Record:
    drop_in = f"[Service]\nTimeoutStartSec={LIMIT * measure_slowness()}\n"
    drop_ins = {**longer_starts((PROXY, DASHBOARD)), PROXY: drop_in}
    setup = Setup(gate="old", drop_ins=drop_ins, edits=MESH)
    title = "old gate, the dashboard After=deploy-proxy.service; own kernel"
    with recorded_vm("vm-old", title, setup, supplies, scratch) as (on, _):
        on.await_answer(PING)
        on.await_any_answer(PAGE)
        capture_the_wait(on)
        before = on.services()
        tool = "/opt/warm-reconcile/bin/warm-reconcile"
        on.capture(
            "guard",
            "a run of the tool with that gate",
            *(tool, "run", "--config", OLD_CONFIG, TRAEFIK),
        )
        on.record.facts["untouched"] = on.services() == before
        on.await_boot()
        on.ask("page afterwards", "the page, after systemd has ended the wait", PAGE)
    return on.record


# The new gate ------------------------------------------------------------------------------------


def new(supplies: Supplies, scratch: Path) -> Record:
    units = every_unit()
    setup = Setup(units=units, drop_ins=longer_starts(units), edits=MESH)
    title = "new gate, the whole control plane; own kernel, and the routing mesh"
    with recorded_vm("vm-new", title, setup, supplies, scratch) as (on, machine):
        on.await_boot()
        on.ask("ping", "Traefik", PING)
        on.ask("page", "the dashboard's page", PAGE)
        ask_apps(on)
        on.record.facts["serving"] = ask_serving(on)
        on.capture("services", "services of Swarm", "docker", "service", "ls")
        _note_mesh(on, machine)
        _upgrade(on, machine)
        converge_without_dashboard(on)
    return on.record


def _note_mesh(on: Recorder, machine: Qemu) -> None:
    on.capture(
        "ports",
        "published ports of Traefik's service",
        *("docker", "service", "inspect", "--format={{json .Endpoint.Ports}}", DEPLOYED_HERE),
    )
    on.capture(
        "virtual servers",
        "the kernel's table of virtual servers, in the namespace of the mesh",
        *("nsenter", f"--net={MESH_SPACE}", "cat", "/proc/net/ip_vs"),
    )
    on.record.facts["identity"] = _identities(machine)
    on.record.facts["tasks"] = _tasks(on)
    on.record.facts["ping from outside"] = _status(machine.get_from_outside(PING))
    asked = machine.get_from_outside(WEB, host="")
    on.record.figures["status of a neighbour's request for Traefik's identity"] = _status(asked)


def _upgrade(on: Recorder, machine: Qemu) -> None:
    """Offer a newer release while a neighbour sends requests."""
    on.machine.run("git", "-C", CHECKOUT, "tag", NEXT, HELD_BACK).check()
    with machine.load(PING) as load:
        done = on.run_job()
    state = on.note_units("an upgrade through the mesh")[PROXY]
    shown = "--format={{.Spec.UpdateConfig.Order}}"
    order = on.machine.run("docker", "service", "inspect", shown, DEPLOYED_HERE).check().strip()
    on.capture("upgrade", "`explain` after the upgrade", *explain())
    on.record.facts["upgrade"] = {
        "started": done.code,
        "exit": state.status,
        "serving": ask_serving(on),
        "order": order,
        "identity": _identities(machine),
        "tasks": _tasks(on),
        "answered": len(load.asked) - load.failed(HTTPStatus.OK),
    }
    on.record.figures["requests of a neighbour during the upgrade"] = len(load.asked)
    on.record.figures["of these failed"] = load.failed(HTTPStatus.OK)
    outage = load.longest_outage(HTTPStatus.OK)
    on.record.figures["longest time between two answers, s"] = round(outage, 2)


def _identities(machine: Qemu) -> dict[str, str | None]:
    """Request Traefik's identity through the mesh by each route of the gate; return the tasks."""
    found: dict[str, str | None] = {}
    for name, url in PROBE_URLS.items():
        plain = url.startswith("http:")
        who = Who.of(machine.get(url, host="" if plain else None))
        found[name] = None if who is None else who.task
    return found


def _tasks(on: Recorder) -> list[str]:
    """List the tasks that should run and do."""
    listed = ("docker", "service", "ps", "--no-trunc", "--filter=desired-state=running")
    shown = "--format={{.ID}} {{.CurrentState}}"
    lines = on.machine.run(*listed, shown, DEPLOYED_HERE).check().splitlines()
    return [line.split()[0] for line in lines if line.split()[1] == "Running"]


def _status(reply: Reply | None) -> int:
    return 0 if reply is None else reply.status


SCENARIOS: Final[dict[str, Scenario]] = {"vm-old": old, "vm-new": new}
