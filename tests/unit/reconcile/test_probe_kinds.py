"""The recipe for a new kind of probe (docs/architecture.md): mypy lists what the class lacks."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final, get_args

import attrs
import pytest
from typing_extensions import get_protocol_members

from runner.reconcile.probes import Probe, ProbeKind

ROOT: Final = Path(__file__).parents[3]
HEAD: Final = """
from collections.abc import Mapping
from typing import ClassVar, Literal

from attrs import frozen
from runner.reconcile.field_types import Name, Seconds, UnitName
from runner.reconcile.http_client import HttpClient
from runner.reconcile.model import Outcome, ProbeResult
from runner.reconcile.ordering import Served
from runner.reconcile.probes import PROBE_TIMEOUT, AskedFrom, ProbeKind
from runner.reconcile.replies import Expected
"""
MEMBERS: Final = {
    "kind": 'kind: Literal["toy"] = "toy"',
    "name": "name: Name",
    "target_unit": "target_unit: UnitName",
    "timeout": "timeout: Seconds = PROBE_TIMEOUT",
    "served": "served: ClassVar = Served.BY_ITSELF",
    "asked_from": "asked_from: ClassVar = AskedFrom.HOST",
    "proves_candidate": "proves_candidate: ClassVar = False",
    "asks_traefik": "asks_traefik: ClassVar = False",
    "silence": "silence: ClassVar = Outcome.FAIL",
    "routed_url": """
    @property
    def routed_url(self) -> None:
        return None
    """,
    "unresolved_url": """
    @property
    def unresolved_url(self) -> None:
        return None
    """,
    "inside": """
    def inside(self, ports: Mapping[int, int]) -> None:
        del ports
    """,
    "ask": """
    async def ask(self, client: HttpClient, expected: Expected, limit: float) -> ProbeResult:
        return ProbeResult("toy", Outcome.PASS, "it is a toy", "toy.service")
    """,
}
"""Every member of a kind, as a toy has it."""


def toy(number: int, lacks: str) -> str:
    """Write a kind that lacks one member, and a use of it."""
    body = "\n    ".join(text for member, text in MEMBERS.items() if member != lacks)
    return f"""

@frozen(kw_only=True)
class Toy{number}:
    {body}


def accept{number}(toy: Toy{number}) -> ProbeKind:
    return toy
"""


def test_mypy_names_the_member_that_a_new_kind_lacks(tmp_path: Path) -> None:
    """Each of them, by its name; and it accepts the kind that has them all."""
    pytest.importorskip("mypy")
    lacking = [*MEMBERS, "nothing"]
    module = tmp_path / "toys.py"
    module.write_text(HEAD + "".join(toy(number, lacks) for number, lacks in enumerate(lacking)))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", str(module)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.findall(
        r'"Toy(\d+)" is missing following "ProbeKind" protocol member:\n.*note: +(\w+)$',
        done.stdout,
        re.MULTILINE,
    )
    assert found == [(str(number), member) for number, member in enumerate(MEMBERS)], done.stdout
    assert done.stdout.count(": error: ") == len(MEMBERS), done.stdout
    assert get_protocol_members(ProbeKind) == MEMBERS.keys()


@pytest.mark.parametrize("kind", get_args(Probe))
def test_each_kind_has_a_name_and_a_target(kind: type) -> None:
    """The loader finds the class of a table by its name; its target is proven."""
    fields = attrs.fields_dict(kind)
    assert isinstance(fields["kind"].default, str)
    assert {"name", "target_unit", "timeout"} <= fields.keys()
    words = [attrs.fields_dict(each)["kind"].default for each in get_args(Probe)]
    assert words.count(fields["kind"].default) == 1
