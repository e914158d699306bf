"""The boots in a virtual machine: the old gate and the new one, behind the ingress routing mesh."""

import contextlib
import os
import subprocess
from collections.abc import Generator
from http import HTTPStatus
from pathlib import Path
from typing import Final

from lab.boots import (
    DEPLOYED_HERE,
    OLD_CONFIG,
    OLD_PROBES,
    SHORT_RUN,
    Play,
    capture_the_wait,
    converge_without_dashboard,
    every_unit,
    explain,
)
from lab.furnishing import DASHBOARD, PROXY, TRAEFIK, Disk, Setup
from lab.recipes import Edit
from lab.serving import ask_apps, ask_serving
from lab.stage import PAGE, PING, Record, Stage, perform
from lab.supplies import INTERPRETER, Supplies
from swarm.harness import DEFAULT_TLS, NEW, PROVIDER, WEB, WEB_SECURE, Who
from swarm.network import Reply

from vm.image import fresh_disk, lend, prepare_base, write_image
from vm.qemu import Qemu
from vm.slowness import longer_starts, measure_slowness, slow_down

LIMIT: Final = 60
"""Seconds, times the slowness, until systemd ends the wait of the old gate; the shipped unit says
900."""
MESH: Final[tuple[Edit, ...]] = (
    ("compose.yml", "mode: host}", "mode: ingress}"),
    # Neither a port nor a volume is held by one task alone, and the recipe asks for no order.
    ("compose.yml", "        order: stop-first\n", ""),
    ("compose.yml", "      - letsencrypt:/etc/letsencrypt\n", ""),
    ("compose.yml", "\nvolumes:\n  letsencrypt:\n", ""),
    # The health check is a Traefik of its own, on an emulated processor.
    ("compose.yml", "      timeout: 5s\n", "      timeout: 30s\n"),
    ("compose.yml", "      start_period: 30s\n", "      start_period: 120s\n"),
)
"""Makes the release one behind the routing mesh."""
MESH_PORTS: Final = (80, 443)
NEXT: Final = f"1.1.0+v{NEW}"
HELD_BACK: Final = "refs/proof/next"
CHECKOUT: Final = "/root/.abra/recipes/traefik"
MESH_SPACE: Final = "/run/docker/netns/ingress_sbox"
"""The network namespace in which the engine balances what comes for published ports."""
QUESTIONS: Final = {
    "web": WEB,
    "web-secure": WEB_SECURE,
    "default-tls": DEFAULT_TLS,
    "provider": PROVIDER,
}


@contextlib.contextmanager
def vm_stage(
    name: str, title: str, setup: Setup, supplies: Supplies, scratch: Path
) -> Generator[tuple[Stage, Qemu]]:
    """Boot a virtual machine from scratch, on a disk of its own."""
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
    with perform(machine, disk, Record(name, title)) as on:
        _note_kernel(on)
        on.record.figures["slowness"] = machine.slowness
        yield on, machine
    image.unlink()


def _prepare(disk: Disk) -> None:
    """Put onto the disk what the plays will want: once it runs, only the machine writes to it."""
    disk.write_config(OLD_CONFIG, {"probes": OLD_PROBES, **SHORT_RUN})
    disk.offer_traefik(NEXT, disk.setup.edits)
    checkout = disk.shelves[TRAEFIK].place
    for order in (("update-ref", HELD_BACK, NEXT), ("tag", "--delete", NEXT)):
        subprocess.run(["git", *order], cwd=checkout, check=True, capture_output=True, timeout=60)


def _note_kernel(on: Stage) -> None:
    kind = on.machine.run("systemd-detect-virt").out.strip()
    kernel = on.machine.run("uname", "-r").check().strip()
    on.record.facts["virtualization"] = kind
    on.record.facts["kernel is the host's"] = kernel == os.uname().release


# The old gate ------------------------------------------------------------------------------------


def old(supplies: Supplies, scratch: Path) -> Record:
    drop_in = f"[Service]\nTimeoutStartSec={LIMIT * measure_slowness()}\n"
    drop_ins = {**longer_starts((PROXY, DASHBOARD)), PROXY: drop_in}
    setup = Setup(gate="old", drop_ins=drop_ins, edits=MESH)
    title = "old gate, the dashboard After=deploy-proxy.service; a kernel of its own"
    with vm_stage("vm-old", title, setup, supplies, scratch) as (on, _):
        on.await_answer(PING)
        on.await_any_answer(PAGE)
        capture_the_wait(on)
        before = on.services()
        tool = "/opt/warm-reconcile/bin/warm-reconcile"
        on.capture(
            "guard",
            "the tool, asked to use that gate now",
            *(tool, "run", "--config", OLD_CONFIG, TRAEFIK),
        )
        on.record.facts["untouched"] = on.services() == before
        on.await_boot()
        on.ask("page afterwards", "the page, once systemd has ended the wait", PAGE)
    return on.record


# The new gate ------------------------------------------------------------------------------------


def new(supplies: Supplies, scratch: Path) -> Record:
    units = every_unit()
    setup = Setup(units=units, drop_ins=longer_starts(units), edits=MESH)
    title = "new gate, the whole control plane; a kernel of its own, and the routing mesh"
    with vm_stage("vm-new", title, setup, supplies, scratch) as (on, machine):
        on.await_boot()
        on.ask("ping", "Traefik", PING)
        on.ask("page", "the dashboard's page", PAGE)
        ask_apps(on)
        on.record.facts["serving"] = ask_serving(on)
        on.capture("services", "what Swarm runs", "docker", "service", "ls")
        _note_mesh(on, machine)
        _upgrade(on, machine)
        converge_without_dashboard(on)
    return on.record


def _note_mesh(on: Stage, machine: Qemu) -> None:
    on.capture(
        "ports",
        "what Traefik's service publishes",
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
    on.record.figures["who Traefik is, asked by a neighbour through the mesh"] = _status(asked)


def _upgrade(on: Stage, machine: Qemu) -> None:
    """Offer a newer release while a neighbour asks without a pause."""
    on.machine.run("git", "-C", CHECKOUT, "tag", NEXT, HELD_BACK).check()
    with machine.load(PING) as load:
        done = on.run_job()
    state = on.note_units("an upgrade through the mesh")[PROXY]
    shown = "--format={{.Spec.UpdateConfig.Order}}"
    order = on.machine.run("docker", "service", "inspect", shown, DEPLOYED_HERE).check().strip()
    on.capture("upgrade", "what the tool says of the upgrade", *explain())
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
    """Ask through the mesh who Traefik is, in each way that the gate does: the task."""
    found: dict[str, str | None] = {}
    for name, url in QUESTIONS.items():
        plain = url.startswith("http:")
        who = Who.of(machine.get(url, host="" if plain else None))
        found[name] = None if who is None else who.task
    return found


def _tasks(on: Stage) -> list[str]:
    """List the tasks that Swarm wants to run and that do."""
    listed = ("docker", "service", "ps", "--no-trunc", "--filter=desired-state=running")
    shown = "--format={{.ID}} {{.CurrentState}}"
    lines = on.machine.run(*listed, shown, DEPLOYED_HERE).check().splitlines()
    return [line.split()[0] for line in lines if line.split()[1] == "Running"]


def _status(reply: Reply | None) -> int:
    return 0 if reply is None else reply.status


PLAYS: Final[dict[str, Play]] = {"vm-old": old, "vm-new": new}
