"""Fixtures of the proofs' machines: the supplies, or a skip or failure if this host lacks tools."""

from collections.abc import Callable
from typing import NoReturn

import pytest

from proofs.fixtures import supplies
from proofs.fixtures.supplies import Supplies
from runner.reconcile.errors import SourceUnreachableError


@pytest.fixture(scope="session")
def stores(
    need: Callable[[str], str],
    missing: Callable[[str], NoReturn],
    tmp_path_factory: pytest.TempPathFactory,
) -> Supplies:
    """Prepare the supplies that every machine gets."""
    for tool in supplies.PACKAGES:
        need(tool)
    if lacks := supplies.missing():
        missing("; ".join(lacks))
    try:
        return supplies.prepare(tmp_path_factory.mktemp("supplies"))
    except SourceUnreachableError as error:
        missing(error.message)
