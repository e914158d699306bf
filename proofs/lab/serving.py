"""Asks what serves: Traefik itself, Docker about the container that answered, and the disk.

The ``status`` of the product is no evidence here: a product that is wrong about what it has
deployed would be wrong there, too.
"""

import json
from http import HTTPStatus
from typing import Any, Final

from attrs import field, frozen
from swarm.harness import WEB, Who

from lab.furnishing import GOLDEN
from lab.judging import Check, contains, equals
from lab.recipes import RELEASE
from lab.stage import Record, Stage

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
        label for label, told in rows
        if '"answer":"pass"' not in told or told.count('"answer":') > told.count('"answer":"pass"')
    ],
}))
"""
"""Reads the journal's tables by themselves, without the product's code."""


@frozen
class Memory:
    """What the journal on a disk says: labels of releases, the newest first."""

    proven: list[str] = field(factory=list[str])
    quarantine: list[str] = field(factory=list[str])
    without_evidence: list[str] = field(factory=list[str])
    """Those proven ones whose record is not of passed probes alone."""

    @property
    def last_good(self) -> str | None:
        return next((label for label in self.proven if label not in self.quarantine), None)


@frozen
class Serving:
    """What serves, and what the disk says."""

    version: str | None
    """Of Traefik, as it answers itself; None: nobody answers."""
    release: str | None
    """That the container was made from that answered, as Docker says."""
    images: list[str]
    """The tags of the image that this container runs."""
    memory: Memory


def ask_serving(on: Stage) -> Serving:
    """Ask now."""
    memory = read_disk(on)
    who = Who.of(on.machine.get(WEB, host=""))
    if who is None:
        return Serving(None, None, [], memory)
    task = _inspect(on, "--type=task", who.task)
    container = _inspect(on, "--type=container", task["Status"]["ContainerStatus"]["ContainerID"])
    assert container["State"]["Running"], f"the task {who.task} answers, and does not run"
    image = _inspect(on, "--type=image", container["Image"])
    variables = dict(pair.split("=", 1) for pair in container["Config"]["Env"])
    return Serving(who.version, variables[RELEASE], image["RepoTags"], memory)


def serves(seen: Serving, label: str, when: str = "") -> list[Check]:
    """Check that a release serves, by whoever can say so, and that it is last-good."""
    version = label.partition("+v")[2]
    return [
        equals(f"the version that Traefik answers{when}", seen.version, version),
        equals(f"the release of the container that answers{when}", seen.release, label),
        contains(f"its image{when}", ", ".join(seen.images), f"traefik:v{version}"),
        equals(f"last-good on the disk{when}", seen.memory.last_good, label),
    ]


def read_disk(on: Stage) -> Memory:
    """Read the journal on the disk; it is empty if no run has begun."""
    done = on.machine.run(PYTHON, "-c", READ, JOURNAL)
    if done.code != 0 and on.machine.run("test", "-e", JOURNAL).code != 0:
        return Memory()
    return Memory(**json.loads(done.check()))


def ask_apps(on: Stage) -> None:
    """Ask for a page of each app behind Traefik that is asked for by a name."""
    for file in sorted((GOLDEN / "etc/warm-reconcile").glob("*.json")):
        probes: list[dict[str, Any]] = json.loads(file.read_text())["probes"]
        for probe in probes:
            if probe["kind"] == "http":
                key = f"the page of {file.stem}"
                on.ask(key, key, probe["url"])
                on.record.facts.setdefault("apps", []).append(key)


def apps_answer(it: Record) -> list[Check]:
    """Check that all of them answered."""
    asked: list[str] = it.facts["apps"]
    return [equals(key, it.facts[key], HTTPStatus.OK) for key in asked]


def _inspect(on: Stage, kind: str, identity: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(
        on.machine.run("docker", "inspect", kind, identity).check()
    )
    return found[0]
