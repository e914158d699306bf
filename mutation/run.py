"""Change the code in small ways, and check that a test fails: ``make mutants``.

The sample of a module is drawn by a hash of the seed and the mutant's name, so that new code does
not change the rest of the sample. Mutants that no test can kill are listed in ``equivalent.toml``.
"""

import argparse
import ast
import hashlib
import json
import os
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Final, TypeAlias

import cattrs
from attrs import evolve, frozen

from mutation.modules import MODULES, ROOT, Module
from mutation.operators import Mutant, mutants
from mutation.trial import GRACE, PATIENCE, Copy, Fate

EQUIVALENT: Final = Path(__file__).with_name("equivalent.toml")
TABLE: Final = ROOT / "docs/evidence/mutants.md"
STORE: Final = TABLE.with_suffix(".json")
"""The results that the table is made from."""
_HEAD: Final = """\
# Mutants of the code

`make mutants` changes the code in one small place at a time: a comparison, a condition, a constant,
a statement that is left out; `mutation/operators.py` has all kinds. Each change is tried by the
tests that reach the module (`mutation/modules.py`), in a copy of the checkout. No part of
`make test`. `make mutants MODULE=gate` tries one module again, and replaces its row here.

*Possible*: how many there are. *Tried*: a sample of them, drawn with the seed. *Killed*: a test
failed. *Time*: the tests took more than {patience} times as long as with the unchanged code.
*Types*: all tests passed, but mypy, which is one of the project's tests, refuses it. *Equivalent*:
it can't be noticed, for the reason below.
"""

Key: TypeAlias = tuple[str, str, str]
"""A module, a function in it and a change."""


@frozen
class Result:
    """The results of a module's sample."""

    module: str
    seed: str
    possible: int
    killed: int
    late: int
    refused: int
    survivors: tuple[str, ...]
    equivalent: tuple[str, ...]
    """Each with its reason."""
    seconds: int


def read_equivalent() -> dict[Key, str]:
    """Read the mutants that are equivalent to the code, each with its reason."""
    found = tomllib.loads(EQUIVALENT.read_text())["equivalent"]
    return {(e["module"], e["function"], e["change"]): e["reason"] for e in found}


def sample(module: str, found: Iterable[Mutant], size: int, seed: str) -> list[Mutant]:
    """Draw a sample of at most ``size`` mutants."""

    def rank(mutant: Mutant) -> bytes:
        name = f"{seed}\n{module}\n{mutant.function}\n{mutant.change}"
        return hashlib.sha256(name.encode()).digest()

    return sorted(found, key=rank)[:size]


def run(module: Module, size: int, seed: str, copies: Sequence[Copy]) -> Result:
    """Try a sample of a module's mutants."""
    began = time.monotonic()
    source = (ROOT / module.path).read_text()
    found = list(mutants(source))
    drawn = sample(module.name, found, size, seed)
    excused = read_equivalent()
    equivalent = [m for m in drawn if (module.name, m.function, m.change) in excused]
    limits = [GRACE + PATIENCE * copies[0].measure(tests) for tests in (module.tests, module.slow)]
    _check_the_trial(module, source, copies[0], limits)
    free: SimpleQueue[Copy] = SimpleQueue()
    for copy in copies:
        free.put(copy)

    def judge(mutant: Mutant) -> tuple[Mutant, Fate]:
        copy = free.get()
        try:
            fate = copy.try_out(module, mutant, limits)
        finally:
            free.put(copy)
        if fate is not Fate.KILLED:
            _print_line(f"  {fate.value}: {module.name}: {_name(mutant)}")
        return mutant, fate

    with ThreadPoolExecutor(len(copies)) as pool:
        fates = list(pool.map(judge, (m for m in drawn if m not in equivalent)))
    counts = Counter(fate for _, fate in fates)
    return Result(
        module=module.name,
        seed=seed,
        possible=len(found),
        killed=counts[Fate.KILLED],
        late=counts[Fate.TIMEOUT],
        refused=counts[Fate.REFUSED],
        survivors=tuple(_name(m) for m, fate in fates if fate is Fate.SURVIVED),
        equivalent=tuple(
            f"{_name(m)}: {excused[module.name, m.function, m.change]}" for m in equivalent
        ),
        seconds=round(time.monotonic() - began),
    )


def _check_the_trial(module: Module, source: str, copy: Copy, limits: Sequence[float]) -> None:
    """Check that the tests import the copy, and that mypy accepts the unchanged module."""
    broken = Mutant("", "it can't be imported", "raise RuntimeError\n")
    if copy.try_out(module, broken, limits) is not Fate.KILLED:
        raise SystemExit(f"the tests of {module.name} do not import the copy of {module.path}")
    same = Mutant("", "none", ast.unparse(ast.parse(source)))
    if copy.try_out(evolve(module, tests=(), slow=()), same, limits) is not Fate.SURVIVED:
        raise SystemExit(f"mypy refuses {module.path} without its comments")


def render(results: Iterable[Result]) -> str:
    """Return the table, the survivors, and the equivalent mutants with their reasons."""
    known = {result.module: result for result in results}
    order = [known[module.name] for module in MODULES if module.name in known]
    table = [
        "| module | possible | seed | tried | killed | time | types | equivalent | survived | s |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
        *map(_row, order),
    ]
    alive = [f"- {r.module}: {name}" for r in order for name in r.survivors]
    equivalent = [f"- {r.module}: {name}" for r in order for name in r.equivalent]
    parts = [_HEAD.format(patience=PATIENCE), "\n".join(table)]
    parts += ["\n## Survivors\n", "\n".join(alive) or "None."]
    parts += ["\n## Equivalent\n", "\n".join(equivalent) or "None."]
    return "\n".join(parts) + "\n"


def _row(result: Result) -> str:
    counts = [result.killed, result.late, result.refused]
    counts += [len(result.equivalent), len(result.survivors)]
    cells = [result.module, result.possible, result.seed, sum(counts), *counts, result.seconds]
    return f"| {' | '.join(map(str, cells))} |"


def keep(results: Iterable[Result], store: Path = STORE) -> list[Result]:
    """Store results beside those of other modules; return all."""
    kept: dict[str, Result] = {}
    if store.exists():
        kept = cattrs.structure(json.loads(store.read_text()), dict[str, Result])
    kept |= {result.module: result for result in results}
    text = json.dumps(cattrs.unstructure(kept), indent=1, ensure_ascii=False, sort_keys=True)
    store.write_text(f"{text}\n")
    return list(kept.values())


def _name(mutant: Mutant) -> str:
    return f"`{mutant.function or 'module'}`: `{mutant.change}`"


def _print_line(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    """Try the modules of the command line, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--module", action="append", default=[], help="only this module; repeatable"
    )
    parser.add_argument("--sample", type=int, default=60, help="mutants of a module, at most")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--fast", action="store_true", help="skip the slow tests")
    parser.add_argument("--write", action="store_true", help=f"write {TABLE.relative_to(ROOT)}")
    options = parser.parse_args()
    chosen = [m for m in MODULES if not options.module or m.name in options.module]
    if options.fast:
        chosen = [evolve(module, slow=()) for module in chosen]
    with tempfile.TemporaryDirectory() as scratch:
        copies = [Copy(Path(scratch) / f"copy{number}") for number in range(options.workers)]
        results: list[Result] = []
        for module in chosen:
            results.append(run(module, options.sample, options.seed, copies))
            if options.write:
                TABLE.write_text(render(keep(results)))
    _print_line(render(results))
    if any(result.survivors for result in results):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
