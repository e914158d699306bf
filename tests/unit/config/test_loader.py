"""Parsed data becomes typed values, or a list of all of its mistakes."""

# ruff: noqa: SIM300 (asserts read: expected == actual)

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import pytest
from attrs import field, frozen

from runner.config.loader import structure
from runner.reconcile.field_types import (
    Address,
    Count,
    Rule,
    Seconds,
    Sha256,
    Status,
    Text,
    UnitName,
    Url,
)


@frozen(kw_only=True)
class Circle:
    kind: Literal["circle"] = "circle"
    radius: Seconds


@frozen(kw_only=True)
class Square:
    kind: Literal["square"] = "square"
    side: Count


@frozen(kw_only=True)
class Inner:
    name: Text
    only: Literal["this"] = "this"


@frozen(kw_only=True)
class Outer:
    text: str = ""
    flag: bool = False
    count: Count = 1
    inner: Inner | None = None
    shape: Circle | Square | None = None
    must: Circle | Square = field(factory=lambda: Square(side=1))
    several: tuple[Circle | Square, ...] = ()
    texts: dict[str, str] = field(factory=dict[str, str])
    address: Address | None = None


def rule_of(alias: object) -> Rule:
    rule = getattr(alias, "__metadata__", (None,))[0]
    assert isinstance(rule, Rule)
    return rule


COUNT, SECONDS, TEXT = (rule_of(rule).expected for rule in (Count, Seconds, Text))


def mistakes(data: object) -> list[str]:
    _, problems = structure(data, Outer)
    return sorted(map(str, problems))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"count": "3"}, f"count = '3': expected {COUNT}"),
        ({"count": True}, f"count = True: expected {COUNT}"),
        ({"count": 3.0}, f"count = 3.0: expected {COUNT}"),
        ({"count": None}, f"count = None: expected {COUNT}"),
        ({"flag": 0}, "flag = 0: expected true or false"),
        ({"flag": "true"}, "flag = 'true': expected true or false"),
        ({"text": 3}, "text = 3: expected a text"),
        ({"inner": {}}, "inner.name: missing; expected a value: it has no default"),
        ({"inner": []}, "inner = []: expected a table"),
        ({"inner": {"name": ""}}, f"inner.name = '': expected {TEXT}"),
        ({"texts": {"a": 1}}, "texts[a] = 1: expected a text"),
        ({"texts": []}, "texts = []: expected a table"),
        ({"several": {}}, "several = {}: expected a list"),
        ({"several": "circle"}, "several = 'circle': expected a list"),
        (
            {"several": [{"kind": "circle", "radius": 1}, {"kind": "square", "side": 0}]},
            f"several[1].side = 0: expected {COUNT}",
        ),
        (
            {"must": 5},
            'must = 5: expected a table with a key kind, one of "circle", "square"',
        ),
        (
            {"must": {"kind": "oval"}},
            "must = {'kind': 'oval'}: expected kind to be one of \"circle\", \"square\"",
        ),
        ({"must": {}}, 'must = {}: expected kind to be one of "circle", "square"'),
        (
            {"address": "localhost:80"},
            (
                "address = 'localhost:80': expected an IP address and a port,"
                " such as 127.0.0.1:80 or [::1]:80"
            ),
        ),
    ],
)
def test_a_mistake_names_its_key_its_value_and_what_was_expected(
    data: dict[str, Any], expected: str
) -> None:
    """One wrong value gives one sentence that needs no look at the source."""
    assert [expected] == mistakes(data)


@pytest.mark.parametrize("kind", [["circle"], {"circle": 1}, 5, None, True])
def test_a_kind_of_another_type_is_reported_like_an_unknown_kind(kind: object) -> None:
    """A ``kind`` that is no text gets the list of kinds."""
    assert [
        f'must = {{\'kind\': {kind!r}}}: expected kind to be one of "circle", "square"'
    ] == mistakes({"must": {"kind": kind}})


def test_the_only_allowed_word_is_named_instead_of_a_python_type() -> None:
    """As for a key that has one allowed value."""
    (told,) = mistakes({"inner": {"name": "n", "only": "that"}})
    assert told.startswith("inner.only = 'that': expected ")
    assert '"this"' in told
    assert "typing" not in told


def test_every_mistake_is_reported_at_once() -> None:
    """Mistakes in several branches, at several depths, all come in one list."""
    assert [
        f"count = 0: expected {COUNT}",
        "inner.name: missing; expected a value: it has no default",
        "inner.size = 3: expected no such key; the keys here are name, only",
        f"several[0].radius = 'r': expected {SECONDS}",
        'several[2] = 7: expected a table with a key kind, one of "circle", "square"',
        "texts[b] = False: expected a text",
        (
            "unknown = 1: expected no such key; the keys here are"
            " address, count, flag, inner, must, several, shape, text, texts"
        ),
    ] == mistakes(
        {
            "count": 0,
            "inner": {"size": 3},
            "several": [
                {"kind": "circle", "radius": "r"},
                {"kind": "square", "side": 1},
                7,
            ],
            "texts": {"a": "x", "b": False},
            "unknown": 1,
        }
    )


@pytest.mark.parametrize("data", [None, 5, "text", [], [{}], True])
def test_a_file_without_a_table_is_one_mistake(data: object) -> None:
    """For example a file that holds one bare value."""
    assert [f"(the whole file) = {data!r}: expected a table"] == mistakes(data)


def test_a_long_value_is_cut_short() -> None:
    """A wrong value of a thousand characters doesn't bury the sentence."""
    (told,) = mistakes({"count": "x" * 1000})
    assert len(told) < 200
    assert "…: expected a whole number" in told


def test_good_data_becomes_typed_values_and_whole_numbers_become_seconds() -> None:
    """Every kind of field is filled; seconds are float however they were written."""
    made, problems = structure(
        {
            "text": "t",
            "flag": True,
            "count": 2,
            "inner": {"name": "n"},
            "must": {"kind": "circle", "radius": 3},
            "several": [{"kind": "square", "side": 4}],
            "texts": {"a": "b"},
            "address": "[::1]:80",
        },
        Outer,
    )
    assert [] == problems
    assert made is not None
    assert (
        Outer(
            text="t",
            flag=True,
            count=2,
            inner=Inner(name="n"),
            must=Circle(radius=3.0),
            several=(Square(side=4),),
            texts={"a": "b"},
            address="[::1]:80",
        )
        == made
    )
    assert isinstance(made.must, Circle)
    assert float is type(made.must.radius)


def test_missing_keys_get_their_defaults() -> None:
    """An empty table is good if no key is required."""
    assert (Outer(), []) == structure({}, Outer)


GOOD_AND_BAD: dict[str, tuple[object, Sequence[object], Sequence[object]]] = {
    "seconds": (Seconds, [0.001, 1, 2.5], [0, -1, float("nan"), True, "1", None]),
    "count": (Count, [1, 10**6], [0, -1, 1.0, True, "1"]),
    "status": (Status, [100, 200, 599], [99, 600, 200.0, True, "200"]),
    "unit": (
        UnitName,
        ["deploy-proxy.service", "a@b.service", "x.socket", r"a\x2db.service"],
        ["", "proxy", "a b.service", "proxy.service\n", "../x.service", ".service", 5],
    ),
    "address": (
        Address,
        ["127.0.0.1:80", "[::1]:80", "10.0.0.1:65535"],
        [
            "",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:0",
            "127.0.0.1:65536",
            ":80",
            "a:80",
            "1:2:80",
            "127.0.0.1:+80",
            "127.0.0.1:٣",
            "127.0.0.1:80\n",
            80,
        ],
    ),
    "url": (
        Url,
        ["http://127.0.0.1", "https://[::1]:8443/ping", "http://name.example/"],
        [
            "",
            "127.0.0.1",
            "ftp://127.0.0.1",
            "http://",
            "http:///path",
            "http://a:0",
            "http://a:b",
            "http://a:99999",
            "http://[::1",
            5,
        ],
    ),
    "sha256": (
        Sha256,
        ["a" * 64, "0" * 64],
        ["", "A" * 64, "a" * 63, "a" * 65, "a" * 64 + "\n", 5],
    ),
    "text": (Text, ["x", " "], ["", 5, None, "a\0b"]),
}


@pytest.mark.parametrize("name", GOOD_AND_BAD)
def test_a_rule_accepts_good_values_and_refuses_near_misses(name: str) -> None:
    """For every type of a config."""
    alias, good, bad = GOOD_AND_BAD[name]
    rule = rule_of(alias)
    assert [] == [value for value in good if not rule.holds(value)]
    assert [] == [value for value in bad if rule.holds(value)]


def test_an_annotation_that_carries_something_else_is_left_to_cattrs() -> None:
    """Only our own rules are checked as rules."""

    @frozen
    class Loose:
        value: Annotated[bool, "a remark"]

    assert (Loose(value=True), []) == structure({"value": True}, Loose)
