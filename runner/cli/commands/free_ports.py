"""``free-ports``: the one way to get back ports that the engine holds for no container."""

import argparse

from runner.cli.command import Command
from runner.config.app import DEFAULT_SOCKET
from runner.exit_codes import ExitCode
from runner.platforms.swarm.engine_api import Engine
from runner.platforms.swarm.leaked_ports import find_leaks, format_ports
from runner.systemd.docker_unit import DEFAULT_UNIT, DockerUnit
from runner.terminal.options import answer


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare which engine it is about, and whether it may be restarted."""
    parser.add_argument(
        "--unit", default=DEFAULT_UNIT, help="the engine's unit (default: %(default)s)"
    )
    parser.add_argument(
        "--socket",
        default=DEFAULT_SOCKET,
        metavar="FILE",
        help="where it listens (default: %(default)s)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="only look: exit 23 if there are such ports"
    )
    parser.add_argument("--json", action="store_true", help="answer in JSON, for machines")


def _run(arguments: argparse.Namespace) -> int:
    unit, engine = DockerUnit(arguments.unit), Engine(arguments.socket)
    leaked = find_leaks(engine, unit.main_pid())
    left, is_restarted = leaked, False
    if leaked and not arguments.dry_run:
        unit.restart()
        left, is_restarted = find_leaks(engine, unit.main_pid()), True
    text = "every port that the engine holds is a container's"
    if leaked:
        held = "held" if is_restarted else "holds"
        text = f"the engine {held} {format_ports(leaked)} for no container"
    if is_restarted:
        text += f"; {unit.name} was started again"
    if is_restarted and left:
        text += f", and still holds {format_ports(left)}"
    data = {"leaked": sorted(leaked), "restarted": is_restarted, "left": sorted(left)}
    answer(data, text, as_json=arguments.json)
    return ExitCode.ENGINE_STUCK if left else ExitCode.OK


COMMAND = Command(
    sentence="Start the engine again if it holds ports for no container.",
    add_arguments=_add_arguments,
    run=_run,
    shows_exit_codes=True,
)
