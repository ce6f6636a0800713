"""Finds assignments that make a symbol reach a value: goals split along the tree's own rules.

A goal is "this symbol (or expression) is at least / at most this value". Each function yields
once for every way in which its goal holds, with the assignments of that way made; going on
takes them back and tries the next way. Ways are tried cheapest first, where cheap means: few
symbols that are not as they should be yet. Nothing here is random, so equal inputs give equal
plans. Values are kconfiglib's: 0 (n), 1 (m), 2 (y).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from embedkit.kernel.estimate import NEVER, SELECT, Memo
from embedkit.kernel.search_expr import Goals, Way
from embedkit.kernel.wants import Prefer, Want
from embedkit.kernel.world import LETTER, TRI, World

_STEPS = 4000


class Search(Goals):
    """One search over a World. ``via`` tells for each decision what led to it, nearest first."""

    def __init__(self, world: World, prefer: Prefer = Prefer.AUTO) -> None:
        super().__init__(world)
        self.prefer = prefer
        self.via: dict[str, tuple[str, ...]] = {}
        self._stack: list[str] = []
        self._stay_off: frozenset[str] = frozenset()
        self._stay_on: frozenset[str] = frozenset()

    def achieve(self, want: Want, held: Sequence[Want] = ()) -> Iterator[None]:
        """Yields for every way found to fulfil ``want``. Raises GaveUp when it takes too long.

        What ``held`` wants on is not turned off on the way, what it wants off not on.
        """
        self._steps = _STEPS
        self._stay_off = frozenset(n for o in held if o.value == "n" for n in o.symbols)
        self._stay_on = frozenset(
            o.symbol for o in held if not o.alternatives and o.value in ("y", "m", "on")
        )
        world = self.world
        if world.holds(want):
            yield
            return
        names = [name for name in want.symbols if world.symbol(name) is not None]
        if want.value == "n":
            yield from self._chain([partial(self.lower, name, 0) for name in names])
            return
        if want.value not in TRI and want.value != "on":
            yield from self._text(want.symbol, want.value)
            return
        ways = []
        for position, name in enumerate(names):
            for rank, value in enumerate(self._targets(want, name)):
                cost = self._estimate.cost(world.syms[name], value)
                ways.append((position, rank, cost, name, value))
        for *_, name, value in sorted(ways, key=lambda way: (way[2] >= NEVER, way)):
            for _ in self.exactly(name, value) if want.value != "on" else self.reach(name, value):
                if world.holds(want):
                    yield

    def repair(self, depth: int = 4) -> Iterator[None]:
        """Yields when nothing is newly selected against its dependencies, mending what is."""
        world = self.world
        broken = sorted(world.newly_unmet())
        if not broken:
            yield
            return
        if depth == 0:
            return
        symbol = world.syms[broken[0]]
        needed = 1 if symbol.type == self._lib.BOOL else self._value(symbol.rev_dep)
        met = self._value(symbol.direct_dep)
        for way in (
            partial(self.at_least, symbol.direct_dep, needed),
            partial(self.at_most, symbol.rev_dep, met),
        ):
            for _ in way():
                yield from self.repair(depth - 1)

    def _targets(self, want: Want, name: str) -> tuple[int, ...]:
        symbol = self.world.syms[name]
        if symbol.type == self._lib.BOOL:
            return (2,) if want.value != "m" else ()
        if want.value != "on":
            return (TRI[want.value],)
        return (1, 2) if self._modular(want.early) else (2, 1)

    def _modular(self, early: bool) -> bool:
        if self.prefer is Prefer.AUTO:
            return not early
        return self.prefer is Prefer.MODULE

    def reach(self, name: str, low: int) -> Iterator[None]:
        """Makes the symbol at least ``low``."""
        self._step()
        world = self.world
        symbol = world.syms[name]
        if symbol.tri_value >= low:
            yield
            return
        if not self._may_touch(symbol):
            return
        if symbol.type == self._lib.BOOL:
            low = 2
        decided = world.decisions.get(name)
        if decided == "n" or name in self._stay_off:
            return
        yield from self._try(
            symbol, lambda: self._ways_up(symbol, low), lambda: symbol.tri_value >= low
        )

    def _try(
        self, symbol: Any, ways: Callable[[], list[Way]], reached: Callable[[], bool]
    ) -> Iterator[None]:
        """Goes through ``ways`` with the symbol on the stack, off it while the caller goes on."""
        world = self.world
        self._stack.append(symbol.name)
        try:
            for way in ways():
                mark = world.mark()
                for _ in way():
                    if reached():
                        self._stack.pop()
                        try:
                            yield
                        finally:
                            self._stack.append(symbol.name)
                world.undo(mark)
        finally:
            self._stack.pop()

    def _ways_up(self, symbol: Any, low: int) -> list[Way]:
        estimate = Memo(self._estimate)
        ways: list[tuple[float, int, Way]] = []

        def add(cost: float, way: Way) -> None:
            ways.append((cost, len(ways), way))

        bool_like = symbol.type == self._lib.BOOL
        targets = (2,) if bool_like or low == 2 else ((1, 2) if self._modular(False) else (2, 1))
        for node in symbol.nodes:
            if not node.prompt:
                continue
            for rank, target in enumerate(targets):
                need = 1 if bool_like else target
                cost = estimate.cost(node.prompt[1], need) + rank * 0.1
                add(cost, partial(self._set, symbol, target, need, node.prompt[1]))
        for term in self._terms(symbol.rev_dep):
            cost = SELECT + estimate.cost(term, low)
            add(cost, partial(self._by_select, symbol, term, low))
        for default, condition in symbol.defaults:
            cost = 0.5 + estimate.cost(condition, low)
            cost += estimate.cost(default, low)
            add(cost, partial(self._both, condition, default, low))
        for term in self._terms(symbol.weak_rev_dep):
            cost = SELECT + estimate.cost(term, low)
            add(cost, partial(self._by_select, symbol, term, low))
        return [way for cost, _, way in sorted(ways, key=lambda w: w[:2]) if cost < NEVER]

    def _set(self, symbol: Any, target: int, need: int, condition: Any) -> Iterator[None]:
        """Through the prompt: make it visible, then assign."""
        world = self.world
        for _ in self.at_least(condition, need):
            mark = world.mark()
            self._decide(symbol, target)
            if symbol.tri_value >= target:
                yield from self._mend(symbol, 0)
            world.undo(mark)

    def _decide(self, symbol: Any, target: int) -> None:
        if self.world.assign(symbol.name, LETTER[target]):
            self.via[symbol.name] = tuple(
                name for name in reversed(self._stack) if name != symbol.name
            )

    def _mend(self, symbol: Any, depth: int) -> Iterator[None]:
        """Gives what ``symbol`` selects the dependencies that it needs."""
        if depth > 8:
            return
        goals = []
        for target, condition in self._all_selects(symbol):
            selected = min(self._value(condition), symbol.tri_value)
            if not selected:
                continue
            if target.orig_type == self._lib.BOOL:
                selected = 1
            if self._value(target.direct_dep) < selected:
                goals.append(partial(self.at_least, target.direct_dep, selected))
        if not goals:
            yield
            return
        yield from self._chain(goals)

    def _all_selects(self, symbol: Any) -> list[tuple[Any, Any]]:
        """What it selects, and what those select in turn."""
        found: list[tuple[Any, Any]] = []
        seen = {symbol.name}
        queue = [symbol]
        while queue:
            for target, condition in queue.pop(0).selects:
                if self._value(condition):
                    found.append((target, condition))
                    if target.name not in seen:
                        seen.add(target.name)
                        queue.append(target)
        return found

    def _by_select(self, symbol: Any, term: Any, low: int) -> Iterator[None]:
        """Through what selects (or implies) it, its own dependencies first."""
        for _ in self.at_least(symbol.direct_dep, 1 if symbol.type == self._lib.BOOL else low):
            yield from self.at_least(term, 1 if symbol.type == self._lib.BOOL else low)

    def _both(self, first: Any, second: Any, low: int) -> Iterator[None]:
        for _ in self.at_least(first, low):
            yield from self.at_least(second, low)

    def lower(self, name: str, high: int) -> Iterator[None]:
        """Makes the symbol at most ``high``."""
        self._step()
        world = self.world
        symbol = world.syms[name]
        if symbol.tri_value <= high:
            yield
            return
        decided = world.decisions.get(name)
        if not self._may_touch(symbol) or (decided is not None and TRI.get(decided, 0) > high):
            return
        if high == 0 and name in self._stay_on:
            return
        yield from self._try(
            symbol, lambda: self._ways_down(symbol, high), lambda: symbol.tri_value <= high
        )

    def _ways_down(self, symbol: Any, high: int) -> list[Way]:
        if symbol.choice is not None:
            others = [member for member in symbol.choice.syms if member is not symbol]
            ready = [member for member in others if member.visibility == 2]
            later = [member for member in others if member.visibility != 2]
            ways: list[Way] = [partial(self.reach, other.name, 2) for other in ready + later]
            return [*ways, partial(self.at_most, symbol.direct_dep, high)]
        below = partial(self.at_most, symbol.direct_dep, high)
        return [partial(self._unset, symbol, high), partial(self._undefault, symbol, high), below]

    def _unset(self, symbol: Any, high: int) -> Iterator[None]:
        """Nothing selects it above ``high``, and its prompt says so."""
        world = self.world
        limit = 0 if symbol.type == self._lib.BOOL else high
        for _ in self.at_most(symbol.rev_dep, limit):
            if symbol.tri_value <= high:
                yield
                continue
            mark = world.mark()
            if symbol.visibility:
                self._decide(symbol, limit)
                yield
                world.undo(mark)
                continue
            for node in symbol.nodes:
                if node.prompt:
                    for _ in self.at_least(node.prompt[1], 1):
                        inner = world.mark()
                        self._decide(symbol, limit)
                        yield
                        world.undo(inner)

    def _undefault(self, symbol: Any, high: int) -> Iterator[None]:
        limit = 0 if symbol.type == self._lib.BOOL else high
        active = [c for _, c in symbol.defaults if self._value(c)][:1]
        goals: list[Way] = [partial(self.at_most, symbol.rev_dep, limit)]
        goals += [partial(self.at_most, symbol.weak_rev_dep, limit)]
        goals += [partial(self.at_most, condition, limit) for condition in active]
        yield from self._chain(goals)

    def exactly(self, name: str, value: int) -> Iterator[None]:
        """Makes the symbol just ``value``."""
        if value == 0:
            yield from self.lower(name, 0)
            return
        symbol = self.world.syms[name]
        for _ in self.reach(name, value):
            if symbol.tri_value == value:
                yield
            elif symbol.tri_value > value:
                yield from self.lower(name, value)

    def _text(self, name: str, text: str) -> Iterator[None]:
        """Gives a number or string symbol its value."""
        world = self.world
        symbol = world.symbol(name)
        if symbol is None or symbol.orig_type in world.logical:
            return
        self._stack.append(name)
        try:
            for node in symbol.nodes:
                if not node.prompt:
                    continue
                for _ in self.at_least(node.prompt[1], 1):
                    mark = world.mark()
                    if world.assign(name, text):
                        self.via[name] = ()
                        yield
                    world.undo(mark)
        finally:
            self._stack.pop()

    def _may_touch(self, symbol: Any) -> bool:
        return (
            not symbol.is_constant
            and bool(symbol.nodes)
            and symbol.name not in self.world.frozen
            and symbol.name not in self._stack
            and symbol.name not in self._stay_off
            and symbol.name not in self.world.kconf.transitional
            and symbol.orig_type in self.world.logical
        )
