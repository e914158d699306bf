"""Random units with cycles, targets, timers, instances, aliases and names of undefined units."""

from typing import Final

from attrs import frozen
from hypothesis import strategies as st

from runner.reconcile.ordering import Edge, Says, Served, Target, UnitGraph

NAMES: Final = (
    *("a.service", "b.service", "c.service", "d.service", "e@x.service", "e@y.service"),
    *("f.socket", "g.timer", "h.target", "i.target", "j.service", "k.mount"),
)


@frozen
class Case:
    """Units of a configuration, and the callers with their targets."""

    after: dict[str, list[str]]
    """Of every unit that exists; empty lists included."""
    before: dict[str, list[str]]
    aliases: dict[str, str]
    caller: str
    targets: list[Target]

    def graph(self) -> UnitGraph:
        later = [Edge(unit, other) for unit, others in self.after.items() for other in others]
        earlier = [
            Edge(other, unit, Says.BEFORE)
            for unit, others in self.before.items()
            for other in others
        ]
        return UnitGraph(frozenset(self.after), (*later, *earlier), self.aliases)


@st.composite
def cases(draw: st.DrawFn, names: tuple[str, ...] = NAMES) -> Case:
    """Draw a few units: sparse enough that safe and refused are both common."""
    some = st.sampled_from(names)
    missing = draw(st.sets(some, max_size=2))
    existing = [name for name in names if name not in missing]
    others = st.lists(some, max_size=draw(st.integers(1, 3)))
    return Case(
        after={unit: draw(others) for unit in existing},
        before={unit: draw(others) for unit in existing},
        aliases=draw(st.dictionaries(some, some, max_size=3)),
        caller=draw(some),
        targets=draw(
            st.lists(st.builds(Target, some, st.sampled_from(Served)), min_size=1, max_size=4)
        ),
    )


@st.composite
def many_units(draw: st.DrawFn) -> Case:
    """Draw thousands of units with a few thousand edges: near where long chains begin to appear."""
    random = draw(st.randoms(use_true_random=False))
    names = [f"u{number}.service" for number in range(random.randint(1000, 5000))]
    after: dict[str, list[str]] = {name: [] for name in names}
    before: dict[str, list[str]] = {name: [] for name in names}
    for _ in range(random.randint(0, 2 * len(names))):
        random.choice((after, before))[random.choice(names)].append(random.choice(names))
    aliases = {f"alias{n}.service": random.choice(names) for n in range(100)}
    for name in random.sample(names, 100):
        after[name].append(random.choice(list(aliases)))
    targets = [Target(random.choice([*names, *aliases])) for _ in range(5)]
    return Case(after, before, aliases, random.choice(names), targets)
