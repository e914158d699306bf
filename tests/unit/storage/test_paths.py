"""The state directory is refused if another user could have written into it."""

# ruff: noqa: SIM300 (asserts read: expected == actual)

import os
import stat
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.reconcile.errors import StateError, UsageError
from runner.reconcile.field_types import NAME_RULE
from runner.storage.paths import StateDir, find_state, open_state

NAMES = ["root", "home", "releases", "binaries", "instances", "mirror"]


def lay_out(root: Path) -> StateDir:
    """Make every directory that an app can have."""
    state = open_state(root, "traefik")
    for directory in (state.releases, state.binaries, state.instances, state.mirror):
        directory.mkdir(mode=0o700)
    return state


def refusal(root: Path) -> StateError:
    with pytest.raises(StateError) as found:
        find_state(root, "traefik")
    with pytest.raises(StateError) as opened:
        open_state(root, "traefik")
    assert found.value.message == opened.value.message
    return found.value


@pytest.mark.parametrize("name", NAMES)
def test_a_symbolic_link_for_a_directory_is_refused(tmp_path: Path, name: str) -> None:
    """A linked directory is refused: its target can be swapped during a run."""
    directory: Path = getattr(lay_out(tmp_path / "state"), name)
    directory.rename(tmp_path / "elsewhere")
    directory.symlink_to(tmp_path / "elsewhere")
    error = refusal(tmp_path / "state")
    assert f"{directory} is not a directory (links are refused)" == error.message


@pytest.mark.parametrize("name", ["journal", "lock"])
@pytest.mark.parametrize("dangling", [True, False], ids=["dangling", "leading to a file"])
def test_a_symbolic_link_for_a_file_is_refused(
    tmp_path: Path,
    name: str,
    dangling: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """A linked journal or lock is refused, dangling or not."""
    file: Path = getattr(lay_out(tmp_path / "state"), name)
    if not dangling:
        (tmp_path / "elsewhere").touch()
    file.symlink_to(tmp_path / "elsewhere")
    assert f"{file} is a symbolic link: refused" == refusal(tmp_path / "state").message


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_directory_that_others_may_write_is_refused_with_the_remedy(
    tmp_path: Path, name: str, mode: int
) -> None:
    """A directory that others can write is refused: they could choose what is deployed."""
    directory: Path = getattr(lay_out(tmp_path / "state"), name)
    directory.chmod(mode)
    error = refusal(tmp_path / "state")
    assert f"{directory} can be written by others (mode {mode:04o})" == error.message
    assert f"chmod go-w {directory}" == error.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
@pytest.mark.parametrize("name", NAMES)
def test_a_directory_of_another_user_is_refused(tmp_path: Path, name: str) -> None:
    """A directory of another user is refused: its owner can replace its contents."""
    directory: Path = getattr(lay_out(tmp_path / "state"), name)
    os.chown(directory, 12345, -1)
    error = refusal(tmp_path / "state")
    assert f"{directory} belongs to user 12345, not to 0" == error.message
    assert f"chown -R 0 {directory}" in error.hint


@pytest.mark.parametrize("name", NAMES)
def test_a_file_for_a_directory_is_refused(tmp_path: Path, name: str) -> None:
    """A file in place of a directory is named in the error, not overwritten."""
    directory: Path = getattr(lay_out(tmp_path / "state"), name)
    for entry in sorted(directory.rglob("*"), reverse=True):
        entry.rmdir()
    directory.rmdir()
    directory.write_text("in the way")
    assert f"{directory} is not a directory" in refusal(tmp_path / "state").message
    assert "in the way" == directory.read_text()


def test_a_root_below_a_file_is_refused(tmp_path: Path) -> None:
    """A state_dir that can't be created is reported with the kernel's reason."""
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="can't be made: Not a directory") as caught:
        open_state(tmp_path / "file" / "state", "traefik")
    assert "StateDirectory=" in caught.value.hint


def test_a_directory_that_this_user_may_not_use_is_refused(
    run_python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """An own directory without access, and a root that can't be created, are refused."""
    code = (
        "import os, sys; from pathlib import Path\n"
        "from runner.storage.paths import open_state\n"
        "from runner.reconcile.errors import StateError\n"
        "place = Path(sys.argv[1])\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "(place / 'closed').mkdir(mode=0o500)\n"
        "for root in (place / 'closed', place / 'closed' / 'state'):\n"
        "    try: open_state(root, 'traefik')\n"
        "    except StateError as error: print(error.message, '|', error.hint)\n"
    )
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o777)
        done = run_python(code, place, limited=True)
        closed = Path(place) / "closed"
        assert ("", 0) == (done.stderr, done.returncode)
        assert [
            f"{closed} can't be read and written | chmod u+rwx {closed}",
            (
                f"the state directory {closed}/state can't be made: Permission denied"
                " | set state_dir to a place that this user may write; systemd: StateDirectory="
            ),
        ] == done.stdout.splitlines()


@pytest.mark.parametrize(
    "app", ["", ".", "..", "../x", "a/b", ".x", "-x", "a..b", "a\0", "a" * 129]
)
def test_an_unsafe_app_name_is_refused_before_anything_is_made(tmp_path: Path, app: str) -> None:
    """An app name that is unsafe as a path is refused, and no directory is made."""
    for open_or_find in (open_state, find_state):
        with pytest.raises(UsageError, match="not an app name") as caught:
            open_or_find(tmp_path / "state", app)
        assert f"allowed: {NAME_RULE}" == caught.value.hint
    assert not (tmp_path / "state").exists()


def test_missing_directories_are_made_for_this_user_alone(tmp_path: Path) -> None:
    """A new app gets directories with mode 0700; a second call changes nothing."""
    state = open_state(tmp_path / "var" / "state", "traefik")
    assert [0o700, 0o700] == [
        stat.S_IMODE(directory.stat().st_mode) for directory in (state.root, state.home)
    ]
    assert [] == list(state.home.iterdir())
    assert state == open_state(tmp_path / "var" / "state", "traefik")


def test_finding_makes_nothing(tmp_path: Path) -> None:
    """``find_state`` creates nothing."""
    assert tmp_path / "state" / "traefik" == find_state(tmp_path / "state", "traefik").home
    assert [] == list(tmp_path.iterdir())


def test_a_whole_state_directory_that_others_may_read_is_good(tmp_path: Path) -> None:
    """Mode 0755 is accepted: it is the default of StateDirectory=."""
    state = lay_out(tmp_path / "state")
    for name in NAMES:
        directory: Path = getattr(state, name)
        directory.chmod(0o755)
    assert state == open_state(tmp_path / "state", "traefik")
