"""``converge``: run an end-to-end assertion until it holds or its deadline has passed."""

import argparse
from typing import Any, Final, assert_never

from attrs import asdict, evolve, frozen

from runner import preconditions
from runner.cli.command import Command
from runner.config.assertion import Assertion, find_assertion
from runner.exit_codes import ExitCode
from runner.platforms.build import SystemClock, open_prober
from runner.reconcile.gate import Clock, judge
from runner.reconcile.model import (
    Deployment,
    Healthy,
    Inconclusive,
    ProbeResult,
    Release,
    Round,
    Unhealthy,
    Verdict,
)
from runner.reconcile.replies import Expected
from runner.systemd.graph import query_start_timeout
from runner.terminal.options import add_config_arguments, print_output
from runner.terminal.text import format_result

NO_DEPLOYMENT: Final = Deployment(Release("", "", ""), "")
"""Placeholder for the gate: an assertion judges no release, and none of its probes reads one."""


@frozen
class Converged:
    """How an assertion ended."""

    name: str
    outcome: str
    exit: ExitCode
    reason: str
    """The failure, or how long it held."""
    evidence: Round
    """The last round."""
    doubts: tuple[str, ...] = ()
    """A sentence for each probe whose target unit only the config declares."""

    def to_text(self) -> str:
        lines = [f"{self.name}: {self.outcome}: {self.reason}"]
        lines += [f"  {doubt}" for doubt in self.doubts]
        lines += [f"  {format_result(result)}" for result in self.evidence]
        return "\n".join(lines)

    def to_data(self) -> dict[str, object]:
        evidence = [_to_data(result) for result in self.evidence]
        return {**asdict(self), "exit": int(self.exit), "evidence": evidence}


def _run(arguments: argparse.Namespace) -> int:
    assertion = find_assertion(
        arguments.name, config=arguments.config, config_dir=arguments.config_dir
    )
    outcome = assert_now(assertion, SystemClock())
    print_output(outcome.to_data(), outcome.to_text(), as_json=arguments.json)
    return outcome.exit


def _to_data(result: ProbeResult) -> dict[str, Any]:
    """Convert to the keys that the journal uses, which calls the outcome ``answer``."""
    data = asdict(result)
    return {**data, "answer": data.pop("outcome").value}


def assert_now(assertion: Assertion, clock: Clock) -> Converged:
    """Run probe rounds until the gate of the assertion passes, or can't pass any more.

    Raises:
        ConfigError: systemd would cut it off.
        OrderingError: a probe would wait for the unit that runs it.
        StateError: this host can't run any probe.
    """
    config = assertion.config
    limit = query_start_timeout(config.caller)
    preconditions.fit(config.caller, assertion.longest, assertion.explain(), limit)
    doubts: list[str] = []
    probes = preconditions.clear(
        config.caller,
        config.probes,
        preconditions.prove_onlooker,
        table=preconditions.read_table(config.probes),
        doubt=doubts.append,
    )
    with open_prober(probes) as prober:
        verdict = judge(
            config.gate,
            NO_DEPLOYMENT,
            lambda nothing, left: prober.ask(Expected(nothing), left),
            clock,
            lambda _: None,
        )
    return evolve(_outcome(assertion.name, verdict), doubts=tuple(doubts))


def _outcome(name: str, verdict: Verdict) -> Converged:
    match verdict:
        case Healthy(_, evidence, rounds, held):
            reason = f"held {held:.1f} s over {rounds} rounds"
            return Converged(name, "converged", ExitCode.OK, reason, evidence)
        case Unhealthy(_, reason, evidence):
            return Converged(name, "not converged", ExitCode.UNHEALTHY, reason, evidence)
        case Inconclusive(_, reason, evidence):
            return Converged(name, "undecided", ExitCode.UNDECIDED, reason, evidence)
        case _:
            assert_never(verdict)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="name of the assertion, for example dashboard")
    add_config_arguments(parser)


COMMAND = Command(
    sentence=(
        "Run an end-to-end assertion: repeat its probes until they pass or its deadline ends;"
        " deploy nothing."
    ),
    add_arguments=_add_arguments,
    run=_run,
    shows_exit_codes=True,
)
