"""A run that would wait for its own caller, or be cut off by systemd, does not begin."""

from collections.abc import Callable
from pathlib import Path

import pytest
from recorded import Systemctl, read_recording

from runner.app import find_app
from runner.exit_codes import ExitCode
from runner.platforms.swarm.traefik_routers import Router, Table, TableUnknown
from runner.preconditions import (
    UNASKED,
    check_budget,
    clear,
    clear_app,
    fit,
    prove_declared,
    read_table,
)
from runner.reconcile.errors import ConfigError, OrderingError, UnprovenError
from runner.reconcile.ordering import Edge, SafeUnit, Target, UnitGraph, prove
from runner.reconcile.probes import Http, Probe, TraefikPing, UnitActive
from runner.systemd.parse import read_span
from runner.warm_reconcile import main

PROXY = "deploy-proxy.service"
DASHBOARD = "late.service"
"""Its name in the recorded output: it serves the page, and starts after the proxy."""
OWN = TraefikPing(target_unit=PROXY, url="http://127.0.0.1/ping")
OLD_GATE = Http(
    name="dashboard",
    target_unit=DASHBOARD,
    url="https://ci.commoninternet.net/",
    address="127.0.0.1:443",
)
HUNG = {
    "list_dependencies": read_recording("list-dependencies.txt"),
    "show": read_recording("show.txt"),
    "list_jobs": read_recording("list-jobs.txt"),
}
"""A boot in which units wait for the proxy."""


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], Path]:
    """Write the config of an app whose gate has one more probe: ``config("...")``."""

    def write(probe: str) -> Path:
        (tmp_path / "releases").mkdir()
        path = tmp_path / "traefik.toml"
        path.write_text(
            f'state_dir = "{tmp_path}/state"\ncaller = "{PROXY}"\n'
            f'[source]\nkind = "directory"\npath = "{tmp_path}/releases"\n'
            '[[probes]]\nkind = "identity"\n'
            f'target_unit = "{PROXY}"\nurl = "http://127.0.0.1:1/who"\n{probe}'
        )
        return path

    return write


def test_a_gate_on_the_dashboard_is_refused_before_anything_is_touched(
    config: Callable[[str], Path],
    systemctl_says: Systemctl,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The deadlock of the old gate: its own exit code, the chain, and not a file written."""
    systemctl_says(**HUNG)
    gate = (
        '[[probes]]\nkind = "http"\nname = "dashboard"\n'
        f'target_unit = "{DASHBOARD}"\nurl = "https://ci.commoninternet.net/"\n'
        'address = "127.0.0.1:443"\n'
    )
    assert main(["traefik", "--config", str(config(gate))]) == ExitCode.ORDERING_REFUSED
    said = capsys.readouterr().err
    assert "nothing was touched" in said
    assert "probe dashboard" in said
    chain = (DASHBOARD, "bridge.service", r"inst@a\x2db.service", PROXY)
    assert " → After= → ".join(chain) in said
    assert not (tmp_path / "state").exists()


def test_the_deployment_of_the_caller_may_be_probed_without_systemd(
    systemctl_says: Systemctl,
) -> None:
    """A gate on Traefik itself needs no proof from systemd."""
    systemctl_says(script="exit 1")
    assert [safe.probe for safe in clear(PROXY, (OWN,))] == [OWN]


def test_every_refused_probe_is_reported(systemctl_says: Systemctl) -> None:
    """In one error; a probe that would wait decides its type, not one of unknown order."""
    systemctl_says(**HUNG)
    nobody = UnitActive(name="nobody", target_unit="nobody.service")
    every: tuple[Probe, ...] = (nobody, OWN, OLD_GATE)
    with pytest.raises(OrderingError) as caught:
        clear(PROXY, every)
    assert not isinstance(caught.value, UnprovenError)
    assert caught.value.message.count("\n  probe ") == 2
    assert "nobody" in caught.value.message
    assert "dashboard" in caught.value.message
    assert caught.value.hint.endswith(f"from a unit that starts after {DASHBOARD}")


def test_the_error_has_a_line_for_each_refused_probe() -> None:
    """If the order of all of them is unknown, it has the first one's hint."""
    lost = UnitActive(name="lost", target_unit="lost.service")
    gone = UnitActive(name="gone", target_unit="gone.service")
    units = UnitGraph(frozenset({PROXY}), ())
    with pytest.raises(UnprovenError) as caught:
        clear(PROXY, (lost, OWN, gone), lambda caller, target: prove(units, caller, target))
    cannot = "is unknown or can't be started, so it can't be determined whether"
    assert caught.value.message == (
        "the gate is refused, nothing was touched:"
        f"\n  probe lost: the target lost.service {cannot} lost.service starts after {PROXY}"
        f"\n  probe gone: the target gone.service {cannot} gone.service starts after {PROXY}"
    )
    assert caught.value.hint == "check that lost.service is installed and spelled right"


def test_the_probes_of_a_gate_may_be_an_iterator() -> None:
    """It is read once, although one probe's target depends on the others."""
    with pytest.raises(OrderingError, match="Traefik routes this host name"):
        clear(PROXY, iter((page(PROXY), OWN)), safe, table=NO_TABLE)
    cleared = clear(PROXY, iter((OWN,)), safe)
    assert isinstance(cleared, tuple)
    assert [each.probe for each in cleared] == [OWN]


def test_an_unknown_target_is_not_safe(systemctl_says: Systemctl) -> None:
    """Nor is any target if systemd can't be reached."""
    systemctl_says(script="echo no bus >&2; exit 1")
    with pytest.raises(UnprovenError, match="probe dashboard"):
        clear(PROXY, (OLD_GATE,))


# Who serves a name -------------------------------------------------------------------------------

SITE = "ci.commoninternet.net"
TABLE = Table(
    (
        Router(
            "dashboard@swarm",
            f"Host(`{SITE}`)",
            "dashboard@swarm",
            29,
            frozenset({"web-secure"}),
            has_tls=True,
        ),
        Router(
            "api@file",
            "Host(`traefik.test`)",
            "api@internal",
            29,
            frozenset({"web-secure"}),
            has_tls=True,
        ),
    ),
    {"dashboard": frozenset({DASHBOARD})},
    PROXY,
)
NO_TABLE = TableUnknown("no Traefik yet")


def page(unit: str, host: str = SITE) -> Http:
    return Http(name="page", target_unit=unit, url=f"https://{host}/", address="127.0.0.1:443")


def safe(caller: str, target: Target) -> SafeUnit:
    """Prove it on a host where no unit is ordered."""
    return prove(UnitGraph(frozenset({caller, target.unit}), ()), caller, target)


@pytest.mark.parametrize("table", [TABLE, NO_TABLE])
@pytest.mark.parametrize("host", [SITE, "traefik.test"])
def test_a_gate_of_traefik_never_probes_a_host_name_of_its_caller(
    table: Table | TableUnknown, host: str
) -> None:
    """Also if the routers lead there now: on a cold boot nothing is routed."""
    with pytest.raises(
        OrderingError, match=r"Traefik routes this host name|is served by"
    ) as caught:
        clear(PROXY, (OWN, page(PROXY, host)), safe, table=table)
    assert caught.value.exit_code == ExitCode.ORDERING_REFUSED
    if table is TABLE and host == SITE:
        assert f"declares {PROXY}, but {SITE} is served by {DASHBOARD}" in caught.value.message


def test_a_gate_of_traefik_never_probes_a_host_name_of_an_alias_of_its_caller() -> None:
    """An alias is the same unit."""
    units = UnitGraph(frozenset({PROXY}), (), {"alias.service": PROXY})
    with pytest.raises(OrderingError, match="is the caller itself"):
        clear(
            PROXY,
            (OWN, page("alias.service")),
            lambda caller, target: prove(units, caller, target),
            table=NO_TABLE,
        )


def test_a_wrong_target_is_refused_with_the_chain_of_the_true_one() -> None:
    """The declared unit would be safe; the unit that serves the name is not."""
    units = UnitGraph(frozenset({PROXY, DASHBOARD, "early.service"}), (Edge(DASHBOARD, PROXY),))
    with pytest.raises(OrderingError) as caught:
        clear(
            PROXY,
            (page("early.service"),),
            lambda caller, target: prove(units, caller, target),
            table=TABLE,
        )
    assert f"declares early.service, but {SITE} is served by {DASHBOARD}" in caught.value.message
    assert f"{DASHBOARD} → After= → {PROXY}" in caught.value.message


@pytest.mark.parametrize("declared", ["early.service", DASHBOARD], ids=["another", "the true one"])
def test_a_refusal_carries_the_chain_of_the_unit_that_serves(declared: str) -> None:
    """And its hint, whichever unit was declared."""
    units = UnitGraph(frozenset({PROXY, DASHBOARD, "early.service"}), (Edge(DASHBOARD, PROXY),))
    with pytest.raises(OrderingError) as caught:
        prove_declared(
            PROXY,
            page(declared),
            lambda caller, target: prove(units, caller, target),
            TABLE,
            of_traefik=True,
        )
    assert caught.value.chain == (DASHBOARD, PROXY)
    assert caught.value.hint.startswith(f"probe what {PROXY} deploys")


def test_a_consumer_may_probe_its_own_host_name() -> None:
    """If it is not resolved yet, a warning says that only the config declares it."""
    doubts: list[str] = []
    for table in (TABLE, NO_TABLE):
        (cleared,) = clear(DASHBOARD, (page(DASHBOARD),), safe, table=table, doubt=doubts.append)
        assert cleared.probe == page(DASHBOARD)
    assert doubts == [
        f"not resolved: probe page: no Traefik yet; only the config says that {DASHBOARD} serves it"
    ]
    with pytest.raises(OrderingError, match=f"served by {DASHBOARD}"):
        clear("drone.service", (page("drone.service"),), safe, table=TABLE)


def test_without_docker_there_is_no_table_of_routers(tmp_path: Path) -> None:
    """Docker is queried only if a probe has a host name."""
    nowhere = str(tmp_path / "docker.sock")
    assert read_table((OWN,), nowhere) == UNASKED
    table = read_table((page(DASHBOARD),), nowhere)
    assert isinstance(table, TableUnknown)
    assert nowhere in table.reason
    assert read_table((OWN, page(DASHBOARD)), nowhere) == table
    process = read_table((page(DASHBOARD),), None)
    assert isinstance(process, TableUnknown)
    assert process.reason.startswith("the app is a process")


NAMED = f"""
[[probes]]
kind = "http"
name = "page"
target_unit = "early.service"
url = "https://{SITE}/"
address = "127.0.0.1:443"
"""


@pytest.mark.parametrize("kind", ["swarm", "process"])
def test_the_routers_are_read_from_the_docker_of_the_app(
    config: Callable[[str], Path], systemctl_says: Systemctl, tmp_path: Path, kind: str
) -> None:
    """Each name that they don't resolve gets a warning: it is proven only as declared."""
    systemctl_says(
        show="Id=early.service\nLoadState=loaded\n\nId=deploy-proxy.service\nLoadState=loaded\n",
        list_dependencies="early.service\n",
        list_jobs="",
    )
    socket = tmp_path / "docker.sock"
    path = config(NAMED)
    if kind == "swarm":
        path.write_text(
            f'{path.read_text()}\n[platform]\nkind = "swarm"\nstack = "traefik"\n'
            f'socket = "{socket}"\n'
        )
    app = find_app("traefik", config=path, config_dir=Path())
    doubts: list[str] = []
    cleared = clear_app(app.config, doubts.append)
    assert tuple(each.probe for each in cleared) == app.config.probes
    (doubt,) = doubts
    assert doubt.startswith("not resolved: probe page: ")
    assert doubt.endswith("only the config says that early.service serves it")
    assert ("the app is a process" in doubt) == (kind == "process")
    assert (str(socket) in doubt) == (kind == "swarm")


# The budget --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "fits"),
    [
        ("LoadState=loaded\nTimeoutStartUSec=15min\n", True),
        ("LoadState=loaded\nTimeoutStartUSec=infinity\n", True),
        ("LoadState=loaded\nTimeoutStartUSec=1min 30s\n", False),
        ("LoadState=not-found\nTimeoutStartUSec=1min 30s\n", True),
    ],
)
def test_the_longest_run_must_fit_the_unit_that_is_really_there(
    config: Callable[[str], Path], systemctl_says: Systemctl, said: str, *, fits: bool
) -> None:
    """The config has no say in it. A unit that doesn't exist has no limit."""
    systemctl_says(show=said)
    app = find_app("traefik", config=config(""), config_dir=Path())
    if fits:
        check_budget(app.config)
    else:
        with pytest.raises(ConfigError, match=r"may take 90 s to start.*margin 60 = 550 s"):
            check_budget(app.config)


@pytest.mark.parametrize("limit", ["9min 10s", "1min 30s"])
def test_a_run_that_would_be_cut_off_does_not_begin(
    config: Callable[[str], Path],
    systemctl_says: Systemctl,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    limit: str,
) -> None:
    """Refused with the sum, and not a file written; 550 s itself is too short."""
    systemctl_says(show=f"LoadState=loaded\nTimeoutStartUSec={limit}\n")
    assert main(["traefik", "--config", str(config(""))]) == ExitCode.CONFIG
    assert "margin 60 = 550 s" in capsys.readouterr().err
    assert not (tmp_path / "state").exists()


def test_a_run_warns_of_host_names_that_only_the_config_declares(
    config: Callable[[str], Path],
    systemctl_says: Systemctl,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And goes on: here to the end of a run that has nothing to deploy."""
    systemctl_says(
        show="Id=early.service\nLoadState=loaded\n\nId=deploy-proxy.service\nLoadState=loaded\n",
        list_dependencies="early.service\n",
        list_jobs="",
    )
    assert main(["traefik", "--config", str(config(NAMED))]) == ExitCode.STRANDED
    said = capsys.readouterr().err
    assert "not resolved: probe page" in said
    assert "only the config says that early.service serves it" in said
    assert (tmp_path / "state").exists()


def test_the_limit_itself_is_too_short() -> None:
    """A start ends at the limit, not after it; without a limit anything fits."""
    for limit in (90.01, None):
        fit(PROXY, 90, "90 s", limit)
    for limit in (90, 89.99, 0):
        with pytest.raises(ConfigError, match=f"may take {limit:g} s to start"):
            fit(PROXY, 90, "90 s", limit)


def test_without_systemd_nothing_is_cut_off(
    config: Callable[[str], Path], systemctl_says: Systemctl
) -> None:
    """For example in a container."""
    systemctl_says(script="exit 1")
    check_budget(find_app("traefik", config=config(""), config_dir=Path()).config)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("infinity", None),
        ("0", 0),
        ("15min", 900),
        ("1h 30min 5s", 5405),
        ("1d 12h", 129_600),
        ("500ms", 0.5),
        ("1.5s", 1.5),
        ("250us", 0.00025),
        ("1w", 604_800),
        ("never heard of", 0),
    ],
)
def test_a_span_is_read_as_systemd_prints_it(text: str, seconds: float | None) -> None:
    """An unreadable span counts as 0."""
    assert seconds == read_span(text)
