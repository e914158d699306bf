"""A directory of unit files is copied so that systemd loads its units, and no other files."""

import os
from pathlib import Path

import pytest

from runner.systemd.unit_directory import copy_units, is_unit_name, list_units


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Make a directory with each kind of entry."""
    place = tmp_path / "source"
    for name in ("a.service.d", "multi-user.target.wants", "notes", "d.service"):
        (place / name).mkdir(parents=True)
    for name in ("a.service", "b@.service", "README", "a.service.d/10.conf", "notes/c.service"):
        (place / name).write_text(name)
    os.mkfifo(place / "fifo.service")
    (place / "circle.d").symlink_to(".")
    for name, leads in {
        "alias.service": "a.service",
        "absolute.service": str(place / "a.service"),
        "outside.service": "../elsewhere/x.service",
        "masked.service": "/dev/null",
        "dangling.service": "gone.service",
        "multi-user.target.wants/b@one.service": "../b@.service",
        "multi-user.target.wants/README": "../README",
    }.items():
        (place / name).symlink_to(leads)
    return place


@pytest.fixture
def copied(source: Path, tmp_path: Path) -> Path:
    into = tmp_path / "copy"
    copy_units(source, into)
    return into


def test_drop_ins_are_copied_and_strange_things_are_not(copied: Path) -> None:
    """Pipes and directories that systemd does not read are not copied."""
    assert (copied / "a.service.d/10.conf").read_text() == "a.service.d/10.conf"
    names = {path.name for path in copied.iterdir()}
    assert not names & {"fifo.service", "notes", "d.service"}


def test_links_stay_in_the_copy(copied: Path, tmp_path: Path) -> None:
    """An alias points to the unit in the copy, else systemd takes it for another unit."""
    assert {path.name: str(path.readlink()) for path in copied.iterdir() if path.is_symlink()} == {
        "alias.service": "a.service",
        "absolute.service": "a.service",
        "outside.service": str(tmp_path / "elsewhere/x.service"),
        "masked.service": "/dev/null",
        "dangling.service": "gone.service",
    }


def test_a_directory_under_another_name(source: Path, tmp_path: Path) -> None:
    """Links by the real path of the directory are redirected, too."""
    (tmp_path / "link").symlink_to(source)
    copy_units(tmp_path / "link", tmp_path / "copy")
    assert str((tmp_path / "copy/absolute.service").readlink()) == "a.service"


def test_every_unit_is_listed(copied: Path) -> None:
    """Units that no target wants, an instance of every template, and the units in ``also``."""
    assert list_units(copied, ["b@two.service", "b@.service", "bad name.service"]) == {
        *("a.service", "absolute.service", "alias.service"),
        *("b@any.service", "b@one.service", "b@two.service"),
        *("dangling.service", "masked.service", "outside.service"),
    }


@pytest.mark.parametrize(
    ("name", "is_unit"),
    [
        ("a.service", True),
        (r"dev-disk\x2da.swap", True),
        ("a@b.timer", True),
        ("a.device", False),
        ("session-1.scope", False),
        ("a.service.d", False),
        ("a b.service", False),
        ("ä.service", False),
        ("a.service\n", False),
        ("a%i.service", False),
    ],
)
def test_names_of_unit_files(name: str, is_unit: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Only names that systemd loads from a file are unit names."""
    assert is_unit_name(name) == is_unit
