"""What is written to the swarm: made a deployment's own, or harmless; never changed in place."""

import copy
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

import pytest
import yaml
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from runner.platforms.swarm.compose import Document, escape
from runner.platforms.swarm.stack_document import (
    DIGEST_LABEL,
    PREFLIGHT_LABEL,
    RELEASE_LABEL,
    UNIT_LABEL,
    can_be_isolated,
    inject,
    isolate,
    locate,
    use_images,
)
from runner.reconcile.model import Deployment, Release

DEPLOYMENT = Deployment(Release("1.0.0+v3.5.1", "3.5.1", "d" * 64), "token-of-this-deployment")
UNIT = "deploy-proxy.service"
ASKERS = "ClientIP(`127.0.0.0/8`) || ClientIP(`10.0.0.1`)"
NODE = "4id0fap3nwpx9g8j13mjqiax7"
TRIAL = "a-stack-of-thirty-two-characters-try-12345678"
"""As long as the name of a trial can get."""
LONGEST_NAME = 64
"""Of a config; Docker refuses a longer one."""


def recipe() -> Document:
    """Make a document as ``docker stack config`` renders it and ``complete`` keeps it."""
    return {
        "services": {
            "app": {
                "image": "traefik:v3.5.1@sha256:" + "a" * 64,
                "command": ["traefik", "--ping"],
                "environment": {"LOG_LEVEL": "$INFO"},
                "labels": {"traefik.http.routers.x.rule": "Host(`x`)", "backup": "yes"},
                "networks": {"proxy": {"aliases": ["web"]}, "internal": None},
                "ports": [
                    {"mode": "host", "target": 80, "published": 8080, "protocol": "tcp"},
                    {"mode": "ingress", "target": 443, "published": 8443, "protocol": "tcp"},
                ],
                "volumes": [
                    {"type": "bind", "source": "/run/docker.sock", "target": "/run/docker.sock"},
                    {"type": "bind", "source": "/etc/x", "target": "/etc/x", "read_only": True},
                    {"type": "volume", "source": "acme", "target": "/acme"},
                    {"type": "volume", "target": "/scratch"},
                    {"type": "tmpfs", "target": "/tmp/x", "tmpfs": {"size": 1000}},  # noqa: S108
                ],
                "configs": [{"source": "static", "target": "/etc/traefik.yml"}],
                "secrets": [{"source": "token"}],
                "healthcheck": {
                    "test": ["CMD", "traefik", "healthcheck"],
                    "interval": "30s",
                    "timeout": "5s",
                    "retries": 3,
                },
                "deploy": {
                    "mode": "global",
                    "labels": {"traefik.enable": "true", "coop-cloud.s.version": "1"},
                    "update_config": {"order": "stop-first", "failure_action": "pause"},
                    "rollback_config": {"order": "stop-first"},
                    "restart_policy": {"condition": "any", "delay": "1s"},
                    "placement": {"constraints": ["node.role == manager"]},
                    "resources": {
                        "limits": {"memory": "200000000"},
                        "reservations": {"memory": "100000000"},
                    },
                },
            },
            "side": {
                "image": "side:1",
                "environment": {},
                "labels": {},
                "networks": {"internal": None},
                "deploy": {"replicas": 3, "endpoint_mode": "dnsrr", "labels": {}},
            },
            "once": {"image": "side:1", "environment": {}, "deploy": {"mode": "replicated-job"}},
        },
        "networks": {"proxy": {"name": "proxy", "external": True}, "internal": {}},
        "volumes": {"acme": {"name": "shared_acme"}},
        "configs": {
            "static": {
                "name": "s_static_1a2b",
                "file": "configs/static",
                "template_driver": "golang",
            },
            "given": {"name": "given", "external": True},
        },
        "secrets": {"token": {"name": "token", "external": True}},
    }


def injected(document: Document | None = None) -> Document:
    return inject(document or recipe(), DEPLOYMENT, service="app", unit=UNIT, askers=ASKERS)


def isolated(document: Document | None = None) -> Document:
    return isolate(document or recipe(), DEPLOYMENT, service="app", stack="s", node=NODE)


CHANGES: dict[str, Callable[[Document], Document]] = {
    "inject": injected,
    "isolate": isolated,
    "locate": lambda document: locate(document, PurePath("/kept")),
    "use_images": lambda document: use_images(document, {"side:1": "sha256:12"}),
}


def touch(value: Document | list[Any] | str | int | bool | None) -> None:  # noqa: FBT001
    """Change all that can be changed, as deep as it goes."""
    if isinstance(value, dict):
        for each in value.values():
            touch(each)
        value["touched"] = True
    elif isinstance(value, list):
        for each in value:
            touch(each)
        value.append("touched")


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_is_given_is_never_changed(change: Callable[[Document], Document]) -> None:
    """Neither by the change, nor later through what came of it."""
    document = recipe()
    made = change(document)
    assert document == recipe()
    assert made != document
    touch(made)
    assert document == recipe()
    assert change(document) == change(recipe())


def test_the_names_that_operators_and_other_programs_read() -> None:
    """They stand in documents, in compose.gate.yml and in what is deployed already."""
    assert (RELEASE_LABEL, DIGEST_LABEL) == ("warm-reconcile.release", "warm-reconcile.digest")
    assert (UNIT_LABEL, PREFLIGHT_LABEL) == ("warm-reconcile.unit", "warm-reconcile.preflight")


# A deployment's own ------------------------------------------------------------------------------


def test_only_the_gated_service_gets_an_identity() -> None:
    """Token and askers as they are, the task for Swarm to expand; what was there stays."""
    services = injected()["services"]
    assert services["app"]["environment"] == {
        "LOG_LEVEL": "$INFO",
        "WARM_RECONCILE_TOKEN": "token-of-this-deployment",
        "WARM_RECONCILE_TASK": "{{.Task.ID}}",
        "WARM_RECONCILE_ASKERS": ASKERS,
    }
    assert not services["side"]["environment"]


def test_a_token_that_a_recipe_sets_is_overridden() -> None:
    """A release can't choose its identity."""
    document = recipe()
    document["services"]["app"]["environment"]["WARM_RECONCILE_TOKEN"] = "stolen"  # noqa: S105
    assert injected(document) == injected()


def test_every_service_is_labelled_with_its_release() -> None:
    """For people; labels that were there stay."""
    ours = {RELEASE_LABEL: "1.0.0+v3.5.1", DIGEST_LABEL: "d" * 64, UNIT_LABEL: UNIT}
    services = injected()["services"]
    assert services["side"]["deploy"]["labels"] == ours
    assert services["once"]["deploy"]["labels"] == ours
    kept = {"traefik.enable": "true", "coop-cloud.s.version": "1"}
    assert services["app"]["deploy"]["labels"] == {**kept, **ours}


def test_nothing_else_is_injected() -> None:
    """But for environment and labels it is the release, word for word."""
    made, document = injected(), recipe()
    for each in (made, document):
        each["services"]["app"].pop("environment")
        for service in each["services"].values():
            service["deploy"].pop("labels", None)
    assert made == document


def test_a_service_that_says_nothing_of_its_deployment_is_labelled() -> None:
    """Nor of its environment."""
    document: Document = {"services": {"app": {"image": "x"}}}
    app = injected(document)["services"]["app"]
    assert app["deploy"]["labels"][UNIT_LABEL] == UNIT
    assert len(app["environment"]) == 3


# A trial -----------------------------------------------------------------------------------------


def test_a_trial_touches_nothing_of_what_serves() -> None:
    """No port, no network, no volume, nothing it can write to, and once only, here."""
    made = isolated()
    assert made["networks"] == {"isolated": {"driver": "overlay", "internal": True}}
    assert "volumes" not in made
    assert set(made["services"]) == {"app", "side"}
    for service in made["services"].values():
        assert "ports" not in service
        assert set(service["networks"]) == {"isolated"}
        assert service["stop_grace_period"] == "1s"
        deploy = service["deploy"]
        assert (deploy["mode"], deploy["replicas"]) == ("replicated", 1)
        assert deploy["restart_policy"] == {"condition": "none"}
        assert deploy["placement"] == {"constraints": [f"node.id=={NODE}"]}
        assert deploy["labels"] == {PREFLIGHT_LABEL: "s", "traefik.enable": "false"}
        assert not {"update_config", "rollback_config", "endpoint_mode"} & set(deploy)


def test_every_mount_of_a_trial_is_there_and_harmless() -> None:
    """A bind can't be written to; a volume is an empty one of its own, at the same place."""
    assert isolated()["services"]["app"]["volumes"] == [
        {
            "type": "bind",
            "source": "/run/docker.sock",
            "target": "/run/docker.sock",
            "read_only": True,
        },
        {"type": "bind", "source": "/etc/x", "target": "/etc/x", "read_only": True},
        {"type": "tmpfs", "target": "/acme"},
        {"type": "tmpfs", "target": "/scratch"},
        {"type": "tmpfs", "target": "/tmp/x"},  # noqa: S108
    ]
    assert isolated()["services"]["side"]["volumes"] == []


def test_the_services_of_a_trial_find_each_other() -> None:
    """By every alias that they had in any network, in the only one that they have now."""
    document = recipe()
    document["services"]["app"]["networks"]["internal"] = {"aliases": ["api", "a"]}
    services = isolated(document)["services"]
    assert services["app"]["networks"] == {"isolated": {"aliases": ["a", "api", "web"]}}
    assert services["side"]["networks"] == {"isolated": None}


def test_a_service_of_a_trial_that_says_nothing_is_confined() -> None:
    """Without networks, without mounts, and without a word about its deployment."""
    bare: Document = {"image": "x"}
    made = isolated({"services": {"app": {"image": "x"}, "bare": bare}})["services"]["bare"]
    assert made["networks"] == {"isolated": None}
    assert made["volumes"] == []
    assert "healthcheck" not in made
    assert made["deploy"] == {
        "mode": "replicated",
        "replicas": 1,
        "labels": {PREFLIGHT_LABEL: "s", "traefik.enable": "false"},
        "restart_policy": {"condition": "none"},
        "placement": {"constraints": [f"node.id=={NODE}"]},
    }


def test_a_trial_is_otherwise_the_release() -> None:
    """Same images, commands, configs, secrets, limits; only this host may ask."""
    app = isolated()["services"]["app"]
    for key in ("image", "command", "configs", "secrets"):
        assert app[key] == recipe()["services"]["app"][key]
    assert app["deploy"]["resources"]["limits"] == {"memory": "200000000"}
    environment = app["environment"]
    assert environment["WARM_RECONCILE_TOKEN"] == DEPLOYMENT.token
    assert environment["WARM_RECONCILE_ASKERS"] == "ClientIP(`127.0.0.0/8`) || ClientIP(`::1`)"
    assert environment["LOG_LEVEL"] == "$INFO"


def test_a_trial_has_configs_of_its_own_with_the_same_content() -> None:
    """Its stack names them, and takes them away with it; one that is given is only read."""
    configs = isolated()["configs"]
    assert configs["static"].pop("name", "") != recipe()["configs"]["static"]["name"]
    assert configs["static"] == {"file": "configs/static", "template_driver": "golang"}
    assert configs["given"] == {"name": "given", "external": True}


def test_the_names_of_a_trials_configs_are_its_own() -> None:
    """Two trials, or two configs of one, never share a name: the first to end would take it."""
    document = recipe()
    document["configs"]["second"] = {"name": "s_second", "file": "configs/second"}
    other = evolve(DEPLOYMENT, token="another-token")  # noqa: S106 - no password
    names = [
        config["name"]
        for deployment in (DEPLOYMENT, other)
        for config in isolate(document, deployment, service="app", stack="s", node=NODE)[
            "configs"
        ].values()
        if not config.get("external")
    ]
    assert len(set(names)) == 4
    assert all(re.fullmatch(r"try-[0-9a-f]{24}", name) for name in names)
    assert isolated()["configs"] == isolated()["configs"]


def test_the_names_of_a_trials_configs_are_short_enough() -> None:
    """Swarm takes 64 characters, of which the name of the trial's stack can be 45."""
    document = recipe()
    document["configs"] = {"traefik_file_provider_yml": document["configs"]["static"]}
    ((key, config),) = isolated(document)["configs"].items()
    assert len(config.get("name") or f"{TRIAL}_{key}") <= LONGEST_NAME


def test_a_trials_containers_have_no_labels_that_are_acted_upon() -> None:
    """Traefik's docker provider, and backups, read those of containers."""
    services = isolated()["services"]
    assert recipe()["services"]["app"]["labels"]
    assert [service.get("labels") for service in services.values()] == [None, None]


def test_a_trial_reserves_nothing() -> None:
    """It runs beside the live stack, which may have reserved the node's last resources."""
    resources = isolated()["services"]["app"]["deploy"]["resources"]
    assert resources == {"limits": {"memory": "200000000"}}


def test_a_trial_has_as_much_time_to_get_healthy_as_the_release() -> None:
    """It is only looked at more often: three failures in 90 s are no three failures in 3 s."""
    check = isolated()["services"]["app"]["healthcheck"]
    assert check == {
        "test": ["CMD", "traefik", "healthcheck"],
        "interval": "1s",
        "start_period": "0s",
        "timeout": "5s",
        "retries": 3600,
    }


def test_a_health_check_of_the_image_stays_its_own() -> None:
    """A missing value is not known, and a disabled check stays disabled."""
    document = recipe()
    document["services"]["app"]["healthcheck"] = {"disable": True}
    services = isolated(document)["services"]
    assert services["app"]["healthcheck"] == {"disable": True}
    assert "healthcheck" not in services["side"]


@pytest.mark.parametrize(
    ("networks", "service", "can"),
    [
        ({}, {}, True),
        ({"proxy": {"external": True, "name": "proxy"}}, {"networks": {"proxy": None}}, True),
        ({"h": {"external": True, "name": "host"}}, {"networks": {"h": None}}, False),
        ({"h": {"external": True, "name": "host"}}, {"networks": {}}, True),
        ({"n": None}, {"networks": {"n": None}}, True),
        ({}, {"network_mode": "host"}, False),
    ],
)
def test_what_is_on_the_hosts_own_network_cannot_be_isolated(
    networks: Document, service: Document, *, can: bool
) -> None:
    """Its ports would be those of what serves."""
    document = {"networks": networks, "services": {"a": {}, "b": service}}
    assert can_be_isolated(document) is can


# The rest ----------------------------------------------------------------------------------------


def test_files_are_named_by_where_they_are() -> None:
    """Only those; what is external has none."""
    configs = locate(recipe(), PurePath("/kept/release"))["configs"]
    assert configs["static"]["file"] == "/kept/release/configs/static"
    assert configs["given"] == recipe()["configs"]["given"]
    assert locate({"services": {}}, PurePath("/kept")) == {"services": {}}


def test_images_are_replaced_where_there_is_another_name_for_them() -> None:
    """All that are named so; one that isn't known stays."""
    made = use_images(recipe(), {"side:1": "sha256:12", "other:1": "sha256:13"})
    assert [service["image"] for service in made["services"].values()] == [
        recipe()["services"]["app"]["image"],
        "sha256:12",
        "sha256:12",
    ]


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=12)


@given(value=words, mode=st.sampled_from(["global", "replicated", "replicated-job", "global-job"]))
def test_anything_can_be_in_a_trial(value: str, mode: str) -> None:
    """Values are passed on as they are, and every job is left out, whichever it is."""
    document = recipe()
    document["services"]["app"]["environment"]["X"] = value
    document["services"]["side"]["deploy"]["mode"] = mode
    made = isolated(copy.deepcopy(document))
    assert made["services"]["app"]["environment"]["X"] == value
    assert ("side" in made["services"]) == (not mode.endswith("-job"))


@pytest.mark.parametrize("change", [injected, isolated], ids=["inject", "isolate"])
def test_docker_takes_it_and_reads_what_was_meant(
    need: Callable[[str], str], tmp_path: Path, change: Callable[[Document], Document]
) -> None:
    """Escaped, it comes back out of Docker's own reader, value for value."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "static").write_text("ping: {}\n")
    document = locate(change(recipe()), tmp_path)
    file = tmp_path / "compose.json"
    file.write_text(json.dumps(escape(document)))
    command = [need("docker"), "stack", "config", "--compose-file", str(file)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    read = yaml.safe_load(done.stdout)
    for key, service in document["services"].items():
        told = read["services"][key]
        for part in ("image", "environment", "networks", "ports", "volumes", "labels"):
            assert (told.get(part) or {}) == (service.get(part) or {}), part
        assert told["deploy"].get("labels", {}) == service["deploy"]["labels"]
        assert told["deploy"].get("mode") == service["deploy"].get("mode")
    assert read["networks"] == document["networks"]
    assert read["configs"] == document["configs"]
