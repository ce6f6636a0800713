"""A configuration under trial: assign, look, take back. The resolver's only hand on kconfiglib."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from embedkit.kernel.config import KernelConfig
from embedkit.kernel.protected import Protection
from embedkit.kernel.tree import KernelTree
from embedkit.kernel.wants import Want

TRI = {"n": 0, "m": 1, "y": 2}
LETTER = "nmy"


class World:
    """One tree with one source config, and the assignments that are being tried on it.

    ``frozen`` holds the protected symbols' names; their values must stay what they were.
    """

    def __init__(self, tree: KernelTree, source: KernelConfig, allowed: Iterable[str] = ()) -> None:
        self.tree = tree
        self.source = source
        self.kconf: Any = tree.kconf
        self.syms: dict[str, Any] = self.kconf.syms
        self.protections = _protections(tree)
        self.frozen = frozenset(self.protections) - frozenset(allowed)
        self.decisions: dict[str, str] = {}
        self._trail: list[tuple[Any, Any, Any, str | None]] = []
        tree.load(source)
        self.base_values = {
            symbol.name: symbol.str_value for symbol in self.kconf.unique_defined_syms
        }
        self._user_base: dict[str, Any] = {}
        self._choice_base: dict[Any, Any] = {}
        self._selected = [
            symbol
            for symbol in self.kconf.unique_defined_syms
            if symbol.rev_dep is not self.kconf.n and symbol.orig_type in self.logical
        ]
        self._base_unmet = self._unmet_now()

    @property
    def lib(self) -> Any:
        """The adapted kconfiglib module."""
        from embedkit.kernel import _kconfiglib

        return _kconfiglib.load()

    @property
    def logical(self) -> tuple[int, int]:
        """kconfiglib's types BOOL and TRISTATE."""
        lib = self.lib
        return (lib.BOOL, lib.TRISTATE)

    def symbol(self, name: str) -> Any | None:
        """kconfiglib's symbol, or None where the tree does not define it."""
        found = self.syms.get(name)
        return found if found is not None and found.nodes else None

    def assign(self, name: str, value: str) -> bool:
        """Gives a symbol a user value as a line in a .config does. False for a bad value."""
        symbol = self.syms[name]
        choice = symbol.choice
        self._remember(symbol)
        self._trail.append(
            (
                symbol,
                symbol.user_value,
                _choice_state(choice),
                self.decisions.get(name),
            )
        )
        # A .config line of a choice's member sets the choice's mode as well (confdata.c).
        if choice is not None and value in ("y", "m"):
            choice.set_value(value)
        if not symbol.set_value(value):
            self.undo(len(self._trail) - 1)
            return False
        # The newest decision comes last: minimising takes them back in reverse.
        self.decisions.pop(name, None)
        self.decisions[name] = value
        return True

    def mark(self) -> int:
        """A point to come back to with undo()."""
        return len(self._trail)

    def undo(self, mark: int) -> None:
        """Takes back every assignment since ``mark``."""
        while len(self._trail) > mark:
            symbol, user, state, decided = self._trail.pop()
            symbol.user_value = user
            symbol._rec_invalidate()
            _restore(symbol.choice, state)
            if decided is None:
                self.decisions.pop(symbol.name, None)
            else:
                self.decisions[symbol.name] = decided

    def keep(self, decisions: dict[str, str]) -> None:
        """Starts again from the source config with exactly ``decisions``, in their order."""
        self._trail.clear()
        for name, user in self._user_base.items():
            self.syms[name].user_value = user
            self.syms[name]._rec_invalidate()
        for choice, state in self._choice_base.items():
            _restore(choice, state)
        self.decisions = {}
        for name, value in decisions.items():
            self.assign(name, value)
        self._trail.clear()

    def drop_if(self, name: str, still_fine: Callable[[], bool]) -> bool:
        """Takes one decision back, for good if ``still_fine`` afterwards. True where it went.

        Only between searches: what undo() could come back to is forgotten.
        """
        kept = self.decisions
        symbol = self.syms[name]
        self._trail.clear()
        if symbol.choice is not None:
            # The members of a choice hang together: their order counts.
            self.keep({other: value for other, value in kept.items() if other != name})
            if still_fine():
                return True
            self.keep(kept)
            return False
        self.decisions = {other: value for other, value in kept.items() if other != name}
        decided, symbol.user_value = symbol.user_value, self._user_base[name]
        symbol._rec_invalidate()
        if still_fine():
            return True
        self.decisions = kept
        symbol.user_value = decided
        symbol._rec_invalidate()
        return False

    def _remember(self, symbol: Any) -> None:
        choice = symbol.choice
        self._user_base.setdefault(symbol.name, symbol.user_value)
        if choice is not None:
            self._choice_base.setdefault(choice, _choice_state(choice))

    def value(self, name: str) -> str:
        """The symbol's value now; n where the tree does not define it."""
        found = self.symbol(name)
        return str(found.str_value) if found is not None else "n"

    def holds(self, want: Want) -> bool:
        """Whether ``want`` is fulfilled now."""
        if want.value == "n":
            return all(self.value(name) == "n" for name in want.symbols)
        return any(
            want.accepts(self.value(name)) for name in want.symbols if self.symbol(name) is not None
        )

    def legal(self) -> bool:
        """Whether nothing protected changed and nothing is newly selected against its needs."""
        return not self.disturbed() and self.unmet() <= self._base_unmet

    def disturbed(self) -> tuple[str, ...]:
        """The protected symbols that have another value than in the source, sorted."""
        return tuple(
            sorted(
                name for name in self.frozen if self.syms[name].str_value != self.base_values[name]
            )
        )

    def unmet(self) -> frozenset[str]:
        """Symbols that are selected against their dependencies now.

        The kernel builds on with a warning then ("unmet direct dependencies detected"), often
        into an error at link time.
        """
        return self._unmet_now()

    def newly_unmet(self) -> frozenset[str]:
        """unmet() without what the source config already has."""
        return self.unmet() - self._base_unmet

    def _unmet_now(self) -> frozenset[str]:
        for symbol in self._selected:
            if symbol._cached_tri_val is None:
                symbol.tri_value  # noqa: B018 - calculating it notes whether it is unmet
        return frozenset(self.kconf.unmet)

    def endangered(self, symbol: Any) -> list[Any]:
        """What a change of ``symbol`` could make illegal: protected, or selected against its needs.

        In the order of names, so that nothing depends on the order of a set.
        """
        seen = {symbol}
        queue = [symbol]
        while queue:
            for item in queue.pop()._dependents:
                if item not in seen:
                    seen.add(item)
                    queue.append(item)
        selected = set(self._selected)
        found = [item for item in seen if item in selected or item.name in self.frozen]
        return sorted(found, key=lambda item: str(item.name))


def _choice_state(choice: Any) -> Any:
    if choice is None:
        return None
    return (choice.user_selection, choice.user_value, list(choice.order))


def _restore(choice: Any, state: Any) -> None:
    if choice is None:
        return
    choice.user_selection, choice.user_value, order = state
    choice.order = list(order)
    choice._rec_invalidate()


def choice_conditions(choice: Any) -> list[Any]:
    """What a choice's members hang on: since 6.11 not its prompt, only its dependencies."""
    if choice.kconfig.modern_choices:
        return [node.dep for node in choice.nodes]
    return [node.prompt[1] for node in choice.nodes if node.prompt]


def _protections(tree: KernelTree) -> dict[str, Protection]:
    found = {}
    for symbol in tree.kconf.unique_defined_syms:
        # Without a prompt it only follows others, which are protected themselves if need be.
        if not any(node.prompt for node in symbol.nodes):
            continue
        guard = tree.protection(symbol.name, tuple(node.filename for node in symbol.nodes))
        if guard is not None:
            found[symbol.name] = guard
    return found
