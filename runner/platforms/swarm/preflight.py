"""Tries a release in isolation before what serves is touched.

The trial is a stack of its own, with the same images and configs; ``stackfile.isolate`` says what
it can't reach. It never replaces the gate: it only spares the live proxy what can't even start.
"""

from collections.abc import Mapping
from typing import Final

from attrs import evolve, frozen

from runner.platforms.swarm.compose import Document, escape
from runner.platforms.swarm.gate_round import StackGate, personal
from runner.platforms.swarm.objects import STACK_LABEL
from runner.platforms.swarm.stack import Stacks
from runner.platforms.swarm.stack_document import PREFLIGHT_LABEL, isolate
from runner.reconcile.errors import DeployError, NotPreparedError
from runner.reconcile.gate import Clock, GatePolicy, judge
from runner.reconcile.model import Deployment, Healthy, Inconclusive, Outcome, Round
from runner.reconcile.probes import Identity, Probe, SafeProbe
from runner.reconcile.replies import Expected

PROVIDER_PATH: Final = "/.warm-reconcile/provider"
"""The route that only the provider can load: recipes/traefik/compose.gate.yml has it as a label."""
RISE: Final = 2
WINDOW: Final = 0.5
"""Seconds; long enough to outlive a start that fails, short enough to spare everyone."""
STACK_PREFIX: Final = 12
"""Characters of the live stack's name in that of its trial: a service name has at most 63."""


@frozen
class Preflight:
    """How releases of one stack are tried."""

    stacks: Stacks
    stack: str
    service: str
    unit: str
    probes: tuple[SafeProbe, ...]
    clock: Clock
    timeout: float
    """Seconds for the whole trial."""

    def try_out(self, document: Document, deployment: Deployment, ports: Mapping[int, int]) -> None:
        """Start the release beside the live one, and gate it from inside.

        Args:
            document: of the release, ready to be written but for the isolation.
            deployment: about to happen.
            ports: from the published ones of the release to its tasks' own.

        Raises:
            DeployError: it failed; what serves was not touched.
            NotPreparedError: it could not be tried.
            EngineUnreachableError: the engine can't be asked.
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
                evidence = gate.ask_engine(record, is_ours=True)
                if evidence.is_final:
                    return evidence.results
                rounds = gate.ask_each(Expected(trial), evidence.running, asked, limit)
                return (*evidence.results, *(result for each in rounds for result in each))

            policy = GatePolicy(rise=RISE, window=WINDOW, deadline=self.timeout)
            verdict = judge(policy, trial, ask, self.clock, lambda _: None)
        finally:
            self.stacks.remove(name)
        if isinstance(verdict, Inconclusive):
            raise NotPreparedError(f"preflight: {verdict.reason}")
        if not isinstance(verdict, Healthy) and gate.has_lost:
            # What the engine took with it is not started again in a trial.
            raise NotPreparedError(f"preflight: the engine was lost meanwhile; {verdict.reason}")
        if not isinstance(verdict, Healthy) and _is_well(verdict.evidence):
            # It ran out of time while it passed: the host is slow, and the trial adds to its load.
            raise NotPreparedError(f"preflight: {verdict.reason}")
        if not isinstance(verdict, Healthy):
            raise DeployError(f"preflight: {verdict.reason}")

    def clear(self) -> None:
        """Remove the trials that killed runs left behind.

        Raises:
            EngineUnreachableError: the engine can't be asked.
        """
        left = self.stacks.engine.services_labelled(f"{PREFLIGHT_LABEL}={self.stack}")
        for name in sorted({service["Spec"]["Labels"][STACK_LABEL] for service in left}):
            self.stacks.remove(name)

    def _probes(self, ports: Mapping[int, int]) -> tuple[SafeProbe, ...]:
        """Leave out the provider's route where the live stack, which all see, doesn't have it."""
        live = self.stacks.look(self.stack).services.values()
        has_route = any(PROVIDER_PATH in label for s in live for label in s.labels.values())
        everything = personal(self.probes, ports)
        elsewhere = tuple(safe for safe in everything if not _is_about_provider(safe.probe))
        return everything if has_route or not elsewhere else elsewhere


def _is_well(evidence: Round) -> bool:
    return all(result.outcome is Outcome.PASS for result in evidence)


def _is_about_provider(probe: Probe) -> bool:
    return isinstance(probe, Identity) and PROVIDER_PATH in probe.url
