"""A compose document, as ``docker stack config`` renders it, made fit to be kept. Pure.

What is kept needs nothing beside itself: images are pinned, and configs are named by their content,
so that a rollback finds its own even if a newer release changed them without a new name.
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
"""All but ``version``: without it, Docker reads the document in the newest format that it knows.

In the recipe's format our own keys could be errors: ``update_config.order`` is one before 3.4. The
digest of a release would also depend on Docker's version, which fills in the newest format.
"""
_LONGEST_NAME: Final = 64
"""Characters that Swarm takes for the name of a config."""
_HASH_LENGTH: Final = 12


@frozen(kw_only=True)
class Subject:
    """What a document is about."""

    stack: str
    service: str
    """The one that the gate is about, by its key."""
    label: str
    """Of the release."""
    recipe: str | None = None
    """Its name, where it is known."""


def check(document: Document, gated: str) -> None:
    """Refuse what can't be deployed, kept or judged; ``gated`` is the key of a service.

    Raises:
        SourceUnreachableError: the document asks for it.
    """
    for key, secret in _section(document, "secrets").items():
        if not (secret.get("external") or secret.get("driver")):
            raise SourceUnreachableError(
                f"secrets.{key} comes from a file: secrets are not kept with a release",
                hint=f"make it once with `docker secret create`, and {key} external",
            )
    services = _section(document, "services")
    for key, service in services.items():
        if not service.get("image"):
            why = "is to be built, which Swarm can't" if "build" in service else "has no image"
            raise SourceUnreachableError(f"services.{key} {why}: expected image")
    if gated not in services:
        raise SourceUnreachableError(
            f"there is no service {gated}, which the gate is about",
            hint=f"platform.service can be one of: {', '.join(sorted(services)) or 'none'}",
        )
    deploy = _entry(services[gated], "deploy")
    where = f"services.{gated}.deploy"
    if _is_job(deploy):
        raise SourceUnreachableError(
            f"{where}.mode is {deploy['mode']}: the gate is about what keeps running"
        )
    if deploy.get("replicas") == 0:
        raise SourceUnreachableError(f"{where}.replicas is 0: the gate would have nobody to ask")
    _check_ports(services)


def complete(
    document: Document, subject: Subject, *, pins: Mapping[str, str], hashes: Mapping[str, str]
) -> Document:
    """Make of a rendered document, which ``check`` has passed, what is kept and deployed.

    Args:
        document: as rendered; not changed.
        subject: what it is about.
        pins: what every image becomes.
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
    """Name the file of every config that is not external, by its key.

    Raises:
        SourceUnreachableError: a config has none, or a key that can't be a file name.
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
    """Return the document as ``docker stack deploy`` must read it.

    Every ``$`` in every value is doubled, because the command interpolates once more. ``version``
    is left out: documents that were kept by older versions of this program still have the recipe's.
    """
    return {key: _escaped(value) for key, value in document.items() if key != "version"}


def images(document: Document) -> frozenset[str]:
    services = _section(document, "services").values()
    return frozenset(str(service["image"]) for service in services if service.get("image"))


def published(service: Document) -> dict[int, int]:
    """Say which TCP port leads to which port of the container."""
    ports = _ports(service).items()
    return {number: int(port["target"]) for (number, kind), port in ports if kind == "tcp"}


def host_ports(service: Document) -> frozenset[tuple[int, str]]:
    """Name the ports, each with its protocol, that its tasks take on the host itself."""
    return frozenset(at for at, port in _ports(service).items() if port.get("mode") == "host")


def external_networks(document: Document) -> frozenset[str]:
    return _external(document, "networks")


def external_secrets(document: Document) -> frozenset[str]:
    return _external(document, "secrets")


def external_configs(document: Document) -> frozenset[str]:
    return _external(document, CONFIGS)


def _external(document: Document, section: str) -> frozenset[str]:
    """Name what must be there already, as the engine knows it."""
    entries = _section(document, section).items()
    return frozenset(str(each.get("name") or key) for key, each in entries if each.get("external"))


def _section(document: Document, name: str) -> dict[str, Document]:
    return {key: entry or {} for key, entry in _entry(document, name).items()}


def _entry(document: Document, name: str) -> Document:
    """Find what may be missing or null; nothing is as good as nothing in it."""
    return document.get(name) or {}


def _entries(document: Document, name: str) -> list[Document]:
    return document.get(name) or []


def _check_ports(services: Mapping[str, Document]) -> None:
    """No two services can publish one port: Swarm refuses it, but only half way through."""
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
        # Swarm must never go back by itself: it knows nothing of what is proven.
        deploy["update_config"] = {**update, "failure_action": "pause", "order": order}


def _order(service: Document, document: Document, wanted: str | None) -> str:
    """Choose whether a new task starts beside the old one, or only when that has stopped.

    Both at once can't be where each takes a place that there is once. Where they can, the recipe
    decides; if it is silent, what both would write to decides.
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
    """Find what it publishes, by port and protocol; a port that Swarm chooses is not known."""
    return {
        (int(port["published"]), str(port.get("protocol") or "tcp")): port
        for port in _entries(service, "ports")
        if port.get("published")
    }


def _mapping(service: Document, name: str) -> Document:
    """Make ``["A=1", "B"]`` a mapping; one already stays."""
    if not isinstance(service.get(name), list):
        return _entry(service, name)
    pairs = (str(item).partition("=") for item in _entries(service, name))
    return {key: text if equals else None for key, equals, text in pairs}


def _config_name(stack: str, key: str, config: Document, content: str) -> str:
    """Name a config by all of it that Swarm would never change."""
    parts = (key, content, str(config.get("template_driver", "")))
    found = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:_HASH_LENGTH]
    base = str(config.get("name") or f"{stack}_{key}")
    return f"{base[: _LONGEST_NAME - _HASH_LENGTH - 1]}_{found}"


def _escaped(value: Any) -> Any:  # noqa: ANN401 - whatever a document holds
    if isinstance(value, dict):
        entries = cast("Document", value).items()
        return {key: _escaped(entry) for key, entry in entries}
    if isinstance(value, list):
        return [_escaped(entry) for entry in cast("Sequence[Any]", value)]
    return value.replace("$", "$$") if isinstance(value, str) else value
