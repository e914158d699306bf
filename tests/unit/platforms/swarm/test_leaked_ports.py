"""Leaked ports: found by docker-proxy processes, and freed by a restart of dockerd."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from playback import Playback, playing
from recorded import Systemctl
from typing_extensions import override

from runner.cli.main import main
from runner.platforms.swarm import leaked_ports
from runner.platforms.swarm.engine_api import Engine
from runner.platforms.swarm.leaked_ports import Proxy, find_leaks, format_ports, list_proxies
from runner.reconcile.errors import EngineUnreachableError

INSIDE = "172.18.0.3"
PARENT = 77
ANY = "0.0.0.0"
Ports = set[tuple[str, str, int]]


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

    def add_proxy(
        self, port: int, protocol: str = "tcp", host: str = ANY, *, parent: int = PARENT
    ) -> int:
        return self.add(
            *("/usr/sbin/docker-proxy", "-proto", protocol, "-host-ip", host),
            *("-host-port", str(port), "-container-ip", INSIDE, "-container-port", "80"),
            parent=parent,
        )

    def end(self, pid: int) -> None:
        for file in ("cmdline", "stat"):
            (self.place / str(pid) / file).unlink()


@define
class Publisher:
    """A Docker whose containers and mesh publish these ports, one sample after the other."""

    looks: list[Ports]
    mesh: Ports = field(factory=set[tuple[str, str, int]])
    asked: int = field(default=0, init=False)

    def published_ports(self) -> frozenset[tuple[str, str, int]]:
        self.asked += 1
        return frozenset(self.looks[min(self.asked, len(self.looks)) - 1])

    def mesh_ports(self) -> frozenset[tuple[str, str, int]]:
        return frozenset(self.mesh)


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaked_ports, "PAUSE", 0.0)


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    place = tmp_path / "proc"
    (place / "self").mkdir(parents=True)
    return FakeProc(place)


def test_the_proxies_of_dockerd_are_its_children(proc: FakeProc) -> None:
    """Neither another dockerd's, nor other children; a name may have any character."""
    mine = proc.add_proxy(443)
    proc.add_proxy(80, parent=78)
    proc.add("/usr/bin/containerd")
    proc.add("/opt/docker-proxy (x) S 77", name="a) S 77 (b", parent=1)
    proc.add("")
    (proc.place / "999").mkdir()  # it has just ended
    assert list(list_proxies(PARENT, proc.place)) == [Proxy(mine, "tcp", ANY, 443)]


def test_options_of_a_proxy_may_stand_anywhere(proc: FakeProc) -> None:
    """Newer versions of Docker have options without a value."""
    words = ("-use-listen-fd", "-host-ip", "::", "-host-port", "8", "-proto", "udp")
    pid = proc.add("docker-proxy", *words)
    assert list(list_proxies(PARENT, proc.place)) == [Proxy(pid, "udp", "::", 8)]


WEB: Ports = {("tcp", ANY, 80), ("tcp", "::", 80)}


@pytest.mark.parametrize(
    ("published", "leaked"),
    [
        (WEB | {("tcp", ANY, 443), ("tcp", "::", 443)}, set[int]()),
        (WEB, {443}),
        (WEB | {("tcp", ANY, 8443)}, {443}),
        (WEB | {("udp", ANY, 443), ("udp", "::", 443)}, {443}),
        (WEB | {("tcp", ANY, 443)}, {443}),
        (WEB | {("tcp", "127.0.0.1", 443)}, {443}),
        (WEB | {("tcp", "", 443)}, set[int]()),
    ],
    ids=[
        "a container",
        "no container",
        "a container that has its address, and other ports",
        "UDP alone is published",
        "IPv6 leaks",
        "on another address of the host",
        "Docker names no address",
    ],
)
def test_a_port_is_leaked_if_no_container_publishes_it(
    proc: FakeProc, published: Ports, leaked: set[int]
) -> None:
    """Every proxy has the same address inside: a container or the mesh may have got it again."""
    for host in (ANY, "::"):
        proc.add_proxy(80, "tcp", host)
        proc.add_proxy(443, "tcp", host)
    assert find_leaks(Publisher([published]), PARENT, proc.place) == leaked


@pytest.mark.parametrize(
    ("mesh", "leaked"),
    [({("tcp", "", 443)}, set[int]()), ({("udp", "", 443), ("tcp", "", 80)}, {443})],
    ids=["this port", "other ports"],
)
def test_what_the_mesh_publishes_is_not_leaked(
    proc: FakeProc, mesh: Ports, leaked: set[int]
) -> None:
    """A service publishes it, on every address."""
    proc.add_proxy(443, "tcp", "::")
    assert find_leaks(Publisher([set()], mesh), PARENT, proc.place) == leaked


def test_a_container_that_is_just_stopping_leaks_nothing(proc: FakeProc) -> None:
    """Docker lists it no more; its proxies end at some later sample."""
    pid = proc.add_proxy(443)

    class Stopping(Publisher):
        @override
        def published_ports(self) -> frozenset[tuple[str, str, int]]:
            if self.asked == 3:
                proc.end(pid)
            return super().published_ports()

    assert find_leaks(Stopping([set()]), PARENT, proc.place) == frozenset()


def test_a_container_that_is_just_starting_leaks_nothing(proc: FakeProc) -> None:
    """It has its proxies before Docker lists it as running, however late that is."""
    proc.add_proxy(443)
    starting = Publisher(
        [*[set[tuple[str, str, int]]()] * (leaked_ports.SAMPLES - 1), {("tcp", ANY, 443)}]
    )
    assert find_leaks(starting, PARENT, proc.place) == frozenset()


def test_a_task_that_is_denied_the_port_again_and_again_does_not_hide_it(proc: FakeProc) -> None:
    """It is never listed as running; the process that holds the port stays the same."""
    proc.add_proxy(443)
    engine = Publisher([set()])
    assert find_leaks(engine, PARENT, proc.place) == {443}
    assert engine.asked == leaked_ports.SAMPLES


def test_proxies_of_one_task_after_another_leak_nothing(proc: FakeProc) -> None:
    """Each sample finds another process: a container starts and stops, and releases its port."""
    engine = Publisher([set()])
    pids = [proc.add_proxy(443)]

    class Restarting(Publisher):
        @override
        def published_ports(self) -> frozenset[tuple[str, str, int]]:
            proc.end(pids[-1])
            pids.append(proc.add_proxy(443))
            return engine.published_ports()

    assert find_leaks(Restarting([]), PARENT, proc.place) == frozenset()


def test_without_proxies_docker_is_not_queried(proc: FakeProc) -> None:
    """It has published nothing."""
    engine = Publisher([set()])
    assert find_leaks(engine, PARENT, proc.place) == frozenset()
    assert engine.asked == 0


@pytest.mark.parametrize(
    ("ports", "told"), [({443}, "port 443"), ({443, 80, 8443}, "ports 80, 443, 8443")]
)
def test_ports_in_a_sentence(ports: set[int], told: str) -> None:
    """In order."""
    assert format_ports(ports) == told


# The Docker API ----------------------------------------------------------------------------------


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    return tmp_path / "docker.sock"


@pytest.fixture
def engine(socket: Path) -> Generator[Playback]:
    with playing(socket, {}) as server:
        yield server


def listed(*ports: dict[str, Any]) -> dict[str, Any]:
    return {"Id": "c1", "Ports": list(ports)}


HTTPS = {"IP": ANY, "PrivatePort": 443, "PublicPort": 443, "Type": "tcp"}


def test_ports_are_those_of_running_containers(engine: Playback, socket: Path) -> None:
    """Not those that are exposed only, nor of a container that has none."""
    engine.says["/containers/json"] = [
        listed(HTTPS, {**HTTPS, "IP": "::", "Type": "udp"}, {"PrivatePort": 80, "Type": "tcp"}),
        {"Id": "c2", "Ports": None},
    ]
    found = Engine(str(socket)).published_ports()
    assert found == {("tcp", ANY, 443), ("udp", "::", 443)}


def test_ports_of_the_mesh_are_those_of_services(engine: Playback, socket: Path) -> None:
    """Not those that tasks publish on their hosts; a service may have none at all."""
    meshed = {"Protocol": "tcp", "PublishedPort": 443, "PublishMode": "ingress"}
    engine.says["/info"] = {"Swarm": {"ControlAvailable": True}}
    engine.says["/services"] = [
        {"Endpoint": {"Ports": [meshed, {**meshed, "PublishedPort": 80, "PublishMode": "host"}]}},
        {"Endpoint": {"Spec": {}}},
        {},
    ]
    assert Engine(str(socket)).mesh_ports() == {("tcp", "", 443)}


def test_only_a_manager_knows_the_mesh(engine: Playback, socket: Path) -> None:
    """Another dockerd is not asked for services, which it would refuse."""
    engine.says["/info"] = {"Swarm": {"LocalNodeState": "active", "ControlAvailable": False}}
    assert Engine(str(socket)).mesh_ports() == frozenset()


@pytest.mark.parametrize("path", ["/containers/json", "/services"])
def test_a_response_that_breaks_off_is_a_loss_of_docker(
    engine: Playback, socket: Path, path: str
) -> None:
    """A port that a partial response lacks must not look leaked."""
    engine.says["/containers/json"] = []
    engine.says["/info"] = {"Swarm": {"ControlAvailable": True}}
    engine.says[path] = None
    ask = Engine(str(socket))
    with pytest.raises(EngineUnreachableError):
        _ = ask.published_ports(), ask.mesh_ports()


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
    """Play a dockerd that leaked port 443; a restart, which is recorded, ends its proxy.

    The proxy is a process of ours, so the process of dockerd is this one.
    """
    engine.says["/containers/json"] = [listed({**HTTPS, "PublicPort": 80})]
    engine.says["/info"] = {"Swarm": {"ControlAvailable": False}}
    port = ("-proto", "tcp", "-host-ip", ANY, "-host-port", "443", "-container-ip", INSIDE)
    words = ("docker-proxy", "-c", "input()", *port)
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
def test_a_dockerd_with_leaked_ports_is_restarted(free: Free, tmp_path: Path) -> None:
    """Once; and the ports are printed."""
    code, out, err = free()
    assert (code, err) == (0, "")
    assert out == "dockerd held port 443, which no container uses; docker.service was restarted\n"
    assert calls(tmp_path) == ["show", "restart", "show"]


@pytest.mark.usefixtures("dockerd")
def test_without_restart_nothing_is_changed(free: Free, tmp_path: Path) -> None:
    """The exit code shows the leak."""
    code, out, _ = free("--dry-run")
    assert (code, out) == (23, "dockerd holds port 443, which no container uses\n")
    assert calls(tmp_path) == ["show"]
    code, out, _ = free("--json", "--dry-run")
    assert (code, json.loads(out)) == (23, {"leaked": [443], "restarted": False, "left": [443]})


def test_a_restart_that_does_not_help_is_reported(
    free: Free, dockerd: subprocess.Popen[bytes], systemctl_says: Systemctl
) -> None:
    """It is not repeated."""
    assert dockerd.poll() is None
    systemctl_says(script=f"case $1 in show) echo {os.getpid()};; esac")
    code, out, _ = free()
    assert code == 23
    assert out.endswith("docker.service was restarted but still holds port 443\n")


def test_a_dockerd_without_leaked_ports_is_left_alone(
    free: Free, engine: Playback, dockerd: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    """Its proxy is of a container."""
    assert dockerd.poll() is None
    engine.says["/containers/json"] = [listed(HTTPS)]
    code, out, _ = free()
    assert (code, out) == (0, "dockerd leaked no port\n")
    assert calls(tmp_path) == ["show"]


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo 0", "docker.service has no process\nhint: systemctl status docker.service"),
        ("echo", "docker.service has no process"),
        ("echo no bus >&2; exit 1", "systemctl show docker.service: no bus"),
    ],
    ids=["down", "unknown", "no bus"],
)
def test_a_dockerd_that_does_not_run_is_reported(
    free: Free, systemctl_says: Systemctl, script: str, told: str
) -> None:
    """With a hint if there is a next step."""
    systemctl_says(script=script)
    code, out, err = free()
    assert (code, out) == (21, "")
    assert err.startswith(f"error: {told}")


def test_without_systemd_there_is_nothing_to_restart(
    free: Free, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message has the reason."""
    monkeypatch.setenv("PATH", str(tmp_path))
    code, _, err = free()
    assert (code, err) == (21, "error: systemctl show docker.service: No such file or directory\n")


@pytest.mark.usefixtures("dockerd")
def test_docker_unreachable_is_not_a_leak(free: Free, engine: Playback, tmp_path: Path) -> None:
    """It is not known whether a container uses the port."""
    engine.says["/containers/json"] = None
    code, _, err = free()
    assert code == 21
    assert "doesn't answer" in err
    assert calls(tmp_path) == ["show"]
