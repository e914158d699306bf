"""The Swarm platform, wired as a run wires it, on the fake Docker engine."""

import re
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from attrs import evolve
from fake_docker import FakeDocker
from fake_swarm import FAILS, WAITS, Json, variables_of
from safe_probes import CALLER
from swarm_app import GATED, STACK, FakeTraefik, SwarmApp, latest

from runner.platforms.swarm.objects import TOKEN_VARIABLE
from runner.platforms.swarm.platform import SwarmPlatform
from runner.platforms.swarm.stack_document import (
    ASKERS_VARIABLE,
    DIGEST_LABEL,
    RELEASE_LABEL,
    UNIT_LABEL,
)
from runner.reconcile.errors import DeployError, EngineUnreachableError, NotPreparedError
from runner.reconcile.model import Deployment, NotLive, Outcome, Round
from runner.reconcile.probes import Http, TaskHttp
from runner.storage.paths import StateDir

AMPLE = 20.0
"""Seconds that no answer needs."""
LABEL = "1.0.0+v3.5.1"
Until = Callable[[Callable[[], bool]], None]


@pytest.fixture
def app(docker: FakeDocker, tmp_path: Path) -> Generator[SwarmApp]:
    traefik = FakeTraefik(docker.swarm)
    yield SwarmApp(docker, traefik, tmp_path / "app")
    traefik.close()


@pytest.fixture
def platform(app: SwarmApp, state: StateDir) -> Generator[SwarmPlatform]:
    """Wire an app that has one release."""
    app.release(LABEL)
    with app.platform(state) as platform:
        yield platform


def spec(docker: FakeDocker, name: str = GATED) -> Json:
    found: Json = docker.swarm.services[name]["Spec"]
    return found


def environment(docker: FakeDocker, name: str = GATED) -> dict[str, str]:
    return variables_of(spec(docker, name)["TaskTemplate"]["ContainerSpec"])


def set_label(made: Json) -> None:
    made["Labels"]["by"] = "hand"


def has_written(docker: FakeDocker) -> bool:
    return ["stack", "deploy"] in [command[:2] for command in docker.commands]


def answers(results: Round) -> dict[str, Outcome]:
    return {result.probe: result.outcome for result in results}


# What is live ------------------------------------------------------------------------------------


def by_hand(docker: FakeDocker, name: str, *variables: str) -> None:
    """Create a service as an operator does by hand."""
    container = {"Image": "x:1", "Env": list(variables)}
    docker.swarm.put_service(
        {
            "Name": name,
            "Labels": {"com.docker.stack.namespace": STACK},
            "TaskTemplate": {"ContainerSpec": container, "ForceUpdate": 0},
            "Mode": {"Replicated": {"Replicas": 1}},
            "EndpointSpec": {"Mode": "vip"},
        }
    )


def test_where_nothing_is_deployed_nothing_is_live(platform: SwarmPlatform) -> None:
    """The reason is empty."""
    assert platform.live() == NotLive("")


def test_other_services_of_the_stack_are_named(docker: FakeDocker, platform: SwarmPlatform) -> None:
    """The name of the service in the config may be wrong."""
    by_hand(docker, "s_web")
    by_hand(docker, "s_api")
    assert platform.live() == NotLive("there is no service s_app, but s_api, s_web")


@pytest.mark.parametrize("variables", [[], ["A=b"], [f"{TOKEN_VARIABLE}=unknown"]])
def test_what_has_no_record_was_deployed_by_another_hand(
    docker: FakeDocker, platform: SwarmPlatform, variables: list[str]
) -> None:
    """Without a token, or with one that this host never wrote."""
    by_hand(docker, GATED, *variables)
    assert platform.live() == NotLive("s_app was deployed by someone else")
    docker.swarm.services[GATED]["UpdateStatus"] = {"State": "rollback_completed", "Message": "m"}
    said = "s_app was deployed by someone else (Swarm says rollback_completed: m)"
    assert platform.live() == NotLive(said)


def test_a_deployment_is_live_until_someone_else_changes_it(
    docker: FakeDocker, platform: SwarmPlatform
) -> None:
    """A change of anything counts, also if image and token are as they were."""
    deployment = latest(platform)
    platform.deploy(deployment)
    assert platform.live() == deployment
    docker.swarm.change_service(GATED, set_label)
    assert platform.live() == NotLive("service s_app was changed by someone else")


def test_docker_unreachable_is_an_error_of_live(
    docker: FakeDocker, platform: SwarmPlatform
) -> None:
    """Nothing live would be deployed over."""
    with docker.lost(), pytest.raises(EngineUnreachableError):
        platform.live()


# Deploying ---------------------------------------------------------------------------------------


def test_a_deployment_has_its_token_and_labels(docker: FakeDocker, platform: SwarmPlatform) -> None:
    """Its token in the tasks; its release and its unit in the labels; and who may ask."""
    docker.swarm.add_node("second", address="10.0.0.2")
    deployment = latest(platform)
    platform.deploy(deployment)
    labels = spec(docker)["Labels"]
    assert labels[RELEASE_LABEL] == LABEL
    assert labels[DIGEST_LABEL] == deployment.release.digest
    assert labels[UNIT_LABEL] == CALLER
    assert (labels["of"], labels["gate"]) == (LABEL, "yes")
    told = environment(docker)
    assert told[TOKEN_VARIABLE] == deployment.token
    gateway = docker.swarm.networks["docker_gwbridge"]["IPAM"]["Config"][0]["Gateway"]
    ours = "ClientIP(`127.0.0.0/8`) || ClientIP(`::1`)"
    others = f"ClientIP(`10.0.0.2`) || ClientIP(`127.0.0.1`) || ClientIP(`{gateway}`)"
    assert told[ASKERS_VARIABLE] == f"{ours} || {others}"


def test_a_deployment_has_the_content_of_its_release(
    docker: FakeDocker, platform: SwarmPlatform
) -> None:
    """Its config files come from the store, its image is pinned by its digest."""
    platform.deploy(latest(platform))
    (config,) = docker.swarm.configs.values()
    (file,) = spec(docker)["TaskTemplate"]["ContainerSpec"]["Configs"]
    assert config["Spec"]["Data"] == "IyAxLjAuMCt2My41LjEK"  # base64 of "# 1.0.0+v3.5.1\n"
    assert file["ConfigID"] == config["ID"]
    assert "@sha256:" in spec(docker)["TaskTemplate"]["ContainerSpec"]["Image"]


def test_an_image_without_a_registry_is_deployed_by_its_id(
    app: SwarmApp, docker: FakeDocker, state: StateDir
) -> None:
    """It has no digest by which another node could pull it."""
    app.release(LABEL, pulled=False)
    with app.platform(state) as platform:
        platform.deploy(latest(platform))
    image = spec(docker)["TaskTemplate"]["ContainerSpec"]["Image"]
    assert image == docker.swarm.images["traefik:v3.5.1"]["Id"]


def test_an_image_that_is_gone_is_loaded_from_the_archive(
    docker: FakeDocker, platform: SwarmPlatform
) -> None:
    """Its archive gives it back without its digest: the stack names it by its id then."""
    deployment = latest(platform)
    platform.seal(deployment.release)
    identity = docker.swarm.images["traefik:v3.5.1"]["Id"]
    docker.swarm.images.clear()
    platform.deploy(deployment)
    assert spec(docker)["TaskTemplate"]["ContainerSpec"]["Image"] == identity


def test_the_next_deployment_takes_the_place_of_the_last(
    docker: FakeDocker, platform: SwarmPlatform
) -> None:
    """A run's own write is not a change by someone else."""
    platform.live()
    first = latest(platform)
    platform.deploy(first)
    second = evolve(first, token="token-2")  # noqa: S106 - no password
    platform.deploy(second)
    assert platform.live() == second
    assert [task["Status"]["State"] for task in docker.swarm.tasks] == ["shutdown", "running"]
    assert platform.stacks.read_record(first.token) is not None


def change(name: str = GATED) -> Callable[[FakeDocker], None]:
    return lambda docker: docker.swarm.change_service(name, set_label)


OTHERS: dict[str, tuple[Callable[[FakeDocker], None], str]] = {
    "changed": (change(), r"s_app .*\(version 101 → 103\)"),
    "side": (change("s_side"), r"s_side .*\(version 102 → 103\)"),
    "gone": (
        lambda docker: docker.swarm.remove_service("s_side"),
        r"s_side .*\(version 102 → none\)",
    ),
    "new": (lambda docker: by_hand(docker, "s_x"), r"s_x .*\(version none → 103\)"),
}


@pytest.mark.parametrize(("meanwhile", "said"), OTHERS.values(), ids=OTHERS)
def test_a_change_by_someone_else_is_not_overwritten(
    docker: FakeDocker,
    platform: SwarmPlatform,
    meanwhile: Callable[[FakeDocker], None],
    said: str,
) -> None:
    """The decision was about something else. Whoever wrote, and which service: nothing is lost."""
    by_hand(docker, GATED)
    by_hand(docker, "s_side")
    platform.live()
    meanwhile(docker)
    before = {name: service["Version"] for name, service in docker.swarm.services.items()}
    with pytest.raises(NotPreparedError, match=f"service {said}"):
        platform.deploy(latest(platform))
    assert before == {name: each["Version"] for name, each in docker.swarm.services.items()}
    assert not has_written(docker)
    platform.live()
    platform.deploy(latest(platform))
    assert set(docker.swarm.services) == {GATED}


def test_a_note_of_swarm_itself_is_no_write(docker: FakeDocker, platform: SwarmPlatform) -> None:
    """It raises the version index when it calls an update completed; the spec is as it was."""
    by_hand(docker, GATED)
    platform.live()
    docker.swarm.change_service(GATED, lambda _: None)
    platform.deploy(latest(platform))
    assert has_written(docker)


def test_without_a_snapshot_nothing_is_refused(docker: FakeDocker, platform: SwarmPlatform) -> None:
    """A resumed rollback deploys without a snapshot."""
    by_hand(docker, GATED)
    platform.deploy(latest(platform))
    assert has_written(docker)


def test_a_deployment_is_recorded_before_its_gate(platform: SwarmPlatform) -> None:
    """The next process knows what this one wrote."""
    deployment = latest(platform)
    platform.deploy(deployment)
    record = platform.stacks.read_record(deployment.token)
    assert record is not None
    assert record.written.gated == GATED


# Refusals before anything is touched -------------------------------------------------------------


def damage_store(platform: SwarmPlatform, deployment: Deployment) -> None:
    file = platform.store.files(deployment.release.digest) / "configs" / "static"
    file.write_text("# rotten\n")


HOST_NETWORK = {"services": {"app": {"image": "traefik:v3.5.1", "networks": {"host": None}}}}


def without_bridge(docker: FakeDocker) -> None:
    del docker.swarm.networks["docker_gwbridge"]
    docker.failing["network create"] = "no address pools"


Spoil = Callable[[FakeDocker, SwarmPlatform, Deployment], object]
REFUSALS: dict[str, tuple[Spoil, str]] = {
    "rotten": (lambda _, w, d: damage_store(w, d), "has changed since it was stored"),
    "no network": (
        lambda docker, _, __: docker.swarm.networks.pop("proxy"),
        "the network proxy doesn't exist",
    ),
    "no image": (
        lambda docker, _, __: docker.swarm.images.clear(),
        "neither in Docker nor in the archive",
    ),
    "no manager": (
        lambda docker, _, __: docker.swarm.info["Swarm"].update(ControlAvailable=False),
        "not a swarm manager",
    ),
    "no bridge": (
        lambda docker, _, __: without_bridge(docker),
        "docker_gwbridge can't be created: .*no address pools",
    ),
}


@pytest.mark.parametrize(("spoil", "said"), REFUSALS.values(), ids=REFUSALS)
def test_what_the_host_lacks_is_found_out_before_anything_is_touched(
    docker: FakeDocker,
    platform: SwarmPlatform,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Spoil,
    said: str,
) -> None:
    """And the release is not to blame for it."""
    monkeypatch.setattr("runner.platforms.swarm.prerequisites.GATEWAY_PATIENCE", 0.0)
    deployment = latest(platform)
    spoil(docker, platform, deployment)
    with pytest.raises((NotPreparedError, EngineUnreachableError), match=said):
        platform.deploy(deployment)
    assert not has_written(docker)
    assert docker.swarm.services == {}


def test_a_damaged_release_is_reported_with_a_hint(platform: SwarmPlatform) -> None:
    """The message and hint of the store are passed on."""
    deployment = latest(platform)
    (platform.store.files(deployment.release.digest) / "compose.json").unlink()
    with pytest.raises(NotPreparedError, match="has changed since it was stored"):
        platform.deploy(deployment)


def test_more_tasks_with_a_host_port_than_nodes_are_refused(
    app: SwarmApp, docker: FakeDocker, state: StateDir
) -> None:
    """Swarm would leave them pending for ever. That is the release's own fault."""
    port = {"mode": "host", "target": 80, "published": app.traefik.port}
    many: Json = {
        "image": "traefik:v3.5.1",
        "ports": [port],
        "deploy": {"replicas": 2, "labels": {}},
    }
    app.release(LABEL, services={"app": many})
    with app.platform(state) as platform:
        with pytest.raises(DeployError, match=r"needs 2 tasks .* only 1 node$") as caught:
            platform.deploy(latest(platform))
        assert not isinstance(caught.value, NotPreparedError)
        assert not has_written(docker)
        docker.swarm.add_node("second", state="down")
        with pytest.raises(DeployError, match="only 1 node"):
            platform.deploy(latest(platform))
        docker.swarm.add_node("third")
        platform.deploy(latest(platform))
    assert has_written(docker)


def test_a_task_on_the_host_network_cannot_be_probed_from_inside(
    app: SwarmApp, docker: FakeDocker, state: StateDir
) -> None:
    """Another program on the host could answer there; an identity probe would detect it."""
    docker.swarm.put_network("host")
    app.release(
        LABEL,
        services={"app": {"image": "traefik:v3.5.1", "networks": {"h": None}, "deploy": {}}},
        networks={"h": {"external": True, "name": "host"}},
    )
    with app.platform(state) as platform:
        platform.deploy(latest(platform))
    app.configure(TaskHttp(target_unit=CALLER, port=80))
    with (
        app.platform(state) as platform,
        pytest.raises(DeployError, match="uses the host's network"),
    ):
        platform.deploy(latest(platform, "token-2"))
    assert environment(docker)[TOKEN_VARIABLE] == "token-1"


# Asking ------------------------------------------------------------------------------------------


EVERY = dict.fromkeys(["stack", "tasks", "identity", "downtime"], Outcome.PASS)


def test_a_deployment_that_answers_passes(platform: SwarmPlatform, until: Until) -> None:
    """The Docker API, the identity and the downtime meter agree, all with the unit."""
    deployment = latest(platform)
    platform.deploy(deployment)
    # The listener has missed the time before the first deployment.
    until(lambda: answers(platform.ask(deployment, AMPLE)) == EVERY)
    results = platform.ask(deployment, AMPLE)
    assert {result.target_unit for result in results} == {CALLER}
    (listener,) = [result for result in results if result.probe == "downtime"]
    assert re.fullmatch(
        r"\d+ of \d+ requests since the last round had no answer; \d+\.\d s of downtime in all",
        listener.reason,
    )


def test_an_outage_between_two_rounds_fails_the_round(
    app: SwarmApp, platform: SwarmPlatform, until: Until
) -> None:
    """The identity answers again by then; the downtime meter has seen the gap."""
    deployment = latest(platform)
    platform.deploy(deployment)
    until(lambda: answers(platform.ask(deployment, AMPLE)) == EVERY)
    app.traefik.is_silent = True
    asked = len(app.traefik.asked)
    until(lambda: len(app.traefik.asked) > asked)
    app.traefik.is_silent = False
    until(lambda: answers(platform.ask(deployment, AMPLE)) == {**EVERY, "downtime": Outcome.FAIL})


def test_a_run_that_deploys_nothing_listens_to_nothing(
    app: SwarmApp, platform: SwarmPlatform, state: StateDir
) -> None:
    """It only verifies; the downtime meter is for deployments."""
    deployment = latest(platform)
    platform.deploy(deployment)
    with app.platform(state) as later:
        assert set(answers(later.ask(deployment, AMPLE))) == {"stack", "tasks", "identity"}


def test_a_deployment_without_a_record_is_inconclusive(platform: SwarmPlatform) -> None:
    """Whoever answers then proves nothing."""
    deployment = latest(platform)
    platform.deploy(deployment)
    (result,) = platform.ask(evolve(deployment, token="other"), AMPLE)  # noqa: S106 - no password
    assert (result.probe, result.outcome) == ("stack", Outcome.INCONCLUSIVE)
    assert "no record of this deployment" in result.reason
    assert result.target_unit == CALLER


def test_no_probe_is_sent_after_a_terminal_result(
    docker: FakeDocker, platform: SwarmPlatform
) -> None:
    """An answer after the task has ended is from another program."""
    deployment = latest(platform)
    image = f"traefik:v3.5.1@{_digest(docker)}"
    docker.swarm.fates[image] = FAILS
    platform.deploy(deployment)
    results = platform.ask(deployment, AMPLE)
    assert answers(results) == {"stack": Outcome.PASS, "tasks": Outcome.FAIL}
    assert any(result.terminal for result in results)


def _digest(docker: FakeDocker) -> str:
    return str(docker.swarm.images["traefik:v3.5.1"]["RepoDigests"][0]).partition("@")[2]


def test_a_task_that_waits_is_asked_for_all_the_same(
    docker: FakeDocker, platform: SwarmPlatform
) -> None:
    """It may come up; until then no probe is answered."""
    deployment = latest(platform)
    docker.swarm.fates[f"traefik:v3.5.1@{_digest(docker)}"] = WAITS
    platform.deploy(deployment)
    results = answers(platform.ask(deployment, AMPLE))
    assert results["tasks"] is Outcome.FAIL
    assert results["identity"] is not Outcome.PASS


def test_an_end_in_this_run_counts_and_one_before_another_run_does_not(
    app: SwarmApp, docker: FakeDocker, platform: SwarmPlatform, state: StateDir
) -> None:
    """The host may have been started anew in between."""
    deployment = latest(platform)
    platform.deploy(deployment)
    service = docker.swarm.services[GATED]
    docker.swarm.end(docker.swarm.running(GATED)[0])
    docker.swarm.start(service, 1)
    assert answers(platform.ask(deployment, AMPLE))["tasks"] is Outcome.FAIL
    with app.platform(state) as later:
        assert answers(later.ask(deployment, AMPLE))["tasks"] is Outcome.PASS


def test_each_of_several_tasks_is_asked(app: SwarmApp, docker: FakeDocker, state: StateDir) -> None:
    """The public address reaches one of them; each must be probed inside."""
    app.release(LABEL, services={"app": {"image": "traefik:v3.5.1", "deploy": {"replicas": 2}}})
    docker.swarm.pid = 2**22 + 1  # no process has such an id
    with app.platform(state) as platform:
        deployment = latest(platform)
        platform.deploy(deployment)
        results = {result.probe: result for result in platform.ask(deployment, AMPLE)}
        assert results["each task"].outcome is Outcome.FAIL
        assert results["each task"].reason.startswith("0 of 2 tasks passed; inside: task ")
        docker.swarm.change_service(GATED, scale(1))


def scale(number: int) -> Callable[[Json], None]:
    def change(made: Json) -> None:
        made["Mode"]["Replicated"]["Replicas"] = number

    return change


def test_a_single_task_is_asked_inside_only_where_a_probe_says_so(
    app: SwarmApp, docker: FakeDocker, state: StateDir
) -> None:
    """One of another node can't be, and then nothing is known of it: that is no pass."""
    app.release(LABEL)
    docker.swarm.pid = 2**22 + 1
    with app.platform(state) as platform:
        deployment = latest(platform)
        platform.deploy(deployment)
        assert "each task" not in answers(platform.ask(deployment, AMPLE))
    app.configure(app.identity, TaskHttp(target_unit=CALLER, port=80))
    with app.platform(state) as platform:
        assert answers(platform.ask(deployment, AMPLE))["each task"] is Outcome.FAIL
        (task,) = docker.swarm.running(GATED)
        task["Status"]["ContainerStatus"]["PID"] = 0
        assert answers(platform.ask(deployment, AMPLE))["each task"] is Outcome.INCONCLUSIVE


def test_a_name_is_held_against_what_is_routed(
    app: SwarmApp, docker: FakeDocker, state: StateDir
) -> None:
    """If a Traefik lists its routers; here none does, so there is no result."""
    page = Http(
        name="page",
        target_unit=CALLER,
        url="http://app.example.com/",
        address=f"127.0.0.1:{app.traefik.port}",
    )
    app.configure(app.identity, page)
    app.release(LABEL)
    with app.platform(state) as platform:
        deployment = latest(platform)
        platform.deploy(deployment)
        found = answers(platform.ask(deployment, AMPLE))
        assert found["page"] is Outcome.PASS
        assert "/services?filters={}" in docker.requests
        assert not [probe for probe in found if probe.startswith("route")]


# Housekeeping ------------------------------------------------------------------------------------


def test_unused_releases_are_removed_and_the_live_one_is_kept(
    app: SwarmApp, docker: FakeDocker, state: StateDir
) -> None:
    """Releases, images, records and configs; the live one is kept, whatever the journal needs."""
    app.release("1.0.0+v3.5.1")
    with app.platform(state) as platform:
        old = latest(platform, "old")
        platform.deploy(old)
        platform.seal(old.release)
        app.release("2.0.0+v3.5.2")
        kept = latest(platform, "kept")
        platform.deploy(kept)
        platform.seal(kept.release)
        app.release("3.0.0+v3.6.0")
        live = latest(platform, "live")
        platform.deploy(live)
        platform.prune(frozenset({kept.release.digest}))
        assert platform.live() == live
    assert {path.name for path in state.releases.iterdir()} == {
        kept.release.digest,
        live.release.digest,
    }
    assert len(list(state.images.iterdir())) == 2
    assert {path.name for path in state.instances.iterdir()} == {"kept", "live"}
    assert len(docker.swarm.configs) == 2


def test_configs_that_are_in_use_are_left_to_the_engine(
    docker: FakeDocker, platform: SwarmPlatform
) -> None:
    """It refuses; the others go all the same, and so does nothing of another stack."""
    deployment = latest(platform)
    platform.deploy(deployment)
    (used,) = docker.swarm.configs
    docker.swarm.change_service(GATED, set_label)  # it is no deployment of ours now
    for name, stack in (("a", STACK), ("z", STACK), ("foreign", "other")):
        labels = {"com.docker.stack.namespace": stack}
        docker.swarm.put_config({"Name": name, "Labels": labels, "Data": ""})
    platform.prune(frozenset())
    assert set(docker.swarm.configs) == {used, "foreign"}


def test_docker_unreachable_prunes_nothing(
    docker: FakeDocker, platform: SwarmPlatform, state: StateDir
) -> None:
    """What is live is not known then: it may be what would be dropped."""
    deployment = latest(platform)
    platform.deploy(deployment)
    with docker.lost(), pytest.raises(EngineUnreachableError):
        platform.prune(frozenset())
    assert (state.releases / deployment.release.digest).exists()
    assert platform.stacks.read_record(deployment.token) is not None
