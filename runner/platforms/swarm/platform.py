"""The Swarm platform, for production: deploys the app as a stack of Docker Swarm, and gates it.

Swarm starts and restarts tasks; whether a deployment is healthy is decided here. ``docker stack
deploy`` returns when the spec is written, which is no evidence; Swarm's own rollback is turned off.
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
from runner.platforms.swarm.downtime import DowntimeMeter
from runner.platforms.swarm.engine_api import Engine
from runner.platforms.swarm.evidence import describe_changes
from runner.platforms.swarm.gate_round import StackGate, task_probes
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
from runner.platforms.swarm.traefik_api import TraefikApi
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
    """The part of `releases.store.Store` that this platform uses."""

    def latest(self) -> Release | LatestUnknown: ...

    def check(self, release: Release, *, deep: bool) -> None: ...

    def files(self, digest: str) -> Path: ...

    def keep(self, release: Release) -> None: ...

    def seal(self, release: Release) -> None: ...

    def is_sealed(self, digest: str) -> bool: ...

    def prune(self, keep: frozenset[str]) -> None: ...


class Images(Protocol):
    """The part of `images.Images` that this platform uses."""

    def usable(self, pinned: str) -> tuple[str, str]: ...


@frozen
class Target:
    """The stack, the gated service, and the unit that deploys it."""

    stack: str
    service: str
    """The key of the gated service in the recipe."""
    unit: str
    """The systemd unit that deploys the stack, and so serves it."""

    @property
    def gated(self) -> str:
        return f"{self.stack}_{self.service}"


@define
class SwarmPlatform:
    """One app as a stack of Docker Swarm."""

    target: Target
    store: Store
    images: Images
    stacks: Stacks
    probes: tuple[SafeProbe, ...]
    prober: Prober
    gate: StackGate
    preflight: Preflight | None
    downtime_meter: DowntimeMeter | None
    traefik_api: TraefikApi
    _deployed: dict[str, Record] = field(factory=dict[str, Record], init=False)
    """The deployments of this very run, by token."""
    _seen: Snapshot | None = field(default=None, init=False)
    """The stack as it was read last: the decisions so far rest on it."""

    def latest(self) -> Release | LatestUnknown:
        return self.store.latest()

    def live(self) -> Deployment | NotLive:
        snapshot = self._seen = self.stacks.read_snapshot(self.target.stack)
        service = snapshot.services.get(self.target.gated)
        if service is None:
            others = ", ".join(sorted(snapshot.services))
            return NotLive(
                f"there is no service {self.target.gated}, but {others}" if others else ""
            )
        record = self.stacks.read_record(service.token) if service.token is not None else None
        if record is None:
            by = f" (Swarm says {service.update})" if service.update else ""
            return NotLive(f"{service.name} was deployed by someone else{by}")
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
        if self.downtime_meter is not None:
            self.downtime_meter.start()
        target = self.target
        record = self.stacks.write(target.stack, escape(made), deployment, target.gated)
        self.stacks.store_record(record)
        self._deployed[deployment.token] = record
        self._seen = self.stacks.read_snapshot(target.stack)

    def ask(self, deployment: Deployment, timeout: float) -> Round:
        record = self._deployed.get(deployment.token)
        is_ours = record is not None
        record = record or self.stacks.read_record(deployment.token)
        if record is None:
            return (
                self._result(
                    "stack", Outcome.INCONCLUSIVE, "there is no record of this deployment"
                ),
            )
        evidence = self.gate.read_evidence(record, is_ours=is_ours)
        if evidence.is_final or evidence.service is None:
            return evidence.results
        expected = Expected(deployment, frozenset(task.id for task in evidence.running))
        results = [*evidence.results, *self.prober.ask(expected, timeout)]
        if self._asks_inside or len(evidence.running) > 1:
            asked = task_probes(self.probes, evidence.service.published)
            each = self.gate.probe_tasks(expected, evidence.running, asked, timeout)
            results += [self.gate.summarize(each)] if each or self._asks_inside else []
        results += self.traefik_api.check_targets(safe.probe for safe in self.probes)
        if self.downtime_meter is not None and self.downtime_meter.is_on:
            results.append(self._read_downtime(self.downtime_meter))
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
        """Return whether a probe of the gate can only be sent inside a task."""
        return any(safe.probe.asked_from is AskedFrom.TASK for safe in self.probes)

    def _prepare(self, release: Release) -> Document:
        """Do everything that can fail and does not touch the live stack.

        Raises:
            NotPreparedError: the host lacks something.
            DeployError: the release needs something that this swarm can't do.
            EngineUnreachableError: Docker can't be asked.
        """
        self.stacks.engine.swarm_node()
        try:
            self.store.check(release, deep=True)
        except DeployError as error:
            raise NotPreparedError(error.message, hint=error.hint) from error
        document = self._read(release.digest)
        if self._asks_inside and not can_be_isolated(document):
            raise DeployError(
                "it uses the host's network, where another program could answer for a task",
                hint="attach it to a network of its own, or use an identity probe",
            )
        require_externals(self.stacks.engine, document)
        require_nodes(self.stacks.engine, document)
        require_gateway(self.stacks.engine, self.stacks.docker)
        chosen = {pinned: self.images.usable(pinned)[0] for pinned in images(document)}
        return locate(use_images(document, chosen), self.store.files(release.digest))

    def _keep(self, release: Release) -> None:
        """Archive the images of a new release before the live stack is touched.

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
        """Return whether a preflight is worth its time: a task runs, the release is unproven."""
        if self.store.is_sealed(release.digest) or not can_be_isolated(document):
            return False
        snapshot = self.stacks.read_snapshot(self.target.stack)
        service = snapshot.services.get(self.target.gated)
        return service is not None and bool(snapshot.running(service))

    def _refuse_lost_update(self) -> None:
        """Refuse to overwrite a change that someone else made since this run read the stack.

        Raises:
            NotPreparedError: a service was changed, added or removed.
        """
        if self._seen is None:
            return
        now = self.stacks.read_snapshot(self.target.stack).services
        for name in sorted({*now, *self._seen.services}):
            before, after = self._seen.services.get(name), now.get(name)
            if (before and before.spec) != (after and after.spec):
                versions = [str(s.version) if s else "none" for s in (before, after)]
                raise NotPreparedError(
                    f"service {name} was changed by someone else during this run"
                    f" (version {versions[0]} → {versions[1]})",
                    hint=f"docker service inspect {name}",
                )

    def _read_downtime(self, meter: DowntimeMeter) -> ProbeResult:
        reading = meter.read()
        outcome = Outcome.FAIL if reading.unanswered else Outcome.PASS
        reason = (
            f"{reading.unanswered} of {reading.requests} requests since the last round had no"
            f" answer; {reading.seconds:.1f} s of downtime in all"
        )
        return self._result("downtime", outcome, reason)

    def _prune_configs(self, keep: frozenset[str]) -> None:
        """Remove the configs that no kept release has; Docker refuses to remove those in use."""
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
