"""The app's lock: one run at a time, freed by the death of its holder."""

# ruff: noqa: SIM300 (asserts read: expected == actual)

import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from runner.exit_codes import ExitCode
from runner.reconcile.errors import LockedError, StateError
from runner.storage.lock import hold, holder_of

HOLD = """
import subprocess, sys
from pathlib import Path
from runner.storage.lock import hold
with hold(Path(sys.argv[1])):
    child = subprocess.Popen(["sleep", "6000"]) if sys.argv[2:] else None
    print(child.pid if child else "held", flush=True)
    sys.stdin.read()
"""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    (tmp_path / "traefik").mkdir()
    return tmp_path / "traefik" / "lock"


@pytest.fixture
def holder(start_python: Start, lock: Path) -> subprocess.Popen[str]:
    """Start another process that holds the lock until its stdin ends."""
    process = start_python(HOLD, lock)
    assert process.stdout is not None
    assert "held\n" == process.stdout.readline()
    return process


def test_a_second_run_fails_at_once_and_names_the_first(
    lock: Path, holder: subprocess.Popen[str]
) -> None:
    """Without waiting, the error names the process that holds the lock."""
    with pytest.raises(LockedError) as caught, hold(lock):
        pytest.fail("two runs at a time")
    assert f"another run holds traefik: process {holder.pid}, since " in caught.value.message
    assert "--wait SECONDS" in caught.value.hint
    assert ExitCode.LOCKED == caught.value.exit_code


def test_a_run_in_the_same_process_is_locked_out_too(lock: Path) -> None:
    """The lock belongs to the open file, not to the process: a second ``hold`` is refused, too."""
    with hold(lock), pytest.raises(LockedError), hold(lock):
        pytest.fail("two runs at a time")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xff",
        b"null",
        b"[]",
        b"{}",
        b'{"pid": 1, "since": "x", "command": "c"}',
        b'{"pid": 1, "since": 1e300, "command": "c"}',
        b"[" * 4000,
    ],
    ids=["nothing", "no text", "null", "list", "no keys", "no time", "no such year", "deep"],
)
def test_a_lock_that_is_signed_with_garbage_still_locks(
    lock: Path, holder: subprocess.Popen[str], content: bytes
) -> None:
    """The holder's description is for the message only; the message says if it is missing."""
    lock.write_bytes(content)
    with pytest.raises(LockedError, match="process unknown"), hold(lock):
        pytest.fail("two runs at a time")
    assert holder.poll() is None


def test_a_wait_that_is_too_short_ends_in_the_same_message(
    lock: Path, holder: subprocess.Popen[str]
) -> None:
    """After the waiting time the error names the holder."""
    with pytest.raises(LockedError, match=f"process {holder.pid}"), hold(lock, wait=0.15):
        pytest.fail("two runs at a time")


def test_a_waiting_run_gets_the_lock_when_the_first_one_ends(
    lock: Path, holder: subprocess.Popen[str]
) -> None:
    """A waiter gets the lock if it is freed within the waiting time."""
    got = threading.Event()

    def wait() -> None:
        with hold(lock, wait=600):
            got.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    with pytest.raises(LockedError), hold(lock, wait=0.25):
        pytest.fail("two runs at a time")
    assert not got.is_set()
    holder.communicate("")
    waiter.join(120)
    assert got.is_set()


def test_a_killed_run_holds_nothing(lock: Path, holder: subprocess.Popen[str]) -> None:
    """SIGKILL of the holder frees the lock: no clean-up is needed after a crash."""
    holder.kill()
    holder.wait()
    with hold(lock):
        pass


def test_a_process_that_the_run_left_behind_holds_nothing(start_python: Start, lock: Path) -> None:
    """An app that outlives its run does not keep the lock."""
    process = start_python(HOLD, lock, "with a child")
    assert process.stdout is not None
    child = psutil.Process(int(process.stdout.readline()))
    process.kill()
    process.wait()
    try:
        assert child.is_running()
        with hold(lock):
            pass
    finally:
        child.kill()


def test_an_exception_frees_the_lock(lock: Path) -> None:
    """The lock is free again after an exception inside the context."""
    with pytest.raises(ZeroDivisionError), hold(lock):
        raise ZeroDivisionError
    with hold(lock):
        pass


def test_a_symbolic_link_or_a_missing_directory_is_no_lock(tmp_path: Path, lock: Path) -> None:
    """A lock that can't be opened raises StateError, and creates no file."""
    lock.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateError, match="can't be opened: Too many levels"), hold(lock):
        pytest.fail("held through a link")
    assert not (tmp_path / "elsewhere").exists()
    with (
        pytest.raises(StateError, match="can't be opened: No such file"),
        hold(tmp_path / "missing" / "lock"),
    ):
        pytest.fail("held nowhere")


def test_the_lock_file_is_closed_to_others(lock: Path) -> None:
    """Only the owner can open the file: any other user could block every run."""
    with hold(lock):
        assert 0o100600 == lock.stat().st_mode


def test_the_holder_is_found_without_touching_the_lock(
    lock: Path, holder: subprocess.Popen[str]
) -> None:
    """The pid comes from the kernel, so it is right even if the file's description is wrong."""
    lock.write_bytes(b"")
    assert holder.pid == holder_of(lock)
    holder.kill()
    holder.wait()
    assert holder_of(lock) is None


def test_a_lock_that_does_not_exist_has_no_holder(tmp_path: Path) -> None:
    """An app that never ran has no holder."""
    assert holder_of(tmp_path / "lock") is None


def test_another_lock_is_not_mistaken_for_this_one(
    lock: Path, holder: subprocess.Popen[str]
) -> None:
    """Each app has its own lock, and its own holder."""
    other = lock.with_name("other")
    other.touch()
    assert (holder.pid, None) == (holder_of(lock), holder_of(other))
    with hold(other):
        pass


def test_a_long_command_line_does_not_hide_the_pid(lock: Path, start_python: Start) -> None:
    """The pid is in the message even if the holder has a long command line."""
    process = start_python(
        "import sys; sys.argv[2:] = ['x' * 8000]\n" + HOLD.replace("[2:]", "[3:]"), lock
    )
    assert process.stdout is not None
    assert "held\n" == process.stdout.readline()
    with pytest.raises(LockedError, match=f"process {process.pid}"), hold(lock):
        pytest.fail("two runs at a time")
    assert process.poll() is None
