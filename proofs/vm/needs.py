"""What a host must have for the virtual machines, and how their report is to be read."""

import shutil
from typing import Final

from lab import supplies

from vm.image import SUITE
from vm.qemu import PROGRAM

PACKAGES: Final = {
    PROGRAM: "qemu-system-x86",
    "debootstrap": "debootstrap",
    "mke2fs": "e2fsprogs",
}
"""Who brings a tool, in Debian's words."""
READING: Final = (
    "Every machine is booted from scratch in QEMU, on a disk made for this boot: Debian"
    f" ({SUITE}) from its packages, with the kernel, systemd and Docker engine of Debian, never"
    " booted before. Its processor is emulated in software, so every time limit of the shipped"
    " units and configs is a multiple of the shipped one, and nothing else of them is changed: see"
    " what is said of each machine. Whether a unit failed is what systemd says after the first boot"
    " (`Result=`), and what came first is told by its monotonic timestamps."
)
MESH: Final = (
    "Traefik is published in mode ingress: the recipe says so here, has no volume, asks for no"
    " update order, and lets its health check take longer; nothing else of it is changed. A"
    " neighbour is whoever comes by the machine's network card: QEMU hands on what this host's"
    " loopback is asked. Behind the mesh Traefik sees every client at an address of the mesh, so"
    " the neighbour may ask, too, who Traefik is: only in mode host can it be told from the host."
)
STAND_INS: Final = (
    "What stands for something else: the images of the consumers (a busybox web server that answers"
    " what each gate asks), certificates (an authority of the proof's own), registries (images are"
    " loaded from archives), what once made the swarm and its network (`proof-swarm.service`,"
    " ordered before everything). Python is that of the host that proves. The old gate is"
    " `proofs/guest/old_gate.py` and no option of the product."
)
WORDS: Final = (READING, MESH, STAND_INS)


def missing() -> list[str]:
    """Say what this host lacks, a line each."""
    lacks = supplies.missing()
    lacks += [
        f"{tool} is not installed (Debian: {package})"
        for tool, package in PACKAGES.items()
        if shutil.which(tool) is None
    ]
    return lacks
