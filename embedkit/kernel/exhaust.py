"""Tries everything, where everything is little: the last word on small trees and small corners."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from embedkit.kernel.wants import Want
from embedkit.kernel.world import World, choice_conditions

LIMIT = 20_000
# More symbols than this have more combinations than LIMIT, but for freaks.
_LARGEST_CONE = 40


@dataclass(frozen=True)
class Verdict:
    """``decisions`` that fulfil all wants, or None: then ``proven`` says whether all was tried."""

    decisions: dict[str, str] | None
    proven: bool


def exhaust(world: World, wants: Iterable[Want], limit: int = LIMIT) -> Verdict:
    """Searches all assignments of all symbols that could matter, fewest assignments first.

    Leaves the world as its source config has it. Gives up at once where there are more than
    ``limit`` combinations.
    """
    goals = tuple(wants)
    cone = _cone(world, [name for want in goals for name in want.symbols])
    if cone is None:
        return Verdict(None, False)
    variables, exact = _variables(world, cone)
    total = 1
    for _, values in variables:
        total *= 1 + len(values)
        if total > limit:
            return Verdict(None, False)
    world.keep({})
    for size in range(len(variables) + 1):
        for _ in _combinations(world, variables, 0, size):
            if all(world.holds(want) for want in goals) and world.legal():
                found = dict(world.decisions)
                world.keep({})
                return Verdict(found, True)
    world.keep({})
    return Verdict(None, exact)


def _combinations(
    world: World, variables: list[tuple[str, tuple[str, ...]]], start: int, size: int
) -> Iterator[None]:
    if size == 0:
        yield
        return
    for index in range(start, len(variables) - size + 1):
        name, values = variables[index]
        for value in values:
            mark = world.mark()
            if world.assign(name, value):
                yield from _combinations(world, variables, index + 1, size - 1)
            world.undo(mark)


def _variables(world: World, cone: list[Any]) -> tuple[list[tuple[str, tuple[str, ...]]], bool]:
    """What can be set, with its values; and whether numbers and strings play no part."""
    lib = world.lib
    found: list[tuple[str, tuple[str, ...]]] = []
    exact = True
    for symbol in cone:
        if not any(node.prompt for node in symbol.nodes) or symbol.name in world.frozen:
            continue
        if symbol.orig_type == lib.BOOL or (
            symbol.orig_type == lib.TRISTATE and not world.kconf.modules.nodes
        ):
            found.append((symbol.name, ("y", "n")))
        elif symbol.orig_type == lib.TRISTATE:
            found.append((symbol.name, ("y", "m", "n")))
        else:
            exact = False
    return found, exact


def _cone(world: World, names: Iterable[str]) -> list[Any] | None:
    """Every symbol that could matter to ``names``, in a fixed order; None where too many do."""
    queue = [symbol for name in names if (symbol := world.symbol(name)) is not None]
    seen = {symbol.name for symbol in queue}
    found = []
    items = world.lib.expr_items

    def add(symbols: Iterable[Any]) -> None:
        for symbol in sorted(symbols, key=lambda item: item.name or ""):
            if symbol.__class__ is world.lib.Choice:
                for condition in choice_conditions(symbol):
                    add(items(condition))
                add(symbol.syms)
                for default, condition in symbol.defaults:
                    add({default} | items(condition))
            elif not symbol.is_constant and symbol.nodes and symbol.name not in seen:
                seen.add(symbol.name)
                queue.append(symbol)

    if world.kconf.modules.nodes:
        add([world.kconf.modules])
    while queue:
        symbol = queue.pop(0)
        found.append(symbol)
        if len(found) > _LARGEST_CONE:
            return None
        add(world.endangered(symbol))
        for node in symbol.nodes:
            if node.prompt:
                add(items(node.prompt[1]))
        add(items(symbol.direct_dep))
        add(items(symbol.rev_dep))
        add(items(symbol.weak_rev_dep))
        for default, condition in symbol.defaults:
            add(items(default) | items(condition))
        # What it selects must have its needs, or the result is not legal.
        for target, condition in symbol.selects:
            add({target} | items(condition))
        if symbol.choice is not None:
            add([symbol.choice])
    return found
