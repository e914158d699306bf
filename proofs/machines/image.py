"""The disk image of a virtual machine: Debian, installed once from packages, copied per machine."""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Generator
from pathlib import Path
from typing import Final

from attrs import frozen

from proofs.fixtures.supplies import PLACE
from proofs.machines.machine import ProofError
from proofs.machines.roots import PYTHON

SUITE: Final = "bookworm"
MIRROR: Final = os.environ.get("PROOF_MIRROR", "http://deb.debian.org/debian")
PACKAGES: Final = (
    *("systemd-sysv", "dbus", "udev", "kmod", "procps", "iproute2"),
    *("linux-image-cloud-amd64", "initramfs-tools", "qemu-guest-agent"),
    *("docker.io", "iptables", "python3", "git", "ca-certificates", "openssl", "curl"),
)
"""A kernel, its boot tools, and the programs that the shipped units need."""
UNWANTED: Final = (
    *("etc/resolv.conf", "etc/hostname", "etc/systemd/system", "usr/share/doc", "usr/share/man"),
    *("usr/share/locale", "var/cache/apt", "var/lib/apt/lists"),
)
NETWORK: Final = """\
# The machine's only network card. Docker's own interfaces have other names.
[Match]
Name=en*

[Network]
Address=10.0.2.15/24
LinkLocalAddressing=no
"""
NETWORKD: Final = "/lib/systemd/system/systemd-networkd.service"
SIZE: Final = "6G"
"""Size of the disk; the image file is sparse."""
BUILD_LIMIT: Final = 1800.0
LIMIT: Final = 120.0


@frozen
class Base:
    """A directory with Debian, installed and never booted."""

    root: Path

    @property
    def kernel(self) -> Path:
        return self._only("boot/vmlinuz-*")

    @property
    def initrd(self) -> Path:
        return self._only("boot/initrd.img-*")

    def _only(self, pattern: str) -> Path:
        (path,) = self.root.glob(pattern)
        return path


def prepare_base() -> Base:
    """Install Debian from its packages, unless it is there already.

    Raises:
        ProofError: a command failed.
    """
    recipe = "\n".join((SUITE, *PACKAGES, *UNWANTED, NETWORK))
    root = PLACE / f"debian-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    if not root.exists():
        draft = root.with_suffix(".new")
        if draft.exists():
            shutil.rmtree(draft)
        packages = PLACE / "packages"
        packages.mkdir(exist_ok=True)
        options = (
            *("--variant=minbase", f"--cache-dir={packages}"),
            f"--include={','.join(PACKAGES)}",
        )
        _run("debootstrap", *options, SUITE, str(draft), MIRROR, timeout=BUILD_LIMIT)
        _strip(draft)
        draft.rename(root)
    return Base(root)


def _strip(root: Path) -> None:
    """Remove settings of this host, and every unit that a package has enabled."""
    for name in UNWANTED:
        path = root / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    wanted = root / "etc/systemd/system/multi-user.target.wants"
    wanted.mkdir(parents=True)
    (wanted / Path(NETWORKD).name).symlink_to(NETWORKD)
    (root / "etc/systemd/network/10-cable.network").write_text(NETWORK)
    (root / "var/log/journal").mkdir(exist_ok=True)
    (root / "etc/fstab").write_text("")


@contextlib.contextmanager
def fresh_disk(base: Base, place: Path) -> Generator[Path]:
    """Mount an overlay on the base, to be filled; it is removed with the context."""
    upper, work, root = (place / name for name in ("upper", "work", "root"))
    for directory in (upper, work, root):
        directory.mkdir(parents=True)
    options = f"lowerdir={base.root},upperdir={upper},workdir={work}"
    _run("mount", "-t", "overlay", "-o", options, "overlay", str(root))
    try:
        # With an empty machine-id systemd takes this for a first boot and enables all units.
        (root / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")
        yield root
    finally:
        _run("umount", str(root))
        for directory in (upper, work, root):
            shutil.rmtree(directory)


def lend(root: Path, interpreter: Path) -> None:
    """Copy the Python that the package is proven with to a directory that units can see."""
    place = root / PYTHON.relative_to("/")
    library = f"python{sys.version_info.major}.{sys.version_info.minor}"
    unneeded = shutil.ignore_patterns("site-packages", "test", "share", "include", "idlelib")
    shutil.copytree(interpreter, place, symlinks=True, ignore=unneeded)
    assert (place / "lib" / library).is_dir()
    (root / "etc/ld.so.conf.d/proof.conf").write_text(f"{PYTHON}/lib\n")
    _run("ldconfig", "-r", str(root))


def write_image(root: Path, image: Path) -> None:
    """Write a directory into an ext4 image.

    Raises:
        ProofError: mke2fs failed.
    """
    _run("mke2fs", "-q", "-t", "ext4", "-d", str(root), str(image), SIZE)


def _run(*command: str, timeout: float = LIMIT) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode != 0:
        output = (done.stdout + done.stderr)[-800:]
        raise ProofError(f"{' '.join(command)}: status {done.returncode}: {output}")
