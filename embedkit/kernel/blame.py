"""Says in a sentence why a symbol cannot be turned on, or what its value hangs on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedkit.errors import did_you_mean
from embedkit.kernel.reach import Reach
from embedkit.kernel.tree import KernelTree
from embedkit.kernel.wants import Obstacle
from embedkit.kernel.world import World, choice_conditions

_DEPTH = 12


@dataclass(frozen=True)
class Blame:
    """Where a chain of needs ends: ``subject`` and what is to be said of it, as text."""

    obstacle: Obstacle
    subject: str
    says: str
    symbols: tuple[str, ...] = ()

    @property
    def chain(self) -> str:
        """The whole chain as one sentence."""
        return f"{self.subject} {self.says}"

    def behind(self, name: str, link: str) -> Blame:
        """The chain that begins one symbol earlier: ``name`` needs this."""
        return Blame(self.obstacle, name, f"{link} {self.subject}, which {self.says}", self.symbols)


def missing_symbol(tree: KernelTree, name: str) -> Blame:
    """Why the loaded tree does not define ``name``: unknown at all, or another architecture's."""
    elsewhere = _defined_elsewhere(tree, name)
    if elsewhere:
        return Blame(
            Obstacle.ARCHITECTURE,
            name,
            f"exists only for other architectures ({', '.join(elsewhere)}), "
            f"not for {tree.srcarch or 'this one'}",
        )
    release = f"kernel {tree.release}" if tree.release else "this kernel"
    guess = did_you_mean(name, tree.symbols)
    return Blame(
        Obstacle.UNKNOWN, name, f"does not exist in {release}" + (f" ({guess})" if guess else "")
    )


def _defined_elsewhere(tree: KernelTree, name: str) -> list[str]:
    pattern = re.compile(rf"^\s*(?:menu)?config\s+{re.escape(name)}\s*$", re.MULTILINE)
    found = []
    for folder in sorted(Path(tree.path, "arch").glob("*")):
        if folder.name == tree.srcarch or not folder.is_dir():
            continue
        for file in folder.rglob("Kconfig*"):
            try:
                text = file.read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            if name in text and pattern.search(text):
                found.append(folder.name)
                break
    return found


class Blamer:
    """Follows what blocks a symbol down to where it ends."""

    def __init__(self, world: World, reach: Reach) -> None:
        self._world = world
        self._reach = reach
        self._lib = world.lib
        self._seen: set[str] = set()

    def raising(self, name: str, low: int) -> Blame:
        """Why the symbol cannot reach ``low`` (1: at least m, 2: y)."""
        self._seen = set()
        return self._symbol(self._world.syms[name], low, 0)

    def lowering(self, name: str) -> Blame:
        """Why the symbol cannot be turned off."""
        symbol = self._world.syms[name]
        if name in self._world.frozen:
            return self._frozen(name)
        for term in self._terms(symbol.rev_dep):
            if 0 not in self._reach.of_expr(term):
                text = self.text(term)
                return Blame(
                    Obstacle.IMPOSSIBLE, name, f"is selected by {text}, which cannot be turned off"
                )
        if not any(node.prompt for node in symbol.nodes):
            return Blame(Obstacle.IMPOSSIBLE, name, "has no prompt, and its default turns it on")
        return Blame(Obstacle.IMPOSSIBLE, name, "cannot be turned off by anything that may change")

    def _frozen(self, name: str) -> Blame:
        why = self._world.protections[name].why
        value = self._world.base_values[name]
        return Blame(Obstacle.PROTECTED, name, f"is {value} and protected: {why}", (name,))

    def _symbol(self, symbol: Any, low: int, depth: int) -> Blame:
        name = symbol.name
        if symbol.is_constant:
            return Blame(Obstacle.IMPOSSIBLE, f"'{name}'", "is a constant")
        if not symbol.nodes:
            return missing_symbol(self._world.tree, name)
        if name in self._world.frozen:
            return self._frozen(name)
        if name in self._seen or depth > _DEPTH:
            return Blame(Obstacle.IMPOSSIBLE, name, "cannot be turned on")
        self._seen.add(name)
        conditions = [node.prompt[1] for node in symbol.nodes if node.prompt]
        boolean = symbol.orig_type == self._lib.BOOL
        need = 1 if boolean else low
        if conditions:
            return self._alternatives(conditions, need, depth).behind(name, "needs")
        terms = self._terms(symbol.rev_dep)
        if not terms and not symbol.defaults:
            return Blame(Obstacle.IMPOSSIBLE, name, "has no prompt, and nothing turns it on")
        defaults = [
            part
            for default, condition in symbol.defaults
            for part in (condition, default)
            if max(self._reach.of_expr(part), default=0) < need
        ]
        link = "follows" if defaults else "is only turned on by"
        return self._alternatives([*defaults, *terms], need, depth).behind(name, link)

    def _alternatives(self, parts: list[Any], need: int, depth: int) -> Blame:
        """The most telling of several dead ends: a protected symbol before a missing one."""
        order = [
            Obstacle.PROTECTED,
            Obstacle.CONFLICT,
            Obstacle.IMPOSSIBLE,
            Obstacle.ARCHITECTURE,
            Obstacle.UNKNOWN,
        ]
        blames = [self._expr(part, need, depth + 1) for part in parts]
        if not blames:
            return Blame(Obstacle.IMPOSSIBLE, "something", "cannot be had")
        return min(blames, key=lambda blame: order.index(blame.obstacle))

    def _expr(self, expr: Any, need: int, depth: int) -> Blame:
        lib = self._lib
        if expr.__class__ is not tuple:
            if expr.__class__ is lib.Choice:
                return self._alternatives(choice_conditions(expr), need, depth)
            if expr is self._world.kconf.n or (expr.is_constant and expr.tri_value < need):
                if expr.name == "m":
                    return Blame(Obstacle.IMPOSSIBLE, "MODULES", "is off in this config")
                return Blame(Obstacle.ARCHITECTURE, "something", "this tree answers with n")
            return self._symbol(expr, need, depth)
        if expr[0] == lib.AND:
            blocking = [
                part
                for part in lib.split_expr(expr, lib.AND)
                if max(self._reach.of_expr(part), default=0) < need
            ]
            if not blocking:
                return Blame(Obstacle.IMPOSSIBLE, self.text(expr), "cannot come true")
            return self._expr(blocking[0], need, depth)
        if expr[0] == lib.OR:
            return self._alternatives(list(lib.split_expr(expr, lib.OR)), need, depth)
        if expr[0] == lib.NOT:
            return self._negated(expr[1])
        return Blame(Obstacle.IMPOSSIBLE, self.text(expr), "cannot come true")

    def _negated(self, inner: Any) -> Blame:
        text = self.text(inner)
        if inner.__class__ is self._lib.Symbol and inner.name in self._world.frozen:
            return self._frozen(inner.name).behind(f"{text}=n", "cannot be had:")
        return Blame(Obstacle.IMPOSSIBLE, f"{text}=n", "cannot be had")

    def _terms(self, expr: Any) -> list[Any]:
        if expr is self._world.kconf.n:
            return []
        return list(self._lib.split_expr(expr, self._lib.OR))

    def text(self, expr: Any) -> str:
        """An expression as Kconfig writes it."""
        return str(self._lib.expr_str(expr))
