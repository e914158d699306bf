"""The tools that a host needs for virtual machines, and the paragraphs of their report."""

import shutil
from typing import Final

from proofs.fixtures import supplies
from proofs.machines.image import SUITE
from proofs.machines.qemu import PROGRAM

PACKAGES: Final = {
    PROGRAM: "qemu-system-x86",
    "debootstrap": "debootstrap",
    "mke2fs": "e2fsprogs",
}
"""The Debian package of each tool."""
READING: Final = (
    "Every machine is booted from scratch in QEMU, on a disk made for this boot: Debian"
    f" ({SUITE}) from its packages, with the kernel, systemd and Docker engine of Debian, never"
    " booted before. Its processor is emulated in software, so every time limit of the shipped"
    " units and configs is a multiple of the shipped one, and nothing else of them is changed: see"
    " the differences of each machine. Whether a unit failed is read from systemd after the first"
    " boot (`Result=`), and the order of events from its monotonic timestamps."
)
MESH: Final = (
    "Traefik is published in mode ingress: here the recipe has that mode, no volume, no update"
    " order, and a longer time for its health check; nothing else of it is changed. A neighbour is"
    " a client that comes through the machine's network card: QEMU forwards requests to this host's"
    " loopback. Behind the mesh Traefik sees every client at an address of the mesh, so a neighbour"
    " can request Traefik's identity, too: only in mode host can it be distinguished from the host."
)
STAND_INS: Final = (
    "Substitutes: the images of the consumers (a busybox web server with the pages that each gate"
    " probes), certificates (from an authority of the proof), registries (images are loaded from"
    " archives), the set-up of the swarm and its network (`proof-swarm.service`, ordered before"
    " everything). Python is that of the host that proves. The old gate is"
    " `proofs/guest/old_gate.py`, not an option of the product."
)
WORDS: Final = (READING, MESH, STAND_INS)


def missing() -> list[str]:
    """List missing tools and rights of this host, a line each."""
    lacks = supplies.missing()
    lacks += [
        f"{tool} is not installed (Debian: {package})"
        for tool, package in PACKAGES.items()
        if shutil.which(tool) is None
    ]
    return lacks
