"""Ports that the engine holds for nobody: found by its proxies, and freed by its restart."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from captured import Systemctl
from playback import Playback, playing
from typing_extensions import override

from runner.console.cli import main
from runner.reconcile import leaks
from runner.reconcile.engine import Engine
from runner.reconcile.errors import EngineUnreachableError
from runner.reconcile.leaks import Proxy, find_leaks, list_proxies, tell_ports

INSIDE = "172.18.0.3"
PARENT = 77


@define
class FakeProc:
    """A /proc of processes that the test names."""

    place: Path
    _last: int = 100

    def add(self, *words: str, parent: int = PARENT, name: str = "docker-proxy") -> int:
        self._last += 1
        entry = self.place / str(self._last)
        entry.mkdir(parents=True)
        (entry / "cmdline").write_bytes(b"\0".join(word.encode() for word in words) + b"\0")
        (entry / "stat").write_text(f"{self._last} ({name}) S {parent} 1 1 0 -1 4194304\n")
        return self._last

    def add_proxy(self, port: int, address: str = INSIDE, *, parent: int = PARENT) -> int:
        return self.add(
            *("/usr/sbin/docker-proxy", "-proto", "tcp", "-host-ip", "0.0.0.0"),
            *("-host-port", str(port), "-container-ip", address, "-container-port", "80"),
            parent=parent,
        )


@define
class Bridges:
    """An engine that has these addresses, at one look after the other."""

    looks: list[set[str]]
    asked: int = field(default=0, init=False)

    def bridge_addresses(self) -> frozenset[str]:
        self.asked += 1
        return frozenset(self.looks[min(self.asked, len(self.looks)) - 1])


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "PAUSE", 0.0)


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    place = tmp_path / "proc"
    (place / "self").mkdir(parents=True)
    return FakeProc(place)


def test_the_proxies_of_an_engine_are_its_children(proc: FakeProc) -> None:
    """Not another engine's, nor whatever else it started; a name may have any character."""
    mine = proc.add_proxy(443)
    proc.add_proxy(80, parent=78)
    proc.add("/usr/bin/containerd")
    proc.add("/opt/docker-proxy (x) S 77", name="a) S 77 (b", parent=1)
    proc.add("")
    (proc.place / "999").mkdir()  # it has just ended
    assert list(list_proxies(PARENT, proc.place)) == [Proxy(mine, 443, INSIDE)]


def test_a_proxy_with_a_name_of_its_own_choice_is_read_right(proc: FakeProc) -> None:
    """Options without a value may stand anywhere, as newer engines have them."""
    pid = proc.add("docker-proxy", "-use-listen-fd", "-container-ip", "fd00::3", "-host-port", "8")
    assert list(list_proxies(PARENT, proc.place)) == [Proxy(pid, 8, "fd00::3")]


def test_a_port_is_leaked_if_its_address_is_nobodys(proc: FakeProc) -> None:
    """Of two, the one that is nobody's; each port is told once."""
    proc.add_proxy(80)
    proc.add_proxy(443, "172.18.0.9")
    proc.add_proxy(443, "172.18.0.9")
    assert find_leaks(Bridges([{INSIDE}]), PARENT, proc.place) == {443}


def test_a_container_that_ends_between_two_questions_leaks_nothing(proc: FakeProc) -> None:
    """Its endpoint is gone, and its proxy is gone at the second look."""
    place = proc.place / str(proc.add_proxy(443))

    class Ending(Bridges):
        @override
        def bridge_addresses(self) -> frozenset[str]:
            for file in ("cmdline", "stat"):
                (place / file).unlink(missing_ok=True)
            return super().bridge_addresses()

    assert find_leaks(Ending([set()]), PARENT, proc.place) == frozenset()


def test_an_endpoint_that_comes_late_is_no_leak(proc: FakeProc) -> None:
    """Both looks have to find the same."""
    proc.add_proxy(443)
    assert find_leaks(Bridges([set(), {INSIDE}]), PARENT, proc.place) == frozenset()


def test_an_engine_without_proxies_is_not_asked(proc: FakeProc) -> None:
    """It has published nothing."""
    engine = Bridges([set()])
    assert find_leaks(engine, PARENT, proc.place) == frozenset()
    assert engine.asked == 0


@pytest.mark.parametrize(
    ("ports", "told"), [({443}, "port 443"), ({443, 80, 8443}, "ports 80, 443, 8443")]
)
def test_ports_in_a_sentence(ports: set[int], told: str) -> None:
    """In order."""
    assert tell_ports(ports) == told


# What the engine says ----------------------------------------------------------------------------


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    return tmp_path / "docker.sock"


@pytest.fixture
def engine(socket: Path) -> Generator[Playback]:
    with playing(socket, {}) as server:
        yield server


def end(four: str = "", six: str = "") -> dict[str, Any]:
    return {"Name": "x", "IPv4Address": four, "IPv6Address": six}


def test_every_bridge_is_asked_who_is_attached(engine: Playback, socket: Path) -> None:
    """By either protocol; one that is removed meanwhile has nobody."""
    engine.says["/networks"] = [{"Id": "a"}, {"Id": "b"}, {"Id": "gone"}]
    engine.says["/networks/a"] = {"Containers": {"c1": end(f"{INSIDE}/16", "fd00::3/64")}}
    engine.says["/networks/b"] = {"Containers": None}
    assert Engine(str(socket)).bridge_addresses() == {INSIDE, "fd00::3"}


def test_an_engine_that_breaks_off_is_lost(engine: Playback, socket: Path) -> None:
    """Half an answer must not make a leak of what it left out."""
    engine.says["/networks"] = [{"Id": "a"}]
    engine.says["/networks/a"] = None
    with pytest.raises(EngineUnreachableError):
        Engine(str(socket)).bridge_addresses()


# The command -------------------------------------------------------------------------------------

Free = Callable[..., tuple[int, str, str]]


@pytest.fixture
def free(socket: Path, capsys: pytest.CaptureFixture[str]) -> Free:
    def run(*flags: str) -> tuple[int, str, str]:
        code = main(["free-ports", "--socket", str(socket), *flags])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def dockerd(
    engine: Playback, tmp_path: Path, systemctl_says: Systemctl
) -> Generator[subprocess.Popen[bytes]]:
    """Play an engine that holds port 443 for nobody; a restart, which is noted, ends its proxy.

    The proxy is a process of ours, so the engine's process is this one.
    """
    engine.says["/networks"] = [{"Id": "a"}]
    engine.says["/networks/a"] = {"Containers": {"c1": end(f"{INSIDE}/16")}}
    words = ("docker-proxy", "-c", "input()", "-host-port", "443", "-container-ip", "172.18.0.9")
    with subprocess.Popen(words, executable=sys.executable, stdin=subprocess.PIPE) as proxy:
        systemctl_says(
            script=f'echo "$@" >> {tmp_path}/calls\n'
            f"case $1 in show) echo {os.getpid()};; restart) kill {proxy.pid};; esac"
        )
        yield proxy
        proxy.kill()


def calls(tmp_path: Path) -> list[str]:
    return [line.split()[0] for line in (tmp_path / "calls").read_text().splitlines()]


@pytest.mark.usefixtures("dockerd")
def test_an_engine_that_leaks_is_started_again(free: Free, tmp_path: Path) -> None:
    """Once; and what it held is told."""
    code, out, err = free()
    assert (code, err) == (0, "")
    assert out == "the engine held port 443 for no container; docker.service was started again\n"
    assert calls(tmp_path) == ["show", "restart", "show"]


@pytest.mark.usefixtures("dockerd")
def test_who_only_looks_changes_nothing(free: Free, tmp_path: Path) -> None:
    """The exit code tells."""
    code, out, _ = free("--dry-run")
    assert (code, out) == (23, "the engine holds port 443 for no container\n")
    assert calls(tmp_path) == ["show"]
    code, out, _ = free("--json", "--dry-run")
    assert (code, json.loads(out)) == (23, {"leaked": [443], "restarted": False, "left": [443]})


def test_a_restart_that_does_not_help_is_told(
    free: Free, dockerd: subprocess.Popen[bytes], systemctl_says: Systemctl
) -> None:
    """Once is enough: whoever comes next decides."""
    assert dockerd.poll() is None
    systemctl_says(script=f"case $1 in show) echo {os.getpid()};; esac")
    code, out, _ = free()
    assert code == 23
    assert out.endswith("docker.service was started again, and still holds port 443\n")


def test_an_engine_that_holds_nothing_for_nobody_is_left_alone(
    free: Free, engine: Playback, dockerd: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    """Its proxy is for somebody."""
    assert dockerd.poll() is None
    engine.says["/networks/a"] = {"Containers": {"c1": end("172.18.0.9/16")}}
    code, out, _ = free()
    assert (code, out) == (0, "every port that the engine holds is a container's\n")
    assert calls(tmp_path) == ["show"]


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo 0", "docker.service has no process\nhint: does it run? systemctl status docker"),
        ("echo", "docker.service has no process"),
        ("echo no bus >&2; exit 1", "systemctl show docker.service: no bus"),
    ],
    ids=["down", "unknown", "no bus"],
)
def test_an_engine_that_does_not_run_is_told(
    free: Free, systemctl_says: Systemctl, script: str, told: str
) -> None:
    """With a hint where there is something to do."""
    systemctl_says(script=script)
    code, out, err = free()
    assert (code, out) == (21, "")
    assert err.startswith(f"error: {told}")


def test_without_systemd_there_is_nothing_to_restart(
    free: Free, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so."""
    monkeypatch.setenv("PATH", str(tmp_path))
    code, _, err = free()
    assert (code, err) == (21, "error: systemctl show docker.service: No such file or directory\n")


@pytest.mark.usefixtures("dockerd")
def test_a_lost_engine_is_not_taken_for_a_leak(
    free: Free, engine: Playback, tmp_path: Path
) -> None:
    """Nobody knows whose the port is."""
    engine.says["/networks/a"] = None
    code, _, err = free()
    assert code == 21
    assert "doesn't answer" in err
    assert calls(tmp_path) == ["show"]
