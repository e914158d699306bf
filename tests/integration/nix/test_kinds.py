"""Nix has the kinds of probes and sources, and their keys, from nix/lib/kinds.json."""

import json
from typing import Any, Final

import pytest

from nix.evaluation import ROOT, Host, evaluate_hosts

pytestmark = pytest.mark.usefixtures("nix")

SCHEMA: Final[dict[str, Any]] = json.loads((ROOT / "nix/lib/kinds.json").read_text())
MODULE: Final = f"{ROOT}/nix/modules/warm-reconcile.nix"
SAMPLES: Final[dict[str, Any]] = {
    "str": "x",
    "path": "/x",
    "bool": False,
    "int": 1,
    "port": 1,
    "number": 0.5,
    "strings": {"X": "x"},
}
"""A value of each type that an option has."""
PROBE: Final = {"kind": "task", "target_unit": "a.service", "port": 1}
SOURCE: Final = {"kind": "directory", "path": "/x"}


def values(what: str, keys: set[str]) -> dict[str, Any]:
    return {key: SAMPLES[SCHEMA[what]["options"][key]["type"]] for key in keys}


def evaluate(what: str, given: dict[str, dict[str, Any]]) -> Host:
    """Evaluate a host with one app, or one assertion, for each of these probes or sources."""
    apps: dict[str, dict[str, Any]] = {}
    for name, one in given.items():
        probe, source = (PROBE, one) if what == "sources" else (one, SOURCE)
        apps[name] = {"probes": [options_of(probe)], "source": options_of(source)}
        if what == "assertion_probes":
            del apps[name]["source"]
    where = "assertions" if what == "assertion_probes" else "apps"
    text = json.dumps(apps)
    (host,) = evaluate_hosts(
        [f"{MODULE} {{ services.warm-reconcile.{where} = builtins.fromJSON ''{text}''; }}"]
    )
    return host


def options_of(config: dict[str, Any]) -> dict[str, Any]:
    return {camel(key): value for key, value in config.items()}


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def configured(what: str, host: Host, name: str) -> dict[str, Any]:
    """Read a probe or a source from the config file that the host has for it."""
    match what:
        case "sources":
            found = host.etc[f"warm-reconcile/{name}.json"]["source"]
        case "probes":
            (found,) = host.etc[f"warm-reconcile/{name}.json"]["probes"]
        case _:
            (found,) = host.etc[f"warm-reconcile/assertions/{name}.json"]["probes"]
    return dict(found)


def complaints(host: Host) -> set[str]:
    """List the messages about keys, without the option's path that they begin with."""
    messages = (message.split(": ", 2)[2] for message in host.refused)
    return {message for message in messages if message.startswith("of kind ")}


@pytest.mark.parametrize("what", SCHEMA)
def test_each_key_of_a_kind_is_an_option_and_reaches_the_config(what: str) -> None:
    """The config has each key in its own spelling with the given value; none is refused."""
    given = {
        kind: {"kind": kind, **values(what, set(known["keys"]))}
        for kind, known in SCHEMA[what]["kinds"].items()
    }
    host = evaluate(what, given)
    assert {kind: configured(what, host, kind) for kind in given} == given
    assert complaints(host) == set()


@pytest.mark.parametrize("what", SCHEMA)
def test_the_key_of_another_kind_is_refused(what: str) -> None:
    """A key of another kind is refused, although all kinds share the options."""
    kinds = SCHEMA[what]["kinds"]
    options = set(SCHEMA[what]["options"]) - {"kind"}
    host = evaluate(what, {kind: {"kind": kind, **values(what, options)} for kind in kinds})
    assert complaints(host) == {
        f"of kind {kind}, it has no {camel(key)}"
        for kind, known in kinds.items()
        for key in options - set(known["keys"])
    }


@pytest.mark.parametrize("what", SCHEMA)
def test_a_missing_key_is_refused(what: str) -> None:
    """A key that this kind requires is refused if missing, although its option has a default."""
    kinds, options = SCHEMA[what]["kinds"], SCHEMA[what]["options"]
    always = {key for key, option in options.items() if option["required"]} - {"kind"}
    host = evaluate(what, {kind: {"kind": kind, **values(what, always)} for kind in kinds})
    assert complaints(host) == {
        f"of kind {kind}, it needs {camel(key)}"
        for kind, known in kinds.items()
        for key in set(known["required"]) - always
    }


def test_an_assertion_takes_no_kind_of_a_deployment() -> None:
    """An assertion deploys nothing: Nix refuses these kinds, as Python does."""
    (kind, *_) = SCHEMA["probes"]["kinds"].keys() - SCHEMA["assertion_probes"]["kinds"].keys()
    with pytest.raises(ValueError, match=r"probes.*' is not of type `one of"):
        evaluate("assertion_probes", {"x": {"kind": kind, "name": "x", "target_unit": "x.service"}})
