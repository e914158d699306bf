"""Writes what nix/golden has of the host in nix/golden/host.nix, and docs/module-options.md."""

import shutil
from pathlib import Path
from typing import Final

from evaluation import HOST, ROOT, evaluate_hosts, find_nixpkgs

GOLDEN: Final = ROOT / "nix" / "golden"
GENERATED: Final = ("units", "etc", "wanted-by.json")


def read_golden() -> dict[str, str]:
    """Read the generated files of nix/golden: from their paths to their texts."""
    paths = [path for name in GENERATED for path in (GOLDEN / name, *(GOLDEN / name).rglob("*"))]
    return {str(path.relative_to(GOLDEN)): path.read_text() for path in paths if path.is_file()}


def main() -> None:
    """Write all of it anew."""
    (host,) = evaluate_hosts([str(HOST)], find_nixpkgs())
    for name in GENERATED[:2]:
        shutil.rmtree(GOLDEN / name, ignore_errors=True)
    for name, text in host.files().items():
        place: Path = GOLDEN / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)


if __name__ == "__main__":
    main()
