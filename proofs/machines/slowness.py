"""Multiplies the time limits of a machine with an emulated processor by its measured slowness.

The factor is measured on a boot of Debian alone.
"""

import functools
import json
import math
import re
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from proofs.fixtures.disk import GOLDEN, Disk
from proofs.machines.image import fresh_disk, prepare_base, write_image
from proofs.machines.qemu import Qemu

LEAST: Final = 5
"""The factor on a host that boots Debian alone in ``USUAL``, and the least factor."""
USUAL: Final = 30.0
"""Seconds of that boot, until the guest agent answers."""

HEARTBEAT: Final = 5
"""Seconds between heartbeats of a Swarm node; a node without heartbeats loses its tasks."""
DEFAULT_TIMEOUT: Final = 2.0
"""Default timeout of a probe in seconds: see docs/reference/configuration.md."""
PREFLIGHT: Final = 20.0
"""Default limit of a trial in isolation, in seconds."""
GATE_LIMITS: Final = ("deadline", "verify_deadline")


@functools.cache
def measure_slowness() -> int:
    """Boot Debian alone, and return the factor for all time limits."""
    base = prepare_base()
    with tempfile.TemporaryDirectory(prefix="wr-proof-", dir="/tmp") as scratch:
        place = Path(scratch)
        with fresh_disk(base, place / "disk") as root:
            write_image(root, place / "disk.img")
        machine = Qemu(base, place / "disk.img", place / "console", LEAST)
        began = time.monotonic()
        try:
            machine.boot()
            seconds = time.monotonic() - began
        finally:
            machine.cut_power()
    return slowness_from(seconds)


def slowness_from(seconds: float) -> int:
    """Return the factor of a host that boots Debian alone in this time."""
    return max(LEAST, math.ceil(LEAST * seconds / USUAL))


def longer_starts(units: tuple[str, ...]) -> dict[str, str]:
    """Return drop-ins that multiply the start timeout of each of these units."""
    drop_ins: dict[str, str] = {}
    for name in units:
        shipped = (GOLDEN / "units" / name).read_text()
        if found := re.search(r"^TimeoutStartSec=(\d+)$", shipped, re.MULTILINE):
            drop_ins[name] = f"[Service]\nTimeoutStartSec={int(found[1]) * measure_slowness()}\n"
    return drop_ins


def slow_down(disk: Disk) -> None:
    """Multiply the limits of every config on a disk, and the heartbeat of Swarm."""
    slowness = measure_slowness()
    place = disk.root / "etc/warm-reconcile"
    for file in place.rglob("*.json"):
        lengthen(file, slowness)
    with (disk.root / "opt/proofs/swarm.sh").open("a") as script:
        script.write(f"docker swarm update --dispatcher-heartbeat {HEARTBEAT * slowness}s\n")
    disk.differs.append(f"the heartbeat of Swarm is {slowness} times as slow")
    disk.differs.append(
        "in each config, the limits of the gate, the budget, the trial and each probe are"
        f" {slowness} times as long: the processor is emulated"
    )


def lengthen(file: Path, slowness: int) -> None:
    config: dict[str, Any] = json.loads(file.read_text())
    for table, keys in (("gate", GATE_LIMITS), ("budget", tuple(config.get("budget", ())))):
        for key in keys:
            config[table][key] *= slowness
    if "platform" in config:
        config["platform"]["preflight"] = slowness * config["platform"].get("preflight", PREFLIGHT)
    for probe in config["probes"]:
        probe["timeout"] = probe.get("timeout", DEFAULT_TIMEOUT) * slowness
    file.write_text(json.dumps(config))
