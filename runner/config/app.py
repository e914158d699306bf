"""The config of one app: a TOML or JSON file, checked whole before anything happens."""

import json
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, TypeVar

from attrs import field, frozen

from runner.config.loader import Problem, structure
from runner.reconcile import budget
from runner.reconcile.budget import Budget
from runner.reconcile.errors import ConfigError, UsageError
from runner.reconcile.field_types import (
    NAME_RULE,
    AbsolutePath,
    Amount,
    Count,
    Duration,
    Name,
    Seconds,
    Text,
    UnitName,
    is_safe_name,
)
from runner.reconcile.gate import GatePolicy
from runner.reconcile.probes import AskedFrom, Probe

_T = TypeVar("_T")

SUFFIXES = (".toml", ".json")
RENAMED: Final = {"world": "platform"}
"""Top-level keys of older versions, and their names today."""
DEFAULT_SOCKET: Final = "/run/docker.sock"
"""The default socket of dockerd."""


@frozen(kw_only=True)
class DirectorySource:
    """Releases are the directories in ``path``, named by their version."""

    kind: Literal["directory"] = "directory"
    path: AbsolutePath
    prereleases: bool = False


@frozen(kw_only=True)
class GitSource:
    """Releases are the version tags of a repository, such as ``3.4.0+v3.5.1``."""

    kind: Literal["git"] = "git"
    url: Text
    prereleases: bool = False


@frozen(kw_only=True)
class AbraSource:
    """An app that abra manages: its recipe checkout and its ``.env``, where abra keeps them.

    The latest release is the newest version tag of the checkout. The version in the ``.env`` is
    what abra last *attempted*; it decides nothing here.
    """

    kind: Literal["abra"] = "abra"
    domain: Name
    """The app, as ``abra app ls`` names it."""
    server: Name = "default"
    directory: AbsolutePath = "/root/.abra"
    """``$ABRA_DIR``."""
    prereleases: bool = False


Source: TypeAlias = DirectorySource | GitSource | AbraSource


@frozen(kw_only=True)
class ProcessPlatformConfig:
    """The app is a process on this host."""

    kind: Literal["process"] = "process"
    stop_timeout: Seconds = 15.0
    """Seconds from SIGTERM to SIGKILL. Traefik serves what is open for 10 (graceTimeOut)."""


@frozen(kw_only=True)
class SwarmPlatformConfig:
    """The app is a stack of a Docker Swarm, deployed from a Co-op Cloud recipe."""

    kind: Literal["swarm"] = "swarm"
    stack: Name | None = None
    """Name of the stack. With ``source.kind = "abra"`` it is the one that abra uses."""
    env_file: AbsolutePath | None = None
    """File with the recipe's variables, in lines of ``NAME=value``; abra has its own."""
    service: Name = "app"
    """The service of the recipe that the gate probes."""
    overlay: AbsolutePath | None = None
    """A directory with ``compose.gate.yml`` and the files that it needs.

    Default: the one for Traefik if a probe is an ``identity``; else none.
    """
    socket: AbsolutePath = DEFAULT_SOCKET
    """The socket of dockerd."""
    require: Literal["all", "quorum"] = "all"
    """How many tasks must pass: each one, or more than half while others are missing.

    A quorum excuses tasks that don't run or can't be probed, never one that answers wrongly.
    """
    preflight: Duration = 20.0
    """Seconds to try a new release in isolation, before the live one is touched; 0: no trial."""


@frozen
class Retention:
    """How much a journal keeps."""

    proven: Count = 4
    """Proven releases kept deployable, last-good among them."""
    history: Count = 1000
    """Attempts; the oldest go first."""
    quarantine: Duration = 7 * 24 * 3600.0
    """Seconds until a release in quarantine may be tried again."""


@frozen(kw_only=True)
class AppConfig:
    """The config of one app."""

    state_dir: AbsolutePath
    """Directory for journals and releases; this user's alone. systemd: ``StateDirectory=``."""
    caller: UnitName
    """The systemd unit that runs the reconciler, and so deploys the app."""
    source: Source
    probes: tuple[Probe, ...]
    """The probes of the gate, all run in every round. One must be an ``identity`` or a ``task``."""
    platform: ProcessPlatformConfig | SwarmPlatformConfig = field(factory=ProcessPlatformConfig)
    gate: GatePolicy = field(factory=GatePolicy)
    fallback_depth: Amount = 2
    """How many proven releases a rollback may try, newest first."""
    retention: Retention = field(factory=Retention)
    budget: Budget = field(factory=Budget)


def find(directory: Path, name: str, what: str = "app") -> Path:
    """Find the config file of an app, or of another kind of thing, by its name.

    Raises:
        UsageError: there is none, or the name is unsafe as a path component.
    """
    if not is_safe_name(name):
        raise UsageError(f"not an {what} name: {name!r}", hint=f"allowed: {NAME_RULE}")
    for suffix in SUFFIXES:
        path = directory / f"{name}{suffix}"
        if _exists(path):
            return path
    known = names(directory)
    raise UsageError(
        f"unknown {what}: {name} (no {name}.toml or {name}.json in {directory})",
        hint=f"known: {', '.join(known)}" if known else "give --config-dir or --config",
    )


def names(directory: Path) -> list[str]:
    """List the names of the configs in a directory."""
    return sorted({path.stem for path in directory.glob("*") if path.suffix in SUFFIXES})


def _exists(path: Path) -> bool:
    """Return true also if ``stat`` is not permitted: ``load`` then reports that error."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def load(path: Path) -> AppConfig:
    """Read and check one config.

    Raises:
        ConfigError: it can't be read, or has mistakes; the message lists every one of them.
    """
    return load_as(path, AppConfig, _check)


def load_as(path: Path, into: type[_T], check: Callable[[_T], list[Problem]]) -> _T:
    """Read one file as an ``into``; ``check`` finds keys that contradict each other.

    Raises:
        ConfigError: it can't be read, or has mistakes; the message lists every one of them.
    """
    data = _parse(path)
    _refuse_renamed(data, path)
    config, problems = structure(data, into)
    if config is not None:
        problems = check(config)
    if config is None or problems:
        lines = "".join(f"\n  {problem}" for problem in problems)
        raise ConfigError(
            f"{path} has {len(problems)} mistake{'s' if len(problems) > 1 else ''}:{lines}",
            hint="docs/reference/configuration.md explains every key",
        )
    return config


def _parse(path: Path) -> Any:  # noqa: ANN401 - a file can hold anything
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} can't be read: {error}") from error
    try:
        return json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also: a number or a nesting of thousands
        kind = path.suffix.removeprefix(".").upper()
        raise ConfigError(f"{path} is not valid {kind}: {error}") from error


def _refuse_renamed(data: object, path: Path) -> None:
    """Refuse an old key, and report nothing else: other mistakes may only follow from it."""
    for old, new in RENAMED.items():
        if isinstance(data, dict) and old in data:
            raise ConfigError(
                f"{path}: the key {old!r} was renamed to {new!r}",
                hint=f"write {new!r} instead; the keys below it are the same",
            )


def _check(config: AppConfig) -> list[Problem]:
    """Find keys that contradict each other."""
    return [
        *_check_platform(config),
        *_check_binding(config),
        *check_probes(config.probes),
        *_check_times(config),
    ]


def _check_platform(config: AppConfig) -> list[Problem]:
    platform, source = config.platform, config.source
    if isinstance(platform, ProcessPlatformConfig):
        if isinstance(source, AbraSource):
            return [
                Problem(
                    "platform.kind", platform.kind, '"swarm": abra deploys only to Docker Swarm'
                )
            ]
        return []
    if isinstance(source, AbraSource):
        given = {"platform.stack": platform.stack, "platform.env_file": platform.env_file}
        return [
            Problem(key, value, "no value: abra's own is used")
            for key, value in given.items()
            if value is not None
        ]
    if platform.stack is None:
        return [Problem("platform.stack", None, "the name of the stack")]
    return []


def _check_binding(config: AppConfig) -> list[Problem]:
    """Require a probe that only the candidate can pass."""
    is_swarm = isinstance(config.platform, SwarmPlatformConfig)
    problems = [
        Problem(f"probes[{number}].kind", probe.kind, "another kind: only Docker Swarm has tasks")
        for number, probe in enumerate(config.probes)
        if probe.asked_from is AskedFrom.TASK and not is_swarm
    ]
    usable = [p for p in config.probes if is_swarm or p.asked_from is not AskedFrom.TASK]
    if any(probe.proves_candidate for probe in usable):
        return problems
    kinds = 'kind "identity" or "task"' if is_swarm else 'kind "identity"'
    return [
        *problems,
        Problem(
            "probes",
            [probe.kind for probe in config.probes],
            f"one of {kinds}: without it an old instance could pass for the new one",
        ),
    ]


def check_probes(probes: Iterable[Probe]) -> list[Problem]:
    """Find mistakes in probes that no gate may have, be it of an app or of an assertion."""
    probes = tuple(probes)
    problems = [
        Problem("probes", name, "a different name for each probe")
        for name, count in Counter(probe.name for probe in probes).items()
        if count > 1
    ]
    for number, probe in enumerate(probes):
        if probe.unresolved_url is not None:
            problems.append(
                Problem(
                    f"probes[{number}].url",
                    probe.unresolved_url,
                    "an IP address for a host, such as 127.0.0.1: a gate must not wait for a"
                    ' resolver (a host name is allowed together with "address")',
                )
            )
    return problems


def check_gate(gate: GatePolicy) -> list[Problem]:
    """Find times of a gate that contradict each other."""
    problems: list[Problem] = []
    if gate.window >= gate.deadline:
        problems.append(
            Problem("gate.window", gate.window, f"less than gate.deadline ({gate.deadline:g} s)")
        )
    if gate.fastest > gate.slowest:
        problems.append(
            Problem("gate.fastest", gate.fastest, f"at most gate.slowest ({gate.slowest:g} s)")
        )
    return problems


def _check_times(config: AppConfig) -> list[Problem]:
    gate = config.gate
    problems = check_gate(gate)
    least, why = _least_deploy(config.platform)
    if config.budget.deploy < least:
        problems.append(
            Problem("budget.deploy", config.budget.deploy, f"at least {why} = {least:g} s")
        )
    if config.retention.proven <= config.fallback_depth:
        problems.append(
            Problem(
                "retention.proven",
                config.retention.proven,
                f"more than fallback_depth ({config.fallback_depth}): last-good, and the fallbacks",
            )
        )
    worst = budget.worst_case(config.budget, gate, config.fallback_depth)
    if worst >= config.budget.timeout_start:
        problems.append(
            Problem(
                "budget.timeout_start",
                config.budget.timeout_start,
                "more than the longest run: "
                + budget.explain(config.budget, gate, config.fallback_depth),
            )
        )
    return problems


def _least_deploy(platform: ProcessPlatformConfig | SwarmPlatformConfig) -> tuple[float, str]:
    """Return the least time that one deployment needs, and its sum as text."""
    if isinstance(platform, ProcessPlatformConfig):
        return platform.stop_timeout + 15, "platform.stop_timeout + 15 s to kill, copy and start"
    return platform.preflight + 30, "platform.preflight + 30 s to load images and write the stack"
