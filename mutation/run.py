"""Change the code in small ways, and see whether a test notices: ``make mutants``.

Each mutant is run in a copy of the checkout, by the tests of its module (``modules.py``), until the
first one fails. The sample is drawn by a hash of the seed and the mutant's name: adding code does
not change which others are in it. Mutants that no test can kill stand in ``equivalent.toml``.
"""

import argparse
import hashlib
import os
import tempfile
import time
import tomllib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from attrs import evolve, frozen

from mutation.modules import MODULES, ROOT, Module
from mutation.operators import Mutant, mutants
from mutation.trial import GRACE, PATIENCE, Copy, Fate

EQUIVALENT: Final = Path(__file__).with_name("equivalent.toml")
TABLE: Final = ROOT / "docs/evidence/mutants.md"
_NEVER_IMPORTED: Final = Mutant("", "the module → can't be imported", "raise RuntimeError\n")


@frozen
class Result:
    """A module, and what became of its sample."""

    module: Module
    possible: int
    equivalent: tuple[Mutant, ...]
    fates: tuple[tuple[Mutant, Fate], ...]
    seconds: float

    def with_fate(self, fate: Fate) -> list[Mutant]:
        return [mutant for mutant, its in self.fates if its is fate]


def read_equivalent(path: Path = EQUIVALENT) -> dict[tuple[str, str, str], str]:
    """Read which mutants mean the same as the code: (module, function, change) to the reason."""
    found = tomllib.loads(path.read_text())["equivalent"]
    return {(e["module"], e["function"], e["change"]): e["reason"] for e in found}


def sample(module: str, found: Iterable[Mutant], size: int, seed: str) -> list[Mutant]:
    """Draw a sample; all of them if there are no more."""

    def rank(mutant: Mutant) -> bytes:
        name = "\0".join((seed, module, mutant.function, mutant.change))
        return hashlib.sha256(name.encode()).digest()

    return sorted(found, key=rank)[:size]


def run(module: Module, size: int, seed: str, copies: Sequence[Copy]) -> Result:
    """Try a sample of a module's mutants."""
    began = time.monotonic()
    found = list(mutants((ROOT / module.path).read_text()))
    drawn = sample(module.name, found, size, seed)
    excused = read_equivalent()
    equivalent = [m for m in drawn if (module.name, m.function, m.change) in excused]
    free: SimpleQueue[Copy] = SimpleQueue()
    for copy in copies:
        free.put(copy)
    limits = [GRACE + PATIENCE * copies[0].measure(tests) for tests in (module.tests, module.slow)]
    if copies[0].try_out(module, _NEVER_IMPORTED, limits) is not Fate.KILLED:
        raise SystemExit(f"the tests do not import {module.path} from the copy")

    def judge(mutant: Mutant) -> tuple[Mutant, Fate]:
        copy = free.get()
        try:
            fate = copy.try_out(module, mutant, limits)
        finally:
            free.put(copy)
        if fate is not Fate.KILLED:
            print(f"  {fate.value}: {module.name}: {_name(mutant)}", flush=True)
        return mutant, fate

    with ThreadPoolExecutor(len(copies)) as pool:
        fates = tuple(pool.map(judge, (m for m in drawn if m not in equivalent)))
    return Result(module, len(found), tuple(equivalent), fates, time.monotonic() - began)


def render(results: Sequence[Result], size: int, seed: str) -> str:
    """Write the table."""
    excused = read_equivalent()
    lines = [
        "# Mutants of the code",
        "",
        "`make mutants` changes the code in one small place at a time (a comparison, a condition, a"
        " constant, a statement that is left out; all kinds are in `mutation/operators.py`) and runs"
        f" the tests that reach the module. At most {size} mutants a module, drawn with seed {seed}."
        " *Possible* is how many there are, *killed* how many a test noticed, among them those that"
        " took more than five times as long as the code (*by time*).",
        "",
        "| module | possible | tried | killed | by time | equivalent | survived | seconds |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for r in results:
        late, alive = len(r.with_fate(Fate.TIMEOUT)), len(r.with_fate(Fate.SURVIVED))
        tried = len(r.fates) + len(r.equivalent)
        lines.append(
            f"| {r.module.name} | {r.possible} | {tried} | {len(r.fates) - alive} | {late}"
            f" | {len(r.equivalent)} | {alive} | {r.seconds:.0f} |"
        )
    lines += ["", "## Survivors", ""]
    alive = [
        f"- {r.module.name}: {_name(mutant)}"
        for r in results
        for mutant in r.with_fate(Fate.SURVIVED)
    ]
    lines += alive or ["None."]
    lines += ["", "## Equivalent", "", "They change nothing that can be seen from outside.", ""]
    lines += [
        f"- {r.module.name}: {_name(m)}: {excused[r.module.name, m.function, m.change]}"
        for r in results
        for m in r.equivalent
    ] or ["None."]
    return "\n".join(lines) + "\n"


def _name(mutant: Mutant) -> str:
    return f"`{mutant.function or 'module'}`: `{mutant.change}`".replace("|", "\\|")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--module", action="append", default=[], help="only these")
    parser.add_argument("--sample", type=int, default=60, help="mutants of a module, at most")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--fast", action="store_true", help="leave the slow tests out")
    parser.add_argument("--write", action="store_true", help=f"write {TABLE.relative_to(ROOT)}")
    options = parser.parse_args()
    chosen = [m for m in MODULES if not options.module or m.name in options.module]
    if options.fast:
        chosen = [evolve(module, slow=()) for module in chosen]
    with tempfile.TemporaryDirectory() as scratch:
        copies = [Copy(Path(scratch) / f"copy {number}") for number in range(options.workers)]
        results = [run(module, options.sample, options.seed, copies) for module in chosen]
    table = render(results, options.sample, options.seed)
    print(table)
    if options.write:
        TABLE.write_text(table)
    if any(r.with_fate(Fate.SURVIVED) for r in results):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
