"""``graph``: draw the systemd units that a gate probes, and their start order."""

import argparse

from runner.cli.command import Command, app_of
from runner.cli.gates import (
    add_units_argument,
    choose_prover,
    judge,
    load_units,
    of_app,
    read_table,
)
from runner.cli.graph_text import picture
from runner.exit_codes import ExitCode
from runner.systemd.graph import read_live
from runner.terminal.options import add_app_arguments, print_output


def _run(arguments: argparse.Namespace) -> int:
    subject = of_app(app_of(arguments))
    probes = subject.probes
    units = (
        load_units(arguments.units, [subject]).units
        if arguments.units
        else read_live([subject.caller, *(probe.target_unit for probe in probes)])
    )
    judged = judge(subject, choose_prover(subject, units), read_table(subject, arguments.units))
    unresolved = {each.probe for each in judged if each.unresolved}
    refused = {each.probe for each in judged if each.refused}
    drawn = picture(units, subject.caller, probes, unresolved, refused)
    form = arguments.format
    text = drawn.to_mermaid() if form == "mermaid" else drawn.to_dot()
    print_output({"format": form, "drawing": text}, text, as_json=arguments.json)
    return ExitCode.OK


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_app_arguments(parser)
    add_units_argument(parser)
    parser.add_argument(
        "--format",
        choices=("mermaid", "dot"),
        default="mermaid",
        help="language of the drawing (default: %(default)s)",
    )


COMMAND = Command(
    sentence="Draw the units that a gate probes and their start order; refused probes are red.",
    add_arguments=_add_arguments,
    run=_run,
)
