"""The order of units as systemd itself knows it: of a directory of unit files, or of this host.

Unit files are never read here: drop-ins, templates, aliases and all that systemd implies make that
a program of its own, and systemd is that program.

Of a directory, ``systemd-analyze verify`` loads the units that it is given, prints all that it
knows of them at log level debug, and starts nothing. It needs no running systemd, no cgroups and no
``/sys``, so it works in containers and builds, where ``systemd --test`` does not. The one directory
that it must have or make is ``/run/systemd``.

Of the running host, ``systemctl`` is asked **forward**, from the target: what a unit starts after,
systemd knows of every unit that it can load; what starts after a unit, only of those that happen to
be loaded. A unit that puts itself between the two with ``Before=`` and is not loaded is not seen;
it has no job either, so nothing waits for it in this boot.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from attrs import evolve, frozen

from runner.reconcile.errors import OrderingError, UnprovenError
from runner.reconcile.ordering import (
    SafeUnit,
    Served,
    Target,
    UnitGraph,
    draw,
    find_chain,
    prove,
)
from runner.reconcile.replies import printable
from runner.subprocesses import PLAIN, run, systemctl_environment
from runner.systemd.parse import (
    PROPERTIES,
    dumped_names,
    read_dependencies,
    read_dump,
    read_jobs,
    read_show,
    read_span,
    read_start_limits,
)
from runner.systemd.unit_directory import copy_units, is_unit_name, list_units

PATIENCE: Final = 30.0
"""Seconds for one probe to systemd. It takes a tenth of one."""
ANALYZE: Final = "systemd-analyze"
_ROUNDS: Final = 50
"""Calls of ``systemd-analyze``, each about units that the one before named. Real hosts need 5."""
_OF_SYSTEMD: Final = ("lib/systemd/system", "example/systemd/system")
"""Where the units that systemd brings along are, below its prefix: on all but NixOS, and there."""
_RUN: Final = Path("/run/systemd")
_OWN_RUN: Final = ("unshare", "--map-root-user", "--mount", "sh", "-c")
_MOUNT_RUN: Final = 'mount -t tmpfs tmpfs /run && exec "$@"'
_FINDINGS: Final = (0, 1)
"""Exit statuses of ``verify``: 1 if it finds anything wrong, such as a program that is not here."""


@frozen
class Loaded:
    """A directory of unit files, as systemd reads it."""

    units: UnitGraph
    start_limits: Mapping[str, float | None]
    """By a unit's own name, the seconds that it may take to start; None: nothing ends it."""

    def start_limit(self, unit: str) -> float | None:
        """Say how long a unit may take to start, in seconds; None also if it is not known."""
        return self.start_limits.get(self.units.resolve(unit)) if self.units.knows(unit) else None


def load_units(directory: Path, also: Iterable[str] = ()) -> UnitGraph:
    """Load the order of a directory of unit files; all else is as with ``load``.

    Raises:
        UnprovenError: there is no systemd, or it can't load the directory.
    """
    return load(directory, also).units


def load(directory: Path, also: Iterable[str] = ()) -> Loaded:
    """Have systemd load a directory of unit files, over the units that it brings along itself.

    ``also`` names units that must be loaded because somebody asks for them: instances of templates.
    No running systemd is needed, and nothing of this host's own configuration is seen but its
    mounts.

    Raises:
        UnprovenError: there is no systemd, or it can't load the directory.
    """
    program = shutil.which(ANALYZE)
    if program is None:
        raise UnprovenError(
            f"{ANALYZE} is not installed: without it {directory} can't be read",
            hint="install systemd; it need not run",
        )
    try:
        with tempfile.TemporaryDirectory(prefix="warm-reconcile-units-") as place:
            copied = Path(place) / "units"
            copy_units(directory, copied)
            text = _dump(program, copied, list_units(copied, also))
    except OSError as error:
        raise UnprovenError(
            f"the units in {directory} can't be read: {error.strerror}: {error.filename}",
            hint="is it a directory of unit files, and may this user read it?",
        ) from error
    return Loaded(read_dump(text), read_start_limits(text))


def _dump(program: str, copied: Path, names: frozenset[str]) -> str:
    """Print all about these units and, step by step, all that they are ordered after or before.

    ``verify`` prints a unit only if it is named. The last call names them all: systemd orders some
    units as it happens to load them, so the answers of two calls can't be put together.

    Raises:
        UnprovenError: it fails, or prints no unit.
        OSError: it can't be started.
    """
    if not names:
        return ""
    prefix = Path(program).resolve().parents[1]
    environment = {
        **PLAIN,
        "PATH": os.environ.get("PATH", os.defpath),
        "SYSTEMD_UNIT_PATH": ":".join(map(str, (copied, *(prefix / own for own in _OF_SYSTEMD)))),
        # Generators make units out of this host's fstab and kernel command line.
        "SYSTEMD_GENERATOR_PATH": os.devnull,
        "SYSTEMD_ENVIRONMENT_GENERATOR_PATH": os.devnull,
        "SYSTEMD_LOG_TARGET": "console",
        "SYSTEMD_LOG_LEVEL": "debug",
    }
    for _ in range(_ROUNDS):
        command = (program, "verify", "--man=no", "--generators=no", "--", *sorted(names))
        text = _answer((*_provide_run(), *command), environment, copied, _FINDINGS)
        found = dumped_names(text)
        if not found:
            by_hand = f"SYSTEMD_LOG_LEVEL=debug {' '.join(command[:4])} UNIT"
            raise UnprovenError(
                f"{ANALYZE} printed none of {len(names)} units",
                hint=f"what does `{by_hand}` print?"
                if _RUN.is_dir()
                else f"it needs the directory {_RUN}: make it as root, mkdir -p {_RUN}",
            )
        new = {name for name in found - names if is_unit_name(name)}
        if not new:
            return text
        names |= new
    raise UnprovenError(
        f"{ANALYZE} names more units each time it is asked: {len(names)} by now",
        hint="does a template need an instance of itself?",
    )


def _provide_run() -> tuple[str, ...]:
    """Return a command that gives a program a ``/run`` of its own, if it can't make what it needs.

    Root makes ``/run/systemd``. Others get namespaces in which they may mount, where the kernel
    allows it.
    """
    if _RUN.is_dir() or os.access(_RUN.parent, os.W_OK):
        return ()
    return (*_OWN_RUN, _MOUNT_RUN, "sh")


def prove_live(caller: str, target: Target) -> SafeUnit:
    """Prove it on the running host, from what systemd has loaded and from its queue of jobs.

    What the caller itself deploys is safe without asking.

    Raises:
        OrderingError: the target can wait for the caller, or is waiting for it.
        UnprovenError: systemd can't be asked, or doesn't know one of the two.
    """
    if target == Target(caller, Served.BY_ITS_DEPLOYMENT):
        return prove(UnitGraph(frozenset(), ()), caller, target)
    ahead = _ask_ahead(target.unit)
    units = _show({caller, target.unit, *ahead})
    safe = prove(units, caller, target)
    goal = units.resolve(caller)
    if goal != units.resolve(target.unit):
        # The two answers are a moment apart, and read by two readers: both must say that it's safe.
        if goal in map(units.resolve, ahead):
            raise UnprovenError(
                f"systemd counts {caller} among the units that {target.unit} starts after, but"
                " shows no way from one to the other",
                hint="if units were just being changed, run it again",
            )
        _refuse_waiting(units, caller, target)
    return safe


def read_live(units: Iterable[str]) -> UnitGraph:
    """Read the order of these units, and of all that they start after, on the running host.

    Raises:
        UnprovenError: systemd can't be asked.
    """
    named = set(units)
    return _show(named.union(*map(_ask_ahead, sorted(named))))


def _ask_ahead(unit: str) -> list[str]:
    """List what a unit starts after: systemd loads what it has to for that."""
    probe = ("list-dependencies", "--after", "--all", "--plain", "--", unit)
    return list(read_dependencies(_systemctl(*probe)))


def _show(names: Iterable[str]) -> UnitGraph:
    try:
        return read_show(_systemctl("show", f"--property={PROPERTIES}", "--", *sorted(names)))
    except ValueError as error:
        raise UnprovenError(
            f"what `systemctl show` prints can't be read: {error}",
            hint="is systemd much newer than this program?",
        ) from error


def ask_start_timeout(unit: str) -> float | None:
    """Read how long a unit may take to start, in seconds.

    None if nothing ends it: it is set to infinity, or not known here, or there is no systemd to
    ask, which then can't end it either.
    """
    try:
        found = _systemctl("show", "--property=LoadState,TimeoutStartUSec", "--", unit)
    except UnprovenError:
        return None
    values = {name: value for name, _, value in (x.partition("=") for x in found.splitlines())}
    if values.get("LoadState") != "loaded":
        return None
    return read_span(values.get("TimeoutStartUSec", "infinity"))


def _refuse_waiting(units: UnitGraph, caller: str, target: Target) -> None:
    jobs = read_jobs(_systemctl("list-jobs", "--before", "--full", "--plain", "--no-legend"))
    queue = evolve(jobs, aliases=units.aliases)
    if chain := find_chain(queue, target.unit, caller):
        raise OrderingError(
            f"a job of {target.unit} is waiting for the job of {caller}, whose gate would ask it:"
            f" {draw(queue, target.unit, caller, chain)}",
            hint=f"probe what {caller} deploys, or from a unit that starts after {target.unit}",
            chain=(chain[0].later, *(edge.earlier for edge in chain)),
        )


def _systemctl(*arguments: str) -> str:
    return _answer(("systemctl", *arguments), systemctl_environment())


def _answer(
    command: Sequence[str],
    environment: Mapping[str, str],
    directory: Path | None = None,
    accepted: Container[int] = (0,),
) -> str:
    name = Path(command[0]).name
    try:
        output = run(
            command,
            timeout=PATIENCE,
            environment=environment,
            directory=directory,
            accepted=accepted,
        )
    except OSError as error:
        raise UnprovenError(
            f"{name} can't be started: {error.strerror}",
            hint="nothing but systemd knows the order of units: is it installed?",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise UnprovenError(
            f"{name} did not answer for {PATIENCE:g} s", hint="is systemd overloaded?"
        ) from error
    except subprocess.CalledProcessError as error:
        said = bytes(error.stderr).decode("utf-8", "replace").strip().splitlines()
        raise UnprovenError(
            f"{name} failed with status {error.returncode}: {printable(said[-1] if said else '')}",
            hint=f"try it by hand: {' '.join(command)}",
        ) from error
    return output.decode("utf-8", "replace")
