"""What is put onto a machine's disk before it boots: the shipped units, and what they work on."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, cast

from attrs import field, frozen
from swarm.harness import NEW, OVERLAY, RECIPE

from lab.recipes import APP_IMAGE, Edit, app_release, edit, traefik_release
from lab.roots import PYTHON
from lab.shelves import Shelf
from lab.supplies import DOMAIN, INTERPRETER, PROJECT, Supplies

GOLDEN: Final = PROJECT / "tests" / "golden"
"""What nix/modules render: the units, their configs, and who wants them."""
GUEST: Final = Path(__file__).parents[1] / "guest"
SYSTEM_UNITS: Final = Path("/lib/systemd/system")
ENABLED: Final = {
    "multi-user.target": ("docker.service", "containerd.service"),
    "sockets.target": ("docker.socket",),
}
"""Of Debian's own units."""
PROXY: Final = "deploy-proxy.service"
DASHBOARD: Final = "deploy-dashboard.service"
FREE_PORTS: Final = "free-ports.service"
NOT_UP: Final = frozenset({"nightly-sweep.service", FREE_PORTS})
"""Oneshots that end: when they have done their work they are inactive again."""
TRAEFIK: Final = "traefik"
APP_RELEASE: Final = "1.0.0+v1.0.0"
FIRST: Final = f"1.0.0+v{NEW}"
"""The release that a machine is offered, unless a setup says another."""


Gate: TypeAlias = Literal["new", "old"]


@frozen(kw_only=True)
class Setup:
    """In what a machine differs from the shipped one."""

    gate: Gate = "new"
    units: tuple[str, ...] = (FREE_PORTS, PROXY, DASHBOARD)
    """Of the shipped ones, those that are there."""
    drop_ins: Mapping[str, str] = field(factory=dict[str, str])
    """By unit."""
    replaced: Mapping[str, str] = field(factory=dict[str, str])
    """The text of a unit that is not the shipped one; by its name."""
    config: Mapping[str, Any] = field(factory=dict[str, Any])
    """Tables laid over the shipped config of Traefik; none: it is as shipped."""
    others: Mapping[str, Any] = field(factory=dict[str, Any])
    """The same for every other app."""
    more: Mapping[str, str] = field(factory=dict[str, str])
    """Units that only this machine has, by their names; each is wanted at boot."""
    offered: str = FIRST
    """The first release of Traefik."""
    edits: Sequence[Edit] = ()
    """What makes that release a broken one."""
    versions: tuple[str, ...] = (NEW,)
    """The Traefiks whose images are there."""


class Disk:
    """The furnished disk of a machine: its root, and where its apps' releases are."""

    def __init__(self, root: Path, supplies: Supplies, setup: Setup) -> None:
        self.root = root
        self.supplies = supplies
        self.setup = setup
        self.shelves: dict[str, Shelf] = {}
        self.differs = _differences(setup)
        self._put_programs()
        self._put_configs()
        self._put_units()
        self.set_gate(setup.gate)
        self._sabotage()

    # What comes later ----------------------------------------------------------------------------

    def set_gate(self, gate: Gate) -> None:
        """Make the job that deploy-proxy.service starts the shipped one, or the old one."""
        program = self.root / "opt/warm-reconcile/bin/warm_reconcile.py"
        shipped = self.supplies.package / "bin/warm_reconcile.py"
        shutil.copy2(GUEST / "old_gate.py" if gate == "old" else shipped, program)
        program.chmod(0o755)

    def drop_in(self, unit: str, text: str) -> None:
        """Add to a unit what it does not say itself."""
        place = self._drop_in_of(unit)
        place.parent.mkdir(exist_ok=True)
        place.write_text(text)

    def remove_drop_in(self, unit: str) -> None:
        """Let a unit say again what it says itself."""
        self._drop_in_of(unit).unlink()

    def _drop_in_of(self, unit: str) -> Path:
        return self.root / "etc/systemd/system" / f"{unit}.d" / "10-proof.conf"

    def write_config(self, path: str, above: Mapping[str, Any]) -> None:
        """Write the config of Traefik with other tables laid over it, to a file of its own."""
        shipped = json.loads((GOLDEN / f"etc/warm-reconcile/{TRAEFIK}.json").read_text())
        (self.root / path.lstrip("/")).write_text(json.dumps(_laid_over(shipped, above)))

    def offer_traefik(self, label: str, edits: Sequence[Edit] = ()) -> str:
        pair = self.supplies.certificate
        return self.shelves[TRAEFIK].offer(lambda place: traefik_release(place, label, pair, edits))

    # What is there from the beginning ------------------------------------------------------------

    def _put_programs(self) -> None:
        root = self.root
        shutil.copytree(self.supplies.package, root / "opt/warm-reconcile", symlinks=True)
        if not INTERPRETER.is_relative_to("/usr"):
            _move_interpreter(root / "opt/warm-reconcile")
        shutil.copytree(GUEST, root / "opt/proofs", ignore=shutil.ignore_patterns("__pycache__"))
        # The shipped units find their tools in /usr; there Debian's command line is too old.
        shutil.copy2(self.supplies.docker, root / "usr/bin/docker")
        images = root / "opt/proofs/images"
        images.mkdir()
        wanted = {APP_IMAGE, *(f"traefik:v{version}" for version in self.setup.versions)}
        for tag in wanted:
            shutil.copy(self.supplies.archives[tag], images)
        bundle = root / "etc/ssl/certs/ca-certificates.crt"
        bundle.write_bytes(bundle.read_bytes() + self.supplies.authority.read_bytes())
        (root / "etc/hosts").write_text(f"127.0.0.1 localhost {DOMAIN}\n")
        (root / "etc/hostname").write_text("proof\n")

    def _put_configs(self) -> None:
        shipped = GOLDEN / "etc/warm-reconcile"
        place = self.root / "etc/warm-reconcile"
        shutil.copytree(shipped, place)
        for file in sorted(place.glob("*.json")):
            config = json.loads(file.read_text())
            self.shelves[file.stem] = Shelf(self.root, file.stem, config)
            if file.stem != TRAEFIK:
                self._offer_app(file.stem, config)
            above = self.setup.config if file.stem == TRAEFIK else self.setup.others
            if above:
                file.write_text(json.dumps(_laid_over(config, above)))
        self.offer_traefik(self.setup.offered, self.setup.edits)
        self._put_old_plan()

    def _offer_app(self, name: str, config: Mapping[str, Any]) -> None:
        self.shelves[name].offer(lambda place: app_release(place, APP_RELEASE, name, config))

    def _put_old_plan(self) -> None:
        """Tell the old job what to deploy: the same release, with the same overlay."""
        place = self.root / "opt/proofs/old-gate"
        pair = self.supplies.certificate
        release = traefik_release(place, self.setup.offered, pair, self.setup.edits)
        for name in OVERLAY:
            shutil.copy(RECIPE / name, release)
        shelf = self.shelves[TRAEFIK]
        exports = dict(
            line.removeprefix("export ").split("=", 1)
            for line in (release / "abra.sh").read_text().splitlines()
            if line.startswith("export ")
        )
        plan = {
            "directories": [f"/opt/proofs/old-gate/{release.name}"],
            "stack": shelf.stack,
            "variables": {**shelf.variables, **exports, "STACK_NAME": shelf.stack},
        }
        (self.root / "opt/proofs/old-gate.json").write_text(json.dumps(plan))

    def _put_units(self) -> None:
        setup, place = self.setup, self.root / "etc/systemd/system"
        wanted: dict[str, list[str]] = json.loads((GOLDEN / "wanted-by.json").read_text())
        for name in setup.units:
            shutil.copy(GOLDEN / "units" / name, place)
        for name, changed in setup.replaced.items():
            (place / name).write_text(changed)
        own = {"proof-swarm.service": (GUEST / "proof-swarm.service").read_text(), **setup.more}
        for name, text in own.items():
            (place / name).write_text(text)
        for target, names in (*ENABLED.items(), ("multi-user.target", own), *wanted.items()):
            links = place / f"{target}.wants"
            links.mkdir(exist_ok=True)
            for name in names:
                if (place / name).exists():
                    (links / name).symlink_to(f"../{name}")
                elif (SYSTEM_UNITS / name).exists():
                    (links / name).symlink_to(SYSTEM_UNITS / name)
        before = " ".join(name for name in setup.units if name.endswith(".service"))
        self.drop_in("proof-swarm.service", f"[Unit]\nBefore={before}\n")
        for name, text in setup.drop_ins.items():
            self.drop_in(name, text)

    def _sabotage(self) -> None:
        for pattern, old, new in self.supplies.sabotage:
            for file in self.root.glob(pattern):  # a machine may lack a unit
                edit(file, old, new)
                for compiled in file.parent.glob(f"__pycache__/{file.stem}.*.pyc"):
                    compiled.unlink()
                self.differs.append(f"sabotaged: `{pattern}`")


def _differences(setup: Setup) -> list[str]:
    """Say in what a machine differs from the shipped one, a sentence each."""
    told: list[str] = []
    if setup.gate == "old":
        told.append("`warm_reconcile.py` is `proofs/guest/old_gate.py`: the old gate")
    told += [f"drop-in of `{name}`: `{_flat(text)}`" for name, text in setup.drop_ins.items()]
    told += [f"`{name}` is changed: see its hash" for name in setup.replaced]
    told += [f"`{name}` is there besides" for name in setup.more]
    if setup.config:
        told.append(f"over `traefik.json`: `{json.dumps(setup.config)}`")
    if setup.others:
        told.append(f"over every other app's: `{json.dumps(setup.others)}`")
    return told


def _flat(text: str) -> str:
    return " ".join(line for line in text.splitlines() if not line.startswith("["))


def _move_interpreter(package: Path) -> None:
    """Have an environment look for its interpreter where a machine has it."""
    python = package / "bin/python"
    target = PYTHON / python.readlink().relative_to(INTERPRETER)
    python.unlink()
    python.symlink_to(target)
    (package / "pyvenv.cfg").write_text(f"home = {target.parent}\n")


def _laid_over(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    laid = dict(below)
    for key, value in above.items():
        is_table = isinstance(value, dict) and key in laid
        laid[key] = _laid_over(laid[key], cast("dict[str, Any]", value)) if is_table else value
    return laid
