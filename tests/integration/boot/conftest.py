"""What the machines of the proofs need, or the test ends as the others do that lack something."""

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
    """Make what every machine gets."""
    for tool in supplies.PACKAGES:
        need(tool)
    if lacks := supplies.missing():
        missing("; ".join(lacks))
    try:
        return supplies.prepare(tmp_path_factory.mktemp("supplies"))
    except SourceUnreachableError as error:
        missing(error.message)
