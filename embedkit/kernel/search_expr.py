"""Goals on expressions, split along AND, OR, NOT and relations into goals on symbols."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from embedkit.kernel.estimate import NEVER, Estimator, Memo
from embedkit.kernel.world import World, choice_conditions

# A way to a goal: makes it hold, yields, and goes on to the next possibility.
Way = Callable[[], Iterator[None]]


class GaveUp(Exception):
    """The step budget of one want is used up."""


class Goals(ABC):
    """What a search does with expressions; reaching symbols is the subclass's part."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._lib = world.lib
        self._value: Callable[[Any], int] = self._lib.expr_value
        self._steps = 0
        self._estimate = Estimator(world, self._may_touch)

    @abstractmethod
    def reach(self, name: str, low: int) -> Iterator[None]:
        """Makes the symbol at least ``low``."""

    @abstractmethod
    def lower(self, name: str, high: int) -> Iterator[None]:
        """Makes the symbol at most ``high``."""

    @abstractmethod
    def exactly(self, name: str, value: int) -> Iterator[None]:
        """Makes the symbol just ``value``."""

    @abstractmethod
    def _text(self, name: str, text: str) -> Iterator[None]:
        """Gives a number or string symbol its value."""

    @abstractmethod
    def _may_touch(self, symbol: Any) -> bool:
        """Whether the search is free to change the symbol."""

    def at_least(self, expr: Any, low: int) -> Iterator[None]:
        """Makes the expression at least ``low``."""
        self._step()
        lib = self._lib
        if self._value(expr) >= low:
            yield
            return
        if expr.__class__ is not tuple:
            yield from self._leaf(expr, low)
        elif expr[0] == lib.AND:
            # The harder half first: what cannot be had is found out before work is done.
            parts = sorted(
                self._flat(expr, lib.AND), key=lambda part: -self._estimate.cost(part, low, 4)
            )
            for _ in self._chain([partial(self.at_least, part, low) for part in parts]):
                if self._value(expr) >= low:
                    yield
        elif expr[0] == lib.OR:
            estimate = Memo(self._estimate)
            rated = [
                (estimate.cost(part, low), index, part)
                for index, part in enumerate(self._flat(expr, lib.OR))
            ]
            for cost, _, part in sorted(rated, key=lambda item: item[:2]):
                if cost < NEVER:
                    yield from self.at_least(part, low)
        elif expr[0] == lib.NOT:
            yield from self.at_most(expr[1], 2 - low)
        else:
            yield from self._relation(expr, True)

    def at_most(self, expr: Any, high: int) -> Iterator[None]:
        """Makes the expression at most ``high``."""
        self._step()
        lib = self._lib
        if self._value(expr) <= high:
            yield
            return
        if expr.__class__ is not tuple:
            if expr.__class__ is lib.Symbol and not expr.is_constant and expr.nodes:
                yield from self.lower(expr.name, high)
            return
        if expr[0] == lib.AND:
            for part in self._flat(expr, lib.AND):
                yield from self.at_most(part, high)
        elif expr[0] == lib.OR:
            parts = self._flat(expr, lib.OR)
            for _ in self._chain([partial(self.at_most, part, high) for part in parts]):
                if self._value(expr) <= high:
                    yield
        elif expr[0] == lib.NOT:
            yield from self.at_least(expr[1], 2 - high)
        else:
            yield from self._relation(expr, False)

    def _leaf(self, item: Any, low: int) -> Iterator[None]:
        if item.__class__ is self._lib.Choice:
            for condition in choice_conditions(item):
                yield from self.at_least(condition, low)
        elif not item.is_constant and item.nodes:
            yield from self.reach(item.name, low)

    def _relation(self, expr: Any, truth: bool) -> Iterator[None]:
        """``A = m`` and the like: any value of the changeable side that makes it come true."""
        for side, other in ((1, 2), (2, 1)):
            symbol, constant = expr[side], expr[other]
            if symbol.is_constant or not symbol.nodes:
                continue
            if symbol.orig_type in self.world.logical:
                now = symbol.tri_value
                for value in sorted((0, 1, 2), key=lambda v: (abs(v - now), v)):
                    for _ in self.exactly(symbol.name, value):
                        if bool(self._value(expr)) == truth:
                            yield
            elif truth and expr[0] == self._lib.EQUAL:
                for _ in self._text(symbol.name, constant.str_value):
                    if self._value(expr):
                        yield

    # Helpers

    def _chain(self, goals: Sequence[Way]) -> Iterator[None]:
        """All goals one after the other, every combination of their ways."""
        if not goals:
            yield
            return
        for _ in goals[0]():
            yield from self._chain(goals[1:])

    def _flat(self, expr: Any, operator: Any) -> list[Any]:
        return self._estimate.flat(expr, operator)

    def _terms(self, expr: Any) -> list[Any]:
        return self._estimate.terms(expr)

    def _step(self) -> None:
        self._steps -= 1
        if self._steps < 0:
            raise GaveUp
