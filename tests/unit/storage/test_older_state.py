"""State directories of older versions are read and resumed, and never silently misread.

``tests/frozen/make.py`` says how the archives were made, and which story each of them tells.
"""

import contextlib
import hashlib
import json
import shutil
import socket
import sqlite3  # noqa: TID251 - a newer version is played here, and knows its own journal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qs, urlsplit

import pytest
from attrs import frozen
from servers import ThreadedServer, read_request
from typing_extensions import override

from runner.cli.main import main
from runner.config.app import load
from runner.exit_codes import ExitCode
from runner.platforms.build import make_platform
from runner.platforms.process.instances import Instances
from runner.platforms.swarm.platform import SwarmPlatform
from runner.storage.paths import StateDir, find_state

RUNNER: Final = Path(__file__).parents[3] / "runner" / "warm_reconcile.py"
CALLER: Final = "deploy-proxy.service"
WINDOW: Final = 0.1
DEADLINE: Final = 60.0
"""The deadline of a gate in seconds; no test reaches it."""
Unpack: TypeAlias = Callable[[str], Path]
Until: TypeAlias = Callable[[Callable[[], bool]], None]


@frozen
class Older:
    """An unpacked state directory, with a config of this version."""

    state: StateDir
    config: Path
    source: Path
    capsys: pytest.CaptureFixture[str]
    instances: Instances

    def run(self) -> tuple[int, dict[str, Any], str]:
        """Reconcile as systemd would; return the exit code, the report and the log."""
        command = [sys.executable, str(RUNNER), "traefik", "--config", str(self.config), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, json.loads(done.stdout), done.stderr

    def ask(self, command: str, *arguments: str) -> tuple[int, str, str]:
        """Run a command; return its exit code and its two outputs."""
        app = ("traefik", "--config", str(self.config))
        code = main([command, *app, *arguments])
        told = self.capsys.readouterr()
        assert "Traceback" not in told.err
        return code, told.out, told.err

    def read(self, command: str, *arguments: str) -> Any:  # noqa: ANN401 - what JSON holds
        code, out, err = self.ask(command, *arguments, "--json")
        assert code == ExitCode.OK, err
        return json.loads(out)

    def execute(self, sql: str, *values: object) -> None:
        """Change the journal as another program would."""
        with contextlib.closing(sqlite3.connect(self.state.journal)) as connection:
            connection.execute(sql, values)
            connection.commit()


def configure(home: Path, source: Path, more: str) -> Path:
    config = home / "traefik.toml"
    config.write_text(
        f'state_dir = "{home / "older"}"\ncaller = "{CALLER}"\n'
        f'[source]\nkind = "directory"\npath = "{source}"\n'
        f"[gate]\nrise = 2\nwindow = {WINDOW}\ndeadline = {DEADLINE}\n"
        f"verify_deadline = {DEADLINE}\n{more}"
    )
    return config


# The process platform ----------------------------------------------------------------------------


@pytest.fixture
def reserved() -> Iterator[int]:
    """Reserve a port: bound with SO_REUSEADDR, so that the app, which sets it, too, can listen."""
    with socket.socket() as place:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind(("127.0.0.1", 0))
        yield place.getsockname()[1]


@pytest.fixture
def processes(
    tmp_path: Path,
    unpack: Unpack,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    reserved: int,
) -> Iterator[Older]:
    """Unpack ``dbd8bb8-process`` with a config of this version; its programs end with the test."""
    probe = f'\n[[probes]]\ntarget_unit = "{CALLER}"\nurl = "http://127.0.0.1:{reserved}'
    probes = f'{probe}/ping"\nkind = "traefik-ping"{probe}/.warm-reconcile/identity"\n'
    source = tmp_path / "source"
    source.mkdir()
    state = find_state(unpack("dbd8bb8-process"), "traefik")
    config = configure(tmp_path, source, f'{probes}kind = "identity"\n')
    monkeypatch.setenv("FROZEN_PORT", str(reserved))
    older = Older(state, config, source, capsys, Instances(state.instances))
    yield older
    older.instances.stop_all(DEADLINE)


def release(older: Older, label: str, fault: str = "healthy", program: bytes = b"") -> None:
    """Offer a release as ``make.py`` wrote it; with its own program, or the older one."""
    if program:
        key = f"wheel-{hashlib.sha256(program).hexdigest()}"
        kept = older.state.binaries / key
        kept.mkdir()
        (kept / "traefik").write_bytes(program)
        (kept / "traefik").chmod(0o755)
        (kept / "sha256").write_text(f"{hashlib.sha256(program).hexdigest()}\n")
    else:
        (kept,) = older.state.binaries.iterdir()
        key = kept.name
    place = older.source / label
    (place / "dynamic").mkdir(parents=True)
    spec = f'version = "{label}"\nwheel_sha256 = "{key.removeprefix("wheel-")}"\n'
    (place / "release.toml").write_text(spec)
    (place / "traefik.yml").write_text(f"# {fault}\n")
    (place / "dynamic" / "site.yml").write_text("http: {}\n")


OUTCOMES: Final = (
    *("stranded", "committed", "unchanged", "restored", "committed", "rolled back"),
    *("rolled back", "unchanged", "rolled back", "rolled back", "rolled back", "rolled back"),
    *("committed", "restored", "stranded", "restored", "gating"),
)
"""Outcomes of the attempts in the archive; the last one was left open."""
PROVEN: Final = ("1.6.0", "1.1.0", "1.0.0")
QUARANTINE: Final = ("1.3.0", "1.2.0")
"""Releases in quarantine, newest first; the one of 1.1.1 has expired."""


def test_status_shows_the_state_of_the_older_version(processes: Older) -> None:
    """Last-good, other proven releases, quarantine with reasons, and the open attempt."""
    data = processes.read("status")
    assert (data["last_good"], tuple(data["proven"])) == (PROVEN[0], PROVEN)
    reasons = {each["release"]: each["reason"] for each in data["quarantine"]}
    assert tuple(reasons) == QUARANTINE
    assert "Exec format error" in reasons["1.3.0"]
    assert "ping: status 500, expected 200" in reasons["1.2.0"]
    assert (data["live"], data["last_attempt"]["number"]) == (None, len(OUTCOMES))
    assert "the next run resumes it" in processes.ask("status")[1]


def test_history_and_explain_tell_every_attempt(processes: Older) -> None:
    """``history`` and ``explain`` show each outcome, and each kind of entry of the archive."""
    data = processes.read("history")
    assert tuple(each["state"] for each in reversed(data)) == OUTCOMES
    told = [processes.read("explain", "--number", str(each["number"])) for each in data]
    assert all(each["story"] for each in told)
    kinds = {entry["is"] for each in told for entry in each["story"]}
    assert kinds == {
        *("Assess", "Verify", "Deploy", "RunGate", "Commit", "ChooseFallback", "Interrupted"),
        *("CandidateFound", "CandidateLive", "LastGoodLive", "LastGoodAbsent", "RollbackDue"),
        *("NothingDeployable", "Deployed", "DeployFailed", "Judged", "Committed", "CommitFailed"),
        *("FallbackChosen", "FallbackLive", "NoFallback", "NothingDecided"),
    }
    _, text, _ = processes.ask("explain", "--number", "7")
    assert "1.2.0" in text
    assert "ping: status 500, expected 200" in text


def test_plan_and_releases_name_kept_releases(processes: Older) -> None:
    """The same files have the same digest: the candidate is recognised."""
    release(processes, "2.0.0")
    data = processes.read("plan")
    assert data["does"] == "deploy 2.0.0, gate it, commit it if it is healthy"
    assert data["if_it_fails"] == ["1.6.0", "1.1.0"]
    marks = {each["release"]: each["is"] for each in processes.read("releases")}
    assert marks == {
        "2.0.0": ["latest"],
        "1.6.0": ["last-good"],
        "1.1.0": ["proven"],
        "1.0.0": ["proven"],
        **{label: ["quarantine"] for label in QUARANTINE},
    }


def test_quarantine_holds(processes: Older) -> None:
    """The digest of the older version is in quarantine: the release is not tried again."""
    release(processes, "1.2.0", "sick")
    data = processes.read("plan")
    assert data["does"] == "deploy 1.6.0 again and gate it"
    assert "the latest, 1.2.0, is in quarantine" in data["because"]
    assert processes.ask("forget-quarantine", "--label", "1.2.0")[0] == ExitCode.OK
    assert processes.read("plan")["does"].startswith("deploy 1.2.0,")


def test_a_run_takes_up_the_open_attempt(processes: Older) -> None:
    """The resumed attempt keeps number and id: its tokens continue, and its crashes count."""
    before = processes.read("explain")
    release(processes, "2.0.0")
    code, report, log = processes.run()
    assert (code, report["outcome"]) == (ExitCode.OK, "committed"), log
    after = processes.read("explain")
    assert (after["number"], after["id"]) == (before["number"], before["id"])
    added = after["story"][len(before["story"]) :]
    assert added[0] == {"at": added[0]["at"], "is": "Interrupted", "crashed": True}
    tokens = [e["deployment"]["token"] for e in after["story"] if e["is"] == "Deploy"]
    assert tokens == [f"{after['id']}-{number}" for number in range(1, len(tokens) + 1)]
    assert len(tokens) == 2
    data = processes.read("status")
    assert (data["last_good"], data["live"]) == ("2.0.0", "2.0.0")
    assert data["proven"] == ["2.0.0", *PROVEN]


def start_candidate(older: Older, until: Until) -> Path:
    """Start the candidate as the older version did; return its record."""
    token: str = older.read("explain")["story"][-1]["deployment"]["token"]
    (program,) = older.state.binaries.glob("*/traefik")
    deployment = older.instances.read(token)
    assert deployment is not None
    older.instances.start(deployment, program)
    until(lambda: older.read("status")["live"] == "2.0.0")
    return older.state.instances / token / "deployment.json"


def test_a_candidate_that_is_still_live_is_gated_again(processes: Older, until: Until) -> None:
    """The live instance is recognised by the record of the older version."""
    release(processes, "2.0.0")
    assert processes.read("plan")["event"] == "CandidateFound"
    start_candidate(processes, until)
    assert processes.read("plan")["event"] == "CandidateLive"
    code, report, log = processes.run()
    assert (code, report["outcome"]) == (ExitCode.OK, "committed"), log
    assert processes.read("explain")["story"][-1]["release"]["label"] == "2.0.0"
    assert len(list(processes.state.instances.iterdir())) == 1


def test_a_broken_release_is_rolled_back_to_the_older_last_good(processes: Older) -> None:
    """Last-good is deployed again; releases and programs that are not needed are deleted."""
    release(processes, "3.0.0", program=b"\x7fELF, or what is left of it")
    code, report, log = processes.run()
    assert (code, report["outcome"], report["serving"]) == (
        ExitCode.ROLLED_BACK,
        "rolled back",
        "1.6.0",
    ), log
    status = processes.read("status")
    assert (status["last_good"], status["live"]) == ("1.6.0", "1.6.0")
    assert [each["release"] for each in status["quarantine"]] == ["3.0.0", *QUARANTINE]
    kept = processes.state.releases.glob("*/manifest.json")
    assert {json.loads(path.read_text())["label"] for path in kept} == set(PROVEN)
    assert len(list(processes.state.binaries.iterdir())) == 1
    assert len(list(processes.state.instances.iterdir())) == 1


def test_an_older_proven_release_is_there_where_last_good_is_lost(processes: Older) -> None:
    """The fallback is the second proven release of the older version."""
    for manifest in processes.state.releases.glob("*/manifest.json"):
        if json.loads(manifest.read_text())["label"] == "1.6.0":
            shutil.rmtree(manifest.parent)
    code, report, log = processes.run()
    assert (code, report["outcome"], report["serving"]) == (
        ExitCode.ROLLED_BACK,
        "rolled back",
        "1.1.0",
    ), log


# Docker Swarm ------------------------------------------------------------------------------------


class Recorded(ThreadedServer):
    """Answers as the Docker of the archive did: 404 for unknown images, else an empty list."""

    def __init__(self, path: Path, answers: Path) -> None:
        self._known = {
            self._key(asked): reply for asked, reply in json.loads(answers.read_text()).items()
        }
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        super().__init__(listener)

    @staticmethod
    def _key(target: str) -> tuple[str, str]:
        url = urlsplit(target)
        return url.path, json.dumps(parse_qs(url.query), sort_keys=True)

    @override
    def serve(self, connection: socket.socket) -> None:
        target = read_request(connection).split()[1].decode()
        found = urlsplit(target).path.startswith(("/images/", "/distribution/"))
        status, data = self._known.get(self._key(target), (404 if found else 200, []))
        body = json.dumps(data).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode() + body)


@pytest.fixture
def stack(
    tmp_path: Path, unpack: Unpack, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Older]]:
    """Unpack ``dbd8bb8-swarm`` with a config of this version, with the recorded Docker or none."""
    with contextlib.ExitStack() as servers:

        def make(*, is_up: bool = True) -> Older:
            state = find_state(unpack("dbd8bb8-swarm"), "traefik")
            path = tmp_path / "docker.sock"
            if is_up:
                servers.callback(Recorded(path, state.root / "engine.json").close)
            platform = f'[platform]\nkind = "swarm"\nstack = "frozen"\nsocket = "{path}"\n'
            probe = f'[[probes]]\nkind = "task"\ntarget_unit = "{CALLER}"\nport = 8080\n'
            source = tmp_path / "nowhere"
            config = configure(tmp_path, source, platform + probe)
            return Older(state, config, source, capsys, Instances(state.instances))

        yield make


def test_a_stack_is_recognised_by_its_record(stack: Callable[..., Older]) -> None:
    """The hash of each service in the record is the one that this version makes of the service."""
    older = stack()
    data = older.read("status")
    assert (data["engine"], data["last_good"]) == ("ok", "1.1.0+v1.1.0")
    assert (data["live"], data["live_is_proven"]) == ("2.0.0+v2.0.0", False)
    assert data["proven"] == ["1.1.0+v1.1.0", "1.0.0+v1.0.0"]
    quarantined = [each["release"] for each in data["quarantine"]]
    assert quarantined == ["1.3.0+v1.3.0", "1.2.0+v1.2.0"]
    plan = older.read("plan")
    assert plan["does"] == "deploy 1.1.0+v1.1.0 again and gate it"
    assert "2.0.0+v2.0.0 is live" in plan["because"]


def test_the_history_of_a_stack_is_shown(stack: Callable[..., Older]) -> None:
    """Its entries include Unreachable, which only an unreachable Docker causes."""
    older = stack()
    past = older.read("history")
    assert [each["state"] for each in reversed(past)] == [
        *("committed", "committed", "unchanged", "restored", "rolled back", "rolled back"),
        *("unchanged", "gating"),
    ]
    told = [older.read("explain", "--number", str(each["number"])) for each in past]
    assert "Unreachable" in {entry["is"] for each in told for entry in each["story"]}


def test_kept_releases_of_a_stack_are_whole_and_pruned(stack: Callable[..., Older]) -> None:
    """Manifest, compose document, configs, and the archive of the image with its hash."""
    older = stack()
    with make_platform(load(older.config), older.state, ()) as wired:
        platform = wired.platform
        assert isinstance(platform, SwarmPlatform)
        proven = {record.deployment.release for record in records(platform, older.state)}
        assert {each.label for each in proven} >= {"1.0.0+v1.0.0", "1.1.0+v1.1.0"}
        kept = [each for each in proven if (older.state.releases / each.digest).exists()]
        assert len(kept) == 3
        for each in kept:
            platform.store.check(each, deep=True)
        (last_good,) = (each for each in kept if each.label.startswith("1.1.0"))
        platform.prune(frozenset({last_good.digest}))
    left = {path.name for path in older.state.releases.iterdir()}
    assert left == {each.digest for each in kept if not each.label.startswith("1.0.0")}
    assert len(list(older.state.images.iterdir())) == 1


def records(platform: SwarmPlatform, state: StateDir) -> list[Any]:
    found = [platform.stacks.read_record(path.name) for path in state.instances.iterdir()]
    assert None not in found
    return found


def test_a_run_without_docker_leaves_the_attempt_open(stack: Callable[..., Older]) -> None:
    """Without Docker the attempt is resumed, stays undecided, and is resumed again."""
    older = stack(is_up=False)
    before = older.read("explain")
    code, out, err = older.ask("run", "--json")
    assert (code, json.loads(out)["outcome"]) == (ExitCode.UNDECIDED, "undecided"), err
    after = older.read("explain")
    assert (after["number"], after["ended"]) == (before["number"], None)
    added = [entry["is"] for entry in after["story"][len(before["story"]) :]]
    assert added == ["Interrupted", "Assess", "Unreachable"]


# What this version can't read --------------------------------------------------------------------

COMMANDS: Final = (
    *(("status",), ("plan",), ("releases",), ("history",), ("explain",), ("sweep",), ("run",)),
    ("forget-quarantine",),
)
every_command = pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])


@every_command
def test_a_journal_of_a_newer_schema_is_left_alone(
    processes: Older, command: tuple[str, ...]
) -> None:
    """Every command reports the newer schema with a hint, and changes no byte."""
    processes.execute("PRAGMA user_version = 2")
    before = processes.state.journal.read_bytes()
    code, out, err = processes.ask(*command)
    assert code == ExitCode.STATE
    assert "has schema 2, this version knows 1" in out + err
    if command != ("sweep",):  # which goes on with the next app: one line each
        assert "hint: run the version that wrote it; nothing was changed" in err
    assert processes.state.journal.read_bytes() == before


@pytest.mark.parametrize("command", ["status", "plan", "releases", "explain", "run"])
@pytest.mark.parametrize(
    "entry",
    [
        '{"is":"Adopted","release":null}',
        '{"reason":"r","until":1.5,"is":"Unreachable"}',
        '{"is":"Unreachable","cause":"r"}',
    ],
    ids=["another entry", "one more key", "another key"],
)
def test_an_unknown_entry_in_the_open_attempt_is_reported(
    processes: Older, command: str, entry: str
) -> None:
    """An unknown entry is refused: skipping it could lose an effect of a newer version."""
    processes.execute(
        "INSERT INTO entry SELECT number, begun, state, ? FROM attempt WHERE ended IS NULL", entry
    )
    code, _, err = processes.ask(command)
    assert code == ExitCode.STATE
    assert f"an entry of the journal can't be read: {entry}" in err
    assert "hint: a newer version may have written it; nothing was changed" in err
    assert len(processes.read("history")) == len(OUTCOMES)


@pytest.mark.parametrize("command", ["status", "plan", "releases", "history", "explain", "run"])
def test_an_unknown_state_is_reported(processes: Older, command: str) -> None:
    """An unknown state is refused, never read as another one."""
    processes.execute("UPDATE attempt SET state = 'adopting' WHERE ended IS NULL")
    code, _, err = processes.ask(command)
    assert code == ExitCode.STATE
    assert "a state that this version does not know: 'adopting'" in err
    assert "hint: a newer version may have written it; nothing was changed" in err


def test_a_manifest_of_a_newer_version_is_reported(processes: Older) -> None:
    """The release is not deployed; the one before it serves, and the report has the reason."""
    for path in processes.state.releases.glob("*/manifest.json"):
        data = json.loads(path.read_text())
        if data["label"] == "1.6.0":
            path.write_text(json.dumps({**data, "mounts": []}))
    code, report, log = processes.run()
    assert (code, report["serving"]) == (ExitCode.ROLLED_BACK, "1.1.0"), log
    assert "is damaged, or a newer version wrote it: mounts" in log


def test_a_record_of_a_newer_version_is_refused(processes: Older, until: Until) -> None:
    """A live deployment with an unreadable record is not taken for a known one."""
    path = start_candidate(processes, until)
    path.write_text(json.dumps({**json.loads(path.read_text()), "boot": "b"}))
    live = "its deployment.json is missing, damaged or of a newer version"
    assert live in processes.ask("status")[1]
    assert live in processes.read("plan")["because"]
