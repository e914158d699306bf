"""``free-ports``: restart dockerd if it leaked published ports; nothing else frees them."""

import argparse

from runner.cli.command import Command
from runner.config.app import DEFAULT_SOCKET
from runner.exit_codes import ExitCode
from runner.platforms.swarm.engine_api import Engine
from runner.platforms.swarm.leaked_ports import find_leaks, format_ports
from runner.systemd.docker_unit import DEFAULT_UNIT, DockerUnit
from runner.terminal.options import print_output


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that name the dockerd and that forbid its restart."""
    parser.add_argument(
        "--unit", default=DEFAULT_UNIT, help="systemd unit of dockerd (default: %(default)s)"
    )
    parser.add_argument(
        "--socket",
        default=DEFAULT_SOCKET,
        metavar="FILE",
        help="socket of dockerd (default: %(default)s)",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="never restart dockerd; exit with 23 if it leaked ports",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def _run(arguments: argparse.Namespace) -> int:
    unit, engine = DockerUnit(arguments.unit), Engine(arguments.socket)
    leaked = find_leaks(engine, unit.main_pid())
    left, is_restarted = leaked, False
    if leaked and not arguments.dry_run:
        unit.restart()
        left, is_restarted = find_leaks(engine, unit.main_pid()), True
    text = "dockerd leaked no port"
    if leaked:
        held = "held" if is_restarted else "holds"
        text = f"dockerd {held} {format_ports(leaked)}, which no container uses"
    if is_restarted:
        text += f"; {unit.name} was restarted"
    if is_restarted and left:
        text += f" but still holds {format_ports(left)}"
    data = {"leaked": sorted(leaked), "restarted": is_restarted, "left": sorted(left)}
    print_output(data, text, as_json=arguments.json)
    return ExitCode.ENGINE_STUCK if left else ExitCode.OK


COMMAND = Command(
    sentence="Restart dockerd if it leaked published ports.",
    add_arguments=_add_arguments,
    run=_run,
    shows_exit_codes=True,
)
