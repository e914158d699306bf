"""The types of config fields: each a Python type with its rule and the words for its error."""

import ipaddress
import re
from collections.abc import Callable
from typing import Annotated, Final, TypeAlias
from urllib.parse import urlsplit

from attrs import frozen

_LAST_PORT = 65535
_SHORTEST = 0.001
_LONGEST = 1_000_000_000
"""Seconds, some thirty years: far enough, and every sum of such times is still a number."""
_MOST = 1_000_000
"""The largest count."""
_SAFE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")

NAME_RULE: Final = "letters, digits, and . _ + - (not first), at most 128 characters, no '..'"
_CHARACTERS = "in Unicode characters other than NUL"


def is_safe_name(name: str) -> bool:
    """Return whether the name is safe as a path component: it can't lead anywhere else."""
    return _SAFE.fullmatch(name) is not None and ".." not in name


@frozen
class Rule:
    """A predicate, and the words that a message uses after "expected"."""

    expected: str
    holds: Callable[[object], bool]


def _is_unit(value: object) -> bool:
    return (
        isinstance(value, str) and re.fullmatch(r"[\w:.\\@-]+\.(service|socket)", value) is not None
    )


def is_address(value: object) -> bool:
    """``127.0.0.1:80`` or ``[::1]:80``: numeric, because a gate must not wait for a resolver."""
    if not isinstance(value, str):
        return False
    host, _, port = value.rpartition(":")
    is_port = re.fullmatch(r"[0-9]{1,5}", port) is not None and 0 < int(port) <= _LAST_PORT
    return is_port and _is_ip(host.removeprefix("[").removesuffix("]"))


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_url(value: object) -> bool:
    if not isinstance(value, str) or " " in value or not value.isprintable():
        return False
    try:
        parts = urlsplit(value)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _is_url_path(value: object) -> bool:
    return isinstance(value, str) and value.startswith("/") and _is_url(f"http://host{value}")


def is_numeric_url(url: str) -> bool:
    """Return whether the URL's host is an IP address."""
    return _is_ip(urlsplit(url).hostname or "")


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None


def _is_text(value: object) -> bool:
    """Return whether it is a non-empty text that a file name, an argument or a file can hold."""
    return isinstance(value, str) and re.fullmatch(r"[^\0\ud800-\udfff]+", value) is not None


def _is_path(value: object) -> bool:
    return _is_text(value) and str(value).startswith("/")


def _number(what: str, low: float, high: float, *, whole: bool = False) -> Rule:
    """Make the rule "``what``, ``low`` to ``high``"; bool is no number here."""

    def holds(value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            return False
        return low <= value <= high

    return Rule(f"{what}, {low} to {high}", holds)


Seconds: TypeAlias = Annotated[float, _number("a number of seconds", _SHORTEST, _LONGEST)]
Duration: TypeAlias = Annotated[float, _number("a number of seconds", 0, _LONGEST)]
Count: TypeAlias = Annotated[int, _number("a whole number", 1, _MOST, whole=True)]
Amount: TypeAlias = Annotated[int, _number("a whole number", 0, _MOST, whole=True)]
Status: TypeAlias = Annotated[int, _number("an HTTP status", 100, 599, whole=True)]
Port: TypeAlias = Annotated[int, _number("a port", 1, _LAST_PORT, whole=True)]
Name: TypeAlias = Annotated[str, Rule(NAME_RULE, lambda v: isinstance(v, str) and is_safe_name(v))]
UnitName: TypeAlias = Annotated[
    str, Rule("a systemd unit name, for example deploy-proxy.service", _is_unit)
]
Address: TypeAlias = Annotated[
    str, Rule("an IP address and a port, such as 127.0.0.1:80 or [::1]:80", is_address)
]
Url: TypeAlias = Annotated[str, Rule("an http or https URL", _is_url)]
UrlPath: TypeAlias = Annotated[str, Rule("the path of a URL, from its first /", _is_url_path)]
Sha256: TypeAlias = Annotated[str, Rule("a SHA-256 of 64 hexadecimal digits", _is_sha256)]
Text: TypeAlias = Annotated[str, Rule(f"a text that is not empty, {_CHARACTERS}", _is_text)]
AbsolutePath: TypeAlias = Annotated[str, Rule(f"an absolute path, {_CHARACTERS}", _is_path)]
"""Never relative: a run by hand and one by systemd must mean the same place."""
