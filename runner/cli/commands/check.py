"""``check``: validate configs and time budgets, and prove that no gate waits for its caller."""

import argparse
from typing import Any

from attrs import asdict, frozen

from runner import preconditions
from runner.cli.command import Command
from runner.cli.gates import (
    Judged,
    Subject,
    add_units_argument,
    choose_prover,
    find_subjects,
    judge,
    load_units,
    read_table,
)
from runner.exit_codes import ExitCode
from runner.reconcile.errors import ConfigError
from runner.systemd.graph import Loaded, query_start_timeout
from runner.terminal.options import add_app_arguments, print_output


@frozen
class Checked:
    """One gate or assertion, with its mistakes."""

    subject: Subject
    limit: float | None
    """Seconds that systemd gives its caller; None if there is no limit, or it can't be read."""
    too_long: str
    """The error if the longest run does not fit ``limit``; empty if it fits."""
    probes: tuple[Judged, ...]

    @property
    def code(self) -> ExitCode:
        if self.too_long:
            return ExitCode.CONFIG
        is_refused = any(judged.refused for judged in self.probes)
        return ExitCode.ORDERING_REFUSED if is_refused else ExitCode.OK

    def to_data(self) -> dict[str, Any]:
        return {
            "caller": self.subject.caller,
            "longest": self.subject.longest,
            "limit": self.limit,
            "refused": self.too_long,
            "probes": [asdict(judged) for judged in self.probes],
        }

    def to_lines(self) -> list[str]:
        subject = self.subject
        lines = [
            f"{subject.name}: run by {subject.caller}; the longest run takes {subject.longest:g} s"
        ]
        if self.too_long:
            lines.append(f"  REFUSED  {self.too_long}")
        for judged in self.probes:
            mark = "REFUSED" if judged.refused else "ok"
            lines.append(f"  {mark:<8} {judged.probe:<16} {judged.refused or judged.target_unit}")
            if judged.unresolved:
                lines.append(f"           {judged.unresolved}")
        return lines


def _check(subject: Subject, loaded: Loaded | None) -> Checked:
    caller, units = subject.caller, loaded.units if loaded else None
    limit = loaded.start_limit(caller) if loaded else query_start_timeout(caller)
    too_long = ""
    try:
        preconditions.fit(caller, subject.longest, subject.explained, limit)
    except ConfigError as error:
        too_long = error.message
    judged = judge(subject, choose_prover(subject, units), read_table(subject, units))
    return Checked(subject, limit, too_long, judged)


def _run(arguments: argparse.Namespace) -> int:
    subjects = find_subjects(arguments.app, file=arguments.config, config_dir=arguments.config_dir)
    loaded = load_units(arguments.units, subjects) if arguments.units else None
    checked = [_check(subject, loaded) for subject in subjects]
    text = "\n".join(line for each in checked for line in each.to_lines())
    print_output(
        {each.subject.name: each.to_data() for each in checked}, text, as_json=arguments.json
    )
    return max(each.code for each in checked)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_app_arguments(parser, any_app=True)
    add_units_argument(parser)


COMMAND = Command(
    sentence="Check configs, and prove that no gate waits for its own caller; change nothing.",
    add_arguments=_add_arguments,
    run=_run,
)
