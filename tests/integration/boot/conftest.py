"""Fixtures for the machines of the proofs; without a tool a test is skipped, in CI it fails."""

from collections.abc import Callable
from typing import NoReturn

import pytest
from lab import supplies
from lab.supplies import Supplies

from runner.reconcile.errors import SourceUnreachableError


@pytest.fixture(scope="session")
def stores(
    need: Callable[[str], str],
    missing: Callable[[str], NoReturn],
    tmp_path_factory: pytest.TempPathFactory,
) -> Supplies:
    """Make the files that every machine gets."""
    for tool in supplies.PACKAGES:
        need(tool)
    if lacks := supplies.missing():
        missing("; ".join(lacks))
    try:
        return supplies.prepare(tmp_path_factory.mktemp("supplies"))
    except SourceUnreachableError as error:
        missing(error.message)
