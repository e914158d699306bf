"""Deploys stacks to the swarm, and records what was written, to detect changes by others.

::

    instances/TOKEN/deployment.json    the deployment, and the hash of each service's spec

The specs are read back from Docker right after the write; so every later write by someone else is
noticed, even one that leaves labels and images as they were.
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
"""Label in which ``docker stack deploy`` notes the image that it wrote last."""
TRIES: Final = 3
"""Attempts at a write, if another process writes in between."""
OUT_OF_SEQUENCE: Final = "update out of sequence"
"""Swarm's error for a write that is based on an older version index than the present one."""


@frozen
class Stacks:
    """The stacks of one swarm, and the records of one app."""

    engine: Engine
    docker: Docker
    directory: Path

    def read_snapshot(self, stack: str) -> Snapshot:
        """Read the services and tasks of a stack, and the nodes.

        Raises:
            EngineUnreachableError: Docker can't be asked.
        """
        services = [read_service(data) for data in self.engine.services(stack)]
        return Snapshot(
            services={service.name: service for service in services},
            tasks=tuple(read_task(data) for data in self.engine.tasks(stack)),
            nodes=tuple(read_node(data) for data in self.engine.nodes()),
            now=time.time(),
        )

    def write(self, stack: str, document: Document, deployment: Deployment, gated: str) -> Record:
        """Deploy exactly this document as the stack; return the record. Does not wait for tasks.

        Args:
            stack: its name.
            document: escaped, with config files named by absolute paths.
            deployment: whose token is in the document.
            gated: the full name of the gated service.

        Raises:
            DeployError: Docker refuses it.
            NotPreparedError: another process changed the stack at the same time.
            EngineUnreachableError: Docker can't be asked.
        """
        began = time.time()
        self._deploy(stack, document)
        snapshot = self.read_snapshot(stack)
        service = snapshot.services.get(gated)
        if service is None or service.token != deployment.token:
            raise NotPreparedError(
                f"stack {stack} was written, but {gated} is not from this deployment",
                hint=f"find out who else deploys this stack: docker service inspect {gated}",
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
        """Remove a stack. A failure is not reported: `Preflight.clear` removes leftovers later."""
        try:
            self.docker.run("stack", "rm", stack, timeout=WRITE_TIMEOUT)
        except (RefusedError, EngineUnreachableError):
            return

    def store_record(self, record: Record) -> None:
        """Store a record durably.

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

    def read_record(self, token: str) -> Record | None:
        """Return the record of a token; None if it is missing or damaged."""
        if re.fullmatch(r"[\w-]+", token) is None:
            return None
        try:
            text = (self.directory / token / RECORD).read_text()
        except (OSError, ValueError):
            return None
        record = record_from_text(text, Record)
        return record if record is not None and record.deployment.token == token else None

    def prune(self, tokens: frozenset[str], digests: frozenset[str]) -> None:
        """Remove all records but those of these deployments and of these releases."""
        there = [entry.name for entry in self.directory.glob("*")]
        records = {token: self.read_record(token) for token in there}
        wanted = {
            token
            for token, record in records.items()
            if record is not None and record.deployment.release.digest in digests
        }
        prune(self.directory, tokens | wanted)

    def _forget_images(self, stack: str) -> None:
        """Make ``docker stack deploy`` write every image.

        It keeps a service's image if the compose file has the one that it wrote last: an image that
        someone else set in between would stay, and be gated and committed as ours.
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
        """Run a write command; repeat it if the version index was out of date.

        The writes are absolute, so a repetition is safe. Swarm's own updates of a service raise its
        version index, too, between reading and writing.
        """
        for left in reversed(range(TRIES)):
            try:
                self.docker.run(*arguments, timeout=WRITE_TIMEOUT)
            except RefusedError as error:
                is_lost = OUT_OF_SEQUENCE in error.message
                if is_lost and left:
                    continue
                if is_lost:
                    message = f"another process writes at the same time: {error.message}"
                    raise NotPreparedError(message) from error
                raise DeployError(error.message) from error
            return
