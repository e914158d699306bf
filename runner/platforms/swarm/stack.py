"""Writes stacks to the swarm, and remembers what it wrote.

::

    instances/TOKEN/deployment.json    which deployment, and the hash of each service's spec

The hashes are taken from what the engine holds right after the write; so every later write by
another hand is noticed, even one that leaves labels and images as they were.
"""

import re
import tempfile
import time
from pathlib import Path
from typing import Final

from attrs import frozen

from runner.platforms.swarm.compose import Document
from runner.platforms.swarm.compose_yaml import canonical
from runner.platforms.swarm.docker_cli import Docker, RefusedError
from runner.platforms.swarm.engine_api import Engine
from runner.platforms.swarm.objects import Snapshot, read_node, read_service, read_task
from runner.reconcile.errors import DeployError, EngineUnreachableError, NotPreparedError
from runner.reconcile.model import Deployment
from runner.storage.atomic import prune, put
from runner.storage.codec import record_from_text, record_to_text
from runner.storage.records import Record, Written

RECORD: Final = "deployment.json"
WRITE_TIMEOUT: Final = 30.0
"""Seconds for one ``docker stack`` command; it takes 0.05 s and waits for no task."""
IMAGE_LABEL: Final = "com.docker.stack.image"
"""Where ``docker stack deploy`` notes what it wrote last, to leave another hand's image alone."""
TRIES: Final = 3
"""To write, where somebody else is faster."""
LOST: Final = "update out of sequence"
"""What the engine says to a write that was based on an older version index than it has by now."""


@frozen
class Stacks:
    """The stacks of one engine, and the records of one app."""

    engine: Engine
    docker: Docker
    directory: Path

    def look(self, stack: str) -> Snapshot:
        """Read all that the engine says of a stack.

        Raises:
            EngineUnreachableError: it says nothing.
        """
        services = [read_service(data) for data in self.engine.services(stack)]
        return Snapshot(
            services={service.name: service for service in services},
            tasks=tuple(read_task(data) for data in self.engine.tasks(stack)),
            nodes=tuple(read_node(data) for data in self.engine.nodes()),
            now=time.time(),
        )

    def write(self, stack: str, document: Document, deployment: Deployment, gated: str) -> Record:
        """Make the stack exactly this; say what was written. No task has started yet.

        Args:
            stack: its name.
            document: escaped, with config files named by absolute paths.
            deployment: whose token is in the document.
            gated: the full name of the service that the gate is about.

        Raises:
            DeployError: the engine refuses it.
            NotPreparedError: another hand was faster.
            EngineUnreachableError: the engine can't be told.
        """
        began = time.time()
        self._deploy(stack, document)
        snapshot = self.look(stack)
        service = snapshot.services.get(gated)
        if service is None or service.token != deployment.token:
            raise NotPreparedError(
                f"stack {stack} was written, but {gated} holds something else",
                hint="somebody else deploys this stack, too; `docker stack services` tells",
            )
        specs: dict[str, str] = {}
        for key, wanted in document["services"].items():
            found = snapshot.services.get(f"{stack}_{key}")
            if found is None or found.image != wanted["image"]:
                raise NotPreparedError(
                    f"stack {stack} was written, but {stack}_{key}"
                    f" {'is gone' if found is None else f'has the image {found.image}'}"
                )
            specs[found.name] = found.spec
        return Record(deployment, Written(began, gated, specs))

    def remove(self, stack: str) -> None:
        """Take a stack away; without a word if that can't be done: who cleans up finds it again."""
        try:
            self.docker.run("stack", "rm", stack, timeout=WRITE_TIMEOUT)
        except (RefusedError, EngineUnreachableError):
            return

    def remember(self, record: Record) -> None:
        """Keep a record durably.

        Raises:
            NotPreparedError: it can't be written.
        """
        try:
            self.directory.mkdir(mode=0o700, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.directory, prefix=".new-") as scratch:
                draft = Path(scratch) / "entry"
                draft.mkdir()
                (draft / RECORD).write_text(record_to_text(record))
                put(draft, self.directory / record.deployment.token)
        except OSError as error:
            raise NotPreparedError(
                f"the deployment can't be recorded: {error.strerror or error}"
            ) from error

    def read(self, token: str) -> Record | None:
        """Read what was recorded under a token; None if there is nothing whole."""
        if re.fullmatch(r"[\w-]+", token) is None:
            return None
        try:
            text = (self.directory / token / RECORD).read_text()
        except (OSError, ValueError):
            return None
        record = record_from_text(text, Record)
        return record if record is not None and record.deployment.token == token else None

    def prune(self, tokens: frozenset[str], digests: frozenset[str]) -> None:
        """Drop all records but those of these deployments, and those of these releases."""
        there = [entry.name for entry in self.directory.glob("*")]
        records = {token: self.read(token) for token in there}
        wanted = {
            token
            for token, record in records.items()
            if record is not None and record.deployment.release.digest in digests
        }
        prune(self.directory, tokens | wanted)

    def _forget_images(self, stack: str) -> None:
        """Make ``docker stack deploy`` write every image.

        It keeps a service's image if the one in the compose file is the one it wrote last: what
        another hand put in between would stay, and be gated and committed as ours.
        """
        for data in self.engine.services(stack):
            spec = data["Spec"]
            wrote = spec["Labels"].get(IMAGE_LABEL)
            if wrote not in {None, spec["TaskTemplate"]["ContainerSpec"]["Image"]}:
                options = ("--detach", "--no-resolve-image", "--label-rm", IMAGE_LABEL)
                self._write("service", "update", *options, spec["Name"])

    def _deploy(self, stack: str, document: Document) -> None:
        self._forget_images(stack)
        with tempfile.TemporaryDirectory(prefix="warm-reconcile-") as scratch:
            file = Path(scratch) / "compose.json"
            file.write_text(canonical(document), "utf-8")
            options = ("--prune", "--resolve-image=never", "--with-registry-auth")
            self._write("stack", "deploy", f"--compose-file={file}", *options, stack)

    def _write(self, *arguments: str) -> None:
        """Write what is absolute, and so may be written again.

        Swarm's own notes on a service raise its version index, too, between reading and writing.
        """
        for left in reversed(range(TRIES)):
            try:
                self.docker.run(*arguments, timeout=WRITE_TIMEOUT)
            except RefusedError as error:
                is_lost = LOST in error.message
                if is_lost and left:
                    continue
                if is_lost:
                    message = f"another hand writes at the same time: {error.message}"
                    raise NotPreparedError(message) from error
                raise DeployError(error.message) from error
            return
