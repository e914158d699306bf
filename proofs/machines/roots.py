"""The root file system of an nspawn machine: this host's programs, and none of its state.

``/usr`` and ``/etc`` are overlays on the host's, every other directory begins empty, so no state of
systemd, Docker or another program is there. From ``/etc``, settings of this host (enabled units,
Docker's, mounts) are removed. The root is in memory.
"""

import contextlib
import shutil
import subprocess
import uuid
from collections.abc import Generator
from pathlib import Path
from typing import Final

MERGED: Final = ("bin", "lib", "lib64", "sbin")
EMPTY: Final = ("dev", "home", "mnt", "opt", "proc", "root", "run", "srv", "sys", "tmp", "var")
OVERLAID: Final = ("usr", "etc")
UNWANTED: Final = (
    *("cron.d", "cron.daily", "cron.hourly", "default/docker", "docker", "fstab", "hostname"),
    *("hosts", "init.d", "profile.d", "resolv.conf", "systemd/system", "tmpfiles.d"),
)
"""Settings of this host in ``/etc``."""
PYTHON: Final = Path("/opt/python")
LIMIT: Final = 30.0


@contextlib.contextmanager
def fresh_root(place: Path, interpreter: Path) -> Generator[Path]:
    """Make a root at ``place``, and remove it afterwards with its contents.

    Args:
        place: a directory that does not exist yet.
        interpreter: the prefix of this host's Python; outside of ``/usr`` it is mounted at PYTHON.
    """
    place.mkdir(parents=True)
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(place))
    try:
        _lay_out(place)
        if not interpreter.is_relative_to("/usr"):
            _lend(place, interpreter)
        yield place
    finally:
        _run("umount", "--recursive", "--lazy", str(place))
        place.rmdir()


def _lay_out(root: Path) -> None:
    for name in MERGED:
        (root / name).symlink_to(f"usr/{name}")
    for name in (*EMPTY, *OVERLAID):
        (root / name).mkdir()
    (root / "tmp").chmod(0o1777)
    (root / "root").chmod(0o700)
    for name in OVERLAID:
        upper, work = (root / f".{name}" / part for part in ("upper", "work"))
        for directory in (upper, work):
            directory.mkdir(parents=True)
        options = f"lowerdir=/{name},upperdir={upper},workdir={work}"
        _run("mount", "-t", "overlay", "-o", options, "overlay", str(root / name))
    etc = root / "etc"
    for name in UNWANTED:
        _remove(etc / name)
    (etc / "systemd" / "system").mkdir()
    # With an empty machine-id systemd takes this for a first boot and enables all units.
    (etc / "machine-id").write_text(f"{uuid.uuid4().hex}\n")
    (root / "var" / "log" / "journal").mkdir(parents=True)


def _lend(root: Path, interpreter: Path) -> None:
    """Mount the interpreter outside of home directories, which ProtectHome= hides from units."""
    place = root / PYTHON.relative_to("/")
    place.mkdir()
    _run("mount", "--bind", "-o", "ro", str(interpreter), str(place))
    (root / "etc/ld.so.conf.d/proof.conf").write_text(f"{PYTHON}/lib\n")
    _run("ldconfig", "-r", str(root))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=LIMIT)
