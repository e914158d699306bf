"""A broken release is never committed, and the reason names the cause.

Where a release is proven, it serves at the end. If the preflight detects it, the proven
one is not even touched; without a preflight, or if that passes, the gate detects it.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from traefik.broken import LONG
from traefik.harness import NAME, RUNNER

from swarm import broken as ways
from swarm.broken import (
    PROCESS,
    STARTING,
    Broken,
    compose,
    deploying,
    dynamic,
    scripted,
    service,
    static,
)
from swarm.engine import Engine
from swarm.harness import AMPLE, NEW, OLD, Host, Ran
from swarm.healthy import (
    LAST_GOOD,
    Keeper,
    assert_never_committed,
    assert_serving,
    prepare,
    proven,
    quarantined,
)
from swarm.network import PATIENCE

pytestmark = pytest.mark.swarm

TRIAL: Final = 20.0
"""Seconds for a preflight of a release that never ends, and is never healthy."""


def _says(probe: str, text: str) -> str:
    """Match the reason of a probe, from the host or inside a task."""
    return rf"\b{probe}(@\w+)?: {text}"


NO_IDENTITY: Final = r"status 404, expected 200: no identity"
NO_ANSWER: Final = r"(connection refused|no HTTP answer|no whole answer within|TLS: )"

IMAGE: Final = (
    Broken(
        "is another version under the right tag",
        lambda host, label: host.release(label, image=ways.variant(host, version=OLD)),
        _says("web", rf"version {re.escape(OLD)} answers, expected {re.escape(NEW)}"),
        cold=True,
        quick=True,
    ),
    Broken(
        "is a server that says 200 and OK to everything",
        ways.serving(ways.OK_TO_ALL),
        _says("web", "no X-Warm-Reconcile-Token header: this is not the Traefik that was deployed"),
        cold=True,
    ),
    Broken(
        "is a server that echoes what it is asked",
        ways.serving(ways.ECHO),
        _says("web", "no X-Warm-Reconcile-Token header: this is not the Traefik that was deployed"),
    ),
    Broken(
        "accepts connections and never answers",
        ways.serving(ways.SILENCE),
        STARTING,  # its health check waits for 5 s
    ),
    Broken(
        "lets its answers drip", ways.serving(ways.DRIP), _says("ping", "no whole answer within")
    ),
)

PLACE: Final = (
    Broken(
        "no node may run it",
        compose(("node.role == manager", "node.labels.nowhere == 1")),
        r"is pending: no suitable node \(scheduling constraints",
        in_trial=False,
        cold=True,
    ),
    Broken(
        "no node can hold it",
        deploying("resources: {reservations: {memory: 999G}}"),
        r"is pending: no suitable node \(insufficient resources",
        in_trial=False,  # beside the live one there may be no room
        cold=True,
    ),
    Broken(
        "another program holds a port that it publishes",
        ways.publishing(ways.TAKEN),
        r"address already in use",
        in_trial=False,
        cold=True,
        beside=ways.a_stranger,
    ),
    Broken(
        "another stack holds a port that it publishes",
        ways.publishing(ways.TAKEN),
        r"is pending: no suitable node \(host-mode port already in use",
        in_trial=False,
        cold=True,
        beside=ways.another_stack,
    ),
    Broken(
        "mounts what is not there",
        compose((ways.SOCKET_PATH, "/nosuch")),
        r"bind source path does not exist: /nosuch",
    ),
)

STATIC: Final = (
    Broken(
        "has no web-secure", static(ways.NO_WEB_SECURE), _says("web-secure", NO_ANSWER), cold=True
    ),
    Broken("web listens elsewhere", static(('":80"', '":81"')), _says("ping", NO_ANSWER)),
    Broken(
        "web-secure listens elsewhere", static(('":443"', '":444"')), _says("web-secure", NO_ANSWER)
    ),
    Broken(
        "has no ping",
        static(("ping:\n  entryPoint: web\n", "")),
        rf"{STARTING}; its health check printed .*ping",
        cold=True,
    ),
    Broken(
        "redirects its ping",
        ways.redirecting_its_ping,
        _says("ping", r"status 30\d, expected 200 \(redirect to https://"),
    ),
    Broken(
        "has no API, and so no identity",
        static(("api:\n  insecure: false\n  dashboard: false\n", "")),
        _says("web", NO_IDENTITY),
        cold=True,
    ),
    Broken(
        "has no file provider, and so no identity",
        static(("  file:\n    directory: /etc/traefik/file-providers\n", "")),
        _says("web", NO_IDENTITY),
    ),
    Broken(
        "has no Swarm provider, and so routes nothing",
        static((ways.SWARM_PROVIDER, "")),
        _says("provider", NO_IDENTITY),
    ),
)

DYNAMIC: Final = (
    Broken("its dynamic config is no YAML", dynamic("tls: {{{"), _says("web", NO_IDENTITY)),
    Broken(
        "a field of its dynamic config is unknown",
        dynamic("http: {nonsense: 1}\n"),
        _says("web", NO_IDENTITY),
        cold=True,
    ),
    Broken(
        "its default TLS options name a cipher that there is not",
        dynamic("tls: {options: {default: {cipherSuites: [NOSUCH]}}}\n"),
        _says("default-tls", NO_ANSWER),
        cold=True,
    ),
    Broken(
        "its default TLS options name a client's authority that there is not",
        dynamic(
            "tls: {options: {default: {clientAuth: {caFiles: [/nosuch.pem],"
            " clientAuthType: RequireAndVerifyClientCert}}}}\n"
        ),
        _says("default-tls", NO_ANSWER),
    ),
    Broken(
        "its dynamic config is no template", dynamic("# {{ nosuch }}"), _says("web", NO_IDENTITY)
    ),
    Broken(
        "lacks the middleware of its entrypoint",
        static(ways.at_web("nosuch@file")),
        rf"{STARTING}; its health check printed .*404",
    ),
    Broken(
        "answers with a token out of its config",
        ways.with_a_token_in_its_config,
        _says("web", "another deployment answers: its token is a different one"),
        cold=True,
    ),
    Broken(
        "answers with a token out of its labels",
        ways.with_a_token_in_its_labels,
        r"another deployment answers: its token is a different one",
        trial=_says("ping", "status 404"),  # in isolation its labels are not read
    ),
)

PROVIDER: Final = (
    Broken(
        "has no Docker socket",
        compose((ways.SOCKET, "")),
        _says("provider", NO_IDENTITY),
        cold=True,
    ),
    Broken(
        "has a socket that an engine left behind",
        ways.with_a_dead_socket,
        _says("provider", NO_IDENTITY),
    ),
    Broken("may not use the socket", service('user: "65534"'), _says("provider", NO_IDENTITY)),
    Broken(
        "gives the provider no port",
        compose((ways.PORT_LABEL, "")),
        _says("provider", NO_IDENTITY),
        in_trial=False,  # it sees the live one's routes
    ),
)

REFUSED: Final = (
    Broken(
        "its image is not to be had",
        lambda host, label: host.release(label, image=f"nosuch:v{NEW}"),
        rf"the image nosuch:v{NEW} is neither in Docker nor available",
        fate="can't be stored",
    ),
    Broken(
        "its recipe is no YAML",
        compose(("services:\n", "services: {\n")),
        r"the latest is unknown: .*compose\.yml",
        fate="can't be stored",
    ),
    Broken(
        "brings a gate of its own",
        lambda host, label: host.release(label, files={"gate.yml": "http: {}\n"}),
        r"the recipe has a file gate\.yml of its own",
        fate="can't be stored",
    ),
    Broken(
        "wants two tasks to hold one port",
        deploying("replicas: 2"),
        r"service app needs 2 tasks that each publish a port on their host, but there is only 1",
        fate="is refused",
    ),
    Broken(
        "its network doesn't exist",
        compose(("  proxy:\n    external: true", "  proxy: {external: true, name: nosuch}")),
        r"the network nosuch doesn't exist in the swarm",
        fate="can't be tried",
    ),
    Broken(
        "its secret doesn't exist",
        ways.with_a_secret,
        r"the secret nosuch doesn't exist in the swarm",
        fate="can't be tried",
    ),
)

CATALOGUE: Final = (*PROCESS, *IMAGE, *PLACE, *STATIC, *DYNAMIC, *PROVIDER)


def _each(cases: tuple[Broken, ...]) -> pytest.MarkDecorator:
    marks = {True: (), False: (pytest.mark.slow,)}
    chosen = [pytest.param(case, id=case.name, marks=marks[case.quick]) for case in cases]
    return pytest.mark.parametrize("broken", chosen)


@pytest.fixture(scope="module")
def keeper(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keeper]:
    """Keep an app with a last-good, as long as the tests need one."""
    keeper = Keeper(engine, tmp_path_factory.mktemp("kept"))
    yield keeper
    keeper.stop()


@pytest.fixture
def bare(keeper: Keeper, engine: Engine, tmp_path: Path) -> Iterator[Host]:
    """Make an app that nothing was ever deployed of, on a host where nothing runs."""
    keeper.stop()
    host = Host(engine, tmp_path / "host")
    yield host
    host.stop()


def _trial(broken: Broken) -> float:
    """Give a preflight all the time that it needs if it ends with a terminal result."""
    return AMPLE if ways.ENDED in (broken.trial or broken.reason) else TRIAL


def _run(host: Host, broken: Broken, label: str, preflight: float) -> Ran:
    prepare(host, preflight=preflight, window=broken.window if preflight else LONG)
    with broken.beside(host):
        broken.write(host, label)
        return host.run_until(broken.reason)


def _assert_rolled_back(host: Host, ran: Ran, label: str) -> None:
    assert (ran.code, ran.outcome, ran.serving) == (12, "rolled back", LAST_GOOD), ran
    assert_never_committed(host, label)
    assert proven(host) == [LAST_GOOD]


@_each(tuple(broken for broken in CATALOGUE if broken.in_trial))
def test_a_preflight_spares_last_good(keeper: Keeper, broken: Broken) -> None:
    """The release never takes its place: last-good serves on in the same container."""
    host, label = keeper.serve(), keeper.label(NEW)
    container = assert_serving(host, LAST_GOOD)
    ran = _run(host, broken, label, _trial(broken))
    _assert_rolled_back(host, ran, label)
    assert ran.reason.startswith("preflight: "), ran.reason
    assert re.search(broken.trial or broken.reason, ran.reason), ran.reason
    assert assert_serving(host, LAST_GOOD) == container
    assert not ran.report["downtime"]
    assert quarantined(host)[label] == ran.reason
    assert host.engine.listed("stack", "ls", "--format={{.Name}}") == [host.stack]


@_each(CATALOGUE)
def test_the_gate_rolls_it_back(keeper: Keeper, broken: Broken) -> None:
    """Without a preflight: it is deployed, fails its gate, and last-good serves again."""
    host, label = keeper.serve(), keeper.label(NEW)
    ran = _run(host, broken, label, 0.0)
    _assert_rolled_back(host, ran, label)
    assert re.search(broken.reason, ran.reason), ran.reason
    assert_serving(host, LAST_GOOD)
    assert quarantined(host)[label] == ran.reason


@_each(REFUSED)
def test_a_release_that_cannot_be_deployed_touches_nothing(keeper: Keeper, broken: Broken) -> None:
    """Last-good serves on in the same container; only a fault of the release is recorded."""
    host, label = keeper.serve(), keeper.label(NEW)
    container = assert_serving(host, LAST_GOOD)
    ran = _run(host, broken, label, 0.0)
    if broken.fate == "can't be stored":
        assert (ran.code, ran.outcome, ran.serving) == (0, "unchanged", LAST_GOOD), ran
    else:
        _assert_rolled_back(host, ran, label)
    assert re.search(broken.reason, ran.reason), ran.reason
    assert assert_serving(host, LAST_GOOD) == container
    assert not ran.report["downtime"]
    assert_never_committed(host, label)
    assert (label in quarantined(host)) == (broken.fate == "is refused")


@_each(tuple(broken for broken in (*CATALOGUE, *REFUSED) if broken.cold or broken in REFUSED))
def test_nothing_is_proven_by_a_broken_first_release(bare: Host, broken: Broken) -> None:
    """There is no fallback: stranded; undecided if the cause may not be the release."""
    label = f"1.0.0+v{NEW}"
    ran = _run(bare, broken, label, _trial(broken))
    if broken.fate == "can't be tried":
        assert (ran.code, ran.outcome, ran.serving) == (21, "undecided", None), ran
    else:
        assert (ran.code, ran.outcome, ran.serving) == (20, "stranded", None), ran
    assert re.search(broken.reason, ran.reason), ran.reason
    assert_never_committed(bare, label)
    assert proven(bare) == []
    assert quarantined(bare) == {}


@pytest.mark.slow
def test_what_deceives_the_trial_is_found_out_by_the_gate(keeper: Keeper) -> None:
    """It dies after it has held for as long as a preflight takes: that never replaces the gate."""
    host, label = keeper.serve(), keeper.label(NEW)
    container = assert_serving(host, LAST_GOOD)
    deceiver = Broken(
        "",
        scripted(f"{ways.GATE_HAS_PASSED}sleep 3; kill -KILL $!; wait $!", ways.LOGGED),
        r"^tasks: task \w+ ended with status 137.* \(it had passed and failed again, 1x\)$",
        window=6.0,
    )
    ran = _run(host, deceiver, label, AMPLE)
    _assert_rolled_back(host, ran, label)
    assert re.search(deceiver.reason, ran.reason), ran.reason
    assert assert_serving(host, LAST_GOOD) != container


@pytest.mark.slow
def test_explain_prints_the_cause_and_the_evidence(keeper: Keeper) -> None:
    """The output names the release, the cause and every probe."""
    host, label = keeper.serve(), keeper.label(NEW)
    (broken,) = (case for case in IMAGE if case.quick)
    _run(host, broken, label, 0.0)
    command = (sys.executable, "-m", "runner.cli.main", "explain", NAME)
    explained = subprocess.run(
        [*command, "--config-dir", str(host.config.parent)],
        cwd=RUNNER.parents[1],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    for told in (
        f"version {OLD} answers, expected {NEW}",
        "tasks: ok",
        "ping: ok",
        "web: FAILED",
        f"falling back to {LAST_GOOD}",
    ):
        assert told in explained.stdout
