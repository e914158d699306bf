"""A run, which systemd may start every few minutes, imports no more than it needs."""

# ruff: noqa: SIM300 (asserts read: expected == actual)

import subprocess
from collections.abc import Callable


def test_a_run_imports_no_console_toolkit_and_no_pip(
    run_python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """rich, click and pip cost more time than a round of probes, and a run shows none of them."""
    code = (
        "import sys, runner.warm_reconcile\n"
        "heavy = {'rich', 'click', 'pip', 'pygments', 'markdown_it'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    assert ("[]\n", "") == ((done := run_python(code)).stdout, done.stderr)
