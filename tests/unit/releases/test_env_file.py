"""The variables of a recipe are those that abra would give it; nothing is silently dropped."""

# ruff: noqa: SIM300 (asserts read: expected == actual)

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.reconcile.errors import SourceUnreachableError
from runner.releases.env_file import compose_files, read_env_file, read_exports, variables


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=1\nB=2", {"A": "1", "B": "2"}),
        ("A=1\nA=2\n", {"A": "2"}),
        ("A=\nB=''\n", {"A": "", "B": ""}),
        ("# A=1\n\n  \nB=2\r\n", {"B": "2"}),
        ("A=v1 # length=32\n", {"A": "v1"}),
        ("A= # note\nB=\t# note\nC=#1\n", {"A": "", "B": "", "C": "#1"}),
        ("A='b # c' # d\n", {"A": "b # c"}),
        ("export A=1\n", {"A": "1"}),
        ("A=a b\n", {"A": "a b"}),
        ('A="a\\nb"\n', {"A": "a\nb"}),
        ('A=`Host("x")`\n', {"A": '`Host("x")`'}),
        ('A=x\nA="$A:y"\nA="${A}:z"\n', {"A": "x:y:z"}),
        ("A=x\nB='$A'\n", {"A": "x", "B": "$A"}),
        ('A="\\$B"\nC=\\${B}\n', {"A": "$B", "C": "${B}"}),
        ("A=$apr$x\n", {"A": "$apr$x"}),
        ("A=5$\n", {"A": "5$"}),
        ("", {}),
    ],
)
def test_an_env_file_means_what_abra_takes_it_for(
    tmp_path: Path, text: str, expected: dict[str, str]
) -> None:
    """``COMPOSE_FILE="$COMPOSE_FILE:compose.x.yml"`` is how recipes choose their overlays."""
    (tmp_path / "app.env").write_text(text)
    assert expected == read_env_file(tmp_path / "app.env")


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("A=1\nwhat is this\n", 2, "expected NAME=value"),
        ("A=1\n\n\nB\n", 4, "expected NAME=value"),
        ('A="open\nB=2\n', 1, "expected NAME=value"),
        ("a.b=1\n", 1, "'a.b' is no name of a variable"),
        ("A=1\nB=$C\n", 2, "$C is not set above"),
        ("A=${A}\n", 1, "$A is not set above"),
        ("PASSWORD=$2y$05$abc\n", 1, "$2 is not set above"),
    ],
)
def test_a_line_of_another_form_is_reported(
    tmp_path: Path, text: str, line: int, what: str
) -> None:
    """With its file and its number."""
    file = tmp_path / "app.env"
    file.write_text(text)
    with pytest.raises(SourceUnreachableError) as caught:
        read_env_file(file)
    assert f"{file}, line {line}: {what}" == caught.value.message


@pytest.mark.parametrize("wrong", ["missing", "directory", "binary", "nul"])
def test_an_unreadable_env_file_is_reported(tmp_path: Path, wrong: str) -> None:
    """With its path."""
    file = tmp_path / "app.env"
    if wrong == "directory":
        file.mkdir()
    if wrong == "binary":
        file.write_bytes(b"A=\xff\n")
    if wrong == "nul":
        file.write_bytes(b"A=a\0b\n")
    with pytest.raises(SourceUnreachableError, match=str(file)):
        read_env_file(file)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\r")))
def test_any_value_can_be_written(tmp_path_factory: pytest.TempPathFactory, value: str) -> None:
    """In single quotes, with what they can't hold escaped."""
    file = tmp_path_factory.getbasetemp() / "any.env"
    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    file.write_text(f"A='{quoted}'\n", newline="")
    assert {"A": value} == read_env_file(file)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("export TRAEFIK_YML_VERSION=v9\n", {"TRAEFIK_YML_VERSION": "v9"}),
        ("export A='a b' B=\"c\" # d'oh\n", {"A": "a b", "B": "c"}),
        ("export A=1; export B=2\n", {"A": "1"}),
        ("export A=\n", {"A": ""}),
        ("A=1\n  export B=2\n# export C=3\nexport D\nexport -f x\nexporter=1\n", {}),
        ("export A=$B\nexport C=$(date)\nexport D=`date`\n", {}),
        ("export A='one\ntwo'\nexport B=2\n", {"B": "2"}),
        ("#!/bin/bash\nset -e\nrun() {\n  export A=1\n}\n", {}),
    ],
)
def test_only_plain_exports_of_a_shell_file_count(
    tmp_path: Path, text: str, expected: dict[str, str]
) -> None:
    """The file is never run."""
    (tmp_path / "abra.sh").write_text(text)
    assert expected == read_exports(tmp_path / "abra.sh")


def test_a_recipe_without_a_shell_file_exports_nothing(tmp_path: Path) -> None:
    """Not every recipe has one."""
    assert {} == read_exports(tmp_path / "abra.sh")


def test_the_app_decides_over_the_recipe_and_the_stack_over_both(tmp_path: Path) -> None:
    """As abra has it."""
    (tmp_path / "abra.sh").write_text("export A=recipe\nexport B=recipe\n")
    (tmp_path / "app.env").write_text("B=app\nSTACK_NAME=app\n")
    found = variables("stack", tmp_path, tmp_path / "app.env")
    assert {"A": "recipe", "B": "app", "STACK_NAME": "stack"} == found
    assert {"A": "recipe", "B": "recipe", "STACK_NAME": "s"} == variables("s", tmp_path, None)


def test_compose_files_are_chosen_by_the_environment(tmp_path: Path) -> None:
    """In the order that they are named in."""
    for name in ("compose.yml", "compose.x.yml"):
        (tmp_path / name).touch()
    assert ("compose.yml",) == compose_files({}, tmp_path)
    chosen = {"COMPOSE_FILE": "compose.x.yml:compose.yml"}
    assert ("compose.x.yml", "compose.yml") == compose_files(chosen, tmp_path)


@pytest.mark.parametrize(
    ("chosen", "what"),
    [
        ("/etc/compose.yml", "'/etc/compose.yml'"),
        ("compose.yml:../compose.yml", "'../compose.yml'"),
        ("compose.yml:", "''"),
        ("..", "'..'"),
        ("compose.yml:compose.y.yml", "compose.y.yml, which doesn't exist"),
        ("folder", "folder, which doesn't exist"),
    ],
)
def test_compose_files_lie_in_the_recipe(tmp_path: Path, chosen: str, what: str) -> None:
    """Nothing else can be kept."""
    (tmp_path / "compose.yml").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(SourceUnreachableError) as caught:
        compose_files({"COMPOSE_FILE": chosen}, tmp_path)
    assert f"COMPOSE_FILE names {what}" in caught.value.message
