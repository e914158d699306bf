"""Determines the serving release: from Traefik itself, Docker, and the journal's tables.

The product's ``status`` is no evidence here: a product that is wrong about its deployment would
print the same error there.
"""

import json
from http import HTTPStatus
from typing import Any, Final

from attrs import field, frozen
from swarm.harness import WEB, Who

from proofs.claim import Check, contains, equals
from proofs.fixtures.disk import GOLDEN
from proofs.fixtures.recipes import RELEASE
from proofs.recorder import Record, Recorder

JOURNAL: Final = "/var/lib/warm-reconcile/traefik/journal.sqlite3"
PYTHON: Final = "/opt/warm-reconcile/bin/python"
READ: Final = """\
import json, sqlite3, sys, time
db = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
proven = "SELECT label, evidence FROM proven JOIN release USING (digest) ORDER BY rank DESC"
refused = "SELECT label FROM quarantine JOIN release USING (digest) WHERE until > ?"
rows = list(db.execute(proven))
print(json.dumps({
    "proven": [label for label, _ in rows],
    "quarantine": [label for label, in db.execute(refused, (time.time(),))],
    "without_evidence": [
        label for label, text in rows
        if '"answer":"pass"' not in text or text.count('"answer":') > text.count('"answer":"pass"')
    ],
}))
"""
"""A script that reads the journal's tables without the product's code."""


@frozen
class Memory:
    """The journal on a disk: labels of releases, newest first."""

    proven: list[str] = field(factory=list[str])
    quarantine: list[str] = field(factory=list[str])
    without_evidence: list[str] = field(factory=list[str])
    """Proven releases whose evidence has a result other than a passed probe, or none."""

    @property
    def last_good(self) -> str | None:
        return next((label for label in self.proven if label not in self.quarantine), None)


@frozen
class Serving:
    """The release that serves, and the journal on the disk."""

    version: str | None
    """Traefik's version in its own answer; None: no answer."""
    release: str | None
    """The release of the container that answered, from Docker."""
    images: list[str]
    """The tags of that container's image."""
    memory: Memory


def ask_serving(on: Recorder) -> Serving:
    """Determine the serving release now."""
    memory = read_disk(on)
    who = Who.of(on.machine.get(WEB, host=""))
    if who is None:
        return Serving(None, None, [], memory)
    task = _inspect(on, "--type=task", who.task)
    container = _inspect(on, "--type=container", task["Status"]["ContainerStatus"]["ContainerID"])
    assert container["State"]["Running"], f"the task {who.task} answers but does not run"
    image = _inspect(on, "--type=image", container["Image"])
    variables = dict(pair.split("=", 1) for pair in container["Config"]["Env"])
    return Serving(who.version, variables[RELEASE], image["RepoTags"], memory)


def serves(seen: Serving, label: str, when: str = "") -> list[Check]:
    """Check by Traefik, Docker and the journal that a release serves and is last-good."""
    version = label.partition("+v")[2]
    return [
        equals(f"the version that Traefik answers{when}", seen.version, version),
        equals(f"the release of the container that answers{when}", seen.release, label),
        contains(f"its image{when}", ", ".join(seen.images), f"traefik:v{version}"),
        equals(f"last-good on the disk{when}", seen.memory.last_good, label),
    ]


def read_disk(on: Recorder) -> Memory:
    """Read the journal on the disk; empty if there is none yet."""
    done = on.machine.run(PYTHON, "-c", READ, JOURNAL)
    if done.code != 0 and on.machine.run("test", "-e", JOURNAL).code != 0:
        return Memory()
    return Memory(**json.loads(done.check()))


def ask_apps(on: Recorder) -> None:
    """Request a page of each app whose config has an http probe."""
    for file in sorted((GOLDEN / "etc/warm-reconcile").glob("*.json")):
        probes: list[dict[str, Any]] = json.loads(file.read_text())["probes"]
        for probe in probes:
            if probe["kind"] == "http":
                key = f"the page of {file.stem}"
                on.ask(key, key, probe["url"])
                on.record.facts.setdefault("apps", []).append(key)


def apps_answer(it: Record) -> list[Check]:
    """Check that all these pages answered 200."""
    asked: list[str] = it.facts["apps"]
    return [equals(key, it.facts[key], HTTPStatus.OK) for key in asked]


def _inspect(on: Recorder, kind: str, identity: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(
        on.machine.run("docker", "inspect", kind, identity).check()
    )
    return found[0]
