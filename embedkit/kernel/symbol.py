"""Everything about one symbol on a real tree: where it is, what holds it, what it would bring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from embedkit.errors import InputError, did_you_mean
from embedkit.kernel.blame import missing_symbol
from embedkit.kernel.config import KernelConfig
from embedkit.kernel.protected import protection
from embedkit.kernel.resolve import resolve
from embedkit.kernel.tree import KernelTree
from embedkit.kernel.wants import Assignment, Refused, Resolution, Want

_LETTERS = "nmy"


@dataclass(frozen=True)
class Prompt:
    """One definition with its place in menuconfig; ``menus`` lead to it from the top."""

    text: str
    menus: tuple[str, ...]
    where: str
    visible: bool


@dataclass(frozen=True)
class Condition:
    """One part of a dependency, as it stands now; ``blocking`` where it keeps the symbol off."""

    text: str
    value: str
    blocking: bool
    symbols: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Link:
    """A symbol that selects or implies this one; ``active`` where it does so now."""

    symbol: str
    value: str
    condition: str
    active: bool


@dataclass(frozen=True)
class SymbolView:
    """What is to be said of a symbol.

    ``depends`` are the parts that must all hold. ``pulls_in`` is what turning it on would set
    besides; ``refused`` says why it cannot be turned on, where it cannot.
    """

    name: str
    type: str
    value: str
    prompts: tuple[Prompt, ...]
    places: tuple[str, ...]
    help: str
    depends: tuple[Condition, ...]
    selected_by: tuple[Link, ...]
    implied_by: tuple[Link, ...]
    selects: tuple[str, ...]
    defaults: tuple[str, ...]
    choice: tuple[str, ...]
    protected: str
    pulls_in: tuple[Assignment, ...]
    refused: Refused | None


def view(tree: KernelTree, config: KernelConfig, name: str) -> SymbolView:
    """The symbol ``name`` on ``tree`` with ``config`` in it.

    Raises InputError, with the reason and a guess, where this kernel does not have it.
    """
    name = name.removeprefix("CONFIG_")
    if not tree.has(name):
        raise InputError(
            missing_symbol(tree, name).chain,
            where=str(tree.path),
            hint=did_you_mean(name, tree.symbols),
        )
    tree.load(config)
    symbol = tree.kconf.syms[name]
    reader = _Reader(tree)
    guard = protection(name, tuple(node.filename for node in symbol.nodes))
    prompts = reader.prompts(symbol)
    conditions = reader.conditions(symbol)
    selected, implied = reader.links(symbol.rev_dep), reader.links(symbol.weak_rev_dep)
    value = str(symbol.str_value)
    plan = _turned_on(tree, config, symbol)
    return SymbolView(
        name=name,
        type=reader.type_of(symbol),
        value=value,
        prompts=prompts,
        places=tuple(f"{node.filename}:{node.linenr}" for node in symbol.nodes),
        help=next((str(node.help).strip() for node in symbol.nodes if node.help), ""),
        depends=conditions,
        selected_by=selected,
        implied_by=implied,
        selects=reader.selects(symbol),
        defaults=reader.defaults(symbol),
        choice=tuple(item.name for item in symbol.choice.syms) if symbol.choice else (),
        protected=guard.why if guard is not None and prompts else "",
        pulls_in=tuple(i for i in plan.assignments if i.symbol != name) if plan else (),
        refused=plan.refused[0] if plan and plan.refused else None,
    )


def _turned_on(tree: KernelTree, config: KernelConfig, symbol: Any) -> Resolution | None:
    """The plan for turning it on; None where it is on, or no switch."""
    lib = _library()
    if symbol.orig_type not in (lib.BOOL, lib.TRISTATE) or symbol.tri_value:
        return None
    return resolve(tree, config, [Want(symbol.name)])


def _library() -> Any:
    from embedkit.kernel import _kconfiglib

    return _kconfiglib.load()


class _Reader:
    def __init__(self, tree: KernelTree) -> None:
        self._lib = _library()
        self._tree = tree

    def text(self, expr: Any) -> str:
        return str(self._lib.expr_str(expr))

    def value(self, expr: Any) -> str:
        return _LETTERS[self._lib.expr_value(expr)]

    def type_of(self, symbol: Any) -> str:
        return str(self._lib.TYPE_TO_STR[symbol.orig_type])

    def prompts(self, symbol: Any) -> tuple[Prompt, ...]:
        if symbol.name in self._tree.kconf.transitional:
            return ()
        return tuple(
            Prompt(
                node.prompt[0],
                self._menus(node),
                f"{node.filename}:{node.linenr}",
                bool(self._lib.expr_value(node.prompt[1])),
            )
            for node in symbol.nodes
            if node.prompt
        )

    def _menus(self, node: Any) -> tuple[str, ...]:
        """The titles from menuconfig's top down to the menu that holds ``node``."""
        found = []
        parent = node.parent
        while parent is not None and parent is not self._tree.kconf.top_node:
            if parent.prompt:
                found.append(str(parent.prompt[0]))
            parent = parent.parent
        return tuple(reversed(found))

    def conditions(self, symbol: Any) -> tuple[Condition, ...]:
        """What has to hold for the symbol to be on offer; of several prompts, the nearest."""
        expressions = [node.prompt[1] for node in symbol.nodes if node.prompt]
        if not expressions:
            expressions = [symbol.direct_dep]
        best = max(expressions, key=self._lib.expr_value)
        parts = self._lib.split_expr(best, self._lib.AND)
        found = {
            self.text(part): self._condition(part)
            for part in parts
            if part is not self._tree.kconf.y
        }
        return tuple(found.values())

    def _condition(self, part: Any) -> Condition:
        value = self._lib.expr_value(part)
        items = sorted(
            (item for item in self._lib.expr_items(part) if item.name),
            key=lambda item: str(item.name),
        )
        symbols = tuple(
            (str(item.name), str(item.str_value))
            for item in items
            if not getattr(item, "is_constant", False)
        )
        return Condition(self.text(part), _LETTERS[value], value == 0, symbols)

    def links(self, expr: Any) -> tuple[Link, ...]:
        """Who selects (or implies) it: ``A`` or ``A && condition`` each."""
        if expr is self._tree.kconf.n:
            return ()
        found = []
        for term in self._lib.split_expr(expr, self._lib.OR):
            first, *rest = self._lib.split_expr(term, self._lib.AND)
            name = str(getattr(first, "name", None) or self.text(first))
            condition = " && ".join(self.text(part) for part in rest)
            active = bool(self._lib.expr_value(term))
            found.append(Link(name, self.value(first), condition, active))
        return tuple(sorted(found, key=lambda link: (not link.active, link.symbol)))

    def selects(self, symbol: Any) -> tuple[str, ...]:
        return tuple(
            target.name + (f" if {self.text(c)}" if c is not self._tree.kconf.y else "")
            for target, c in symbol.orig_selects
        )

    def defaults(self, symbol: Any) -> tuple[str, ...]:
        return tuple(
            self.text(value) + (f" if {self.text(c)}" if c is not self._tree.kconf.y else "")
            for value, c in symbol.orig_defaults
        )
