"""A fake dockerd for tests: its API on a socket, and a ``docker`` command that connects to it.

Both are as strict as they are small: a request or a command that they don't know is noted in
``unknown``, and ``running_docker`` fails the test that made it.
"""

import contextlib
import json
import os
import re
import shlex
import socket
import sys
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import yaml
from attrs import define, field
from fake_compose import Stack, UnknownError, interpolate, merge, relabel
from fake_swarm import FakeSwarm, Json, RefusalError, part
from servers import ThreadedServer, read_request
from typing_extensions import override

NOTE: Final = (
    "Since --detach=false was not specified, tasks will be created in the background.\n"
    "In a future release, --detach=false will become the default.\n"
)
COMMAND: Final = """
import json, os, socket, sys
address = os.environ["DOCKER_HOST"].removeprefix("unix://")
with socket.socket(socket.AF_UNIX) as server:
    try:
        server.connect(address + ".command")
        server.sendall(json.dumps([sys.argv[1:], dict(os.environ)]).encode() + b"\\r\\n\\r\\n")
        status, out, err = json.load(server.makefile("rb"))
    except (OSError, ValueError):
        status, out = 1, ""
        err = f"Cannot connect to the Docker daemon at unix://{address}. Is it running?\\n"
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(status)
"""
"""The ``docker`` command: it forwards its arguments, and prints the response."""


def _listen(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    return listener


class _Server(ThreadedServer):
    """Answers each connection once."""

    def __init__(self, path: str, answer: Callable[[bytes], bytes]) -> None:
        self._answer = answer
        super().__init__(_listen(path))

    @override
    def serve(self, connection: socket.socket) -> None:
        connection.sendall(self._answer(read_request(connection)))


@define
class FakeDocker:
    """The fake dockerd on one socket."""

    path: Path
    swarm: FakeSwarm = field(factory=FakeSwarm)
    unknown: list[str] = field(factory=list[str])
    """Requests that the fake does not implement."""
    requests: list[str] = field(factory=list[str])
    """The requests to the API, in order."""
    commands: list[list[str]] = field(factory=list[list[str]])
    """The arguments of each call of the command, in order."""
    failing: dict[str, str] = field(factory=dict[str, str])
    """Error messages to return, by the path of a request or the verb of a command."""
    slow: Callable[[str], None] = field(default=lambda _: None)
    """Called with each path or verb before the response."""
    _servers: list[_Server] = field(factory=list[_Server])

    def start(self) -> None:
        self._servers = [
            _Server(str(self.path), self._serve_api),
            _Server(f"{self.path}.command", self._serve_command),
        ]

    def stop(self) -> None:
        for server in self._servers:
            server.close()
        for name in (str(self.path), f"{self.path}.command"):
            Path(name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def lost(self) -> Generator[None]:
        """Be gone for a while, as a ``dockerd`` that is restarted."""
        self.stop()
        yield
        self.start()

    # The API --------------------------------------------------------------------------------------

    def _serve_api(self, request: bytes) -> bytes:
        method, _, rest = request.decode().partition(" ")
        target = urlsplit(rest.partition(" ")[0])
        path = unquote(target.path)
        self.requests.append(unquote(rest.partition(" ")[0]))
        self.slow(path)
        status, body = 200, b""
        try:
            self._refuse_failing(path)
            answer = self._answer(method, path, dict(parse_qsl(target.query)))
            body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        except RefusalError as error:
            status, body = error.status, json.dumps({"message": str(error)}).encode()
        except UnknownError as error:
            self.unknown.append(str(error))
            status, body = 501, json.dumps({"message": f"unknown: {error}"}).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        return head.encode() + body

    def _refuse_failing(self, what: str) -> None:
        if what in self.failing:
            raise RefusalError(self.failing[what])

    def _answer(self, method: str, path: str, query: dict[str, str]) -> object:
        swarm = self.swarm
        if method != "GET":
            raise UnknownError(f"{method} {path}")
        filters = json.loads(query.pop("filters", "{}"))
        lists: dict[str, Callable[[], list[Json]]] = {
            "/services": lambda: self._services(filters, with_status=bool(query.pop("status", ""))),
            "/tasks": lambda: [t for t in swarm.tasks if _matches(swarm.labels_of(t), filters)],
            "/configs": lambda: [
                c for c in swarm.configs.values() if _matches(c["Spec"]["Labels"], filters)
            ],
            "/nodes": lambda: swarm.nodes,
            "/containers/json": lambda: list(swarm.listed.values()),
            "/networks": lambda: [
                n for n in swarm.networks.values() if [n["Driver"]] == filters.pop("driver", None)
            ],
        }
        if path in lists:
            found = lists[path]()
            filters.pop("label", None)
            _refuse(path, filters, query)
            return found
        if path == "/info":
            _refuse(path, filters, query)
            return swarm.info
        return self._find(path, query)

    def _services(self, filters: Json, *, with_status: bool) -> list[Json]:
        found = [s for s in self.swarm.services.values() if _matches(s["Spec"]["Labels"], filters)]
        if not with_status:
            return found
        return [{**s, "ServiceStatus": self.swarm.status_of(s)} for s in found]

    def _find(self, path: str, query: dict[str, str]) -> object:
        swarm = self.swarm
        if match := re.fullmatch(r"/containers/(\w+)/logs", path):
            if query != {"stdout": "1", "stderr": "1", "tail": "5"}:
                raise UnknownError(f"{path} {query}")
            return self._object("No such container: ", match[1], swarm.logs)
        by_id = {network["Id"]: network for network in swarm.networks.values()}
        kinds: dict[str, tuple[str, dict[str, Json]]] = {
            r"/configs/(.+)": ("config {} not found", swarm.configs),
            r"/secrets/(.+)": ("secret {} not found", swarm.secrets),
            r"/networks/(.+)": ("network {} not found", by_id | swarm.networks),
            r"/images/(.+)/json": ("No such image: {}", swarm.images),
            r"/containers/(.+)/json": ("No such container: {}", swarm.containers),
            r"/distribution/(.+)/json": (
                "{}: not found in the registry",
                {name: {"Descriptor": {"digest": d}} for name, d in swarm.registry.items()},
            ),
        }
        for pattern, (complaint, objects) in kinds.items():
            if match := re.fullmatch(pattern, path):
                _refuse(path, query)
                return self._object(complaint, match[1], objects)
        raise UnknownError(f"GET {path}")

    def _object(self, complaint: str, name: str, objects: dict[str, Any]) -> object:
        if name not in objects:
            raise RefusalError(complaint.format(name), 404)
        return objects[name]

    # The command ----------------------------------------------------------------------------------

    def _serve_command(self, request: bytes) -> bytes:
        arguments, environment = json.loads(request)
        self.commands.append(arguments)
        verb = " ".join(arguments[:2])
        self.slow(verb)
        status, out, err = 0, "", NOTE if verb == "stack deploy" else ""
        try:
            self._refuse_failing(verb)
            out, said = self._run(verb, arguments[2:], environment)
            err += said
        except RefusalError as error:
            status, err = 1, f"{err}{error}\n"
        except UnknownError as error:
            self.unknown.append(f"docker {shlex.join(arguments)}: {error}")
            status, err = 125, f"unknown: {error}\n"
        return json.dumps([status, out, err]).encode()

    def _run(self, verb: str, arguments: list[str], environment: dict[str, str]) -> tuple[str, str]:
        """Run a command; return its stdout and stderr."""
        match (verb, arguments):
            case ("stack deploy", [file, "--prune", "--resolve-image=never", auth, name]) if (
                auth == "--with-registry-auth"
            ):
                Stack(self.swarm, name, _read([file], environment)).deploy(prune=True)
            case ("stack config", files):
                return json.dumps(_read(files, environment)), ""
            case ("stack rm", [name]):
                return "", self._remove_stack(name)
            case ("service update", ["--detach", "--no-resolve-image", "--label-rm", label, name]):
                self._remove_label(name, label)
            case ("config rm", [name]):
                _from_daemon(lambda: self.swarm.remove_config(name))
            case ("network create", ["--driver=bridge", *_, name]):
                self._create_bridge(name)
            case _:
                self._run_image(verb, arguments)
        return "", ""

    def _run_image(self, verb: str, arguments: list[str]) -> None:
        match (verb, arguments):
            case ("image tag", [source, target]):
                self.swarm.images[target] = self.swarm.images[source]
            case ("image pull", ["--quiet", reference]):
                self._pull(reference)
            case ("image save", ["--output", file, identity]):
                Path(file).write_text(str(self.swarm.images[identity]["Id"]))
            case ("image load", ["--quiet", "--input", file]):
                self._load(Path(file).read_text())
            case _:
                raise UnknownError("no such command")

    def _remove_stack(self, name: str) -> str:
        swarm, label = self.swarm, {"label": [f"com.docker.stack.namespace={name}"]}
        services = self._services(label, with_status=False)
        for service in services:
            swarm.remove_service(service["Spec"]["Name"])
        for objects in (swarm.configs, swarm.secrets):
            for key in [k for k, o in objects.items() if _matches(o["Spec"]["Labels"], label)]:
                del objects[key]
        for key in [k for k, n in swarm.networks.items() if _matches(n["Labels"] or {}, label)]:
            del swarm.networks[key]
        return "" if services else f"Nothing found in stack: {name}\n"

    def _remove_label(self, name: str, label: str) -> None:
        if name not in self.swarm.services:
            raise RefusalError(f"Error response from daemon: service {name} not found")
        service = self.swarm.services[name]
        version = service["Version"]["Index"]
        spec = relabel(service["Spec"], label)
        self.swarm.before_write()
        _from_daemon(lambda: self.swarm.put_service(spec, version=version))

    def _create_bridge(self, name: str) -> None:
        if name in self.swarm.networks:
            raise RefusalError(
                f"Error response from daemon: network with name {name} already exists"
            )
        self.swarm.put_network(name, "bridge network")

    def _pull(self, reference: str) -> None:
        name, _, digest = reference.partition("@")
        if self.swarm.registry.get(name) != digest:
            raise RefusalError(f"Error response from daemon: manifest for {reference} not found")
        self.swarm.add_image(reference, digests=(f"{name.rpartition(':')[0]}@{digest}",))

    def _load(self, identity: str) -> None:
        image: Json = {"Id": identity, "RepoDigests": [], "RepoTags": []}
        self.swarm.images.setdefault(identity, image)


def _from_daemon(do: Callable[[], None]) -> None:
    try:
        do()
    except RefusalError as error:
        raise RefusalError(f"Error response from daemon: {error}") from error


def _matches(labels: Any, filters: Json) -> bool:  # noqa: ANN401 - of any object
    pairs = [each.partition("=") for each in filters.get("label") or ()]
    return all(labels.get(key) == value for key, _, value in pairs)


def _refuse(path: str, *rest: Json) -> None:
    """Refuse parameters that were not used."""
    if any(rest):
        raise UnknownError(f"parameters of {path}: {rest}")


def _read(options: Sequence[str], environment: dict[str, str]) -> Json:
    """Read the compose files of ``--compose-file=`` options, one laid over the other."""
    whole: Json = {}
    for option in options:
        name, _, file = option.partition("=")
        if name != "--compose-file":
            raise UnknownError(option)
        try:
            text = Path(file).read_text("utf-8")
        except OSError as error:
            raise RefusalError(f"open {file}: {str(error.strerror).lower()}") from error
        document: Json = interpolate(yaml.safe_load(text), environment)
        configs = part(document, "configs")
        for key in configs:
            config = part(configs, key)
            if "file" in config:
                config["file"] = os.path.join(os.path.dirname(file), config["file"])  # noqa: PTH118, PTH120 - links stay
        whole = merge(whole, document)
    return whole


@contextlib.contextmanager
def running_docker(directory: Path) -> Generator[FakeDocker]:
    """Run a fake dockerd meanwhile; its command is ``bin/docker`` below the directory."""
    program = directory / "bin" / "docker"
    program.parent.mkdir()
    (program.parent / "docker.py").write_text(COMMAND)
    python = shlex.quote(sys.executable)
    program.write_text(f'#!/bin/sh\nexec {python} -IS "$0.py" "$@"\n')
    program.chmod(0o755)
    docker = FakeDocker(directory / "docker.sock")
    docker.start()
    try:
        yield docker
    finally:
        docker.stop()
    assert docker.unknown == [], "the fake Docker was asked what it doesn't know"
