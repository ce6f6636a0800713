"""What values a symbol can have at all, whatever the user sets: proofs that something cannot be.

Every symbol and expression gets the set of values that it could take, too large rather than too
small: operands are taken as independent, and a loop counts as "anything". What is outside such
a set is impossible for certain; what is inside may still not be reachable together with the
rest. Sets are frozensets of kconfiglib's 0 (n), 1 (m), 2 (y).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from embedkit.kernel.world import TRI, World, choice_conditions

Values = frozenset[int]
_ALL: Values = frozenset((0, 1, 2))
_OFF: Values = frozenset((0,))
_SWITCH: Values = frozenset((0, 2))


class Reach:
    """Possible values in one World.

    ``frozen`` symbols keep their values in the source config. ``assumed`` (symbol → values)
    narrows symbols to what other wants need, for conflicts.
    """

    def __init__(
        self, world: World, frozen: Iterable[str], assumed: Mapping[str, Values] | None = None
    ) -> None:
        self._world = world
        self._lib = world.lib
        self._frozen = frozenset(frozen)
        self._assumed = dict(assumed or {})
        self._known: dict[Any, Values] = {}
        self._open: set[Any] = set()

    def of(self, name: str) -> Values:
        """The values that the symbol could have; {0} where the tree does not define it."""
        symbol = self._world.symbol(name)
        return _OFF if symbol is None else self._item(symbol)

    def contradictory(self) -> str | None:
        """The first assumed symbol that cannot have any of its assumed values, or None."""
        for name in self._assumed:
            if not self.of(name):
                return name
        return None

    def of_expr(self, expr: Any) -> Values:
        """The values that an expression could have."""
        lib = self._lib
        if expr.__class__ is not tuple:
            return self._item(expr)
        if expr[0] == lib.AND:
            left, right = self.of_expr(expr[1]), self.of_expr(expr[2])
            return frozenset(min(a, b) for a in left for b in right)
        if expr[0] == lib.OR:
            left, right = self.of_expr(expr[1]), self.of_expr(expr[2])
            return frozenset(max(a, b) for a in left for b in right)
        if expr[0] == lib.NOT:
            return frozenset(2 - value for value in self.of_expr(expr[1]))
        return self._relation(expr)

    def _relation(self, expr: Any) -> Values:
        relation, left, right = expr
        world = self._world
        if self._settled(left) and self._settled(right):
            return frozenset((self._lib.expr_value(expr),))
        for symbol, other in ((left, right), (right, left)):
            if (
                symbol.orig_type in world.logical
                and other.is_constant
                and other.name in TRI
                and relation in (self._lib.EQUAL, self._lib.UNEQUAL)
            ):
                equal = relation == self._lib.EQUAL
                return frozenset(
                    2 if (value == TRI[other.name]) == equal else 0 for value in self._item(symbol)
                )
        return _SWITCH

    def _settled(self, symbol: Any) -> bool:
        """Whether its text can never change: a constant, or nothing that the user can set."""
        if symbol.is_constant or not symbol.nodes or symbol.name in self._frozen:
            return True
        return (
            symbol.orig_type not in self._world.logical
            and not any(node.prompt for node in symbol.nodes)
            and all(
                (default.is_constant if hasattr(default, "is_constant") else False)
                and condition is self._world.kconf.y
                for default, condition in symbol.defaults[:1]
            )
        )

    def _item(self, item: Any) -> Values:
        known = self._known.get(item)
        if known is not None:
            return known
        if item in self._open:
            return _ALL
        self._open.add(item)
        try:
            values = self._choice(item) if item.__class__ is self._lib.Choice else self._of(item)
            assumed = self._assumed.get(item.name) if item.name else None
            if assumed is not None and item.__class__ is not self._lib.Choice:
                values &= assumed
        finally:
            self._open.discard(item)
        self._known[item] = values
        return values

    def _of(self, symbol: Any) -> Values:
        if symbol.is_constant or not symbol.nodes:
            return frozenset((symbol.tri_value,))
        if symbol.orig_type not in self._world.logical:
            return _OFF
        if symbol.name in self._frozen:
            return frozenset((TRI[self._world.base_values[symbol.name]],))
        boolean = symbol.orig_type == self._lib.BOOL or not self._modules()
        visible = self._prompts(symbol)
        highest = max(visible, default=0)
        if symbol.choice is not None:
            return _promoted(frozenset(range(highest + 1)), boolean)
        values: set[int] = set(range(highest + 1)) if highest else set()
        # A user value counts in full only where it is visible; elsewhere the defaults do, and
        # leaving a symbol unset brings them in, too.
        values |= self._defaults(symbol)
        if symbol.weak_rev_dep is not self._world.kconf.n:
            # The direct dependency may cut an implied value down to anything below.
            implied = max(self.of_expr(symbol.weak_rev_dep), default=0)
            values |= set(range(implied + 1))
        if symbol.rev_dep is not self._world.kconf.n:
            selected = self.of_expr(symbol.rev_dep)
            values = {max(a, b) for a in values for b in selected}
        return _promoted(frozenset(values), boolean)

    def _modules(self) -> bool:
        modules = self._world.kconf.modules
        if not modules.nodes:
            return False
        return modules.name not in self._frozen or self._world.base_values[modules.name] == "y"

    def _prompts(self, symbol: Any) -> Values:
        values = {0}
        for node in symbol.nodes:
            if node.prompt:
                values = {max(a, b) for a in values for b in self.of_expr(node.prompt[1])}
        return frozenset(values) or _OFF

    def _defaults(self, symbol: Any) -> set[int]:
        values: set[int] = set()
        for default, condition in symbol.defaults:
            possible = self.of_expr(condition)
            given = self.of_expr(default)
            values |= {min(a, b) for a in given for b in possible if b}
            if 0 not in possible:
                return values
        return values | {0}

    def _choice(self, choice: Any) -> Values:
        highest = 0
        for condition in choice_conditions(choice):
            highest = max(highest, max(self.of_expr(condition), default=0))
        return frozenset(range(highest + 1)) | (_SWITCH if highest else _OFF)


def _promoted(values: Values, boolean: bool) -> Values:
    return frozenset(2 if value == 1 else value for value in values) if boolean else values
