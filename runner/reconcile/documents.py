"""Compose documents as text: what Docker prints is read, and what is kept is written. Pure."""

import json
import re
from typing import Any, cast

import yaml

from runner.reconcile.compose import Document


class _Loader(yaml.SafeLoader):
    """Reads YAML as its version 1.2 does, which is how Docker writes it.

    Version 1.1 would take a plain ``=`` or ``2001-1-1`` for something other than a text.
    """

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012 - declared so by the base class


def _resolve(tag: str, pattern: str, first: str) -> None:
    """Take a plain scalar that begins with one of ``first`` and is ``pattern`` for a ``tag``."""
    resolver = (f"tag:yaml.org,2002:{tag}", re.compile(rf"(?:{pattern})\Z"))
    for character in first or ("",):
        _Loader.yaml_implicit_resolvers.setdefault(character, []).append(resolver)


_resolve("null", "null", "n")
_resolve("null", "", "")
_resolve("bool", "true|false", "tf")
_resolve("int", "-?[0-9]+", "-0123456789")
_resolve("float", r"-?[0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?", "-0123456789")


def parse(text: bytes) -> Document:
    """Read what ``docker stack config`` prints, each value with the type that Docker gave it.

    Raises:
        yaml.YAMLError: it is no YAML.
        ValueError: it is no document.
    """
    found = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    if not isinstance(found, dict):
        raise ValueError("expected a mapping")  # noqa: TRY004 - a wrong value, not a wrong call
    return cast("Document", found)


def canonical(document: Document) -> str:
    """Write a document in the one way that a digest is made of; JSON that is YAML, too.

    YAML takes some characters for line ends and others for none at all, and knows no surrogates:
    what lies outside ASCII is escaped where one escape is enough, and stands as it is elsewhere.
    """
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return re.sub(r"[\x7f-\uffff]", lambda match: f"\\u{ord(match[0]):04x}", text)
