"""The config of an app: every mistake is reported before anything happens."""

# ruff: noqa: SIM300 (asserts read: expected == actual)

import json
import subprocess
import tempfile
import tomllib
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runner.config.app import (
    AppConfig,
    DirectorySource,
    GitSource,
    ProcessPlatformConfig,
    Retention,
    SwarmPlatformConfig,
    find,
    load,
)
from runner.reconcile.budget import Budget
from runner.reconcile.errors import ConfigError, UsageError
from runner.reconcile.field_types import NAME_RULE
from runner.reconcile.gate import GatePolicy
from runner.reconcile.probes import Http, Identity, Tcp, TraefikPing, UnitActive

WHOLE = """
state_dir = "/var/lib/warm-reconcile"
caller = "deploy-proxy.service"
fallback_depth = 1

[source]
kind = "git"
url = "https://git.example/traefik.git"
prereleases = true

[platform]
kind = "process"
stop_timeout = 20

[gate]
rise = 2
window = 5
deadline = 30.5
verify_deadline = 4
fastest = 0.01
slowest = 0.5

[budget]
timeout_start = 600
fetch = 100
deploy = 50
margin = 30

[retention]
proven = 3
history = 50
quarantine = 3600

[[probes]]
kind = "identity"
target_unit = "deploy-proxy.service"
url = "http://127.0.0.1:8080/.warm-reconcile/identity"
timeout = 1

[[probes]]
kind = "traefik-ping"
target_unit = "deploy-proxy.service"
url = "http://127.0.0.1:8080/ping"

[[probes]]
kind = "http"
name = "site"
target_unit = "site.service"
url = "https://site.example/health"
address = "[::1]:443"
status = 204
body = ""
verify_tls = false
ca_file = "/etc/ssl/ours.pem"
headers = { "X-Served-By" = "traefik" }

[[probes]]
kind = "tcp"
name = "port"
target_unit = "site.service"
address = "127.0.0.1:443"

[[probes]]
kind = "unit"
name = "active"
target_unit = "site.service"
"""

Path_ = tuple[str | int, ...]
Data = dict[str, Any]


def whole() -> Data:
    return tomllib.loads(WHOLE)


def minimal() -> Data:
    return {
        "state_dir": "/s",
        "caller": "a.service",
        "source": {"kind": "directory", "path": "/r"},
        "probes": [{"kind": "identity", "target_unit": "a.service", "url": "http://[::1]/i"}],
    }


def put(data: Any, path: Path_, value: object) -> None:  # noqa: ANN401 - JSON
    *way, last = path
    for step in way:
        data = data[step]
    data[last] = value


def write(path: Path, data: object) -> Path:
    path.write_text(json.dumps(data))
    return path


def mistakes(path: Path) -> list[str]:
    """List the mistakes that a config is refused for."""
    with pytest.raises(ConfigError) as caught:
        load(path)
    headline, *lines = caught.value.message.splitlines()
    assert f"{path} has {len(lines)} mistake{'s' if len(lines) > 1 else ''}:" == headline
    assert caught.value.hint
    return [line.removeprefix("  ") for line in lines]


# What is right ------------------------------------------------------------------------------------


def test_toml_and_json_with_the_same_content_are_the_same_config(tmp_path: Path) -> None:
    """Every key of every table arrives, from either syntax."""
    (tmp_path / "a.toml").write_text(WHOLE)
    unit = "site.service"
    expected = AppConfig(
        state_dir="/var/lib/warm-reconcile",
        caller="deploy-proxy.service",
        fallback_depth=1,
        source=GitSource(url="https://git.example/traefik.git", prereleases=True),
        platform=ProcessPlatformConfig(stop_timeout=20.0),
        gate=GatePolicy(2, 5.0, 30.5, 4.0, 0.01, 0.5),
        budget=Budget(600.0, 100.0, 50.0, 30.0),
        retention=Retention(3, 50, 3600.0),
        probes=(
            Identity(
                target_unit="deploy-proxy.service",
                url="http://127.0.0.1:8080/.warm-reconcile/identity",
                timeout=1.0,
            ),
            TraefikPing(target_unit="deploy-proxy.service", url="http://127.0.0.1:8080/ping"),
            Http(
                name="site",
                target_unit=unit,
                url="https://site.example/health",
                address="[::1]:443",
                status=204,
                headers={"X-Served-By": "traefik"},
                body="",
                verify_tls=False,
                ca_file="/etc/ssl/ours.pem",
            ),
            Tcp(name="port", target_unit=unit, address="127.0.0.1:443"),
            UnitActive(name="active", target_unit=unit),
        ),
    )
    assert expected == load(tmp_path / "a.toml")
    assert expected == load(write(tmp_path / "a.json", whole()))


def test_a_config_of_the_required_keys_alone_gets_good_defaults(tmp_path: Path) -> None:
    """Four keys are enough, and the defaults fit their own budget."""
    config = load(write(tmp_path / "a.json", minimal()))
    assert DirectorySource(path="/r") == config.source
    assert (GatePolicy(), Budget(), Retention()) == (config.gate, config.budget, config.retention)


# What is wrong with one key -----------------------------------------------------------------------

WRONG: list[tuple[Path_, object, str]] = [
    (("state_dir",), "", "state_dir = '': expected "),
    (("caller",), "proxy", "caller = 'proxy': expected a systemd unit name, for"),
    (("fallback_depth",), "3", "fallback_depth = '3': expected a whole number, "),
    (("fallback_depth",), True, "fallback_depth = True: expected a whole number, "),
    (("fallback_depth",), -1, "fallback_depth = -1: expected a whole number, "),
    (("extra",), 1, "extra = 1: expected no such key; the keys here are budget, caller,"),
    (("source",), [], 'source = []: expected a table with a key kind, one of "directory",'),
    (("source", "kind"), "svn", "source = {'kind': 'svn', "),
    (("source", "kind"), ["git"], "source = {'kind': ['git'], "),
    (("source", "url"), "a\0b", "source.url = 'a\\x00b': expected a text that is not empty, "),
    (("source", "prereleases"), "yes", "source.prereleases = 'yes': expected true or false"),
    (
        ("source", "depth"),
        1,
        "source.depth = 1: expected no such key; the keys here are kind, prere",
    ),
    (("platform", "kind"), "podman", "platform = {'kind': 'podman', "),
    (("platform", "stop_timeout"), 0, "platform.stop_timeout = 0: expected a number of seconds"),
    (("gate",), "strict", "gate = 'strict': expected a table"),
    (("gate", "rise"), 0, "gate.rise = 0: expected a whole number, "),
    (("gate", "rise"), 2.0, "gate.rise = 2.0: expected a whole number, "),
    (("gate", "window"), "5", "gate.window = '5': expected a number of seconds"),
    (("budget", "fetch"), None, "budget.fetch = None: expected a number of seconds"),
    (("retention", "proven"), "4", "retention.proven = '4': expected "),
    (("retention", "proven"), True, "retention.proven = True: expected "),
    (("retention", "proven"), 4.5, "retention.proven = 4.5: expected "),
    (("retention", "history"), 0, "retention.history = 0: expected "),
    (("retention", "history"), -5, "retention.history = -5: expected "),
    (("retention", "history"), 10**30, "retention.history = 1"),
    (("retention", "quarantine"), "7", "retention.quarantine = '7': expected "),
    (("retention", "quarantine"), -1, "retention.quarantine = -1: expected "),
    (("retention", "quarantine"), 1e300, "retention.quarantine = 1e+300: expected "),
    (("retention", "quarantine"), float("inf"), "retention.quarantine = inf: expected "),
    (("retention", "quarantine"), float("nan"), "retention.quarantine = nan: expected "),
    (("probes",), {}, "probes = {}: expected a list"),
    (("probes",), "identity", "probes = 'identity': expected a list"),
    (("probes", 1), "ping", "probes[1] = 'ping': expected a table with a key kind, one of"),
    (("probes", 1, "kind"), "icmp", "probes[1] = {'kind': 'icmp', "),
    (("probes", 1, "url"), "127.0.0.1/ping", "probes[1].url = '127.0.0.1/ping': expected an http"),
    (("probes", 1, "url"), 80, "probes[1].url = 80: expected an http or https URL"),
    (
        ("probes", 1, "path"),
        "/",
        "probes[1].path = '/': expected no such key; the keys here are kind",
    ),
    (("probes", 1, "name"), "../ping", f"probes[1].name = '../ping': expected {NAME_RULE}"),
    (("probes", 2, "status"), 20, "probes[2].status = 20: expected an HTTP status, 100 to 599"),
    (("probes", 2, "address"), "site:443", "probes[2].address = 'site:443': expected an IP addr"),
    (("probes", 2, "headers", "X-Served-By"), 1, "probes[2].headers[X-Served-By] = 1: expected a"),
    (("probes", 2, "verify_tls"), 0, "probes[2].verify_tls = 0: expected true or false"),
    (("probes", 3, "timeout"), "1s", "probes[3].timeout = '1s': expected a number of seconds"),
    (("probes", 4, "target_unit"), "site", "probes[4].target_unit = 'site': expected a systemd"),
]


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        pytest.param(path, value, expected, id=f"{'.'.join(map(str, path))}={value}")
        for path, value, expected in WRONG
    ],
)
def test_a_wrong_value_is_reported_with_its_key_and_the_expected_value(
    tmp_path: Path, path: Path_, value: object, expected: str
) -> None:
    """One wrong key gives exactly one line, in the words of an operator."""
    data = whole()
    put(data, path, value)
    (told,) = mistakes(write(tmp_path / "a.json", data))
    assert told.startswith(expected)
    for word_of_python in ("typing", "unhashable", "NoneType", "could not convert", "literal"):
        assert word_of_python not in told


@pytest.mark.parametrize(
    "path",
    [
        ("state_dir",),
        ("caller",),
        ("source",),
        ("probes",),
        ("source", "url"),
        ("probes", 1, "url"),
        ("probes", 2, "name"),
        ("probes", 3, "address"),
        ("probes", 4, "target_unit"),
    ],
    ids=str,
)
def test_a_missing_required_key_is_reported(tmp_path: Path, path: Path_) -> None:
    """Each key without a default is named in full."""
    data = whole()
    *way, last = path
    table: Any = data
    for step in way:
        table = table[step]
    del table[last]
    name = "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in path).removeprefix(".")
    assert [f"{name}: missing; expected a value: it has no default"] == mistakes(
        write(tmp_path / "a.json", data)
    )


def test_a_missing_kind_is_answered_with_the_kinds(tmp_path: Path) -> None:
    """The message lists the kinds of a probe or a source."""
    data = whole()
    del data["source"]["kind"]
    del data["probes"][3]["kind"]
    probe, source = sorted(mistakes(write(tmp_path / "a.json", data)))
    assert source.endswith('expected kind to be one of "directory", "git", "abra"')
    assert probe.startswith("probes[3] = ")
    assert probe.endswith('one of "traefik-ping", "identity", "task", "http", "tcp", "unit"')


def test_every_mistake_is_reported_at_once(tmp_path: Path) -> None:
    """Seven mistakes in five tables give seven lines in one go."""
    data = whole()
    put(data, ("caller",), 5)
    put(data, ("colour",), "red")
    put(data, ("gate", "rise"), "3")
    put(data, ("source", "url"), "")
    put(data, ("probes", 1, "url"), "gopher://127.0.0.1")
    put(data, ("probes", 1, "retries"), 3)
    del data["probes"][3]["address"]
    keys = [line.partition(" = ")[0] for line in mistakes(write(tmp_path / "a.json", data))]
    assert [
        "caller",
        "colour",
        "gate.rise",
        "probes[1].retries",
        "probes[1].url",
        "probes[3].address: missing; expected a value: it has no default",
        "source.url",
    ] == sorted(keys)


def test_a_relative_directory_is_refused(tmp_path: Path) -> None:
    """A relative path is refused: a run by hand and one by systemd must mean the same place."""
    data = minimal()
    put(data, ("state_dir",), "state")
    put(data, ("source", "path"), "../releases")
    source, state_dir = sorted(mistakes(write(tmp_path / "a.json", data)))
    assert source.startswith("source.path = '../releases': expected an absolute path")
    assert state_dir.startswith("state_dir = 'state': expected an absolute path")


@pytest.mark.parametrize("text", ["/a\0b", "/\ud800"], ids=["nul", "lone surrogate"])
def test_a_path_that_no_file_can_have_is_refused(tmp_path: Path, text: str) -> None:
    """Text that the kernel can't take for a path is a mistake in the config, not a crash later."""
    data = minimal()
    put(data, ("state_dir",), text)
    (told,) = mistakes(write(tmp_path / "a.json", data))
    assert told.startswith("state_dir = ")


def test_a_number_of_too_many_digits_to_print_is_reported(tmp_path: Path) -> None:
    """TOML's hexadecimal numbers may be longer than Python prints."""
    (tmp_path / "a.toml").write_text(WHOLE.replace("rise = 2", f"rise = 0x{'f' * 5000}"))
    (told,) = mistakes(tmp_path / "a.toml")
    assert told.startswith("gate.rise = (too long to show): expected a whole number, ")


# What is wrong between keys -----------------------------------------------------------------------


def test_a_window_must_fit_into_the_deadline(tmp_path: Path) -> None:
    """A gate whose window is as long as its deadline can never pass."""
    data = whole()
    put(data, ("gate", "window"), 30.5)
    assert ["gate.window = 30.5: expected less than gate.deadline (30.5 s)"] == mistakes(
        write(tmp_path / "a.json", data)
    )


def test_the_fastest_pause_must_not_be_longer_than_the_slowest(tmp_path: Path) -> None:
    """Pauses that can't grow are a mistake."""
    data = whole()
    put(data, ("gate", "fastest"), 0.6)
    assert ["gate.fastest = 0.6: expected at most gate.slowest (0.5 s)"] == mistakes(
        write(tmp_path / "a.json", data)
    )


def test_a_deployment_must_have_the_time_to_kill_the_old_instance(tmp_path: Path) -> None:
    """A deploy budget below the stop timeout and some seconds would be overrun by every stop."""
    data = whole()
    put(data, ("budget", "deploy"), 34)
    assert [
        (
            "budget.deploy = 34.0: expected at least platform.stop_timeout + 15 s"
            " to kill, copy and start = 35 s"
        )
    ] == mistakes(write(tmp_path / "a.json", data))


ABRA = {"kind": "abra", "domain": "traefik.example.com"}


@pytest.mark.parametrize(
    ("source", "platform", "told"),
    [
        (None, {}, "platform.stack = None: expected the name of the stack"),
        (ABRA, {"stack": "mine"}, "platform.stack = 'mine': expected no value: abra's own is used"),
        (
            ABRA,
            {"env_file": "/e"},
            "platform.env_file = '/e': expected no value: abra's own is used",
        ),
        (
            ABRA,
            {"kind": "process"},
            "platform.kind = 'process': expected \"swarm\": abra deploys only to",
        ),
        (ABRA, {"socket": "docker.sock"}, "platform.socket = 'docker.sock': expected an absolute"),
        (ABRA, {"require": "most"}, 'platform.require = \'most\': expected "all", "quorum"'),
        (ABRA, {"preflight": -1}, "platform.preflight = -1: expected a number of seconds, 0 to "),
        (
            ABRA,
            {"preflight": 31},
            "budget.deploy = 60.0: expected at least platform.preflight + 30",
        ),
    ],
)
def test_a_swarm_config_must_fit_its_source(
    tmp_path: Path, source: Data | None, platform: Data, told: str
) -> None:
    """With abra the stack is abra's; without, the config has to name it."""
    data = minimal()
    put(data, ("source",), source or data["source"])
    put(data, ("platform",), {"kind": "swarm", **platform})
    (mistake,) = mistakes(write(tmp_path / "a.json", data))
    assert mistake.startswith(told)


def test_the_example_for_a_swarm_is_a_config() -> None:
    """It loads unchanged: a host that is managed with abra needs nothing else."""
    config = load(Path(__file__).parents[3] / "examples" / "swarm.toml")
    assert isinstance(config.platform, SwarmPlatformConfig)
    assert {"web", "web-secure", "default-tls", "provider", "ping"} == {
        probe.name for probe in config.probes
    }


@pytest.mark.parametrize(("timeout", "fits"), [(295, False), (295.5, True)])
def test_a_run_must_fit_into_its_unit_and_the_sum_is_written_out(
    tmp_path: Path,
    timeout: float,
    fits: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """A worst case that reaches TimeoutStartSec is refused with its sum; anything less is good."""
    data = whole()
    put(data, ("budget", "timeout_start"), timeout)
    path = write(tmp_path / "a.json", data)
    if fits:
        assert load(path).budget.timeout_start == timeout
        return
    assert [
        (
            "budget.timeout_start = 295.0: expected more than the longest run: fetch 100 + verify 4"
            " + (deploy 50 + gate 30.5) x 2 + margin 30 = 295 s"
        )
    ] == mistakes(path)


def test_retention_must_reach_as_deep_as_the_fallback(tmp_path: Path) -> None:
    """Falling back to a release that is kept no longer is impossible, so it can't be asked for."""
    data = whole()
    put(data, ("retention", "proven"), 1)
    assert [
        "retention.proven = 1: expected more than fallback_depth (1): last-good, and the fallbacks"
    ] == mistakes(write(tmp_path / "a.json", data))


@pytest.mark.parametrize("probes", [[], [{"kind": "tcp", "name": "p", "address": "[::1]:1"}]])
def test_a_gate_without_an_identity_probe_is_refused(tmp_path: Path, probes: list[Data]) -> None:
    """Without a token in the answer an old instance could pass for the new one."""
    data = whole()
    data["probes"] = [{**probe, "target_unit": "a.service"} for probe in probes]
    (told,) = mistakes(write(tmp_path / "a.json", data))
    assert 'expected one of kind "identity": without it an old instance could pass for' in told


@pytest.mark.parametrize("platform", ["process", "swarm"])
def test_a_task_probe_binds_a_gate_to_its_candidate_where_there_are_tasks(
    tmp_path: Path, platform: str
) -> None:
    """In a task's own network only the task can answer; a local process has no such network."""
    data = whole()
    data["platform"] = {"kind": platform} | ({"stack": "page"} if platform == "swarm" else {})
    data["probes"] = [{"kind": "task", "target_unit": "a.service", "port": 80, "path": "/a?b"}]
    path = write(tmp_path / "a.json", data)
    if platform == "swarm":
        assert [probe.kind for probe in load(path).probes] == ["task"]
        return
    told = sorted(mistakes(path))
    assert "probes[0].kind = 'task': expected another kind: only Docker Swarm has tasks" in told
    assert any('expected one of kind "identity": without it' in line for line in told)


@pytest.mark.parametrize("path", ["", "page", "http://127.0.0.1/", "/a b", "/\n"])
def test_the_path_of_a_task_probe_must_be_a_url_path(tmp_path: Path, path: str) -> None:
    """It becomes a part of the probed URL."""
    data = whole()
    data["platform"] = {"kind": "swarm", "stack": "page"}
    data["probes"] = [{"kind": "task", "target_unit": "a.service", "port": 80, "path": path}]
    (told,) = mistakes(write(tmp_path / "a.json", data))
    assert told.startswith("probes[0].path = ")
    assert told.endswith("expected the path of a URL, from its first /")


def test_two_probes_of_one_name_are_refused(tmp_path: Path) -> None:
    """Evidence names its probe, so a name must mean one probe."""
    data = whole()
    put(data, ("probes", 3, "name"), "site")
    assert ["probes = 'site': expected a different name for each probe"] == mistakes(
        write(tmp_path / "a.json", data)
    )


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_url_with_a_host_name_is_refused_unless_an_address_says_where(
    tmp_path: Path, number: int
) -> None:
    """A gate must not wait for a resolver: every kind of URL probe needs a numeric place."""
    data = whole()
    put(data, ("probes", number, "url"), "http://localhost/ping")
    data["probes"][2].pop("address")
    told = mistakes(write(tmp_path / "a.json", data))
    assert (
        f"probes[{number}].url = 'http://localhost/ping': expected an IP address"
        in told[0] + (told[-1])
    )


def test_contradictions_between_keys_are_reported_together(tmp_path: Path) -> None:
    """Those of probes and those of times."""
    data = whole()
    put(data, ("gate", "window"), 31)
    put(data, ("retention", "proven"), 1)
    put(data, ("probes", 3, "name"), "site")
    data["probes"].pop(0)
    assert 4 == len(mistakes(write(tmp_path / "a.json", data)))


# Files that are no config -------------------------------------------------------------------------


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path)
    return caught.value.message


def test_an_empty_file_lacks_every_required_key(tmp_path: Path) -> None:
    """An empty TOML file is a table without keys."""
    (tmp_path / "a.toml").write_text("")
    assert ["caller", "probes", "source", "state_dir"] == sorted(
        line.partition(":")[0] for line in mistakes(tmp_path / "a.toml")
    )


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.toml", b"state_dir = ", "is not valid TOML: "),
        ("a.toml", b"a = 1\na = 2", "is not valid TOML: "),
        ("a.toml", b"\xef\xbb\xbfa = 1", "is not valid TOML: "),
        ("a.json", b"", "is not valid JSON: "),
        ("a.json", b"{} {}", "is not valid JSON: "),
        ("a.toml", b"a = '\xff'", "can't be read: "),
        ("a.json", b'"\xff"', "can't be read: "),
        ("a.toml", b"a = " + b"1" * 5000, "is not valid TOML: "),
        ("a.json", b'{"fallback_depth": ' + b"1" * 5000 + b"}", "is not valid JSON: "),
        ("a.toml", b"a = " + b"[" * 2000, "is not valid TOML: "),
        ("a.json", b"[" * 2000, "is not valid JSON: "),
        ("a.json", b'{"a":' * 2000, "is not valid JSON: "),
    ],
    ids=[
        *("half a line", "a key twice", "byte order mark", "empty", "two values", "latin-1 TOML"),
        *("latin-1 JSON", "long number in TOML", "long number in JSON", "deep TOML", "deep list"),
        "deep table",
    ],
)
def test_a_file_that_cannot_be_parsed_is_refused_with_the_reason(
    tmp_path: Path, name: str, content: bytes, expected: str
) -> None:
    """For any bytes the message is one sentence that names the file."""
    (tmp_path / name).write_bytes(content)
    assert refusal(tmp_path / name).startswith(f"{tmp_path / name} {expected}")


def test_a_missing_file_and_a_directory_are_refused(tmp_path: Path) -> None:
    """The message has the kernel's reason."""
    assert "No such file" in refusal(tmp_path / "a.toml")
    assert "Is a directory" in refusal(tmp_path)


def test_an_unreadable_file_or_directory_is_refused(
    run_python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """A config that only another user may read is refused in one sentence, however found."""
    code = (
        "import os, sys; from pathlib import Path; from runner.config import app as config\n"
        "from runner.reconcile.errors import ReconcileError\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "for call in (lambda: config.load(Path(sys.argv[1])),\n"
        "             lambda: config.load(config.find(Path(sys.argv[2]), 'a'))):\n"
        "    try: call()\n"
        "    except ReconcileError as error: print(error.message)\n"
    )
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        file, directory = Path(place) / "a.toml", Path(place) / "directory"
        file.write_text(WHOLE)
        file.chmod(0o000)
        directory.mkdir(mode=0o000)
        done = run_python(code, file, directory, limited=True)
        directory.chmod(0o700)
    assert ("", 0) == (done.stderr, done.returncode)
    assert [True, True] == ["Permission denied" in line for line in done.stdout.splitlines()]


# Finding it ------------------------------------------------------------------------------------


def test_an_app_is_found_in_either_syntax_and_toml_goes_first(tmp_path: Path) -> None:
    """APP.toml is taken, and APP.json where there is no APP.toml."""
    (tmp_path / "a.json").touch()
    assert tmp_path / "a.json" == find(tmp_path, "a")
    (tmp_path / "a.toml").touch()
    assert tmp_path / "a.toml" == find(tmp_path, "a")


def test_an_unknown_app_is_answered_with_those_that_are_known(tmp_path: Path) -> None:
    """Each known app is named once, whatever else is in the directory."""
    for name in ("traefik.toml", "traefik.json", "gitea.json", "README.md"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match="unknown app: treafik") as caught:
        find(tmp_path, "treafik")
    assert "known: gitea, traefik" == caught.value.hint


@pytest.mark.parametrize("exists", [True, False])
def test_an_unknown_app_where_none_is_known_points_to_the_directory(
    tmp_path: Path,
    exists: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """If the config directory is empty or missing, the hint is about it."""
    directory = tmp_path if exists else tmp_path / "missing"
    with pytest.raises(UsageError, match="unknown app") as caught:
        find(directory, "traefik")
    assert "give --config-dir or --config" == caught.value.hint


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "/etc/passwd",
        ".hidden",
        "-x",
        "a..b",
        "a\x00b",
        "a\nb",
        "é",
        "a b",
        "a" * 129,
    ],
)
def test_a_name_that_could_lead_elsewhere_is_no_app(tmp_path: Path, name: str) -> None:
    """Unsafe names are refused before they touch the file system."""
    (tmp_path.parent / "x.toml").touch()
    with pytest.raises(UsageError, match="not an app name") as caught:
        find(tmp_path, name)
    assert f"allowed: {NAME_RULE}" == caught.value.hint


# Anything at all ----------------------------------------------------------------------------------

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["kind", "name", "url", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


def ways(data: object, prefix: Path_ = ()) -> list[Path_]:
    """List the path of every value in a config."""
    items: list[tuple[str | int, object]] = []
    if isinstance(data, dict):
        items = [*cast("dict[str, object]", data).items()]
    if isinstance(data, list):
        items = [*enumerate(cast("list[object]", data))]
    return [path for key, value in items for path in ((*prefix, key), *ways(value, (*prefix, key)))]


WAYS = ways(whole())


def loads_or_is_refused(text: str, path: Path) -> None:
    path.write_text(text)
    try:
        load(path)
    except ConfigError as error:
        assert error.message.startswith(str(path))  # noqa: PT017 - either outcome is right


@given(data=anything)
@example(data={"kind": []})
def test_arbitrary_json_is_loaded_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: object
) -> None:
    """No JSON value makes ``load`` raise anything but a ConfigError."""
    loads_or_is_refused(json.dumps(data), tmp_path_factory.getbasetemp() / "anything.json")


@given(changes=st.lists(st.tuples(st.sampled_from(WAYS), anything), min_size=1, max_size=4))
@example(changes=[(("fallback_depth",), 10**400)])
@example(changes=[(("gate", "deadline"), float("inf"))])
@example(changes=[(("budget", "timeout_start"), float("inf"))])
@example(changes=[(("retention", "quarantine"), 10**400)])
@example(changes=[(("probes", 0, "timeout"), 10**400)])
@example(changes=[(("probes", 2, "address"), "127.0.0.1:" + "1" * 5000)])
@example(changes=[(("probes", 2, "url"), "http://127.0.0.1:" + "1" * 5000)])
def test_a_config_with_arbitrary_values_in_it_is_loaded_or_refused(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[Path_, object]]
) -> None:
    """A whole config with any of its values exchanged is loaded or refused, never a crash."""
    data = deepcopy(whole())
    for path, value in changes:
        try:
            put(data, path, value)
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took the place away
    loads_or_is_refused(json.dumps(data), tmp_path_factory.getbasetemp() / "changed.json")


def test_every_value_of_the_whole_config_can_be_exchanged() -> None:
    """The walk that the test above rests on reaches the leaves."""
    assert {("gate", "rise"), ("probes", 2, "headers", "X-Served-By")} <= set(WAYS)


@pytest.mark.parametrize("text", ["world = 3", "typo = 1\nworld = 3", "[world]", WHOLE])
def test_a_renamed_key_is_the_only_thing_reported(tmp_path: Path, text: str) -> None:
    """Without it the rest of the config can't be understood, so nothing else is reported."""
    path = tmp_path / "traefik.toml"
    path.write_text(text.replace("[platform]", "[world]"))
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert caught.value.message == f"{path}: the key 'world' was renamed to 'platform'"
    assert caught.value.hint == "write 'platform' instead; the keys below it are the same"
