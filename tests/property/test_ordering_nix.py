"""The proof in Nix and the proof in Python give the same verdicts, chains and words."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from unit_graphs import Case, cases, many_units

from runner.reconcile.errors import OrderingError
from runner.reconcile.ordering import Served, Target, prove

LIB = Path(__file__).parents[2] / "nix" / "lib"
Evaluate = Callable[[str], Any]
Verdicts = list[dict[str, object]]
Judge = Callable[[list[dict[str, object]]], list[Verdicts]]


@pytest.fixture(scope="session")
def judge(evaluate: Evaluate, tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """Have ordering.nix judge many graphs in one evaluation."""
    place = tmp_path_factory.mktemp("graphs") / "graphs.json"

    def run(graphs: list[dict[str, object]]) -> list[Verdicts]:
        place.write_text(json.dumps(graphs))
        found: list[Verdicts] = evaluate(
            f"map (import {LIB}/ordering.nix) (builtins.fromJSON (builtins.readFile {place}))"
        )
        return found

    return run


def as_nix(case: Case) -> dict[str, object]:
    return {
        "units": {
            name: {"after": case.after[name], "before": case.before[name]} for name in case.after
        },
        "aliases": case.aliases,
        "caller": case.caller,
        "targets": [
            {"unit": target.unit, "deployed": target.served is Served.BY_ITS_DEPLOYMENT}
            for target in case.targets
        ],
    }


def as_python(case: Case) -> Verdicts:
    units = case.graph()
    found: Verdicts = []
    for target in case.targets:
        try:
            prove(units, case.caller, target)
        except OrderingError as error:
            found.append(
                {"target": target.unit, "chain": list(error.chain), "message": error.message}
            )
    return found


CIRCLE = Case(
    after={"x.service": ["b.service"], "a.service": []},
    before={"x.service": [], "a.service": []},
    aliases={"a.service": "b.service", "b.service": "a.service", "c.service": "b.service"},
    caller="a.service",
    targets=[Target("x.service"), Target("c.service")],
)
"""Two names that are aliases of each other."""
RENAMED = Case(
    after={"a.service": [], "p.service": []},
    before={"a.service": [], "p.service": []},
    aliases={"a.service": "b.service"},
    caller="p.service",
    targets=[Target("a.service"), Target("b.service")],
)
"""A unit that is only defined under a name that is an alias."""

FEW = settings(
    max_examples=max(10, settings().max_examples // 10),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@FEW
@given(st.lists(cases(), min_size=1, max_size=50))
@example([CIRCLE, RENAMED])
def test_nix_and_python_give_the_same_verdicts(judge: Judge, some: list[Case]) -> None:
    """Verdicts, shortest chains and messages, on the same graphs."""
    assert judge([as_nix(case) for case in some]) == [as_python(case) for case in some]


@settings(FEW, max_examples=max(3, settings().max_examples // 50))
@given(many_units())
def test_thousands_of_units(judge: Judge, case: Case) -> None:
    """The same with some thousand units."""
    assert judge([as_nix(case)]) == [as_python(case)]


def test_a_chain_of_ten_thousand_is_no_recursion(judge: Judge) -> None:
    """The evaluator's nesting limit does not matter."""
    names = [f"u{number}.service" for number in range(10_000)]
    after = {later: [earlier] for earlier, later in pairwise(names)}
    [[verdict]] = judge(
        [
            {
                "units": {name: {"after": after.get(name, [])} for name in names},
                "caller": names[0],
                "targets": [{"unit": names[-1]}],
            }
        ]
    )
    assert verdict["chain"] == names[::-1]
