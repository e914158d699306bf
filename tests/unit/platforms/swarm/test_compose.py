"""A rendered document becomes one that can be kept, and never lets Swarm judge by itself."""

# ruff: noqa: SIM300 (asserts read: expected == actual)

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.platforms.swarm import compose
from runner.platforms.swarm.compose import Document, RecipeRelease
from runner.platforms.swarm.compose_yaml import canonical, parse
from runner.platforms.swarm.docker_cli import Docker
from runner.reconcile.errors import SourceUnreachableError

SUBJECT = RecipeRelease(stack="s", service="app", label="3.4.0+v3.5.1", recipe="traefik")
PIN = "x:1@sha256:" + "d" * 64
HOST_80: Document = {"mode": "host", "target": 8080, "published": 80}


def app(**keys: Any) -> Document:  # noqa: ANN401 - a compose file holds anything
    return {"services": {"app": {"image": "x:1", **keys}}}


def completed(document: Document, **hashes: str) -> Document:
    return compose.complete(document, SUBJECT, pins={"x:1": PIN}, hashes=hashes)


def service(**keys: Any) -> Document:  # noqa: ANN401 - a compose file holds anything
    made: Document = completed(app(**keys))["services"]["app"]
    return made


# Completing --------------------------------------------------------------------------------------


def test_the_document_that_is_given_stays_as_it_is() -> None:
    """Completing is pure."""
    document = {**app(environment={"A": None}), "configs": {"c": {"file": "/x"}}, "x-y": {}}
    document["version"] = "3.8"
    before = copy.deepcopy(document)
    made = completed(document, c="0")
    assert before == document
    assert {"services", "configs"} == made.keys()


def test_images_are_pinned_and_nothing_is_built() -> None:
    """What is deployed is what was kept."""
    made = service(build={"context": "."})
    assert PIN == made["image"]
    assert "build" not in made


@pytest.mark.parametrize(
    "environment", [{"A": "1", "B": "", "C": None}, ["A=1", "B=", "C"]], ids=["dict", "list"]
)
def test_variables_without_a_value_go(environment: object) -> None:
    """They would be read from the environment of the caller."""
    assert {"A": "1", "B": ""} == service(environment=environment)["environment"]
    assert {} == service()["environment"]


@pytest.mark.parametrize("labels", [{"a": "1", "b": ""}, ["a=1", "b"]], ids=["dict", "list"])
def test_labels_have_one_form_and_tell_abra_the_truth(labels: object) -> None:
    """``abra app ls`` shows the release that runs, not the one in the recipe."""
    stale = {"coop-cloud.s.version": "1.0.0+v1", "coop-cloud.s.chaos": "true"}
    assert {"a": "1", "b": ""} == service(labels=labels)["labels"]
    assert {"a": "1", "b": ""}.items() <= service(deploy={"labels": labels})["deploy"][
        "labels"
    ].items()
    assert {
        "coop-cloud.s.version": "3.4.0+v3.5.1",
        "coop-cloud.s.chaos": "false",
        "coop-cloud.s.recipe": "traefik",
    } == service(deploy={"labels": stale})["deploy"]["labels"]


def test_other_services_get_no_labels_of_abra() -> None:
    """It reads those of the one."""
    document = app()
    document["services"]["other"] = {"image": "x:1"}
    assert {} == completed(document)["services"]["other"]["deploy"]["labels"]


def test_a_config_is_named_by_its_content() -> None:
    """Swarm never changes a config: another content needs another name, even if a recipe forgot."""
    document = {**app(), "configs": {"yml": {"name": "s_yml_v9", "file": "/srv/x/yml"}}}
    first = completed(document, yml="1")["configs"]["yml"]
    second = completed(document, yml="2")["configs"]["yml"]
    assert "configs/yml" == first["file"]
    assert first["name"].startswith("s_yml_v9_")
    assert len("s_yml_v9_") + 12 == len(first["name"])
    assert first["name"] != second["name"]
    document["configs"]["yml"]["template_driver"] = "golang"
    assert first["name"] != completed(document, yml="1")["configs"]["yml"]["name"]


def test_the_name_of_a_config_is_never_too_long() -> None:
    """Two long names that begin alike stay two."""
    names = ["x" * 80 + "1", "x" * 80 + "2"]
    document = {**app(), "configs": {name: {"file": "/srv/x"} for name in names}}
    made = completed(document, **dict.fromkeys(names, "0"))["configs"]
    assert 2 == len({config["name"] for config in made.values()})
    assert {64} == {len(config["name"]) for config in made.values()}
    assert {"s_x"} == {config["name"][:3] for config in made.values()}


def test_what_is_external_stays() -> None:
    """It keeps its name, and is listed under the name in Docker."""
    external = {"one": {"external": True, "name": "real"}, "two": {"external": True}, "own": None}
    document = {**app(), "networks": external, "secrets": external, "configs": external}
    del document["configs"]["own"]
    made = completed(document)
    for section, names in (
        ("networks", compose.external_networks(made)),
        ("secrets", compose.external_secrets(made)),
        ("configs", compose.external_configs(made)),
    ):
        assert document[section] == made[section]
        assert {"real", "two"} == names
    assert frozenset() == compose.external_networks(app())


@pytest.mark.parametrize(
    ("keys", "order"),
    [
        ({}, "start-first"),
        ({"deploy": {"update_config": {"order": "start-first"}}}, "start-first"),
        ({"deploy": {"update_config": {"order": "stop-first"}}}, "stop-first"),
        ({"ports": [{"mode": "ingress", "target": 80, "published": 80}]}, "start-first"),
        ({"ports": [HOST_80]}, "stop-first"),
        ({"ports": [HOST_80], "deploy": {"update_config": {"order": "start-first"}}}, "stop-first"),
        ({"network_mode": "host"}, "stop-first"),
        ({"networks": {"outside": None}}, "stop-first"),
        ({"networks": {"inside": None}}, "start-first"),
        ({"deploy": {"placement": {"max_replicas_per_node": 1}}}, "stop-first"),
        ({"volumes": [{"type": "volume", "source": "v", "target": "/v"}]}, "stop-first"),
        ({"volumes": [{"type": "bind", "source": "/v", "target": "/v"}]}, "stop-first"),
        (
            {"volumes": [{"type": "bind", "source": "/v", "target": "/v", "read_only": True}]},
            "start-first",
        ),
        ({"volumes": [{"type": "volume", "target": "/v"}]}, "start-first"),
        ({"volumes": [{"type": "tmpfs", "target": "/v"}]}, "start-first"),
        (
            {
                "volumes": [{"type": "volume", "source": "v", "target": "/v"}],
                "deploy": {"update_config": {"order": "start-first"}},
            },
            "start-first",
        ),
    ],
)
def test_two_tasks_run_side_by_side_only_where_they_can(keys: Document, order: str) -> None:
    """A port of the host is there once; what both would write to is for the recipe to allow."""
    document = {**app(**keys), "networks": {"outside": {"external": True, "name": "host"}}}
    made = completed(document)["services"]["app"]["deploy"]["update_config"]
    assert {"failure_action": "pause", "order": order} == made


def test_swarm_never_goes_back_by_itself() -> None:
    """It does not know which releases are proven. Other update keys of a recipe stay."""
    update = {"failure_action": "rollback", "monitor": "5s"}
    deploy = service(deploy={"update_config": update, "rollback_config": {"order": "stop-first"}})[
        "deploy"
    ]
    assert {"failure_action": "pause", "monitor": "5s", "order": "start-first"} == deploy[
        "update_config"
    ]
    assert "rollback_config" not in deploy


def test_a_job_gets_no_update_config() -> None:
    """Swarm refuses one."""
    document = app()
    document["services"]["job"] = {"image": "x:1", "deploy": {"mode": "replicated-job"}}
    assert {"mode", "labels"} == completed(document)["services"]["job"]["deploy"].keys()


# Refusing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "what"),
    [
        ({}, "there is no service app"),
        ({"services": {"web": {"image": "x"}}}, "there is no service app"),
        (app(image=""), "services.app has no image"),
        (app(image="", build={"context": "."}), "services.app is to be built"),
        (app(deploy={"replicas": 0}), "services.app.deploy.replicas is 0"),
        (app(deploy={"mode": "replicated-job"}), "services.app.deploy.mode is replicated-job"),
        (app(deploy={"mode": "global-job"}), "services.app.deploy.mode is global-job"),
        ({**app(), "secrets": {"s": {"file": "/x"}}}, "secrets.s comes from a file"),
        ({**app(), "secrets": {"s": None}}, "secrets.s comes from a file"),
    ],
)
def test_what_can_not_be_deployed_is_refused(document: Document, what: str) -> None:
    """By the keys that it is about, before anything is touched."""
    with pytest.raises(SourceUnreachableError) as caught:
        compose.check(document, "app")
    assert what in caught.value.message


@pytest.mark.parametrize("mode", ["host", "ingress"])
def test_two_services_can_not_publish_one_port(mode: str) -> None:
    """Swarm would find out when half of the stack is written."""
    document = app(ports=[HOST_80])
    document["services"]["web"] = {"image": "x", "ports": [{**HOST_80, "mode": mode}]}
    with pytest.raises(SourceUnreachableError) as caught:
        compose.check(document, "app")
    assert "services.app.ports and services.web.ports both publish 80/tcp" == caught.value.message
    document["services"]["web"]["ports"][0]["protocol"] = "udp"
    compose.check(document, "app")


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({"c": None}, "configs.c has neither file nor external"),
        ({"..": {"file": "x"}}, "configs..."),
    ],
)
def test_a_config_that_can_not_be_kept_is_refused(config: Document, what: str) -> None:
    """Its key becomes the name of a file."""
    with pytest.raises(SourceUnreachableError) as caught:
        compose.config_files({"configs": config})
    assert what in caught.value.message


def test_published_ports_are_mapped() -> None:
    """By port and protocol; a port that Swarm chooses isn't known."""
    web: Document = {
        "ports": [
            HOST_80,
            {"mode": "ingress", "target": 8443, "published": 443, "protocol": "tcp"},
            {"mode": "host", "target": 8443, "published": 443, "protocol": "udp"},
            {"mode": "ingress", "target": 9},
        ]
    }
    assert {80: 8080, 443: 8443} == compose.published(web)
    assert {(80, "tcp"), (443, "udp")} == compose.host_ports(web)
    assert frozenset() == compose.host_ports({})
    assert {"x:1"} == compose.images({"services": {"a": {"image": "x:1"}, "b": {}}})


# Through Docker ----------------------------------------------------------------------------------

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
TRICKY = st.sampled_from(
    ["=", "<<", "yes", "~", "null", "1e3", "0x1f", "010", "1:30", "2001-1-1", "1_0", "-", ".inf"]
)


@settings(max_examples=25)
@given(
    command=st.lists(TEXTS | TRICKY | st.text("$a{}:?-"), min_size=1, max_size=40),
    number=st.integers(0, 9),
)
def test_docker_gives_back_what_was_escaped(
    tmp_path_factory: pytest.TempPathFactory,
    need: Callable[[str], str],
    command: list[str],
    number: int,
) -> None:
    """For any value: the stored document is deployed to the letter."""
    need("docker")
    document: Document = {
        "services": {
            "app": {
                "image": "x",
                "command": command,
                "environment": {f"N{i}": text for i, text in enumerate(command)},
                "deploy": {"replicas": number, "labels": {"a": command[0]}},
            }
        },
    }
    file = tmp_path_factory.getbasetemp() / "escaped.json"
    file.write_text(canonical(compose.escape(document)), "utf-8")
    found = render(file)
    assert found.pop("version").startswith("3.")
    assert document == found


def test_the_settled_document_is_one_for_docker(tmp_path: Path, need: Callable[[str], str]) -> None:
    """Nothing that is added is unknown to the command that deploys it."""
    need("docker")
    config = {"c": {"file": "/srv/x", "template_driver": "golang"}}
    made = completed({**app(ports=[HOST_80]), "configs": config}, c="0")
    file = tmp_path / "compose.json"
    file.write_text(canonical(compose.escape(made)), "utf-8")
    found = render(file)
    assert made["services"]["app"]["deploy"] == found["services"]["app"]["deploy"]
    assert made["configs"]["c"]["name"] == found["configs"]["c"]["name"]
    assert str(tmp_path / "configs" / "c") == found["configs"]["c"]["file"]


@pytest.mark.parametrize("version", [None, "3.0", "3.4", "3.8"])
def test_a_kept_document_is_deployed_in_the_newest_format(
    tmp_path: Path, need: Callable[[str], str], version: str | None
) -> None:
    """Older versions of this program kept the recipe's format, which may not have ``order``."""
    need("docker")
    kept = completed(app())
    if version is not None:
        kept["version"] = version
    file = tmp_path / "compose.json"
    file.write_text(canonical(compose.escape(kept)), "utf-8")
    update = render(file)["services"]["app"]["deploy"]["update_config"]
    assert {"failure_action": "pause", "order": "start-first"} == update


def render(file: Path) -> Document:
    docker = Docker("unix:///nonexistent")
    return parse(docker.run("stack", "config", f"--compose-file={file}", timeout=120.0))
