"""Directories of unit files, and systemd's own loader to read them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from runner.reconcile.ordering import UnitGraph
from runner.systemd.graph import load_units

ONESHOT = "[Service]\nType=oneshot\nExecStart=/bin/true\n"

Load = Callable[..., UnitGraph]


@pytest.fixture(scope="session")
def real_systemd(need: Callable[[str], str]) -> None:
    """Skip a test if there is no systemd; in CI it fails."""
    need("systemd-analyze")


@pytest.fixture
def load(real_systemd: None, tmp_path: Path) -> Load:
    """Write unit files and have systemd load them: ``load({"a.service": "After=b.service"})``.

    The text is the ``[Unit]`` section; a text that has sections stays as it is, and one that begins
    with an arrow is a link. A service gets something to do.
    """
    del real_systemd

    def run(files: dict[str, str], also: tuple[str, ...] = ()) -> UnitGraph:
        for name, text in files.items():
            place = tmp_path / "units" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if text.startswith("→ "):
                place.symlink_to(text.removeprefix("→ "))
                continue
            work = ONESHOT if name.endswith(".service") else ""
            place.write_text(text if text.startswith("[") else f"[Unit]\n{text}\n{work}")
        return load_units(tmp_path / "units", also)

    return run
