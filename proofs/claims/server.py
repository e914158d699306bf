"""The claims of M2 that nspawn can show: second run, reboot, upgrades, power loss, leaked ports."""

from collections.abc import Sequence
from typing import Final

from proofs.claim import Check, Claim, Records, contains, equals, is_state
from proofs.claims.boot import ROLLED_BACK
from proofs.fixtures.disk import FIRST as FIRST_RELEASE
from proofs.fixtures.disk import NOT_UP, PROXY
from proofs.machines.machine import UnitState
from proofs.recorder import Record
from proofs.scenarios.boot import every_unit
from proofs.scenarios.power import is_bad
from proofs.scenarios.server import BAD_IN_TRIAL, BAD_LATER, FIRST, NEXT
from proofs.serving import apps_answer, serves

POWER: Final = ("power-1", "power-2")
ENOUGH: Final = 20
STUCK: Final = 23


def _from_scratch(records: Records) -> Sequence[Check]:
    it = records["settled"]
    return [
        equals("the system", it.facts["system"], "running"),
        *_jobs(it.units),
        *serves(it.facts["first"]["serving"], FIRST),
        *apps_answer(it),
    ]


def _second_run(records: Records) -> Sequence[Check]:
    it = records["settled"]
    before, after = it.facts["first"], it.facts["again"]
    return [
        *_jobs(it.later["every job started again"]),
        _same("containers", before["containers"], after["containers"]),
        _same("versions of the services' specs", before["services"], after["services"]),
        equals("requests that failed meanwhile", it.facts["second run: failed"], 0),
    ]


def _warm_reboot(records: Records) -> Sequence[Check]:
    it = records["settled"]
    return [
        *_jobs(it.later["a warm reboot"]),
        *serves(it.facts["rebooted"]["serving"], FIRST),
        equals("the dashboard's page", it.facts["page after the reboot"], 200),
    ]


def _upgrade(records: Records) -> Sequence[Check]:
    return _after(records["settled"], "upgrade", NEXT, 0)


def _trial(records: Records) -> Sequence[Check]:
    it = records["settled"]
    key = "bad in its trial"
    before, after = it.facts["upgrade"], it.facts[key]
    return [
        *_after(it, key, _serving_before(it, "upgrade"), ROLLED_BACK),
        _same("containers", before["containers"], after["containers"]),
        equals("requests that failed meanwhile", it.facts[f"{key}: failed"], 0),
    ]


def _bad_later(records: Records) -> Sequence[Check]:
    it = records["settled"]
    return _after(it, "bad later", _serving_before(it, "bad in its trial"), ROLLED_BACK)


def _serving_before(it: Record, key: str) -> str:
    """Return the release that served before; a failed upgrade has its own claim."""
    return str(it.facts[key]["serving"].release)


def _power(records: Records) -> Sequence[Check]:
    cuts = [cut for it in records.values() for cut in it.facts["cuts"]]
    amid = [cut for cut in cuts if cut["amid"]]
    proven = {label for it in records.values() for label in it.facts["proven"]}
    unproven = {label for it in records.values() for label in it.facts["without evidence"]}

    def all_of(what: str, bad: Sequence[object]) -> Check:
        seen = f"{len(cuts) - len(bad)} of {len(cuts)}{f'; not {bad[0]}' if bad else ''}"
        return Check(what, seen, holds=not bad)

    return [
        Check("cuts in the middle of a run", f"{len(amid)}", holds=len(amid) >= ENOUGH),
        all_of("the journal can be read", [c for c in cuts if not c["readable"]]),
        all_of("the job is active", [c for c in cuts if c["unit"] != "active"]),
        all_of(
            "it ended with 0, or rolled back",
            [c for c in cuts if c["exit"] not in {0, ROLLED_BACK}],
        ),
        all_of("a proven release serves", [c for c in cuts if not c["proven"]]),
        all_of("Traefik answers", [c for c in cuts if c["ping"] != 200]),
        equals("broken releases among the proven", sorted(filter(is_bad, proven)), []),
        equals("proven releases without evidence on the disk", sorted(unproven), []),
    ]


def _leaked(records: Records) -> Sequence[Check]:
    it = records["leaked"]
    stuck, by_hand, up = (it.later[x][PROXY] for x in ("not freed", "freed by hand", "freed"))
    return [
        equals("without the unit that frees them, the job", stuck.state, "failed/exit-code"),
        equals("its exit status", stuck.status, STUCK),
        equals("releases in quarantine for it", it.facts["quarantined"], []),
        contains("listener on port 443", it.captures["listeners"].text, "docker-proxy"),
        contains(
            "the reason", it.captures["why stuck"].text, "port 443 although no container uses it"
        ),
        equals("exit status of `free-ports --dry-run`", it.facts["stuck: status"], STUCK),
        equals("after `free-ports` by hand, the job", by_hand.state, "active"),
        equals("with the unit, the job", up.state, "active"),
        Check("its message", it.facts["freed"], holds="was restarted" in it.facts["freed"]),
        *serves(it.facts["serving"], FIRST_RELEASE),
        equals("Traefik's ping", it.facts["ping"], 200),
    ]


def _after(it: Record, key: str, serving: str, status: int) -> list[Check]:
    seen = it.facts[key]
    failed, asked = it.facts[f"{key}: failed"], it.facts[f"{key}: asked"]
    return [
        equals(f"`{PROXY}`", seen["state"], "active"),
        equals("exit status of the job", seen["exit"], status),
        *serves(seen["serving"], serving),
        equals("the dashboard's page, afterwards", it.facts[f"page after {key}"], 200),
        Check("requests that failed meanwhile", f"{failed} of {asked}", holds=failed < asked),
    ]


def _jobs(units: dict[str, UnitState]) -> list[Check]:
    jobs = [name for name in every_unit() if name.endswith(".service")]
    return [is_state(units[name], "active") for name in jobs if name not in NOT_UP]


def _same(what: str, before: object, after: object) -> Check:
    same = before == after
    return Check(f"{what} are the same", "yes" if same else f"{before}, then {after}", same)


SERVER: Final = (
    Claim(
        "from-scratch",
        "The whole control plane converges on a boot from scratch.",
        ("settled",),
        _from_scratch,
    ),
    Claim(
        "second-run",
        "A second run of every job on the running server changes nothing: the same containers, no"
        " write to the swarm, no request lost.",
        ("settled",),
        _second_run,
    ),
    Claim("warm-reboot", "A warm reboot comes up on last-good.", ("settled",), _warm_reboot),
    Claim("upgrade", "An upgrade on the running server commits.", ("settled",), _upgrade),
    Claim(
        "bad-in-trial",
        f"A broken upgrade ({BAD_IN_TRIAL}) that fails its trial in isolation never touches the"
        " serving release: no request is lost.",
        ("settled",),
        _trial,
    ),
    Claim(
        "bad-later",
        f"A broken upgrade ({BAD_LATER}) that fails only in service is rolled back; the requests"
        " lost under a steady load are counted.",
        ("settled",),
        _bad_later,
    ),
    Claim(
        "power-loss",
        "After the machine was killed at random moments of deployments and rollbacks,"
        f" {ENOUGH} times or more, every next boot ends on a proven release, nothing was"
        " committed without passed probes, and the journal can be read.",
        POWER,
        _power,
    ),
    Claim(
        "leaked-ports",
        "If dockerd comes back from a power cut with leaked ports, the boot restarts it and ends on"
        f" last-good. Without that unit the job ends with {STUCK} and blames no release.",
        ("leaked",),
        _leaked,
    ),
)
