"""Builds the platform of an app from its config, with the store and the source of its releases."""

import contextlib
import time
from collections.abc import Generator
from pathlib import Path
from typing import Final, assert_never

from attrs import field, frozen

from runner.config.app import (
    AbraSource,
    AppConfig,
    DirectorySource,
    GitSource,
    ProcessPlatformConfig,
    SwarmPlatformConfig,
)
from runner.platforms.process.binaries import Binaries
from runner.platforms.process.instances import Instances
from runner.platforms.process.platform import ProcessPlatform
from runner.platforms.process.releases import BinaryPackaging
from runner.platforms.swarm.docker_cli import Docker
from runner.platforms.swarm.downtime import DowntimeMeter
from runner.platforms.swarm.engine_api import Engine
from runner.platforms.swarm.gate_round import StackGate, host_probes
from runner.platforms.swarm.images import Images
from runner.platforms.swarm.platform import SwarmPlatform, Target
from runner.platforms.swarm.preflight import Preflight
from runner.platforms.swarm.releases import RecipePackaging
from runner.platforms.swarm.stack import Stacks
from runner.platforms.swarm.traefik_api import TraefikApi
from runner.reconcile.errors import SourceUnreachableError, StateError
from runner.reconcile.interfaces import Platform
from runner.reconcile.probes import Identity, Prober, SafeProbe
from runner.releases import abra, sources
from runner.releases.sources import Source
from runner.releases.store import Packaging, Store
from runner.storage.paths import StateDir

RECIPES: Final = "recipes"


class SystemClock:
    """The host's clocks."""

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def now(self) -> float:
        return time.time()


@frozen
class BuiltPlatform:
    """A platform, and two things that a report reads: its packaging and its downtime."""

    platform: Platform
    packaging: Packaging
    _meter: DowntimeMeter | None = field(default=None, alias="meter")

    def downtime(self) -> float | None:
        """Return the seconds without an answer since this run deployed; None if not measured."""
        if self._meter is None or not self._meter.is_on:
            return None
        return self._meter.read().seconds


def make_source(config: AppConfig, mirror: Path) -> Source:
    """Build the source of an app's releases.

    Args:
        config: of the app.
        mirror: the directory for the mirror of a git repository.
    """
    chosen, limit = config.source, config.budget.fetch / 2
    match chosen:
        case DirectorySource():
            return sources.DirectorySource(Path(chosen.path), chosen.prereleases)
        case GitSource():
            return sources.GitSource(chosen.url, mirror, limit, chosen.prereleases)
        case AbraSource():
            return abra.AbraReleases(
                Path(chosen.directory),
                chosen.server,
                chosen.domain,
                mirror,
                limit,
                chosen.prereleases,
            )
        case _:
            assert_never(chosen)


@contextlib.contextmanager
def open_prober(probes: tuple[SafeProbe, ...]) -> Generator[Prober]:
    """Make a prober; it is closed with the context.

    Raises:
        StateError: no event loop can be made for the probes, e.g. for lack of descriptors.
    """
    try:
        prober = Prober(probes)
    except OSError as error:
        raise StateError(f"no probe can run on this host: {error.strerror}") from error
    with contextlib.closing(prober):
        yield prober


@contextlib.contextmanager
def make_platform(
    config: AppConfig, state: StateDir, probes: tuple[SafeProbe, ...]
) -> Generator[BuiltPlatform]:
    """Build the platform of an app; its connections end with the context.

    Args:
        config: of the app.
        state: its state directory.
        probes: of its gate, cleared by ``preconditions.py``; empty if no gate is run.

    Raises:
        StateError: no event loop can be made for the probes, e.g. for lack of descriptors.
    """
    with contextlib.ExitStack() as stack:
        prober = stack.enter_context(open_prober(host_probes(probes)))
        if isinstance(config.platform, ProcessPlatformConfig):
            yield _make_processes(config, config.platform, state, prober)
        else:
            yield _make_swarm(config, config.platform, state, probes, stack, prober)


def _make_processes(
    config: AppConfig, platform: ProcessPlatformConfig, state: StateDir, prober: Prober
) -> BuiltPlatform:
    programs = BinaryPackaging(Binaries(state.binaries, config.budget.fetch / 2))
    store = Store(state.releases, programs, make_source(config, state.mirror))
    made = ProcessPlatform(
        store=store,
        binary=lambda digest: programs.binary(store.manifest(digest)),
        instances=Instances(state.instances),
        prober=prober,
        stop_timeout=platform.stop_timeout,
        caller=config.caller,
    )
    return BuiltPlatform(made, programs)


def _make_swarm(
    config: AppConfig,
    platform: SwarmPlatformConfig,
    state: StateDir,
    probes: tuple[SafeProbe, ...],
    stack: contextlib.ExitStack,
    prober: Prober,
) -> BuiltPlatform:
    engine = Engine(platform.socket)
    docker = Docker(engine.url)
    target = Target(
        stack=_stack_name(config, platform), service=platform.service, unit=config.caller
    )
    images = Images(state.images, engine, docker, config.budget.fetch / 2)
    recipes = _make_recipes(config, platform, target, images, docker)
    stacks = Stacks(engine, docker, state.instances)
    meter = _make_meter(probes)
    if meter is not None:
        stack.callback(meter.close)
    made = SwarmPlatform(
        target=target,
        store=Store(state.releases, recipes, make_source(config, state.mirror)),
        images=images,
        stacks=stacks,
        probes=probes,
        prober=prober,
        gate=StackGate(stacks, target.stack, target.unit, platform.require),
        preflight=_make_preflight(platform, stacks, target, probes),
        downtime_meter=meter,
        traefik_api=TraefikApi(engine),
    )
    return BuiltPlatform(made, recipes, meter)


def _make_recipes(
    config: AppConfig, platform: SwarmPlatformConfig, target: Target, images: Images, docker: Docker
) -> RecipePackaging:
    env_file, recipe = platform.env_file, None
    if isinstance(config.source, AbraSource):
        # If abra doesn't know the app now, the source reports it, and last-good can still serve.
        with contextlib.suppress(SourceUnreachableError):
            app = abra.find_app(
                Path(config.source.directory), config.source.server, config.source.domain
            )
            env_file, recipe = str(app.env_file), app.recipe_name
    return RecipePackaging(
        stack=target.stack,
        service=target.service,
        overlay=_overlay(config, platform),
        images=images,
        docker=docker,
        env_file=Path(env_file) if env_file is not None else None,
        recipe=recipe,
    )


def _make_preflight(
    platform: SwarmPlatformConfig,
    stacks: Stacks,
    target: Target,
    probes: tuple[SafeProbe, ...],
) -> Preflight | None:
    if platform.preflight == 0:
        return None
    return Preflight(
        stacks,
        target.stack,
        target.service,
        target.unit,
        probes,
        SystemClock(),
        platform.preflight,
    )


def _make_meter(probes: tuple[SafeProbe, ...]) -> DowntimeMeter | None:
    """Measure downtime with the first identity probe of plain http that has no ``address``."""
    for safe in probes:
        probe = safe.probe
        if isinstance(probe, Identity) and probe.url.startswith("http:") and not probe.address:
            return DowntimeMeter(probe)
    return None


def _stack_name(config: AppConfig, platform: SwarmPlatformConfig) -> str:
    if isinstance(config.source, AbraSource):
        return abra.stack_name(config.source.domain)
    return platform.stack or ""  # the config is invalid without it


def _overlay(config: AppConfig, platform: SwarmPlatformConfig) -> Path | None:
    if platform.overlay is not None:
        return Path(platform.overlay)
    is_asked = any(isinstance(probe, Identity) for probe in config.probes)
    return _own_overlay() if is_asked else None


def _own_overlay() -> Path:
    """Find the overlay for Traefik: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / RECIPES / "traefik"
    return installed if installed.exists() else package.parent / RECIPES / "traefik"
