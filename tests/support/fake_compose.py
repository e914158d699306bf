"""A fake of ``docker stack deploy`` and ``docker stack config`` for compose documents.

Documents are in the long form only, which is what the product writes; whatever else a document has
is an ``UnknownError``, which fails the test.
"""

import base64
import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

from attrs import frozen
from fake_swarm import NAMESPACE, FakeSwarm, Json, RefusalError, part

IMAGE_LABEL: Final = "com.docker.stack.image"
_UNITS: Final = {"ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_DURATION: Final = re.compile(r"(\d+)(ms|s|m|h)")
_VARIABLE: Final = re.compile(r"\$(?:(?P<escaped>\$)|(?P<plain>\w+)|\{(?P<braced>\w+)\}|(?P<odd>))")
READABLE: Final = 0o444
SERVICE_KEYS: Final = frozenset(
    {"image", "command", "environment", "labels", "networks", "ports", "volumes", "configs"}
    | {"secrets", "healthcheck", "stop_grace_period", "deploy"}
)
DEPLOY_KEYS: Final = frozenset(
    {"mode", "replicas", "labels", "update_config", "restart_policy", "placement", "resources"}
    | {"endpoint_mode"}
)


class UnknownError(Exception):
    """Input that the fake does not implement: extend the fake, or fix the product."""


def interpolate(value: Any, variables: Mapping[str, str]) -> Any:  # noqa: ANN401 - of a document
    """Replace ``$$`` and the variables in every value, as Docker does when it reads a file."""
    if isinstance(value, dict):
        members = cast("Json", value).items()
        return {key: interpolate(each, variables) for key, each in members}
    if isinstance(value, list):
        return [interpolate(each, variables) for each in cast("list[object]", value)]
    if not isinstance(value, str):
        return value

    def replace(found: re.Match[str]) -> str:
        name = found["plain"] or found["braced"]
        if found["escaped"]:
            return "$"
        if name not in variables:
            raise UnknownError(f"a variable that is not set: {value}")
        return variables[name]

    return _VARIABLE.sub(replace, value)


def merge(base: object, more: object) -> Any:  # noqa: ANN401 - of a document
    """Merge two documents: objects only, other values that both have must be equal."""
    if not all(isinstance(each, dict) for each in (base, more)):
        return _require_same(base, more)
    first, second = cast("Json", base), cast("Json", more)
    return {
        key: merge(first[key], second[key]) if key in first and key in second else each
        for key, each in {**first, **second}.items()
    }


def _require_same(base: object, more: object) -> object:
    if base != more:
        raise UnknownError(f"both files say something else: {base} and {more}")
    return base


@frozen
class Stack:
    """The deployment of one document to a swarm."""

    swarm: FakeSwarm
    name: str
    document: Json

    def deploy(self, *, prune: bool) -> None:
        """Do what ``docker stack deploy --resolve-image=never`` does, in its order."""
        services: Json = self.document["services"]
        self._make_networks(services)
        self._make_configs()
        there = self.swarm.services
        theirs = {n for n, s in there.items() if s["Spec"]["Labels"].get(NAMESPACE) == self.name}
        if prune:
            for name in sorted(theirs - {f"{self.name}_{key}" for key in services}):
                self.swarm.remove_service(name)
        for key, service in services.items():
            self._write(f"{self.name}_{key}", self._spec(key, service))

    def _write(self, name: str, spec: Json) -> None:
        now = self.swarm.services.get(name)
        version = None if now is None else now["Version"]["Index"]
        if now is not None:
            image = spec["Labels"][IMAGE_LABEL]
            if image == now["Spec"]["Labels"].get(IMAGE_LABEL):
                container = spec["TaskTemplate"]["ContainerSpec"]
                container["Image"] = now["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"]
            spec["TaskTemplate"]["ForceUpdate"] = now["Spec"]["TaskTemplate"]["ForceUpdate"]
        self.swarm.before_write()
        try:
            self.swarm.put_service(spec, version=version)
        except RefusalError as error:
            verb = "create" if now is None else "update"
            told = f"failed to {verb} service {name}: Error response from daemon: {error}"
            raise RefusalError(told) from error

    def _make_networks(self, services: Json) -> None:
        networks: Json = dict(part(self.document, "networks"))
        if any(not service.get("networks") for service in services.values()):
            networks["default"] = {}
        for key in networks:
            name = self._network(key)
            if part(networks, key).get("external"):
                if name not in self.swarm.networks:
                    raise RefusalError(
                        f'network "{name}" is declared as external, but could not be found. You'
                        " need to create a swarm-scoped network before the stack is deployed"
                    )
            elif name not in self.swarm.networks:
                internal = bool(part(networks, key).get("internal"))
                self.swarm.put_network(name, Labels={NAMESPACE: self.name}, Internal=internal)

    def _make_configs(self) -> None:
        configs = part(self.document, "configs")
        for key in configs:
            config = part(configs, key)
            if config.get("external"):
                continue
            data = base64.b64encode(Path(config["file"]).read_bytes()).decode()
            spec: Json = {"Name": self._config(key), "Labels": {NAMESPACE: self.name}, "Data": data}
            if "template_driver" in config:
                spec["Templating"] = {"Name": config["template_driver"]}
            try:
                self.swarm.put_config(spec)
            except RefusalError as error:
                told = (
                    f"failed to update config {spec['Name']}: Error response from daemon: {error}"
                )
                raise RefusalError(told) from error

    def _network(self, key: str) -> str:
        declared = part(part(self.document, "networks"), key)
        return str(declared.get("name") or f"{self.name}_{key}")

    def _config(self, key: str) -> str:
        if key not in part(self.document, "configs"):
            raise RefusalError(f'undefined config "{key}"')
        return str(self.document["configs"][key].get("name") or f"{self.name}_{key}")

    def _spec(self, key: str, service: Json) -> Json:
        deploy: Json = service.get("deploy") or {}
        _refuse_unknown(service, SERVICE_KEYS)
        _refuse_unknown(deploy, DEPLOY_KEYS)
        labels = {IMAGE_LABEL: service["image"], NAMESPACE: self.name}
        spec: Json = {
            "Name": f"{self.name}_{key}",
            "Labels": {**(deploy.get("labels") or {}), **labels},
            "TaskTemplate": {
                "ContainerSpec": self._container(service),
                "Resources": _resources(deploy.get("resources") or {}),
                "Placement": _placement(deploy.get("placement") or {}),
                "Networks": self._attachments(key, service),
                "ForceUpdate": 0,
                "Runtime": "container",
            },
            "Mode": _mode(deploy),
            "EndpointSpec": {"Mode": deploy.get("endpoint_mode", "vip")},
        }
        if "restart_policy" in deploy:
            spec["TaskTemplate"]["RestartPolicy"] = _restart(deploy["restart_policy"])
        if "update_config" in deploy:
            spec["UpdateConfig"] = _update(deploy["update_config"])
        if service.get("ports"):
            spec["EndpointSpec"]["Ports"] = [_port(port) for port in service["ports"]]
        return spec

    def _container(self, service: Json) -> Json:
        environment: Json = service.get("environment") or {}
        made: Json = {
            "Image": service["image"],
            "Labels": {**(service.get("labels") or {}), NAMESPACE: self.name},
            "Privileges": {"CredentialSpec": None, "SELinuxContext": None},
            "Isolation": "default",
        }
        if service.get("command"):
            made["Args"] = service["command"]
        if environment:
            made["Env"] = sorted(f"{name}={value}" for name, value in environment.items())
        if service.get("volumes"):
            made["Mounts"] = [self._mount(volume) for volume in service["volumes"]]
        if "stop_grace_period" in service:
            made["StopGracePeriod"] = _nanoseconds(service["stop_grace_period"])
        if "healthcheck" in service:
            made["Healthcheck"] = _health(service["healthcheck"])
        if service.get("configs"):
            made["Configs"] = [self._reference("Config", each) for each in service["configs"]]
        if service.get("secrets"):
            made["Secrets"] = [self._reference("Secret", each) for each in service["secrets"]]
        return made

    def _reference(self, kind: str, entry: Json) -> Json:
        key = entry["source"]
        if kind == "Config":
            name, there = self._config(key), self.swarm.configs
        else:
            name, there = self.document["secrets"][key].get("name") or key, self.swarm.secrets
        if name not in there:
            raise RefusalError(f"{kind.lower()} not found: {name}")
        default = f"/{key}" if kind == "Config" else key
        file = {"Name": entry.get("target", default), "UID": "0", "GID": "0", "Mode": READABLE}
        return {"File": file, f"{kind}ID": there[name]["ID"], f"{kind}Name": name}

    def _mount(self, volume: Json) -> Json:
        made: Json = {"Type": volume["type"], "Target": volume["target"]}
        if volume.get("read_only"):
            made["ReadOnly"] = True
        if volume["type"] == "volume":
            if "source" in volume:
                declared = part(part(self.document, "volumes"), volume["source"])
                made["Source"] = declared.get("name") or f"{self.name}_{volume['source']}"
                made["VolumeOptions"] = {"Labels": {NAMESPACE: self.name}}
        elif "source" in volume:
            made["Source"] = volume["source"]
        return made

    def _attachments(self, key: str, service: Json) -> list[Json]:
        attached: Json = service.get("networks") or {"default": None}
        made: list[Json] = []
        for network in attached:
            aliases: list[str] = part(attached, network).get("aliases") or []
            target = self.swarm.networks[self._network(network)]["Id"]
            made.append({"Target": target, "Aliases": [*aliases, key]})
        return sorted(made, key=lambda each: str(each["Target"]))


def relabel(spec: Json, label: str) -> Json:
    """Remove a label of a service, as ``docker service update --label-rm`` does."""
    made = copy.deepcopy(spec)
    made["Labels"].pop(label, None)
    return made


def _refuse_unknown(entry: Json, known: frozenset[str]) -> None:
    if unknown := entry.keys() - known:
        raise UnknownError(f"keys of a compose document: {', '.join(sorted(unknown))}")


def _nanoseconds(text: str) -> int:
    if _DURATION.sub("", text):
        raise UnknownError(f"a duration: {text}")
    return sum(int(number) * _UNITS[unit] for number, unit in _DURATION.findall(text))


def _health(check: Json) -> Json:
    known = {"test": "Test", "retries": "Retries"}
    times = {"interval": "Interval", "timeout": "Timeout", "start_period": "StartPeriod"}
    _refuse_unknown(check, frozenset({*known, *times}))
    found = {name: check[key] for key, name in known.items() if key in check}
    return found | {name: _nanoseconds(check[key]) for key, name in times.items() if key in check}


def _resources(resources: Json) -> Json:
    _refuse_unknown(resources, frozenset({"limits", "reservations"}))
    return {
        key.capitalize(): {"MemoryBytes": int(each["memory"])} for key, each in resources.items()
    }


def _placement(placement: Json) -> Json:
    _refuse_unknown(placement, frozenset({"constraints"}))
    return {"Constraints": placement["constraints"]} if "constraints" in placement else {}


def _restart(policy: Json) -> Json:
    _refuse_unknown(policy, frozenset({"condition", "delay"}))
    made: Json = {"Condition": policy["condition"], "MaxAttempts": 0}
    return made | ({"Delay": _nanoseconds(policy["delay"])} if "delay" in policy else {})


def _update(config: Json) -> Json:
    _refuse_unknown(config, frozenset({"order", "failure_action", "parallelism"}))
    return {
        "Parallelism": config.get("parallelism", 1),
        "FailureAction": config["failure_action"],
        "MaxFailureRatio": 0,
        "Order": config["order"],
    }


def _mode(deploy: Json) -> Json:
    match deploy.get("mode", "replicated"):
        case "replicated":
            return {"Replicated": {"Replicas": deploy.get("replicas", 1)}}
        case "global":
            return {"Global": {}}
        case "replicated-job":
            return {"ReplicatedJob": {"MaxConcurrent": 1, "TotalCompletions": 1}}
        case mode:
            raise UnknownError(f"a mode: {mode}")


def _port(port: Json) -> Json:
    return {
        "Protocol": port.get("protocol", "tcp"),
        "TargetPort": int(port["target"]),
        "PublishedPort": int(port["published"]),
        "PublishMode": port["mode"],
    }
