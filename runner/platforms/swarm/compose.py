"""Checks and completes a compose document that ``docker stack config`` rendered. Pure.

A completed document is self-contained: images are pinned, and configs are named by a hash of their
content, so that a rollback gets its own even if a newer release changed them under the same name.
"""

import copy
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

from attrs import frozen

from runner.reconcile.errors import SourceUnreachableError
from runner.reconcile.field_types import NAME_RULE, is_safe_name

Document: TypeAlias = dict[str, Any]

CONFIGS: Final = "configs"
"""The folder for the content of configs, beside the document."""
_SECTIONS: Final = ("services", "networks", "volumes", "secrets", CONFIGS)
"""All but ``version``: without it, Docker reads the document in the newest format that it supports.

The recipe's format may lack keys that are added here, such as ``update_config.order`` before 3.4.
The digest of a release would also depend on Docker's version, which fills in the newest format.
"""
_LONGEST_NAME: Final = 64
"""Characters that Swarm accepts in the name of a config."""
_HASH_LENGTH: Final = 12


@frozen(kw_only=True)
class RecipeRelease:
    """The names of a release of a recipe, for the labels of its document."""

    stack: str
    service: str
    """The key of the gated service."""
    label: str
    """The label of the release."""
    recipe: str | None = None
    """The name of the recipe, if it is known."""


def check(document: Document, gated: str) -> None:
    """Refuse a document that can't be deployed, stored or gated.

    Args:
        document: as rendered.
        gated: the key of the gated service.

    Raises:
        SourceUnreachableError: it is such a document.
    """
    for key, secret in _section(document, "secrets").items():
        if not (secret.get("external") or secret.get("driver")):
            raise SourceUnreachableError(
                f"secrets.{key} comes from a file: secrets are not kept with a release",
                hint=f"run `docker secret create NAME FILE`, and declare secrets.{key} as external",
            )
    services = _section(document, "services")
    for key, service in services.items():
        if not service.get("image"):
            why = "is to be built, which Swarm can't" if "build" in service else "has no image"
            raise SourceUnreachableError(f"services.{key} {why}: expected the key image")
    if gated not in services:
        raise SourceUnreachableError(
            f"there is no service {gated}, which the gate is to probe",
            hint=f"platform.service can be one of: {', '.join(sorted(services)) or 'none'}",
        )
    deploy = _entry(services[gated], "deploy")
    where = f"services.{gated}.deploy"
    if _is_job(deploy):
        raise SourceUnreachableError(
            f"{where}.mode is {deploy['mode']}: a gated service must keep running"
        )
    if deploy.get("replicas") == 0:
        raise SourceUnreachableError(f"{where}.replicas is 0: there is no task to probe")
    _check_ports(services)


def complete(
    document: Document,
    subject: RecipeRelease,
    *,
    pins: Mapping[str, str],
    hashes: Mapping[str, str],
) -> Document:
    """Make the document that is stored and deployed from a rendered one that ``check`` passed.

    Args:
        document: as rendered; not changed.
        subject: the names for its labels.
        pins: the pinned reference of every image.
        hashes: the SHA-256 of every config file, by the key of the config.
    """
    made: Document = copy.deepcopy({k: v for k, v in document.items() if k in _SECTIONS})
    for key, config in _section(made, CONFIGS).items():
        if not config.get("external"):
            config["name"] = _config_name(subject.stack, key, config, hashes[key])
            config["file"] = f"{CONFIGS}/{key}"
    for service in made["services"].values():
        _settle(service, made, pins)
    abra = {"version": subject.label, "chaos": "false"}
    if subject.recipe is not None:
        abra["recipe"] = subject.recipe
    labels = made["services"][subject.service]["deploy"]["labels"]
    labels.update({f"coop-cloud.{subject.stack}.{key}": value for key, value in abra.items()})
    return made


def config_files(document: Document) -> dict[str, str]:
    """Return the file of every config that is not external, by its key.

    Raises:
        SourceUnreachableError: a config has no file, or its key can't be a file name.
    """
    own = {k: v for k, v in _section(document, CONFIGS).items() if not v.get("external")}
    for key, config in own.items():
        if not is_safe_name(key):
            raise SourceUnreachableError(
                f"configs.{key}: the name is refused; allowed: {NAME_RULE}"
            )
        if "file" not in config:
            raise SourceUnreachableError(f"configs.{key} has neither file nor external")
    return {key: str(config["file"]) for key, config in own.items()}


def escape(document: Document) -> Document:
    """Return the document in the form that ``docker stack deploy`` must read.

    Every ``$`` in every value is doubled, because the command interpolates once more. ``version``
    is left out: documents that older versions of this program stored still have the recipe's.
    """
    return {key: _escaped(value) for key, value in document.items() if key != "version"}


def images(document: Document) -> frozenset[str]:
    services = _section(document, "services").values()
    return frozenset(str(service["image"]) for service in services if service.get("image"))


def published(service: Document) -> dict[int, int]:
    """Map the published TCP ports to those of the container."""
    ports = _ports(service).items()
    return {number: int(port["target"]) for (number, kind), port in ports if kind == "tcp"}


def host_ports(service: Document) -> frozenset[tuple[int, str]]:
    """Return the ports, each with its protocol, that tasks publish on their host (mode: host)."""
    return frozenset(at for at, port in _ports(service).items() if port.get("mode") == "host")


def external_networks(document: Document) -> frozenset[str]:
    return _external(document, "networks")


def external_secrets(document: Document) -> frozenset[str]:
    return _external(document, "secrets")


def external_configs(document: Document) -> frozenset[str]:
    return _external(document, CONFIGS)


def _external(document: Document, section: str) -> frozenset[str]:
    """Return the names of external objects, which must exist in the swarm."""
    entries = _section(document, section).items()
    return frozenset(str(each.get("name") or key) for key, each in entries if each.get("external"))


def _section(document: Document, name: str) -> dict[str, Document]:
    return {key: entry or {} for key, entry in _entry(document, name).items()}


def _entry(document: Document, name: str) -> Document:
    """Return a member that is a mapping; empty if it is missing or null."""
    return document.get(name) or {}


def _entries(document: Document, name: str) -> list[Document]:
    return document.get(name) or []


def _check_ports(services: Mapping[str, Document]) -> None:
    """Refuse a port that two services publish: Swarm would refuse it after half of the deploy."""
    owners: dict[tuple[int, str], str] = {}
    for key, service in services.items():
        for at in _ports(service):
            owner = owners.setdefault(at, key)
            if owner != key:
                raise SourceUnreachableError(
                    f"services.{owner}.ports and services.{key}.ports both publish {at[0]}/{at[1]}"
                )


def _settle(service: Document, document: Document, pins: Mapping[str, str]) -> None:
    service.pop("build", None)
    service["image"] = pins[service["image"]]
    environment = _mapping(service, "environment")
    service["environment"] = {k: v for k, v in environment.items() if v is not None}
    deploy = service["deploy"] = _entry(service, "deploy")
    for labelled in (service, deploy):
        labelled["labels"] = {k: v or "" for k, v in _mapping(labelled, "labels").items()}
    update = _entry(deploy, "update_config")
    for key in ("update_config", "rollback_config"):
        deploy.pop(key, None)
    if not _is_job(deploy):  # Swarm refuses it there
        order = _order(service, document, update.get("order"))
        # Swarm must never roll back by itself: it does not know which releases are proven.
        deploy["update_config"] = {**update, "failure_action": "pause", "order": order}


def _order(service: Document, document: Document, wanted: str | None) -> str:
    """Choose whether a new task starts beside the old one (start-first), or after it (stop-first).

    Stop-first if both can't run on one node, for example for a host port. Otherwise the recipe's
    order; without one, stop-first if they would share a writable mount.
    """
    networks = _section(document, "networks")
    attached = _section(service, "networks")
    if (
        host_ports(service)
        or service.get("network_mode") == "host"
        or any(networks.get(key, {}).get("name", key) == "host" for key in attached)
        or _entry(service["deploy"], "placement").get("max_replicas_per_node")
    ):
        return "stop-first"
    mounts = _entries(service, "volumes")  # one without a source is each task's own
    shared = any(mount.get("source") and not mount.get("read_only") for mount in mounts)
    return wanted or ("stop-first" if shared else "start-first")


def _is_job(deploy: Document) -> bool:
    return str(deploy.get("mode", "")).endswith("-job")


def _ports(service: Document) -> dict[tuple[int, str], Document]:
    """Return the published ports, by number and protocol, without those that Swarm assigns."""
    return {
        (int(port["published"]), str(port.get("protocol") or "tcp")): port
        for port in _entries(service, "ports")
        if port.get("published")
    }


def _mapping(service: Document, name: str) -> Document:
    """Convert a list such as ``["A=1", "B"]`` to a mapping; a mapping is returned unchanged."""
    if not isinstance(service.get(name), list):
        return _entry(service, name)
    pairs = (str(item).partition("=") for item in _entries(service, name))
    return {key: text if equals else None for key, equals, text in pairs}


def _config_name(stack: str, key: str, config: Document, content: str) -> str:
    """Name a config by a hash of its key, content and template driver, which Swarm can't update."""
    parts = (key, content, str(config.get("template_driver", "")))
    found = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:_HASH_LENGTH]
    base = str(config.get("name") or f"{stack}_{key}")
    return f"{base[: _LONGEST_NAME - _HASH_LENGTH - 1]}_{found}"


def _escaped(value: Any) -> Any:  # noqa: ANN401 - any value of a document
    if isinstance(value, dict):
        entries = cast("Document", value).items()
        return {key: _escaped(entry) for key, entry in entries}
    if isinstance(value, list):
        return [_escaped(entry) for entry in cast("Sequence[Any]", value)]
    return value.replace("$", "$$") if isinstance(value, str) else value
