"""An emulated processor is slow: every time limit is longer there, and nothing else differs."""

import json
import re
from pathlib import Path
from typing import Any, Final

from lab.furnishing import GOLDEN, Disk

from vm.qemu import SLOWNESS

HEARTBEAT: Final = 5
"""Seconds: how often a node of Swarm has to be heard of, or its tasks are given up."""
DEFAULT_TIMEOUT: Final = 2.0
"""Seconds, of a probe whose config doesn't say: see docs/configuration.md."""
PREFLIGHT: Final = 20.0
"""Seconds, likewise of a trial in isolation."""
GATE_LIMITS: Final = ("deadline", "verify_deadline")


def longer_starts(units: tuple[str, ...]) -> dict[str, str]:
    """Write drop-ins that give each unit of those so much longer to start."""
    drop_ins: dict[str, str] = {}
    for name in units:
        shipped = (GOLDEN / "units" / name).read_text()
        if found := re.search(r"^TimeoutStartSec=(\d+)$", shipped, re.MULTILINE):
            drop_ins[name] = f"[Service]\nTimeoutStartSec={int(found[1]) * SLOWNESS}\n"
    return drop_ins


def slow_down(disk: Disk) -> None:
    """Give the gates of every config that is on a disk so much longer, and nodes to be heard of."""
    place = disk.root / "etc/warm-reconcile"
    for file in place.rglob("*.json"):
        _lengthen(file)
    with (disk.root / "opt/proofs/swarm.sh").open("a") as script:
        script.write(f"docker swarm update --dispatcher-heartbeat {HEARTBEAT * SLOWNESS}s\n")
    disk.differs.append(f"the heartbeat of Swarm is {SLOWNESS} times as slow")
    disk.differs.append(
        "in each config, the limits of the gate, the budget, the trial and each probe are"
        f" {SLOWNESS} times as long: the processor is emulated"
    )


def _lengthen(file: Path) -> None:
    config: dict[str, Any] = json.loads(file.read_text())
    for table, keys in (("gate", GATE_LIMITS), ("budget", tuple(config.get("budget", ())))):
        for key in keys:
            config[table][key] *= SLOWNESS
    if "world" in config:
        config["world"]["preflight"] = SLOWNESS * config["world"].get("preflight", PREFLIGHT)
    for probe in config["probes"]:
        probe["timeout"] = probe.get("timeout", DEFAULT_TIMEOUT) * SLOWNESS
    file.write_text(json.dumps(config))
