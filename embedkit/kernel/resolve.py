"""From a config and wants to the smallest set of assignments that keeps them, with reasons.

The plan is made on the real Kconfig tree: every want is followed along its dependencies,
choices, selects and implies; what is found is minimised; and the result is written, read anew
and checked by Kconfig's own evaluation before it is believed.
"""

from __future__ import annotations

from collections.abc import Iterable

from embedkit.errors import InputError, did_you_mean
from embedkit.kernel.config import KernelConfig
from embedkit.kernel.engine import Engine
from embedkit.kernel.tree import KernelTree
from embedkit.kernel.wants import (
    Assignment,
    Change,
    Obstacle,
    Prefer,
    Refused,
    Resolution,
    Want,
)
from embedkit.kernel.world import World

PREREQUISITES = "prerequisites"


def resolve(
    tree: KernelTree,
    source: KernelConfig,
    wants: Iterable[Want],
    *,
    allow: Iterable[str] = (),
    prefer: Prefer = Prefer.AUTO,
) -> Resolution:
    """The plan that makes ``source`` fulfil ``wants`` on ``tree``.

    Protected symbols stay as they are, except those in ``allow`` and those that a want of level
    ``asked`` names. What cannot be had is in the result's ``refused``; the rest is planned all
    the same. Equal inputs give equal plans. Raises InputError for a name in ``allow`` that the
    tree does not have.
    """
    goals = _distinct(wants)
    allowed = [name.removeprefix("CONFIG_") for name in allow]
    for name in allowed:
        if not tree.has(name):
            raise InputError(
                f"--allow {name}: this kernel has no such symbol",
                hint=did_you_mean(name, tree.symbols),
            )
    asked = [name for want in goals if want.level == "asked" for name in want.symbols]
    world = World(tree, source, [*allowed, *asked])
    already = tuple(want for want in goals if world.holds(want))
    engine = Engine(world, prefer)
    engine.run(goals)
    return _finished(engine, already)


def _distinct(wants: Iterable[Want]) -> list[Want]:
    """Without repetitions; the first of equal symbols and values gives the reason."""
    found: dict[tuple[tuple[str, ...], str], Want] = {}
    for want in wants:
        found.setdefault((want.symbols, want.value), want)
    return list(found.values())


def _finished(engine: Engine, already: tuple[Want, ...]) -> Resolution:
    world = engine.world
    assignments = _assignments(engine)
    patched = _patched(world, assignments)
    before = dict(world.base_values)
    tree = world.tree
    tree.load(patched)
    full, minimal = tree.full_config(), tree.minimal_config()
    after = {name: tree.value(name) for name in before}
    lost = [want for want in engine.held if not world.holds(want)]
    # A .config that says everything must say the same: the kernel build reads it once more.
    tree.load(full)
    lost += [want for want in engine.held if want not in lost and not world.holds(want)]
    refused = [
        *engine.refused,
        *(
            Refused(want, Obstacle.NOT_FOUND, "it is lost when the result is read again")
            for want in lost
        ),
    ]
    assigned = {assignment.symbol for assignment in assignments}
    changes = tuple(
        Change(name, before[name], after[name])
        for name in before
        if before[name] != after[name] and name not in assigned
    )
    return Resolution(
        assignments,
        tuple(want for want in engine.held if want not in lost),
        tuple(want for want in already if want in engine.held),
        tuple(refused),
        changes,
        patched,
        full,
        minimal,
        tree.notes,
    )


def _patched(world: World, assignments: tuple[Assignment, ...]) -> KernelConfig:
    """The source's text with the assignments made.

    In a choice the last y of a file wins, so the other members' y goes.
    """
    values = {assignment.symbol: assignment.raw for assignment in assignments}
    for assignment in assignments:
        choice = world.syms[assignment.symbol].choice
        if choice is not None and assignment.value == "y":
            for member in choice.syms:
                if world.source.values.get(member.name) == "y":
                    values.setdefault(member.name, "n")
    return world.source.with_values(values)


def _assignments(engine: Engine) -> tuple[Assignment, ...]:
    """Every decision with its reason, grouped by feature in the order of the wants."""
    world = engine.world
    wanted = {name: want for want in reversed(engine.held) for name in want.symbols}
    found = []
    for name, value in world.decisions.items():
        symbol = world.syms[name]
        want = wanted.get(name)
        if want is not None and not want.accepts(value):
            want = None
        parent = "" if want is not None else _parent(engine, name, wanted)
        root = want or _root(engine, name, wanted)
        found.append(
            Assignment(
                name,
                value,
                world.base_values[name],
                root.feature if root and root.feature else PREREQUISITES,
                _reason(engine, want) if want else _because(world, name, value, parent),
                parent,
                want,
                world.tree.where(name),
                symbol.orig_type == world.lib.STRING,
            )
        )
    features = [want.feature or PREREQUISITES for want in engine.held]
    rank = {feature: index for index, feature in reversed(list(enumerate(features)))}
    return tuple(sorted(found, key=lambda item: rank.get(item.feature, len(rank))))


def _reason(engine: Engine, want: Want) -> str:
    if want.level != "keep":
        return want.reason
    return "it was on, and would be lost with the other changes"


def _parent(engine: Engine, name: str, wanted: dict[str, Want]) -> str:
    """The symbol for whose sake ``name`` is set."""
    decided = engine.world.decisions
    for parent in engine.search.via.get(name, ()):
        if parent in wanted or parent in decided:
            return parent
    broken = _broken_without(engine, name)
    return broken[0].symbol if broken else ""


def _broken_without(engine: Engine, name: str) -> list[Want]:
    world = engine.world
    kept = dict(world.decisions)
    world.keep({symbol: value for symbol, value in kept.items() if symbol != name})
    broken = [want for want in engine.held if not world.holds(want)]
    world.keep(kept)
    return broken


def _root(engine: Engine, name: str, wanted: dict[str, Want]) -> Want | None:
    """The want for whose sake ``name`` is set in the end."""
    for parent in (name, *engine.search.via.get(name, ())):
        if parent in wanted:
            return wanted[parent]
    broken = _broken_without(engine, name)
    return broken[0] if broken else None


def _because(world: World, name: str, value: str, parent: str) -> str:
    before = world.base_values[name]
    state = {"n": "off", "m": "a module", "y": "on"}.get(before, f"'{before}'")
    if not parent:
        return f"it was {state}"
    if value == "n":
        return f"{parent} needs {name} off, which was {state}"
    selected = {target.name for target, _ in world.syms[name].selects}
    if parent in selected:
        return f"{parent} has no other way to be turned on than {name}, which was {state}"
    if before == "m" and value == "y":
        return f"{parent} needs {name} built in, which was a module"
    return f"{parent} needs {name}, which was {state}"
