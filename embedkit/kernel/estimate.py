"""Guesses how much must change for an expression to reach a value: what orders the search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from embedkit.kernel.world import World, choice_conditions

NEVER = 1e9
# Reaching a symbol through what selects it is the detour, its own prompt the way.
SELECT = 2.0
_LOWER = 6.0
_DEPTH = 7
# Turning one of these on works, but brings much that nobody asked for.
_DEAR = {"EXPERT": 8.0, "EMBEDDED": 8.0, "DEBUG_KERNEL": 4.0, "STAGING": 8.0}


class Estimator:
    """``may_touch`` tells whether a symbol is free to change."""

    def __init__(self, world: World, may_touch: Callable[[Any], bool]) -> None:
        self._world = world
        self._may_touch = may_touch
        self._lib = world.lib
        self._value: Callable[[Any], int] = self._lib.expr_value

    def flat(self, expr: Any, operator: Any) -> list[Any]:
        """The operands of a chain of ANDs or ORs."""
        return list(self._lib.split_expr(expr, operator))

    def terms(self, expr: Any) -> list[Any]:
        """The operands of a chain of ORs; none for the constant n."""
        return [] if expr is self._world.kconf.n else self.flat(expr, self._lib.OR)

    def cost(self, expr: Any, low: int, depth: int = _DEPTH) -> float:
        """About how many symbols must change for ``expr`` to be at least ``low``."""
        return self.guess(expr, low, depth, {})

    def guess(self, expr: Any, low: int, depth: int, memo: dict[Any, float]) -> float:
        """cost() with what is already known of other expressions in the same state."""
        if self._value(expr) >= low:
            return 0.0
        if depth == 0:
            return 3.0
        key = (id(expr), low)
        if key not in memo:
            memo[key] = NEVER  # a goal that leads back to itself is no way
            memo[key] = self._unmet(expr, low, depth, memo)
        return memo[key]

    def _unmet(self, expr: Any, low: int, depth: int, memo: dict[Any, float]) -> float:
        lib = self._lib
        if expr.__class__ is tuple:
            if expr[0] == lib.AND:
                parts = self.flat(expr, lib.AND)
                return min(NEVER, sum(self.guess(part, low, depth, memo) for part in parts))
            if expr[0] == lib.OR:
                return min(self.guess(part, low, depth, memo) for part in self.flat(expr, lib.OR))
            return self._down(expr[1]) if expr[0] == lib.NOT else _LOWER
        if expr.__class__ is lib.Choice:
            costs = [self.guess(c, low, depth - 1, memo) for c in choice_conditions(expr)]
            return min(costs, default=NEVER)
        if not self._may_touch(expr) or self._world.decisions.get(expr.name) == "n":
            return NEVER
        return min(NEVER, self._symbol(expr, low, depth, memo) + 1.0 + _DEAR.get(expr.name, 0.0))

    def _symbol(self, symbol: Any, low: int, depth: int, memo: dict[Any, float]) -> float:
        best = NEVER
        need = 1 if symbol.type == self._lib.BOOL else low
        for node in symbol.nodes:
            if node.prompt:
                best = min(best, self.guess(node.prompt[1], need, depth - 1, memo))
        if best < NEVER:
            return best
        for default, condition in symbol.defaults:
            cost = self.guess(condition, low, depth - 1, memo)
            best = min(best, cost + self.guess(default, low, depth - 1, memo))
        for term in self.terms(symbol.rev_dep) + self.terms(symbol.weak_rev_dep):
            best = min(best, SELECT + self.guess(term, low, depth - 1, memo))
        return best

    def _down(self, expr: Any) -> float:
        if expr.__class__ is tuple:
            return _LOWER
        return NEVER if expr.is_constant or not self._may_touch(expr) else _LOWER


class Memo:
    """Costs of many expressions while nothing changes in between."""

    def __init__(self, estimator: Estimator) -> None:
        self._estimator = estimator
        self._known: dict[Any, float] = {}

    def cost(self, expr: Any, low: int) -> float:
        """As Estimator.cost()."""
        return self._estimator.guess(expr, low, _DEPTH, self._known)
