"""A release that an older version stored is deployed from its archive, and gated."""

import platform
import subprocess
from pathlib import Path
from typing import Final

import pytest
from traefik.harness import CALLER

from swarm.harness import Host
from swarm.healthy import proven, quarantined

pytestmark = [
    pytest.mark.swarm,
    pytest.mark.slow,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="its image is for x86-64"),
]

ARCHIVE: Final = Path(__file__).parents[2] / "frozen" / "dbd8bb8-swarm.tar.gz"
PROBE: Final = f"""
[[probes]]
kind = "task"
target_unit = "{CALLER}"
port = 8080
body_contains = "ok 1.1.0+v1.1.0"
"""


def test_last_good_of_an_older_version_is_restored(host: Host) -> None:
    """Docker has neither the stack nor the image: both are in the state directory."""
    state = host.home / "state"
    state.mkdir(mode=0o700)
    command = ["tar", "--extract", "--gzip", "--no-same-owner", f"--file={ARCHIVE}"]
    subprocess.run([*command, f"--directory={state}"], check=True)
    host.stack = "frozen"
    host.configure(source="directory", window=1.0, probes=PROBE)
    ran = host.run("--detailed-exit-code")
    assert (ran.code, ran.outcome, ran.serving) == (11, "restored", "1.1.0+v1.1.0"), ran
    (task,) = host.tasks()
    assert task["Status"]["State"] == "running"
    assert proven(host) == ["1.1.0+v1.1.0", "1.0.0+v1.0.0"]
    assert set(quarantined(host)) == {"1.2.0+v1.2.0", "1.3.0+v1.3.0"}
    again = host.run()
    assert (again.code, again.outcome) == (0, "unchanged"), again
