"""Evaluates nix/modules/ for a host, with the stand-in or with a checkout of nixpkgs."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from attrs import frozen

ROOT: Final = Path(__file__).parents[3]
HOST: Final = ROOT / "tests" / "golden" / "host.nix"
STAND_IN: Final = ROOT / "tests" / "nix" / "stand-in"


@frozen
class Nixpkgs:
    """A checkout of nixpkgs: the directory with ``lib/``, and the one with ``nixos/``, if any."""

    lib: str
    tree: str | None

    def expression(self) -> str:
        tree = f'tree = "{self.tree}"; ' if self.tree else ""
        return f'nixpkgs = {{ lib = "{self.lib}"; {tree}}};'


def find_nixpkgs() -> Nixpkgs | None:
    """Find the checkout that ``NIXPKGS_LIB`` and, for NixOS' units, ``NIXOS_TREE`` name.

    A checkout of github.com/nix-community/nixpkgs.lib has all of ``lib``, in 2 MB.
    """
    lib = os.environ.get("NIXPKGS_LIB")
    return Nixpkgs(lib, os.environ.get("NIXOS_TREE")) if lib else None


@frozen
class Host:
    """The result of evaluating a configuration."""

    units: dict[str, str]
    etc: dict[str, Any]
    """By path below /etc: a text, or the data of a JSON file."""
    wants: dict[str, list[str]]
    requires: dict[str, list[str]]
    aliases: dict[str, str]
    refused: list[str]
    warnings: list[str]

    def files(self) -> dict[str, str]:
        """Return the texts of the files of tests/golden, by path."""
        found = {f"units/{name}": text for name, text in self.units.items()}
        for name, content in self.etc.items():
            found[f"etc/{name}"] = content if isinstance(content, str) else format_json(content)
        # NixOS makes these links; a unit's [Install] is only used by `systemctl enable`.
        found["wanted-by.json"] = format_json(self.wants)
        return found


def format_json(content: object) -> str:
    """Format JSON as ``pkgs.formats.json`` does, which uses jq."""
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def evaluate(expression: str) -> Any:  # noqa: ANN401 - any value of JSON
    """Evaluate a Nix expression without a store, a daemon or a network.

    Raises:
        ValueError: the evaluation failed; the message is Nix's.
        OSError: Nix is not installed.
    """
    tool = shutil.which("nix-instantiate") or "nix-instantiate"
    done = subprocess.run(
        [tool, "--store", "dummy://", "--eval", "--strict", "--json", "--expr", expression],
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
    )
    if done.returncode != 0:
        raise ValueError(done.stderr)
    return json.loads(done.stdout)


def evaluate_hosts(hosts: Iterable[str], nixpkgs: Nixpkgs | None = None) -> list[Host]:
    """Evaluate hosts; each is given as the elements of its list of modules, in Nix."""
    given = nixpkgs.expression() if nixpkgs else ""
    calls = " ".join(
        f"(import {STAND_IN} {{ modules = [ {modules} ]; {given} }})" for modules in hosts
    )
    return [Host(**found) for found in evaluate(f"[ {calls} ]")]
