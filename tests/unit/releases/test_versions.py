"""The order of release labels is that of Co-op Cloud: by recipe, then by what it deploys."""

# ruff: noqa: SIM300 (asserts read: expected == actual)

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.releases.versions import Label, ordered, parse

NEWEST_FIRST = [
    "4.0.0+v1.0.0",
    "3.10.0+v3.5.1",
    "3.4.1+v3.10.0",
    "3.4.1+v3.5.1",
    "3.4.1",
    "3.4.0+v3.10.0",
    "3.4.0+v3.9.9",
    "v3.3.9",
    "1.0",
    "0.9.post1",
    "0.9",
]
PRERELEASES = ["5.0.0rc1", "5.0.0-beta.2", "2.0.0+v3.0.0-rc.1", "6.0.0-rc.1+v1.0.0", "7.dev1"]
NO_LABELS = [
    *("", "latest", "main", "v", "+", "+v3.5.1", "3.4.0+latest", "3.4.0+v3.5.1-alpine", "3..4"),
    *(
        "../3.4.0",
        "3.4.0/x",
        ".3",
        "-1",
        "3.4.0\n",
        " 3.4.0",
        "3.4.0 ",
        "1!2.0",
        "3.4.0+v3*",
        "٣.٤",
    ),
    *("3.4.0\0", "9" * 129, "release-3.4.0", "1.0+2.0..3"),
]


def test_the_recipe_version_goes_first_and_the_upstream_version_second() -> None:
    """Numbers are compared as numbers: v3.10 is newer than v3.9, and 3.10.0 than 3.4.1."""
    expected = [text for text in NEWEST_FIRST if text != "3.4.1"]
    shuffled = sorted(expected)
    assert expected == [label.text for label in ordered(shuffled, prereleases=False)]


def test_a_plain_version_is_recipe_and_upstream_in_one() -> None:
    """A label without a plus deploys the version that it names."""
    label = parse("3.5.1")
    assert label is not None
    assert label.recipe == label.upstream


@pytest.mark.parametrize("text", PRERELEASES)
def test_a_prerelease_in_either_half_is_left_out_unless_asked_for(text: str) -> None:
    """A release candidate of the recipe or of Traefik is nothing for production."""
    assert ["1.0"] == [label.text for label in ordered([text, "1.0"], prereleases=False)]
    assert {text, "1.0"} == {label.text for label in ordered([text, "1.0"], prereleases=True)}


@pytest.mark.parametrize("text", NO_LABELS)
def test_an_invalid_version_or_unsafe_name_is_left_out(text: str) -> None:
    """Other directories and tags are no releases, and an unsafe name never becomes a path."""
    assert ["1.0"] == [label.text for label in ordered([text, "1.0"], prereleases=True)]


def test_a_label_is_kept_as_it_is_written() -> None:
    """Normalizing it would lose the directory or tag that it names."""
    texts = ["v1.0", "1.0.0", "1.00", "01.0"]
    assert set(texts) == {label.text for label in ordered(texts, prereleases=False)}


numbers = st.lists(st.integers(0, 12), min_size=1, max_size=3).map(lambda n: ".".join(map(str, n)))
versions = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["", "v"]), numbers, st.sampled_from(["", "rc1", "-beta.2", ".post1"])
    ),
)
labels = st.one_of(versions, st.tuples(versions, versions).map("+".join)).map(parse)


@given(a=labels, b=labels, c=labels)
def test_the_order_is_total_and_consistent(
    a: Label | None, b: Label | None, c: Label | None
) -> None:
    """Exactly one of less, equal, greater holds, equality is that of the text."""
    assert a is not None
    assert b is not None
    assert c is not None
    assert 1 == [a < b, a == b, a > b].count(True)
    assert (a.text == b.text) == (a == b)
    assert (a < b) == (b > a)
    if a <= b <= c:
        assert a <= c


@given(
    texts=st.lists(st.one_of(st.text(max_size=12), versions, st.sampled_from(NEWEST_FIRST))),
    prereleases=st.booleans(),
)
def test_ordering_invents_and_loses_nothing_and_is_repeatable(
    texts: list[str],
    prereleases: bool,  # noqa: FBT001 - Hypothesis gives it by name
) -> None:
    """What comes out was put in, is a version, and comes in the same order again."""
    once = ordered(texts, prereleases=prereleases)
    assert {label.text for label in once} == {
        text
        for text in texts
        if (label := parse(text)) is not None and (prereleases or not label.is_prerelease)
    }
    assert once == ordered([label.text for label in reversed(once)], prereleases=prereleases)
