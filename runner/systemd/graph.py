"""Queries systemd for the order of units: in a directory of unit files, or on the running host.

Unit files are never parsed here: drop-ins, templates, aliases and implied dependencies would take
a second systemd. systemd itself loads them, and its output is read.

For a directory, ``systemd-analyze verify`` loads the units that it is given, prints all that it
knows of them at log level debug, and starts nothing. It needs no running systemd, no cgroups and no
``/sys``, so it works in containers and builds, where ``systemd --test`` does not. The one directory
that it must have or make is ``/run/systemd``.

On the running host, ``systemctl`` is queried **forward**, from the target: systemd lists the units
that a unit starts after for every unit that it can load, but the units that start after it only if
they happen to be loaded. A unit that puts itself between the two with ``Before=`` and is not loaded
is not seen; it has no job either, so nothing waits for it in this boot.
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
"""Seconds for one query of systemd, which usually takes 0.1 s."""
ANALYZE: Final = "systemd-analyze"
_ROUNDS: Final = 50
"""Calls of ``systemd-analyze``, each with the units that the one before named. Hosts need 5."""
_OF_SYSTEMD: Final = ("lib/systemd/system", "example/systemd/system")
"""Directories of systemd's own units, below its prefix: on most distributions, and on NixOS."""
_RUN: Final = Path("/run/systemd")
_OWN_RUN: Final = ("unshare", "--map-root-user", "--mount", "sh", "-c")
_MOUNT_RUN: Final = 'mount -t tmpfs tmpfs /run && exec "$@"'
_FINDINGS: Final = (0, 1)
"""Exit statuses of ``verify``: 1 if it finds any fault, such as a missing program."""


@frozen
class Loaded:
    """A directory of unit files, as systemd loads it."""

    units: UnitGraph
    start_limits: Mapping[str, float | None]
    """``TimeoutStartSec=`` in seconds by a unit's own name; None: no limit."""

    def start_limit(self, unit: str) -> float | None:
        """Return ``TimeoutStartSec=`` of a unit in seconds; None: no limit, or an unknown unit."""
        return self.start_limits.get(self.units.resolve(unit)) if self.units.knows(unit) else None


def load_units(directory: Path, also: Iterable[str] = ()) -> UnitGraph:
    """Load the order of the units in a directory; see ``load``.

    Raises:
        UnprovenError: systemd is not installed, or can't load the directory.
    """
    return load(directory, also).units


def load(directory: Path, also: Iterable[str] = ()) -> Loaded:
    """Load a directory of unit files with ``systemd-analyze``, on top of systemd's own units.

    ``also`` names further units to load, such as instances of templates. No running systemd is
    needed, and of this host's own configuration only its mounts are seen.

    Raises:
        UnprovenError: systemd is not installed, or can't load the directory.
    """
    program = shutil.which(ANALYZE)
    if program is None:
        raise UnprovenError(
            f"{ANALYZE} is not installed: the units in {directory} can't be loaded",
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
            hint=f"expected a directory of unit files that this user may read: ls -l {directory}",
        ) from error
    return Loaded(read_dump(text), read_start_limits(text))


def _dump(program: str, copied: Path, names: frozenset[str]) -> str:
    """Dump these units and, call by call, all that they are ordered after or before.

    ``verify`` prints a unit only if it is named. The last call names them all: systemd orders some
    units as it happens to load them, so the output of two calls can't be merged.

    Raises:
        UnprovenError: ``verify`` fails, or prints no unit.
        OSError: the units can't be read.
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
        text = _run((*_provide_run(), *command), environment, copied, _FINDINGS)
        found = dumped_names(text)
        if not found:
            by_hand = f"SYSTEMD_LOG_LEVEL=debug {' '.join(command[:4])} UNIT"
            raise UnprovenError(
                f"{ANALYZE} printed none of {len(names)} units",
                hint=f"run `{by_hand}` and read its output"
                if _RUN.is_dir()
                else f"it needs the directory {_RUN}; as root: mkdir -p {_RUN}",
            )
        new = {name for name in found - names if is_unit_name(name)}
        if not new:
            return text
        names |= new
    raise UnprovenError(
        f"{ANALYZE} still names new units after {_ROUNDS} calls: {len(names)} so far",
        hint="look for a template that needs an instance of itself",
    )


def _provide_run() -> tuple[str, ...]:
    """Return a command prefix that gives a program its own ``/run``, unless it can make ``_RUN``.

    Root can make it. Other users get namespaces in which they may mount a ``/run``, where the
    kernel allows it.
    """
    if _RUN.is_dir() or os.access(_RUN.parent, os.W_OK):
        return ()
    return (*_OWN_RUN, _MOUNT_RUN, "sh")


def prove_live(caller: str, target: Target) -> SafeUnit:
    """Prove that the target does not wait for the caller, from loaded units and the job queue.

    The caller's own deployment is safe without a query.

    Raises:
        OrderingError: the target can wait for the caller, or is waiting for it.
        UnprovenError: systemctl fails, or systemd doesn't know one of the two units.
    """
    if target == Target(caller, Served.BY_ITS_DEPLOYMENT):
        return prove(UnitGraph(frozenset(), ()), caller, target)
    ahead = _query_ahead(target.unit)
    units = _show({caller, target.unit, *ahead})
    safe = prove(units, caller, target)
    goal = units.resolve(caller)
    if goal != units.resolve(target.unit):
        # Two queries at different moments, with two parsers: both must find that it's safe.
        if goal in map(units.resolve, ahead):
            raise UnprovenError(
                f"systemd lists {caller} among the units that {target.unit} starts after, but"
                " shows no chain of dependencies between them",
                hint="if units were just being changed, run it again",
            )
        _refuse_waiting(units, caller, target)
    return safe


def read_live(units: Iterable[str]) -> UnitGraph:
    """Read the order of these units, and of all that they start after, on the running host.

    Raises:
        UnprovenError: systemctl fails.
    """
    named = set(units)
    return _show(named.union(*map(_query_ahead, sorted(named))))


def _query_ahead(unit: str) -> list[str]:
    """List the units that a unit starts after; systemd loads them for this query."""
    query = ("list-dependencies", "--after", "--all", "--plain", "--", unit)
    return list(read_dependencies(_systemctl(*query)))


def _show(names: Iterable[str]) -> UnitGraph:
    try:
        return read_show(_systemctl("show", f"--property={PROPERTIES}", "--", *sorted(names)))
    except ValueError as error:
        raise UnprovenError(
            f"the output of `systemctl show` can't be parsed: {error}",
            hint="check that this program supports this version of systemd: systemctl --version",
        ) from error


def query_start_timeout(unit: str) -> float | None:
    """Return how long a unit may take to start on the running host, in seconds.

    None if no limit applies: it is infinity, the unit is not loaded, or systemd does not run here
    and so can't stop the unit either.
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
            f"a job of {target.unit} is waiting for the job of {caller}, whose gate would probe"
            f" it: {draw(queue, target.unit, caller, chain)}",
            hint=f"probe what {caller} deploys, or probe from a unit that starts after"
            f" {target.unit}",
            chain=(chain[0].later, *(edge.earlier for edge in chain)),
        )


def _systemctl(*arguments: str) -> str:
    return _run(("systemctl", *arguments), systemctl_environment())


def _run(
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
            hint="install systemd: the order of units is read from it",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise UnprovenError(
            f"{name} did not answer for {PATIENCE:g} s",
            hint="systemd may be overloaded; run it again",
        ) from error
    except subprocess.CalledProcessError as error:
        said = bytes(error.stderr).decode("utf-8", "replace").strip().splitlines()
        raise UnprovenError(
            f"{name} failed with status {error.returncode}: {printable(said[-1] if said else '')}",
            hint=f"run it by hand: {' '.join(command)}",
        ) from error
    return output.decode("utf-8", "replace")
