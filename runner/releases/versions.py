"""Parses and orders release labels. Pure.

Co-op Cloud tags a recipe ``RECIPE+UPSTREAM``: ``3.4.0+v3.5.1`` is version 3.4.0 of the recipe, with
version 3.5.1 of what it deploys. Plain versions are labels, too. ``packaging`` parses and orders.
"""

from collections.abc import Iterable

from attrs import frozen
from packaging.version import InvalidVersion, Version

from runner.reconcile.field_types import is_safe_name


@frozen(order=True)
class Label:
    """A label in its order: by recipe version, then by upstream version."""

    recipe: Version
    upstream: Version
    text: str

    @property
    def is_prerelease(self) -> bool:
        return self.recipe.is_prerelease or self.upstream.is_prerelease


def parse(text: str) -> Label | None:
    """Parse a label; None if it is not a version, or unsafe as a file name."""
    if not is_safe_name(text):
        return None
    recipe, _, upstream = text.partition("+")
    try:
        version = Version(recipe)
        return Label(version, Version(upstream) if upstream else version, text)
    except InvalidVersion:
        return None


def ordered(texts: Iterable[str], *, prereleases: bool) -> list[Label]:
    """Sort the labels that are versions, newest first; the others are left out."""
    labels = [label for text in texts if (label := parse(text)) is not None]
    allowed = [label for label in labels if prereleases or not label.is_prerelease]
    return sorted(allowed, reverse=True)
