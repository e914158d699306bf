"""An app is found where abra keeps it; what is missing is named, with what to do about it."""

# ruff: noqa: SIM300 (asserts read: expected == actual)

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import evolve

from runner.reconcile.errors import SourceUnreachableError
from runner.releases.abra import AbraApp, AbraReleases, find_app, stack_name

DOMAIN = "traefik.example.com"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Make what abra keeps: two servers, two apps, a recipe."""
    for path in ("servers/default", "servers/other.example.com", "recipes/traefik"):
        (tmp_path / path).mkdir(parents=True)
    write(tmp_path, "TYPE=traefik:3.4.0+v3.5.1\nDOMAIN=traefik.example.com\n")
    (tmp_path / "servers" / "default" / "wiki.example.com.env").write_text("TYPE=wiki\n")
    (tmp_path / "servers" / "default" / "README.md").touch()
    return tmp_path


def write(place: Path, text: str) -> Path:
    file = place / "servers" / "default" / f"{DOMAIN}.env"
    file.write_text(text)
    return file


def refusal(place: Path, server: str = "default", domain: str = DOMAIN) -> SourceUnreachableError:
    with pytest.raises(SourceUnreachableError) as caught:
        find_app(place, server, domain)
    return caught.value


@pytest.mark.parametrize(
    "text",
    [
        "TYPE=traefik\n",
        "TYPE=traefik:3.4.0+v3.5.1\n",
        "RECIPE=traefik:1.0\n",
        "TYPE=other\nRECIPE=traefik\n",
        "TYPE=traefik\nSTACK_NAME=traefik_example_com\n",
    ],
)
def test_an_app_is_found(place: Path, text: str) -> None:
    """Whatever version was attempted last: it decides nothing."""
    file = write(place, text)
    expected = AbraApp(
        stack="traefik_example_com",
        env_file=file,
        recipe_name="traefik",
        recipe=place / "recipes" / "traefik",
    )
    assert expected == find_app(place, "default", DOMAIN)


def test_a_long_domain_is_cut_as_abra_does() -> None:
    """Else there would be a second stack."""
    assert "a_b_c" == stack_name("a.b-c".replace("-", "."))
    assert 45 == len(stack_name("x" * 60 + ".example.com"))


def test_an_unknown_server_is_reported(place: Path) -> None:
    """With those that are."""
    error = refusal(place, server="nowhere")
    assert "abra knows no server nowhere" in error.message
    assert "known: default, other.example.com" == error.hint


def test_an_unknown_app_is_reported(place: Path) -> None:
    """The hint lists the known ones, or reports that there are none."""
    error = refusal(place, domain="x.example.com")
    assert "abra knows no app x.example.com on the server default" in error.message
    assert "known: traefik.example.com, wiki.example.com" == error.hint
    assert "abra has none" == refusal(place, server="other.example.com").hint


def test_a_directory_without_abra_s_files_is_reported(place: Path) -> None:
    """The operator's abra may keep its files elsewhere."""
    error = refusal(place / "nowhere")
    assert "can't be listed: No such file" in error.message
    assert "$ABRA_DIR" in error.hint


def test_a_recipe_that_was_never_fetched_is_reported(place: Path) -> None:
    """With the command for it."""
    error = refusal(place, domain="wiki.example.com")
    assert "the recipe wiki is not in" in error.message
    assert "fetch it: abra recipe fetch wiki" == error.hint


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("DOMAIN=x\n", "names no recipe"),
        ("TYPE=\n", "names no recipe"),
        ("TYPE=../../etc\n", "names the recipe '../../etc'"),
        ("TYPE=traefik\nSTACK_NAME=proxy\n", "sets STACK_NAME to proxy"),
        ("what is this\n", "line 1: expected NAME=value"),
    ],
)
def test_an_env_file_without_a_recipe_is_reported(place: Path, text: str, what: str) -> None:
    """With its path."""
    file = write(place, text)
    error = refusal(place)
    assert str(file) in error.message
    assert what in error.message


def test_the_releases_are_the_tags_of_the_recipe(
    place: Path, tmp_path: Path, need: Callable[[str], str]
) -> None:
    """Whichever of them is checked out."""
    recipe = place / "recipes" / "traefik"
    (recipe / "compose.yml").write_text("services: {}\n")
    git = [need("git"), "-C", str(recipe), "-c", "user.name=t", "-c", "user.email=t@t.invalid"]
    for command in (
        ["init", "--quiet"],
        ["add", "."],
        ["commit", "--quiet", "--message=one"],
        ["tag", "3.4.0+v3.5.1"],
        ["tag", "3.3.0+v3.4.0"],
    ):
        subprocess.run([*git, *command], check=True)
    releases = AbraReleases(place, "default", DOMAIN, tmp_path / "mirror", 20.0)
    newest, _ = releases.labels()
    assert "3.4.0+v3.5.1" == newest.text
    (tmp_path / "files").mkdir()
    releases.fetch(newest, tmp_path / "files")
    assert ["compose.yml"] == [path.name for path in (tmp_path / "files").iterdir()]
    with pytest.raises(SourceUnreachableError, match="abra knows no app"):
        evolve(releases, domain="x.example.com").labels()
