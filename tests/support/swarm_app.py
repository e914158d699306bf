"""An app on the fake dockerd: its releases, its config, and a fake Traefik."""

import contextlib
import json
import socket
from collections.abc import Generator
from pathlib import Path
from typing import Final

import yaml
from attrs import define, evolve, field
from fake_docker import FakeDocker
from fake_swarm import FakeSwarm, Json, variables_of
from safe_probes import CALLER, proven
from servers import ThreadedServer, read_request
from typing_extensions import override

from runner.config.app import AppConfig, DirectorySource, SwarmPlatformConfig
from runner.platforms.build import BuiltPlatform, make_platform
from runner.platforms.swarm.engine_api import Engine
from runner.platforms.swarm.objects import TOKEN_VARIABLE
from runner.platforms.swarm.platform import SwarmPlatform
from runner.platforms.swarm.stack_document import TASK_VARIABLE
from runner.reconcile.model import Deployment, Release
from runner.reconcile.probes import Identity, Probe
from runner.storage.paths import StateDir

IDENTITY: Final = "/.warm-reconcile/identity"
STACK: Final = "s"
GATED: Final = "s_app"
AMPLE: Final = 60.0
"""Seconds; no response takes as long."""


class FakeTraefik(ThreadedServer):
    """Answers at a port of this host as the newest running task of a service."""

    def __init__(self, swarm: FakeSwarm, service: str = GATED) -> None:
        self._swarm = swarm
        self._service = service
        self.asked: list[str] = []
        self.is_silent = False
        listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = listener.getsockname()[1]
        super().__init__(listener)

    @override
    def serve(self, connection: socket.socket) -> None:
        request = read_request(connection)
        if not request:
            return  # it was given up before it was asked
        self.asked.append(request.split(b" ")[1].decode())
        running = (
            self._swarm.running(self._service) if self._service in self._swarm.services else []
        )
        if self.is_silent or not running:
            return  # as a port without a listener
        spec = running[-1]["Spec"]["ContainerSpec"]
        variables = variables_of(spec)
        version = spec["Image"].partition("@")[0].rpartition(":v")[2]
        body = json.dumps({"Version": version})
        connection.sendall(
            f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
            f"X-Warm-Reconcile-Token: {variables.get(TOKEN_VARIABLE, '')}\r\n"
            f"X-Warm-Reconcile-Task: {running[-1]['ID']}\r\n\r\n{body}".encode()
        )
        assert variables.get(TASK_VARIABLE, "{{.Task.ID}}") == "{{.Task.ID}}"


@define
class SwarmApp:
    """One app; its stack is ``s``, its gated service ``app``."""

    docker: FakeDocker
    traefik: FakeTraefik
    home: Path
    config: AppConfig = field(init=False)

    def __attrs_post_init__(self) -> None:
        # The first probe loads the HTTP client, for which a slow machine needs its time.
        Engine(str(self.docker.path), AMPLE).info()
        (self.home / "source").mkdir(parents=True)
        (self.home / "overlay").mkdir()
        self.write_overlay({"services": {"app": {"deploy": {"labels": {"gate": "yes"}}}}})
        self.config = AppConfig(
            state_dir=str(self.home / "state"),
            caller=CALLER,
            source=DirectorySource(path=str(self.home / "source")),
            probes=(self.identity,),
            platform=SwarmPlatformConfig(
                stack=STACK,
                socket=str(self.docker.path),
                overlay=str(self.home / "overlay"),
                preflight=0.0,
            ),
        )

    @property
    def identity(self) -> Identity:
        return Identity(target_unit=CALLER, url=f"http://127.0.0.1:{self.traefik.port}{IDENTITY}")

    def write_overlay(self, document: Json) -> None:
        (self.home / "overlay" / "compose.gate.yml").write_text(yaml.safe_dump(document))

    def release(self, label: str, *, pulled: bool = True, **sections: Json) -> None:
        """Offer a release; its image is in Docker, under its tag and its digest.

        Args:
            label: such as ``1.0.0+v3.5.1``.
            pulled: the image came from a registry.
            sections: of the compose file, laid over the usual ones.
        """
        version = label.rpartition("+")[2]
        image = f"traefik:{version}"
        digest = f"sha256:{version.encode().hex():0>64}"
        if image not in self.docker.swarm.images and pulled:
            self.docker.swarm.add_image(image, f"{image}@{digest}", digests=(f"traefik@{digest}",))
        elif image not in self.docker.swarm.images:
            self.docker.swarm.add_image(image)
        app = {
            "image": image,
            "networks": {"proxy": None},
            "ports": [{"mode": "host", "target": 80, "published": self.traefik.port}],
            "configs": [{"source": "static", "target": "/etc/traefik/traefik.yml"}],
            "deploy": {"labels": {"of": label}},
        }
        document: Json = {
            "version": "3.8",
            "services": {"app": app},
            "networks": {"proxy": {"external": True, "name": "proxy"}},
            "configs": {"static": {"file": "traefik.yml"}},
        }
        for name, section in sections.items():
            document[name] = {**document.get(name, {}), **section}
        place = self.home / "source" / label
        place.mkdir()
        (place / "traefik.yml").write_text(f"# {label}\n")
        (place / "compose.yml").write_text(yaml.safe_dump(document))

    def configure(self, *probes: Probe, **platform: object) -> None:
        """Change the probes of the gate, or the options of the platform."""
        if probes:
            self.config = evolve(self.config, probes=probes)
        assert isinstance(self.config.platform, SwarmPlatformConfig)
        changed = evolve(self.config.platform, **platform)  # type: ignore[arg-type]
        self.config = evolve(self.config, platform=changed)

    @contextlib.contextmanager
    def wired(self, state: StateDir) -> Generator[BuiltPlatform]:
        """Wire it as a run does."""
        probes = tuple(proven(probe) for probe in self.config.probes)
        with make_platform(self.config, state, probes) as wired:
            yield wired

    @contextlib.contextmanager
    def platform(self, state: StateDir) -> Generator[SwarmPlatform]:
        with self.wired(state) as wired:
            assert isinstance(wired.platform, SwarmPlatform)
            yield wired.platform


def latest(platform: SwarmPlatform, token: str = "token-1") -> Deployment:  # noqa: S107 - no password
    """Store the newest release, and make a deployment of it."""
    release = platform.latest()
    assert isinstance(release, Release), release
    return Deployment(release, token)
