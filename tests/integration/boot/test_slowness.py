"""The limits of the virtual machines follow the measured speed of the host."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from proofs.fixtures.supplies import PROJECT
from proofs.machines.slowness import (
    DEFAULT_TIMEOUT,
    LEAST,
    PREFLIGHT,
    USUAL,
    lengthen,
    slowness_from,
)

CONFIGS = sorted((PROJECT / "tests/golden/etc/warm-reconcile").rglob("*.json"))


@pytest.mark.parametrize(
    ("seconds", "factor"),
    [(USUAL / 2, LEAST), (USUAL, LEAST), (2 * USUAL, 2 * LEAST), (2.01 * USUAL, 2 * LEAST + 1)],
)
def test_a_slower_host_has_longer_limits(seconds: float, factor: int) -> None:
    """The factor is proportional to the measured boot, and never below ``LEAST``."""
    assert slowness_from(seconds) == factor


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_limit_of_a_config_follows(config: Path, tmp_path: Path) -> None:
    """Limits of gate, budget, trial and probes are multiplied; defaults are written explicitly."""
    copy = Path(shutil.copy(config, tmp_path))
    before: dict[str, Any] = json.loads(copy.read_text())
    lengthen(copy, 7)
    after: dict[str, Any] = json.loads(copy.read_text())
    for key in ("deadline", "verify_deadline"):
        assert after["gate"][key] == 7 * before["gate"][key]
    assert after.get("budget", {}) == {k: 7 * v for k, v in before.get("budget", {}).items()}
    if "platform" in before:
        assert after["platform"]["preflight"] == 7 * before["platform"].get("preflight", PREFLIGHT)
    for old, new in zip(before["probes"], after["probes"], strict=True):
        assert new["timeout"] == 7 * old.get("timeout", DEFAULT_TIMEOUT)
