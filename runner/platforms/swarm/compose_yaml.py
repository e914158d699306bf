"""Reads and writes compose documents as YAML and canonical JSON. Pure."""

import contextlib
import json
import re
from typing import Any, Final, cast

import yaml

from runner.platforms.swarm.compose import Document


class _Loader(yaml.SafeLoader):
    """Reads YAML 1.2, which Docker writes.

    Version 1.1 would not read a plain ``=`` or ``2001-1-1`` as a string.
    """

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012 - declared so by the base class


def _resolve(tag: str, pattern: str, first: str) -> None:
    """Read a plain scalar as ``tag`` if it begins with one of ``first`` and matches ``pattern``."""
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
        yaml.YAMLError: it is not YAML.
        ValueError: it is not a mapping.
    """
    found = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    if not isinstance(found, dict):
        raise ValueError("expected a mapping")  # noqa: TRY004 - a wrong value, not a wrong call
    return cast("Document", found)


def canonical(document: Document) -> str:
    """Write a document in canonical form, from which digests are made: JSON that is also YAML.

    YAML reads some characters as line ends, forbids others, and has no surrogate pairs: characters
    from DEL to U+FFFF are escaped, those above are written as they are.
    """
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return re.sub(r"[\x7f-\uffff]", lambda match: f"\\u{ord(match[0]):04x}", text)


_FORMAT_3: Final = re.compile(r"3(\.[0-9]+)?")


def use_newest_format(text: bytes) -> bytes:
    """Set ``version`` of a compose file to "3", Docker's name for the newest format 3 it knows.

    Each format has the keys of all older ones, so the file keeps its meaning. Two reasons: Docker
    refuses to merge files of different versions, and an overlay may need a newer format than its
    recipe has. Only the value is replaced; a file without ``version`` has the newest format anyway.
    Text that is not YAML, and a version other than 3, are returned unchanged: Docker explains them.
    """
    with contextlib.suppress(yaml.YAMLError, UnicodeDecodeError):
        whole = text.decode("utf-8")
        found = _version(next(iter(yaml.compose_all(whole, yaml.SafeLoader)), None))
        if found is not None and _FORMAT_3.fullmatch(found.value):
            start, end = found.start_mark.index, found.end_mark.index
            return f'{whole[:start]}"3"{whole[end:]}'.encode()
    return text


def _version(root: yaml.Node | None) -> yaml.ScalarNode | None:
    entries: list[tuple[yaml.Node, yaml.Node]]
    entries = root.value if isinstance(root, yaml.MappingNode) else []
    found = (value for key, value in entries if key.value == "version")
    return next((value for value in found if isinstance(value, yaml.ScalarNode)), None)
