"""Preflight: starts a release in an isolated stack and gates it before the live stack is touched.

The isolated stack has the same images and configs; ``stack_document.isolate`` lists what it can't
reach. It never replaces the gate: it spares the live proxy a release that can't even start.
"""

from collections.abc import Mapping
from typing import Final

from attrs import evolve, frozen

from runner.platforms.swarm.compose import Document, escape
from runner.platforms.swarm.gate_round import StackGate, task_probes
from runner.platforms.swarm.objects import STACK_LABEL
from runner.platforms.swarm.stack import Stacks
from runner.platforms.swarm.stack_document import PREFLIGHT_LABEL, isolate
from runner.reconcile.errors import DeployError, NotPreparedError
from runner.reconcile.gate import Clock, GatePolicy, judge
from runner.reconcile.model import Deployment, Healthy, Inconclusive, Outcome, Round
from runner.reconcile.probes import Identity, Probe, SafeProbe
from runner.reconcile.replies import Expected

PROVIDER_PATH: Final = "/.warm-reconcile/provider"
"""The route that Traefik loads from a label only (recipes/traefik/compose.gate.yml)."""
RISE: Final = 2
WINDOW: Final = 0.5
"""Seconds; long enough to see a failing start, short enough to delay a run little."""
STACK_PREFIX: Final = 12
"""Characters of the live stack's name in the name of its preflight stack: Swarm limits service
names to 63."""


@frozen
class Preflight:
    """Tries releases of one stack."""

    stacks: Stacks
    stack: str
    service: str
    unit: str
    probes: tuple[SafeProbe, ...]
    clock: Clock
    timeout: float
    """Seconds for the whole preflight."""

    def try_out(self, document: Document, deployment: Deployment, ports: Mapping[int, int]) -> None:
        """Start the release beside the live stack, and probe its task from inside.

        Args:
            document: of the release, ready to be written but for the isolation.
            deployment: that is to follow.
            ports: from the published ports of the release to those of its tasks.

        Raises:
            DeployError: the release failed; the live stack was not touched.
            NotPreparedError: no verdict was possible.
            EngineUnreachableError: Docker can't be asked.
        """
        trial = evolve(deployment, token=f"{deployment.token}-preflight")
        name = f"{self.stack[:STACK_PREFIX]}-try-{deployment.token[-8:]}"
        node = self.stacks.engine.swarm_node()
        alone = isolate(document, trial, service=self.service, stack=self.stack, node=node)
        asked = self._probes(ports)
        try:
            record = self.stacks.write(name, escape(alone), trial, f"{name}_{self.service}")
            gate = StackGate(self.stacks, name, self.unit)

            def ask(_: Deployment, limit: float) -> Round:
                evidence = gate.read_evidence(record, is_ours=True)
                if evidence.is_final:
                    return evidence.results
                rounds = gate.probe_tasks(Expected(trial), evidence.running, asked, limit)
                return (*evidence.results, *(result for each in rounds for result in each))

            policy = GatePolicy(rise=RISE, window=WINDOW, deadline=self.timeout)
            verdict = judge(policy, trial, ask, self.clock, lambda _: None)
        finally:
            self.stacks.remove(name)
        if isinstance(verdict, Inconclusive):
            raise NotPreparedError(f"preflight: {verdict.reason}")
        if not isinstance(verdict, Healthy) and gate.has_lost:
            # A preflight task that dockerd ended is not restarted: no evidence about the release.
            raise NotPreparedError(f"preflight: Docker became unreachable; {verdict.reason}")
        if not isinstance(verdict, Healthy) and _is_well(verdict.evidence):
            # The time ran out while all probes passed: the host is slow, not the release broken.
            raise NotPreparedError(f"preflight: {verdict.reason}")
        if not isinstance(verdict, Healthy):
            raise DeployError(f"preflight: {verdict.reason}")

    def clear(self) -> None:
        """Remove the preflight stacks that killed runs left behind.

        Raises:
            EngineUnreachableError: Docker can't be asked.
        """
        left = self.stacks.engine.services_labelled(f"{PREFLIGHT_LABEL}={self.stack}")
        for name in sorted({service["Spec"]["Labels"][STACK_LABEL] for service in left}):
            self.stacks.remove(name)

    def _probes(self, ports: Mapping[int, int]) -> tuple[SafeProbe, ...]:
        """Return the probes for inside, without the provider's route if no live service has it.

        The preflight's Traefik reads the labels of the live stack, not its own.
        """
        live = self.stacks.read_snapshot(self.stack).services.values()
        has_route = any(PROVIDER_PATH in label for s in live for label in s.labels.values())
        everything = task_probes(self.probes, ports)
        elsewhere = tuple(safe for safe in everything if not _is_about_provider(safe.probe))
        return everything if has_route or not elsewhere else elsewhere


def _is_well(evidence: Round) -> bool:
    return all(result.outcome is Outcome.PASS for result in evidence)


def _is_about_provider(probe: Probe) -> bool:
    return isinstance(probe, Identity) and PROVIDER_PATH in probe.url
