"""The world of production: the app as a stack of a Docker Swarm.

Swarm starts tasks and restarts them; every judgement is ours. ``docker stack deploy`` returns when
the spec is written, Swarm's own rollback is turned off, and neither is taken for evidence.
"""

import json
from pathlib import Path
from typing import Any, Final, Protocol

from attrs import define, field, frozen

from runner.reconcile.answers import Expected
from runner.reconcile.compose import (
    Document,
    escape,
    external_configs,
    external_networks,
    external_secrets,
    host_ports,
    images,
    published,
)
from runner.reconcile.docker import RefusedError
from runner.reconcile.engine import Engine
from runner.reconcile.errors import DeployError, NotPreparedError
from runner.reconcile.evidence import describe_changes
from runner.reconcile.listener import Listener
from runner.reconcile.ordering import SafeQuestion
from runner.reconcile.preflight import Preflight
from runner.reconcile.probes import Prober
from runner.reconcile.stackfile import (
    ASK_FROM_INSIDE,
    can_be_isolated,
    inject,
    locate,
    use_images,
)
from runner.reconcile.stackgate import StackGate, personal
from runner.reconcile.stacks import WRITE_TIMEOUT, Record, Stacks
from runner.reconcile.tasks import STACK_LABEL, Json, part
from runner.reconcile.vocabulary import (
    Answer,
    Deployment,
    LatestUnknown,
    NotLive,
    ProbeResult,
    Release,
    Round,
)

COMPOSE: Final = "compose.json"
GATEWAY: Final = "docker_gwbridge"
"""The bridge between tasks and their host: a local client is seen as its gateway."""
INGRESS: Final = "ingress"
"""The network of the routing mesh: through it every client is seen as one of its addresses."""
CREATE: Final = {
    "network": "docker network create --driver overlay --attachable {}",
    "secret": "docker secret create {} FILE",
    "config": "docker config create {} FILE",
}


class Store(Protocol):
    """Where releases are kept, as this world sees it."""

    def latest(self) -> Release | LatestUnknown: ...

    def check(self, release: Release, *, deep: bool) -> None: ...

    def files(self, digest: str) -> Path: ...

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
class SwarmWorld:
    """One app as a stack."""

    target: Target
    store: Store
    images: Images
    stacks: Stacks
    questions: tuple[SafeQuestion, ...]
    prober: Prober
    gate: StackGate
    preflight: Preflight | None
    listener: Listener | None
    _deployed: dict[str, Record] = field(factory=dict[str, Record], init=False)
    """By this very run."""

    def latest(self) -> Release | LatestUnknown:
        return self.store.latest()

    def live(self) -> Deployment | NotLive:
        snapshot = self.stacks.look(self.target.stack)
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
            askers=self._askers(document),
        )
        if self.listener is not None:
            self.listener.start()
        target = self.target
        record = self.stacks.write(target.stack, escape(made), deployment, target.gated)
        self.stacks.remember(record)
        self._deployed[deployment.token] = record

    def ask(self, deployment: Deployment, timeout: float) -> Round:
        record = self._deployed.get(deployment.token)
        is_ours = record is not None
        record = record or self.stacks.read(deployment.token)
        if record is None:
            return (self._result("stack", Answer.INCONCLUSIVE, "nobody recorded what was written"),)
        evidence = self.gate.ask_engine(record, is_ours=is_ours)
        if evidence.is_final or evidence.service is None:
            return evidence.results
        expected = Expected(deployment, frozenset(task.id for task in evidence.running))
        results = [*evidence.results, *self.prober.ask(expected, timeout)]
        if len(evidence.running) > 1:
            asked = personal(self.questions, evidence.service.published)
            each = self.gate.ask_each(expected, evidence.running, asked, timeout)
            results += [self.gate.sum_up(each)] if each else []
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
        self._require_externals(document)
        self._require_nodes(document)
        chosen = {pinned: self.images.usable(pinned)[0] for pinned in images(document)}
        return locate(use_images(document, chosen), self.store.files(release.digest))

    def _read(self, digest: str) -> Document:
        file = self.store.files(digest) / COMPOSE
        try:
            document: dict[str, Any] = json.loads(file.read_bytes())
        except (OSError, ValueError) as error:
            raise NotPreparedError(f"{file} can't be read: {error}") from error
        return document

    def _require_externals(self, document: Document) -> None:
        engine = self.stacks.engine
        wanted = (
            ("network", external_networks(document), engine.network),
            ("secret", external_secrets(document), engine.secret),
            ("config", external_configs(document), engine.config),
        )
        for kind, names, find in wanted:
            for name in sorted(names):
                if find(name) is None:
                    raise NotPreparedError(
                        f"the {kind} {name} doesn't exist in the swarm",
                        hint=f"make it: {CREATE[kind].format(name)}",
                    )

    def _require_nodes(self, document: Document) -> None:
        """Refuse what Swarm would leave pending for ever, while the old task answers."""
        nodes = sum(data["Status"]["State"] == "ready" for data in self.stacks.engine.nodes())
        for key, service in document["services"].items():
            wanted: int = part(service, "deploy").get("replicas", 1)
            if host_ports(service) and wanted > nodes:
                raise DeployError(
                    f"service {key} wants {wanted} tasks that each hold a port of their host,"
                    f" but there is only {nodes} node{'s' if nodes > 1 else ''}",
                    hint="publish in mode ingress, or set deploy.mode: global",
                )

    def _needs_trial(self, release: Release, document: Document) -> bool:
        """Say whether a trial is worth its time: something serves, and this was never proven."""
        if self.store.is_sealed(release.digest) or not can_be_isolated(document):
            return False
        snapshot = self.stacks.look(self.target.stack)
        service = snapshot.services.get(self.target.gated)
        return service is not None and bool(snapshot.running(service))

    def _askers(self, document: Document) -> str:
        """Write the rule for who may ask for the identity: this host and the other nodes."""
        engine = self.stacks.engine
        ranges = [data.get("Status", {}).get("Addr") for data in engine.nodes()]
        bridge = engine.network(GATEWAY)
        ranges += [pool.get("Gateway") for pool in _pools(bridge)]
        if not host_ports(document["services"][self.target.service]):
            ranges += [pool.get("Subnet") for pool in _pools(engine.network(INGRESS))]
        known = sorted({each for each in ranges if each and each != "0.0.0.0"})  # noqa: S104
        return " || ".join([ASK_FROM_INSIDE, *(f"ClientIP(`{each}`)" for each in known)])

    def _listen(self, listener: Listener) -> ProbeResult:
        sight = listener.look()
        answer = Answer.FAIL if sight.missed else Answer.PASS
        since = f"{sight.missed} of {sight.asked} questions since the last round had no answer"
        return self._result("listener", answer, f"{since}; {sight.dark:.1f} s in all without one")

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

    def _result(self, probe: str, answer: Answer, reason: str) -> ProbeResult:
        return ProbeResult(probe, answer, reason, self.target.unit)


def _pools(network: Json | None) -> list[Json]:
    """List the address pools of a network; none, if there is no such network."""
    return part(network or {}, "IPAM").get("Config") or []
