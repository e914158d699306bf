"""The programs that tests run, and the Debian package that has each. A new tool is a row here."""

import re
import shutil
import subprocess
from collections.abc import Iterable
from typing import Final

from attrs import frozen


@frozen
class Tool:
    """A program: the package that has it, and a check of its version."""

    package: str
    check: tuple[str, ...] = ()
    """A command that only new enough versions support."""
    version: str = ""
    """That version, in words."""


TOOLS: Final = {
    "busybox": Tool("busybox-static"),
    "containerd": Tool("docker.io"),
    "dbus-daemon": Tool("dbus"),
    "docker": Tool(
        "docker.io", check=("docker", "stack", "config", "--help"), version="25 or newer"
    ),
    "dockerd": Tool("docker.io"),
    "git": Tool("git"),
    "ip": Tool("iproute2"),
    "iptables": Tool("iptables"),
    "nix-instantiate": Tool("nix-bin"),
    "nsenter": Tool("util-linux"),
    "openssl": Tool("openssl"),
    "systemd-analyze": Tool("systemd"),
    "systemd-nspawn": Tool("systemd-container"),
    "unshare": Tool("util-linux"),
}
_LACKS: Final = re.compile(r"missing tool: (\S+)")


def find(name: str) -> str | None:
    """Find a program of the table; None if it is missing or too old."""
    tool = TOOLS[name]
    found = shutil.which(name)
    if found is None or not tool.check:
        return found
    is_new = subprocess.run(tool.check, check=False, capture_output=True).returncode == 0
    return found if is_new else None


def lack(name: str) -> str:
    """Format the reason of a skipped test."""
    tool = TOOLS[name]
    version = f" {tool.version}" if tool.version else ""
    return f"missing tool: {name}{version} (Debian package {tool.package})"


def summarize(reasons: Iterable[str]) -> str:
    """Format one line on the tools that skipped tests lacked; empty if they lacked none."""
    names = {name for reason in reasons for name in _LACKS.findall(reason)}
    if not names:
        return ""
    packages = sorted({TOOLS[name].package for name in names})
    return f"missing tools: {', '.join(sorted(names))}; apt-get install {' '.join(packages)}"
