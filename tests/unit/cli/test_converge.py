"""``converge``: an assertion holds, or it reports the failure, and it never waits for itself."""

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from recorded import Systemctl
from servers import ThreadedServer, read_request
from typing_extensions import override

from runner.cli.main import main
from runner.exit_codes import ExitCode

ASKER = "converge.service"
DASHBOARD = "deploy-dashboard.service"
ORDERED = f"Id={ASKER}\nLoadState=loaded\nAfter={DASHBOARD}\n\nId={DASHBOARD}\nLoadState=loaded\n"
"""The assertion after the dashboard, as it should be."""
TURNED = f"Id={ASKER}\nLoadState=loaded\n\nId={DASHBOARD}\nLoadState=loaded\nAfter={ASKER}\n"
"""The dashboard after the assertion."""
GATE = "[gate]\nrise = 2\nwindow = 0\ndeadline = {}\nfastest = 0.01\nslowest = 0.01\n"


class Page(ThreadedServer):
    """Answers 404 so many times, and then 200."""

    def __init__(self, bad: int) -> None:
        self.bad = bad
        super().__init__(socket.create_server(("127.0.0.1", 0)))

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    @override
    def serve(self, connection: socket.socket) -> None:
        read_request(connection)
        status = "404 Not Found" if self.connections <= self.bad else "200 OK"
        connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nhi".encode())


@pytest.fixture
def page() -> Iterator[Callable[[int], Page]]:
    """Start a server: ``page(3)`` fails the first three rounds."""
    started: list[Page] = []

    def start(bad: int) -> Page:
        started.append(Page(bad))
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.fixture
def converge(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Assert what is written in ``assertions/``: its code and its two outputs."""
    (tmp_path / "assertions").mkdir()

    def run(config: str, *flags: str) -> tuple[int, str, str]:
        (tmp_path / "assertions" / "site.toml").write_text(config)
        code = main(["converge", "site", "--config-dir", str(tmp_path), *flags])
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


Converge = Callable[..., tuple[int, str, str]]


@pytest.fixture
def systemd(systemctl_says: Systemctl) -> Callable[[str], None]:
    """Set which units there are; no job waits."""

    def install(show: str) -> None:
        systemctl_says(list_dependencies=f"{DASHBOARD}\n", show=show, list_jobs="")

    return install


def http(port: int, *, unit: str = DASHBOARD, deadline: float = 600) -> str:
    """Write an assertion about one page."""
    return (
        f'caller = "{ASKER}"\n{GATE.format(deadline)}'
        f'[[probes]]\nkind = "http"\nname = "page"\ntarget_unit = "{unit}"\n'
        f'url = "http://127.0.0.1:{port}/"\ntimeout = 120\n'
    )


def test_an_assertion_that_never_holds_reports_the_reason(
    converge: Converge, systemd: Callable[[str], None], page: Callable[[int], Page]
) -> None:
    """With an exit code of its own, and the evidence of each probe."""
    systemd(ORDERED)
    port = page(1000).port
    code, out, err = converge(http(port, deadline=120).replace("window = 0", "window = 119.8"))
    assert (code, err) == (ExitCode.UNHEALTHY, "")
    assert out.startswith("site: not converged: page: status 404, expected 200")
    assert "  page: FAILED: status 404, expected 200" in out
    assert f"served by {DASHBOARD}); saw: hi" in out


def test_a_probe_that_waits_for_the_assertion_is_refused(
    converge: Converge, systemd: Callable[[str], None], page: Callable[[int], Page]
) -> None:
    """The deadlock of the old gate, in an assertion; no probe is sent."""
    systemd(TURNED)
    server = page(0)
    code, out, err = converge(http(server.port))
    assert (code, out) == (ExitCode.ORDERING_REFUSED, "")
    assert f"{DASHBOARD} → After= → {ASKER}" in err
    assert server.connections == 0


def test_an_assertion_serves_nothing_itself(
    converge: Converge, systemctl_says: Systemctl, page: Callable[[int], Page]
) -> None:
    """Unlike an app it has no deployment that could answer."""
    systemctl_says(list_dependencies=f"{ASKER}\n", show=ORDERED, list_jobs="")
    server = page(0)
    code, _, err = converge(http(server.port, unit=ASKER))
    assert code == ExitCode.ORDERING_REFUSED
    assert "is the caller itself" in err
    assert server.connections == 0


def test_without_systemd_nothing_is_proven(
    converge: Converge, systemctl_says: Systemctl, page: Callable[[int], Page]
) -> None:
    """An assertion needs the order of units from systemd."""
    systemctl_says(script="echo no bus >&2; exit 1")
    code, _, err = converge(http(page(0).port))
    assert code == ExitCode.ORDERING_REFUSED
    assert "no bus" in err


def test_an_assertion_that_systemd_would_cut_off_is_refused(
    converge: Converge, systemctl_says: Systemctl, page: Callable[[int], Page]
) -> None:
    """The gate and its margin have to fit the start of the unit."""
    systemctl_says(show="LoadState=loaded\nTimeoutStartUSec=1min\n")
    server = page(0)
    code, _, err = converge(http(server.port, deadline=30))
    assert code == ExitCode.CONFIG
    assert f"{ASKER} may take 60 s to start" in err
    assert "gate 30 + margin 30 = 60 s" in err
    assert server.connections == 0


def test_an_assertion_that_can_not_probe_decides_nothing(
    converge: Converge, systemctl_says: Systemctl, tmp_path: Path
) -> None:
    """Here systemd answers the proof, and then no probe any more."""
    for name, text in (("list-dependencies", DASHBOARD), ("show", ORDERED), ("list-jobs", "")):
        (tmp_path / name).write_text(text)
    systemctl_says(
        script=f'case "$*" in *ActiveState*) echo gone >&2; exit 1;; esac; cat "{tmp_path}/$1"'
    )
    code, out, _ = converge(
        f'caller = "{ASKER}"\n{GATE.format(120).replace("window = 0", "window = 119.8")}'
        f'[[probes]]\nkind = "unit"\nname = "up"\ntarget_unit = "{DASHBOARD}"\n'
    )
    assert code == ExitCode.UNDECIDED
    assert out.startswith("site: undecided: up: systemctl: gone")


def test_it_waits_until_it_holds(
    converge: Converge, systemd: Callable[[str], None], page: Callable[[int], Page]
) -> None:
    """A certificate takes a while; then so many rounds in a row have to pass, as in any gate."""
    systemd(ORDERED)
    server = page(3)
    code, out, err = converge(http(server.port))
    assert (code, err) == (ExitCode.OK, "")
    assert out.startswith("site: converged: held ")
    assert "over 5 rounds" in out
    assert server.connections == 5


def test_the_json_output_has_the_same_content(
    converge: Converge, systemd: Callable[[str], None], page: Callable[[int], Page]
) -> None:
    """Outcome, code, reason, and every result of the last round."""
    systemd(ORDERED)
    config = http(page(1000).port, deadline=120).replace("window = 0", "window = 119.8")
    code, out, _ = converge(config, "--json")
    data = json.loads(out)
    assert code == data["exit"] == 22
    assert (data["name"], data["outcome"]) == ("site", "not converged")
    (evidence,) = data["evidence"]
    assert (evidence["probe"], evidence["answer"], evidence["status"]) == ("page", "fail", 404)
    assert evidence["target_unit"] == DASHBOARD


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("", ["caller: missing", "probes: missing"]),
        (f'caller = "{ASKER}"\nprobes = []\n', ["probes = []: expected one probe or more"]),
        (http(80) + 'state_dir = "/x"\n', ["probes[0].state_dir"]),
        (
            'state_dir = "/x"\n' + http(80),
            ["state_dir = '/x': expected no such key; the keys here"],
        ),
        (http(80).replace('"http"', '"identity"'), ['kind to be one of "http", "tcp", "unit"']),
        (http(80).replace('"http"', '"traefik-ping"'), ['kind to be one of "http", "tcp"']),
        (
            http(80).replace("127.0.0.1", "ci.commoninternet.net").replace("window = 0", "window=9")
            + http(80).partition("[[probes]]")[2].join(("[[probes]]", "")),
            ["probes = 'page': expected a different name for each probe", "probes[0].url"],
        ),
        (
            http(80, deadline=1).replace("window = 0", "window = 2").replace("0.01", "9", 1),
            ["gate.window = 2.0", "gate.fastest = 9.0"],
        ),
    ],
)
def test_every_mistake_is_reported_at_once(
    converge: Converge, config: str, expected: list[str]
) -> None:
    """As for an app; identity and ping make no sense without a deployment."""
    code, out, err = converge(config)
    assert (code, out) == (ExitCode.CONFIG, "")
    for each in expected:
        assert each in err


def test_an_assertion_that_is_not_there_is_64(
    converge: Converge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The hint lists the known ones; an unsafe name is refused."""
    converge("")
    assert main(["converge", "page", "--config-dir", str(tmp_path)]) == ExitCode.USAGE
    said = capsys.readouterr().err
    assert "unknown assertion: page" in said
    assert "known: site" in said
    assert main(["converge", "../site", "--config-dir", str(tmp_path)]) == ExitCode.USAGE
    assert "not an assertion name" in capsys.readouterr().err


def test_check_proves_assertions_too(
    converge: Converge,
    systemd: Callable[[str], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """They are found without any app, and refused in the same way."""
    systemd(TURNED)
    converge(http(80))
    capsys.readouterr()
    assert main(["check", "--config-dir", str(tmp_path)]) == ExitCode.ORDERING_REFUSED
    said = capsys.readouterr().out
    assert f"assertions/site: run by {ASKER}; the longest run takes 630 s" in said
    assert f"REFUSED  page             {DASHBOARD} starts after {ASKER}" in said
    systemd(ORDERED)
    assert main(["check", "--config-dir", str(tmp_path), "--json"]) == ExitCode.OK
    (found,) = json.loads(capsys.readouterr().out).values()
    assert [probe["refused"] for probe in found["probes"]] == [""]
