"""The process platform, wired as a run wires it, with a small program in the place of Traefik."""

import signal
from collections.abc import Callable, Generator
from pathlib import Path

import psutil
import pytest
from attrs import evolve
from process_app import ProcessApp, latest

from proofs import CALLER
from runner.platforms.process.instances import RECORD, TOKEN_VARIABLE
from runner.platforms.process.platform import IDENTITY_PATH, ProcessWorld
from runner.reconcile.errors import DeployError, NotPreparedError
from runner.reconcile.model import Answer, Deployment, NotLive, ProbeResult, Release
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
def world(app: ProcessApp, state: StateDir) -> Generator[ProcessWorld]:
    """Wire an app that has one release."""
    app.release(LABEL)
    with app.world(state) as world:
        yield world


def deploy(world: ProcessWorld, until: Until, token: str = "token-1") -> Deployment:  # noqa: S107
    """Deploy the newest release, and wait until it listens."""
    deployment = latest(world, token)
    world.deploy(deployment)
    until(lambda: world.live() == deployment)
    return deployment


def only_process(app: ProcessApp, state: StateDir, token: str) -> psutil.Process:
    (process,) = app.processes(state)[token]
    return process


def ask(world: ProcessWorld, deployment: Deployment) -> tuple[ProbeResult, ...]:
    return world.ask(deployment, SHORT)


# What is live ------------------------------------------------------------------------------------


def test_where_nothing_runs_nothing_is_live(world: ProcessWorld) -> None:
    """And there is nothing to tell."""
    assert world.live() == NotLive("")


def test_what_was_deployed_is_live_for_this_run_and_the_next(
    app: ProcessApp, world: ProcessWorld, state: StateDir, until: Until
) -> None:
    """It outlives the run that started it."""
    deployment = deploy(world, until)
    with app.world(state) as later:
        assert later.live() == deployment


def test_an_instance_that_does_not_listen_is_not_live(
    app: ProcessApp, state: StateDir, until: Until
) -> None:
    """One that is stopping serves what it has open, and nobody else."""
    app.release(LABEL, fault="deaf")
    with app.world(state) as world:
        world.deploy(latest(world))
        until(lambda: "deaf" in world.instances.last_words("token-1"))
        assert world.live() == NotLive("the instance that runs doesn't listen")


def test_an_instance_without_a_record_is_nobody(
    app: ProcessApp, world: ProcessWorld, state: StateDir, until: Until
) -> None:
    """Its directory was damaged while it ran."""
    deployment = deploy(world, until)
    (state.instances / deployment.token / RECORD).unlink()
    assert world.live() == NotLive(
        "an instance is running, but its deployment.json is missing, damaged or of a newer version"
    )
    assert only_process(app, state, deployment.token).is_running()


def second_instance(app: ProcessApp, world: ProcessWorld, deployment: Deployment) -> Deployment:
    """Start one more beside what runs, as an operator could by hand."""
    other = evolve(deployment, token="token-2")  # noqa: S106 - no password
    home = world.instances.prepare(other, world.store.files(other.release.digest), "")
    (home / "traefik.yml").write_text("version: 3.5.1\nport: 0\n")
    world.instances.start(other, app.binary)
    return other


def test_two_instances_are_nobody(app: ProcessApp, world: ProcessWorld, until: Until) -> None:
    """Either could answer."""
    app.binary.chmod(0o755)
    deployment = deploy(world, until)
    other = second_instance(app, world, deployment)
    assert world.live() == NotLive("2 instances are running")
    for each in (deployment, other):
        result = ask(world, each)[0]
        assert (result.probe, result.answer, result.terminal) == ("process", Answer.FAIL, False)
        assert result.reason == "another instance of the app is running, too"


# Deploying ---------------------------------------------------------------------------------------


def test_the_next_deployment_takes_the_place_of_the_last(
    app: ProcessApp, world: ProcessWorld, state: StateDir, until: Until
) -> None:
    """The old one is asked to stop, and ends by itself; the new one has the same port."""
    old = deploy(world, until)
    app.release(NEXT)
    new = deploy(world, until, "token-2")
    assert list(app.processes(state)) == [new.token]
    assert (state.instances / old.token / "ended").read_text() == "by itself"
    assert world.instances.exit_status(old.token) == 0
    until(lambda: {result.answer for result in ask(world, new)} == {Answer.PASS})


def test_an_instance_has_its_token_and_the_gate(
    app: ProcessApp, world: ProcessWorld, state: StateDir, until: Until
) -> None:
    """The token of the deployment, and the route that returns it."""
    deployment = deploy(world, until)
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
    with app.world(state) as world:
        old = deploy(world, until)
        app.release(NEXT)
        deploy(world, until, "next")
        assert (state.instances / old.token / "ended").read_text() == "by itself"


def test_an_instance_that_drains_has_its_time(
    app: ProcessApp, state: StateDir, until: Until
) -> None:
    """It is not killed while it serves what is open; the next one listens meanwhile."""
    app.release(LABEL, fault="drains")
    with app.world(state) as world:
        old = deploy(world, until)
        app.release(NEXT)
        deploy(world, until, "token-2")
        assert (state.instances / old.token / "ended").exists()
        assert world.instances.exit_status(old.token) == 0


def test_an_instance_that_lingers_is_killed(app: ProcessApp, state: StateDir, until: Until) -> None:
    """It has closed its listener, so the new one runs already when its time is over."""
    app.configure(stop_timeout=SHORT)
    app.release(LABEL, fault="lingers")
    with app.world(state) as world:
        old = deploy(world, until)
        app.release(NEXT)
        new = deploy(world, until, "token-2")
        assert world.instances.exit_status(old.token) == -signal.SIGKILL
        assert list(app.processes(state)) == [new.token]


def test_an_instance_that_keeps_its_port_is_killed_first(
    app: ProcessApp, state: StateDir, until: Until
) -> None:
    """The next one couldn't listen."""
    app.configure(stop_timeout=SHORT)
    app.release(LABEL, fault="ignores")
    with app.world(state) as world:
        old = deploy(world, until)
        app.release(NEXT)
        new = deploy(world, until, "token-2")
        assert world.instances.exit_status(old.token) == -signal.SIGKILL
        assert world.live() == new


def test_a_successor_that_has_ended_ends_the_wait(
    app: ProcessApp, state: StateDir, until: Until
) -> None:
    """The gate must hear of it now; what lingers is asked again by the rollback."""
    app.release(LABEL, fault="lingers")
    with app.world(state) as world:
        old = deploy(world, until)
        app.release(NEXT, fault="exits")
        new = latest(world, "token-2")
        world.deploy(new)
        assert only_process(app, state, old.token).is_running()
        assert world.instances.exit_status(old.token) is None
        assert world.instances.exit_status(new.token) == 3


# Refusals before anything is touched -------------------------------------------------------------


def damage_store(world: ProcessWorld, deployment: Deployment) -> None:
    (world.store.files(deployment.release.digest) / "traefik.yml").write_text("rotten\n")


def damage_binary(world: ProcessWorld, deployment: Deployment) -> None:
    binary = world.binary(deployment.release.digest)
    binary.chmod(0o600)
    binary.write_bytes(b"rotten")


SPOILS: dict[str, tuple[Callable[[ProcessWorld, Deployment], None], str]] = {
    "files": (damage_store, "has changed in the store"),
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
    world: ProcessWorld,
    state: StateDir,
    until: Until,
    spoil: Callable[[ProcessWorld, Deployment], None],
    said: str,
) -> None:
    """And the release is not to blame for it."""
    old = deploy(world, until)
    app.release(NEXT)
    new = latest(world, "token-2")
    spoil(world, new)
    with pytest.raises(NotPreparedError, match=said):
        world.deploy(new)
    assert world.live() == old
    assert list(app.processes(state)) == [old.token]


def test_a_directory_that_cannot_be_laid_out_leaves_the_old_instance_alone(
    app: ProcessApp, world: ProcessWorld, state: StateDir, until: Until
) -> None:
    """A disk that is full, say."""
    old = deploy(world, until)
    app.release(NEXT)
    new = latest(world, "x" * 300)  # longer than a file name can be
    with pytest.raises(NotPreparedError, match="can't be laid out"):
        world.deploy(new)
    assert world.live() == old
    assert list(app.processes(state)) == [old.token]


def test_a_program_that_cannot_be_executed_is_the_release_s_fault(
    app: ProcessApp, state: StateDir
) -> None:
    """The kernel says why."""
    app.binary.write_bytes(b"\x7fELF and nothing")
    app.release(LABEL)
    with app.world(state) as world:
        with pytest.raises(DeployError, match="can't be executed") as caught:
            world.deploy(latest(world))
        assert not isinstance(caught.value, NotPreparedError)


# Asking ------------------------------------------------------------------------------------------


def test_a_deployment_that_answers_passes(
    app: ProcessApp, world: ProcessWorld, state: StateDir, until: Until
) -> None:
    """Its process runs, and it says who it is."""
    deployment = deploy(world, until)
    until(lambda: {result.answer for result in ask(world, deployment)} == {Answer.PASS})
    process, identity = ask(world, deployment)
    pid = only_process(app, state, deployment.token).pid
    assert (process.probe, process.reason) == ("process", f"running as process {pid}")
    assert (process.target_unit, identity.probe) == (CALLER, "identity")
    assert process.excerpt == "ERR fault=none"


def test_another_release_that_answers_fails(app: ProcessApp, state: StateDir, until: Until) -> None:
    """Its process runs; what it says of itself is something else."""
    app.release(LABEL, says="3.4.0")
    with app.world(state) as world:
        deployment = deploy(world, until)
        process, identity = ask(world, deployment)
        assert (process.answer, identity.answer) == (Answer.PASS, Answer.FAIL)


def test_an_instance_that_has_exited_fails_for_good(
    app: ProcessApp, state: StateDir, until: Until
) -> None:
    """With its status, and its last words without their colours."""
    app.release(LABEL, fault="exits")
    with app.world(state) as world:
        deployment = latest(world)
        world.deploy(deployment)
        until(lambda: ask(world, deployment)[0].terminal)
        process = ask(world, deployment)[0]
        assert process.answer is Answer.FAIL
        assert process.reason == "the process exited with status 3: ERR fault=exits"
        assert process.excerpt == "ERR fault=exits"


def test_an_instance_that_was_killed_fails_for_good(
    app: ProcessApp, world: ProcessWorld, state: StateDir, until: Until
) -> None:
    """By its signal. A run that didn't start it knows only that it is gone."""
    deployment = deploy(world, until)
    only_process(app, state, deployment.token).kill()
    until(lambda: ask(world, deployment)[0].terminal)
    assert ask(world, deployment)[0].reason == "the process was killed by signal 9: ERR fault=none"
    with app.world(state) as later:
        process = ask(later, deployment)[0]
        assert (process.answer, process.terminal) == (Answer.FAIL, True)
        assert process.reason == "the process is not running: ERR fault=none"


def test_an_instance_that_never_was_has_no_words(world: ProcessWorld) -> None:
    """There is no log."""
    deployment = latest(world)
    process = ask(world, deployment)[0]
    assert (process.reason, process.excerpt) == ("the process is not running", "")


# Housekeeping ------------------------------------------------------------------------------------


def test_what_nobody_needs_is_dropped_and_what_runs_is_kept(
    app: ProcessApp, world: ProcessWorld, state: StateDir, until: Until
) -> None:
    """Releases and directories; what runs is needed, whatever the journal says."""
    old = deploy(world, until, "old")
    app.release(NEXT)
    kept = deploy(world, until, "kept")
    app.release("3.0.0+v3.7.0")
    live = deploy(world, until, "live")
    world.prune(frozenset({kept.release.digest}))
    releases = {path.name for path in state.releases.iterdir()}
    assert releases == {kept.release.digest, live.release.digest}
    assert old.release.digest not in releases
    assert [path.name for path in state.instances.iterdir()] == ["live"]
    assert world.live() == live


def test_an_instance_without_a_record_keeps_its_directory(
    world: ProcessWorld, state: StateDir, until: Until
) -> None:
    """It runs there; of its release nothing is known."""
    deployment = deploy(world, until)
    (state.instances / deployment.token / RECORD).unlink()
    world.prune(frozenset())
    assert (state.instances / deployment.token).exists()
    assert list(state.releases.iterdir()) == []


def test_a_release_is_sealed_only_whole(world: ProcessWorld) -> None:
    """A damaged one is not marked as kept; one that is marked is not read again."""
    deployment = latest(world)
    damage_store(world, deployment)
    with pytest.raises(DeployError, match="has changed in the store"):
        world.seal(deployment.release)
    with pytest.raises(DeployError):
        world.seal(Release(LABEL, "3.5.1", "0" * 64))
    world.latest()  # takes it in again, whole
    world.seal(deployment.release)
    damage_store(world, deployment)
    world.seal(deployment.release)
