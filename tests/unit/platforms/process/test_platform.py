"""The process platform, wired as a run wires it, with a small program in the place of Traefik."""

import signal
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import psutil
import pytest
from attrs import evolve
from process_app import ProcessApp, latest
from safe_probes import CALLER

from runner.platforms.process.instances import RECORD, TOKEN_VARIABLE
from runner.platforms.process.platform import IDENTITY_PATH, ProcessPlatform
from runner.reconcile.errors import DeployError, NotPreparedError
from runner.reconcile.model import Deployment, NotLive, Outcome, ProbeResult, Release
from runner.storage.paths import StateDir

AMPLE = 20.0
"""Seconds that no answer needs."""
SHORT = 0.2
"""Seconds for what is never answered."""
LABEL = "1.0.0+v3.5.1"
NEXT = "2.0.0+v3.6.0"
Until = Callable[[Callable[[], bool]], None]


@pytest.fixture
def app(tmp_path: Path, state: StateDir) -> Generator[ProcessApp]:
    made = ProcessApp(tmp_path / "app")
    yield made
    made.end(state)


@pytest.fixture
def platform(app: ProcessApp, state: StateDir) -> Generator[ProcessPlatform]:
    """Wire an app that has one release."""
    app.release(LABEL)
    with app.platform(state) as platform:
        yield platform


def deploy(platform: ProcessPlatform, until: Until, token: str = "token-1") -> Deployment:  # noqa: S107
    """Deploy the newest release, and wait until it listens."""
    deployment = latest(platform, token)
    platform.deploy(deployment)
    until(lambda: platform.live() == deployment)
    return deployment


def only_process(app: ProcessApp, state: StateDir, token: str) -> psutil.Process:
    (process,) = app.processes(state)[token]
    return process


def ask(platform: ProcessPlatform, deployment: Deployment) -> tuple[ProbeResult, ...]:
    return platform.ask(deployment, SHORT)


# What is live ------------------------------------------------------------------------------------


def test_where_nothing_runs_nothing_is_live(platform: ProcessPlatform) -> None:
    """The reason is empty."""
    assert platform.live() == NotLive("")


def test_what_was_deployed_is_live_for_this_run_and_the_next(
    app: ProcessApp, platform: ProcessPlatform, state: StateDir, until: Until
) -> None:
    """It outlives the run that started it."""
    deployment = deploy(platform, until)
    with app.platform(state) as later:
        assert later.live() == deployment


def test_an_instance_that_does_not_listen_is_not_live(
    app: ProcessApp, state: StateDir, until: Until
) -> None:
    """A stopping instance serves open connections, but no new ones."""
    app.release(LABEL, fault="deaf")
    with app.platform(state) as platform:
        platform.deploy(latest(platform))
        until(lambda: "deaf" in platform.instances.last_log_line("token-1"))
        assert platform.live() == NotLive("the running instance has no listening socket")


def test_an_instance_without_a_record_is_not_live(
    app: ProcessApp, platform: ProcessPlatform, state: StateDir, until: Until
) -> None:
    """Its directory was damaged while it ran."""
    deployment = deploy(platform, until)
    (state.instances / deployment.token / RECORD).unlink()
    assert platform.live() == NotLive(
        "an instance is running, but its deployment.json is missing, damaged or of a newer version"
    )
    assert only_process(app, state, deployment.token).is_running()


def second_instance(
    app: ProcessApp, platform: ProcessPlatform, deployment: Deployment
) -> Deployment:
    """Start one more beside what runs, as an operator could by hand."""
    other = evolve(deployment, token="token-2")  # noqa: S106 - no password
    home = platform.instances.prepare(other, platform.store.files(other.release.digest), "")
    (home / "traefik.yml").write_text("version: 3.5.1\nport: 0\n")
    platform.instances.start(other, app.binary)
    return other


def test_two_instances_are_not_live(
    app: ProcessApp, platform: ProcessPlatform, until: Until
) -> None:
    """Either could answer."""
    app.binary.chmod(0o755)
    deployment = deploy(platform, until)
    other = second_instance(app, platform, deployment)
    assert platform.live() == NotLive("2 instances are running")
    for each in (deployment, other):
        result = ask(platform, each)[0]
        assert (result.probe, result.outcome, result.terminal) == ("process", Outcome.FAIL, False)
        assert result.reason == "another instance of the app is running, too"


# Deploying ---------------------------------------------------------------------------------------


def test_the_next_deployment_takes_the_place_of_the_last(
    app: ProcessApp, platform: ProcessPlatform, state: StateDir, until: Until
) -> None:
    """The old one is asked to stop, and ends by itself; the new one has the same port."""
    old = deploy(platform, until)
    app.release(NEXT)
    new = deploy(platform, until, "token-2")
    assert list(app.processes(state)) == [new.token]
    assert (state.instances / old.token / "ended").read_text() == "by itself"
    assert platform.instances.exit_status(old.token) == 0
    until(lambda: {result.outcome for result in ask(platform, new)} == {Outcome.PASS})


def test_an_instance_has_its_token_and_the_gate(
    app: ProcessApp, platform: ProcessPlatform, state: StateDir, until: Until
) -> None:
    """The token of the deployment, and the route that returns it."""
    deployment = deploy(platform, until)
    process = only_process(app, state, deployment.token)
    assert process.environ()[TOKEN_VARIABLE] == deployment.token
    gate = (state.instances / deployment.token / "dynamic" / "warm-reconcile.yml").read_text()
    assert f"Path(`{IDENTITY_PATH}`)" in gate
    assert '{{ env "WARM_RECONCILE_TOKEN" }}' in gate


def test_the_next_instance_starts_when_the_port_is_free(
    app: ProcessApp, state: StateDir, until: Until
) -> None:
    """Not as soon as the old one was asked to stop: it would find its port taken."""
    app.release(LABEL, fault="clings")
    with app.platform(state) as platform:
        old = deploy(platform, until)
        app.release(NEXT)
        deploy(platform, until, "next")
        assert (state.instances / old.token / "ended").read_text() == "by itself"


def test_an_instance_that_drains_has_its_time(
    app: ProcessApp, state: StateDir, until: Until
) -> None:
    """It is not killed while it serves open connections; the next one listens meanwhile."""
    app.release(LABEL, fault="drains")
    with app.platform(state) as platform:
        old = deploy(platform, until)
        app.release(NEXT)
        deploy(platform, until, "token-2")
        assert (state.instances / old.token / "ended").exists()
        assert platform.instances.exit_status(old.token) == 0


def test_an_instance_that_lingers_is_killed(app: ProcessApp, state: StateDir, until: Until) -> None:
    """It has closed its listener, so the new one runs already when its time is over."""
    app.configure(stop_timeout=SHORT)
    app.release(LABEL, fault="lingers")
    with app.platform(state) as platform:
        old = deploy(platform, until)
        app.release(NEXT)
        new = deploy(platform, until, "token-2")
        assert platform.instances.exit_status(old.token) == -signal.SIGKILL
        assert list(app.processes(state)) == [new.token]


def test_an_instance_that_keeps_its_port_is_killed_first(
    app: ProcessApp, state: StateDir, until: Until
) -> None:
    """The next one couldn't listen."""
    app.configure(stop_timeout=SHORT)
    app.release(LABEL, fault="ignores")
    with app.platform(state) as platform:
        old = deploy(platform, until)
        app.release(NEXT)
        new = deploy(platform, until, "token-2")
        assert platform.instances.exit_status(old.token) == -signal.SIGKILL
        assert platform.live() == new


def test_a_successor_that_has_ended_ends_the_wait(
    app: ProcessApp, state: StateDir, until: Until
) -> None:
    """The gate must hear of it now; what lingers is asked again by the rollback."""
    app.release(LABEL, fault="lingers")
    with app.platform(state) as platform:
        old = deploy(platform, until)
        app.release(NEXT, fault="exits")
        new = latest(platform, "token-2")
        platform.deploy(new)
        assert only_process(app, state, old.token).is_running()
        assert platform.instances.exit_status(old.token) is None
        assert platform.instances.exit_status(new.token) == 3


# Refusals before anything is touched -------------------------------------------------------------


def damage_store(platform: ProcessPlatform, deployment: Deployment) -> None:
    (platform.store.files(deployment.release.digest) / "traefik.yml").write_text("rotten\n")


def damage_binary(platform: ProcessPlatform, deployment: Deployment) -> None:
    binary = platform.binary(deployment.release.digest)
    binary.chmod(0o600)
    binary.write_bytes(b"rotten")


SPOILS: dict[str, tuple[Callable[[ProcessPlatform, Deployment], None], str]] = {
    "files": (damage_store, "has changed since it was stored"),
    "binary": (damage_binary, "has changed since it was stored"),
    "manifest": (
        lambda w, d: (w.store.files(d.release.digest).parent / "manifest.json").unlink(),
        "is not in the store",
    ),
}


@pytest.mark.parametrize(("spoil", "said"), SPOILS.values(), ids=SPOILS)
def test_what_cannot_be_got_ready_leaves_the_old_instance_alone(
    *,
    app: ProcessApp,
    platform: ProcessPlatform,
    state: StateDir,
    until: Until,
    spoil: Callable[[ProcessPlatform, Deployment], None],
    said: str,
) -> None:
    """And the release is not to blame for it."""
    old = deploy(platform, until)
    app.release(NEXT)
    new = latest(platform, "token-2")
    spoil(platform, new)
    with pytest.raises(NotPreparedError, match=said):
        platform.deploy(new)
    assert platform.live() == old
    assert list(app.processes(state)) == [old.token]


def test_a_directory_that_cannot_be_laid_out_leaves_the_old_instance_alone(
    app: ProcessApp, platform: ProcessPlatform, state: StateDir, until: Until
) -> None:
    """A disk that is full, say."""
    old = deploy(platform, until)
    app.release(NEXT)
    new = latest(platform, "x" * 300)  # longer than a file name can be
    with pytest.raises(NotPreparedError, match="directory can't be written"):
        platform.deploy(new)
    assert platform.live() == old
    assert list(app.processes(state)) == [old.token]


def test_a_program_that_cannot_be_executed_is_the_release_s_fault(
    app: ProcessApp, state: StateDir
) -> None:
    """The reason is that of the kernel."""
    app.binary.write_bytes(b"\x7fELF and nothing")
    app.release(LABEL)
    with app.platform(state) as platform:
        with pytest.raises(DeployError, match="can't be executed") as caught:
            platform.deploy(latest(platform))
        assert not isinstance(caught.value, NotPreparedError)


# Asking ------------------------------------------------------------------------------------------


def test_a_deployment_that_answers_passes(
    app: ProcessApp, platform: ProcessPlatform, state: StateDir, until: Until
) -> None:
    """Its process runs, and returns its token and version."""
    deployment = deploy(platform, until)
    until(lambda: {result.outcome for result in ask(platform, deployment)} == {Outcome.PASS})
    process, identity = ask(platform, deployment)
    pid = only_process(app, state, deployment.token).pid
    assert (process.probe, process.reason) == ("process", f"running as process {pid}")
    assert (process.target_unit, identity.probe) == (CALLER, "identity")
    assert process.excerpt == "ERR fault=none"


def test_another_release_that_answers_fails(app: ProcessApp, state: StateDir, until: Until) -> None:
    """Its process runs, but returns another identity."""
    app.release(LABEL, says="3.4.0")
    with app.platform(state) as platform:
        deployment = deploy(platform, until)
        process, identity = ask(platform, deployment)
        assert (process.outcome, identity.outcome) == (Outcome.PASS, Outcome.FAIL)


def test_an_instance_that_has_exited_fails_for_good(
    app: ProcessApp, state: StateDir, until: Until
) -> None:
    """With its status, and its last words without their colours."""
    app.release(LABEL, fault="exits")
    with app.platform(state) as platform:
        deployment = latest(platform)
        platform.deploy(deployment)
        until(lambda: ask(platform, deployment)[0].terminal)
        process = ask(platform, deployment)[0]
        assert process.outcome is Outcome.FAIL
        assert process.reason == "the process exited with status 3: ERR fault=exits"
        assert process.excerpt == "ERR fault=exits"


def test_an_instance_that_was_killed_fails_for_good(
    app: ProcessApp, platform: ProcessPlatform, state: StateDir, until: Until
) -> None:
    """By its signal. A run that didn't start it knows only that it is gone."""
    deployment = deploy(platform, until)
    only_process(app, state, deployment.token).kill()
    until(lambda: ask(platform, deployment)[0].terminal)
    assert (
        ask(platform, deployment)[0].reason == "the process was killed by signal 9: ERR fault=none"
    )
    with app.platform(state) as later:
        process = ask(later, deployment)[0]
        assert (process.outcome, process.terminal) == (Outcome.FAIL, True)
        assert process.reason == "the process is not running: ERR fault=none"


def test_an_instance_whose_command_line_is_empty_for_a_moment_is_running(
    platform: ProcessPlatform, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As amid execve(2), where a program is a script that starts another one."""
    deployment = deploy(platform, until)
    look, looks = psutil.process_iter, 0

    def look_amid_execve(attributes: list[str]) -> Iterator[psutil.Process]:
        nonlocal looks
        looks += 1
        for process in look(attributes):
            process.info["cmdline"] = [] if looks == 1 else process.info["cmdline"]
            yield process

    monkeypatch.setattr(psutil, "process_iter", look_amid_execve)
    process = ask(platform, deployment)[0]
    assert (process.outcome, looks) == (Outcome.PASS, 2), process.reason


def test_an_instance_that_never_was_has_no_words(platform: ProcessPlatform) -> None:
    """There is no log."""
    deployment = latest(platform)
    process = ask(platform, deployment)[0]
    assert (process.reason, process.excerpt) == ("the process is not running", "")


# Housekeeping ------------------------------------------------------------------------------------


def test_unused_releases_are_removed_and_the_running_one_is_kept(
    app: ProcessApp, platform: ProcessPlatform, state: StateDir, until: Until
) -> None:
    """Releases and directories; the running one is kept, whatever the journal needs."""
    old = deploy(platform, until, "old")
    app.release(NEXT)
    kept = deploy(platform, until, "kept")
    app.release("3.0.0+v3.7.0")
    live = deploy(platform, until, "live")
    platform.prune(frozenset({kept.release.digest}))
    releases = {path.name for path in state.releases.iterdir()}
    assert releases == {kept.release.digest, live.release.digest}
    assert old.release.digest not in releases
    assert [path.name for path in state.instances.iterdir()] == ["live"]
    assert platform.live() == live


def test_an_instance_without_a_record_keeps_its_directory(
    platform: ProcessPlatform, state: StateDir, until: Until
) -> None:
    """It runs there; its release is not known."""
    deployment = deploy(platform, until)
    (state.instances / deployment.token / RECORD).unlink()
    platform.prune(frozenset())
    assert (state.instances / deployment.token).exists()
    assert list(state.releases.iterdir()) == []


def test_a_release_is_sealed_only_whole(platform: ProcessPlatform) -> None:
    """A damaged one is not marked as kept; one that is marked is not read again."""
    deployment = latest(platform)
    damage_store(platform, deployment)
    with pytest.raises(DeployError, match="has changed since it was stored"):
        platform.seal(deployment.release)
    with pytest.raises(DeployError):
        platform.seal(Release(LABEL, "3.5.1", "0" * 64))
    platform.latest()  # takes it in again, whole
    platform.seal(deployment.release)
    damage_store(platform, deployment)
    platform.seal(deployment.release)
