"""the platform of production: the app as a stack of a Docker Swarm.

Swarm starts tasks and restarts them; every judgement is ours. ``docker stack deploy`` returns when
the spec is written, Swarm's own rollback is turned off, and neither is taken for evidence.
"""

import contextlib
import json
from pathlib import Path
from typing import Any, Final, Protocol

from attrs import define, field, frozen

from runner.platforms.swarm.compose import (
    Document,
    escape,
    images,
    published,
)
from runner.platforms.swarm.docker_cli import RefusedError
from runner.platforms.swarm.downtime import Listener
from runner.platforms.swarm.engine_api import Engine
from runner.platforms.swarm.evidence import describe_changes
from runner.platforms.swarm.gate_round import StackGate, personal
from runner.platforms.swarm.objects import STACK_LABEL, Snapshot
from runner.platforms.swarm.preflight import Preflight
from runner.platforms.swarm.prerequisites import (
    name_askers,
    require_externals,
    require_gateway,
    require_nodes,
)
from runner.platforms.swarm.stack import WRITE_TIMEOUT, Stacks
from runner.platforms.swarm.stack_document import (
    can_be_isolated,
    inject,
    locate,
    use_images,
)
from runner.platforms.swarm.traefik_api import Routes
from runner.reconcile.errors import DeployError, EngineUnreachableError, NotPreparedError
from runner.reconcile.model import (
    Deployment,
    LatestUnknown,
    NotLive,
    Outcome,
    ProbeResult,
    Release,
    Round,
)
from runner.reconcile.probes import AskedFrom, Prober, SafeProbe
from runner.reconcile.replies import Expected
from runner.storage.records import Record

COMPOSE: Final = "compose.json"


class Store(Protocol):
    """Where releases are kept, as this platform sees it."""

    def latest(self) -> Release | LatestUnknown: ...

    def check(self, release: Release, *, deep: bool) -> None: ...

    def files(self, digest: str) -> Path: ...

    def keep(self, release: Release) -> None: ...

    def seal(self, release: Release) -> None: ...

    def is_sealed(self, digest: str) -> bool: ...

    def prune(self, keep: frozenset[str]) -> None: ...


class Images(Protocol):
    """The images of the kept releases."""

    def usable(self, pinned: str) -> tuple[str, str]: ...


@frozen
class Target:
    """What is deployed where."""

    stack: str
    service: str
    """The key of the gated service in the recipe."""
    unit: str
    """The systemd unit that deploys it, and so serves it."""

    @property
    def gated(self) -> str:
        return f"{self.stack}_{self.service}"


@define
class SwarmPlatform:
    """One app as a stack."""

    target: Target
    store: Store
    images: Images
    stacks: Stacks
    probes: tuple[SafeProbe, ...]
    prober: Prober
    gate: StackGate
    preflight: Preflight | None
    listener: Listener | None
    routes: Routes
    _deployed: dict[str, Record] = field(factory=dict[str, Record], init=False)
    """By this very run."""
    _seen: Snapshot | None = field(default=None, init=False)
    """What the decisions so far rest on."""

    def latest(self) -> Release | LatestUnknown:
        return self.store.latest()

    def live(self) -> Deployment | NotLive:
        snapshot = self._seen = self.stacks.look(self.target.stack)
        service = snapshot.services.get(self.target.gated)
        if service is None:
            others = ", ".join(sorted(snapshot.services))
            return NotLive(f"there is no {self.target.gated}, but {others}" if others else "")
        record = self.stacks.read(service.token) if service.token is not None else None
        if record is None:
            by = f" (Swarm says {service.update})" if service.update else ""
            return NotLive(f"{service.name} was deployed by another hand{by}")
        changes = describe_changes(snapshot, record.written, record.deployment.token)
        return NotLive(changes) if changes else record.deployment

    def deploy(self, deployment: Deployment) -> None:
        document = self._prepare(deployment.release)
        ports = published(document["services"][self.target.service])
        if self.preflight is not None and self._needs_trial(deployment.release, document):
            self.preflight.try_out(document, deployment, ports)
        made = inject(
            document,
            deployment,
            service=self.target.service,
            unit=self.target.unit,
            askers=name_askers(self.stacks.engine, document["services"][self.target.service]),
        )
        self._keep(deployment.release)
        self._refuse_lost_update()
        if self.listener is not None:
            self.listener.start()
        target = self.target
        record = self.stacks.write(target.stack, escape(made), deployment, target.gated)
        self.stacks.remember(record)
        self._deployed[deployment.token] = record
        self._seen = self.stacks.look(target.stack)

    def ask(self, deployment: Deployment, timeout: float) -> Round:
        record = self._deployed.get(deployment.token)
        is_ours = record is not None
        record = record or self.stacks.read(deployment.token)
        if record is None:
            return (
                self._result("stack", Outcome.INCONCLUSIVE, "nobody recorded what was written"),
            )
        evidence = self.gate.ask_engine(record, is_ours=is_ours)
        if evidence.is_final or evidence.service is None:
            return evidence.results
        expected = Expected(deployment, frozenset(task.id for task in evidence.running))
        results = [*evidence.results, *self.prober.ask(expected, timeout)]
        if self._asks_inside or len(evidence.running) > 1:
            asked = personal(self.probes, evidence.service.published)
            each = self.gate.ask_each(expected, evidence.running, asked, timeout)
            results += [self.gate.sum_up(each)] if each or self._asks_inside else []
        results += self.routes.confirm(safe.probe for safe in self.probes)
        if self.listener is not None and self.listener.is_on:
            results.append(self._listen(self.listener))
        return tuple(results)

    def seal(self, release: Release) -> None:
        self.store.seal(release)

    def prune(self, keep: frozenset[str]) -> None:
        live = self.live()
        tokens: frozenset[str] = frozenset()
        if isinstance(live, Deployment):
            keep |= {live.release.digest}
            tokens = frozenset({live.token})
        self.store.prune(keep)
        self.stacks.prune(tokens, keep)
        self._prune_configs(keep)
        if self.preflight is not None:
            self.preflight.clear()

    @property
    def _asks_inside(self) -> bool:
        """Say whether a gate without an answer from inside of a task would know nothing."""
        return any(safe.probe.asked_from is AskedFrom.TASK for safe in self.probes)

    def _prepare(self, release: Release) -> Document:
        """Do all that can fail without touching what serves.

        Raises:
            NotPreparedError: the host lacks something.
            DeployError: the release asks for what this swarm can't do.
            EngineUnreachableError: the engine can't be asked.
        """
        self.stacks.engine.swarm_node()
        try:
            self.store.check(release, deep=True)
        except DeployError as error:
            raise NotPreparedError(error.message, hint=error.hint) from error
        document = self._read(release.digest)
        if self._asks_inside and not can_be_isolated(document):
            raise DeployError(
                "it is on the host's own network, where anybody could answer for a task",
                hint="give it a network of its own, or ask it by an identity probe",
            )
        require_externals(self.stacks.engine, document)
        require_nodes(self.stacks.engine, document)
        require_gateway(self.stacks.engine, self.stacks.docker)
        chosen = {pinned: self.images.usable(pinned)[0] for pinned in images(document)}
        return locate(use_images(document, chosen), self.store.files(release.digest))

    def _keep(self, release: Release) -> None:
        """Archive the images of a new release before anything that serves is touched.

        A failure here is not reported: `seal` tries again at the end of the run, and reports it.
        A release that serves and passes its gate is healthy, whether or not it could be archived.
        """
        if not self.store.is_sealed(release.digest):
            with contextlib.suppress(DeployError, EngineUnreachableError):
                self.store.keep(release)

    def _read(self, digest: str) -> Document:
        file = self.store.files(digest) / COMPOSE
        try:
            document: dict[str, Any] = json.loads(file.read_bytes())
        except (OSError, ValueError) as error:
            raise NotPreparedError(f"{file} can't be read: {error}") from error
        return document

    def _needs_trial(self, release: Release, document: Document) -> bool:
        """Say whether a trial is worth its time: something serves, and this was never proven."""
        if self.store.is_sealed(release.digest) or not can_be_isolated(document):
            return False
        snapshot = self.stacks.look(self.target.stack)
        service = snapshot.services.get(self.target.gated)
        return service is not None and bool(snapshot.running(service))

    def _refuse_lost_update(self) -> None:
        """Don't write over what another hand has written since this run looked.

        Raises:
            NotPreparedError: a service is not what it was.
        """
        if self._seen is None:
            return
        now = self.stacks.look(self.target.stack).services
        for name in sorted({*now, *self._seen.services}):
            before, after = self._seen.services.get(name), now.get(name)
            if (before and before.spec) != (after and after.spec):
                versions = [str(s.version) if s else "none" for s in (before, after)]
                raise NotPreparedError(
                    f"another hand has written service {name} since this run looked"
                    f" (version index {versions[0]} then, {versions[1]} now)"
                )

    def _listen(self, listener: Listener) -> ProbeResult:
        sight = listener.look()
        outcome = Outcome.FAIL if sight.missed else Outcome.PASS
        since = f"{sight.missed} of {sight.asked} probes since the last round had no answer"
        return self._result("listener", outcome, f"{since}; {sight.dark:.1f} s in all without one")

    def _prune_configs(self, keep: frozenset[str]) -> None:
        """Remove the configs that no kept release has; the engine keeps those in use."""
        needed = {
            config.get("name")
            for digest in keep
            if (self.store.files(digest) / COMPOSE).exists()
            for config in self._read(digest).get("configs", {}).values()
        }
        engine: Engine = self.stacks.engine
        for config in engine.configs_labelled(f"{STACK_LABEL}={self.target.stack}"):
            name = config["Spec"]["Name"]
            if name not in needed:
                try:
                    self.stacks.docker.run("config", "rm", name, timeout=WRITE_TIMEOUT)
                except RefusedError:
                    continue

    def _result(self, probe: str, outcome: Outcome, reason: str) -> ProbeResult:
        return ProbeResult(probe, outcome, reason, self.target.unit)
