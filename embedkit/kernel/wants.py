"""What a kernel should have, and what a plan for it looks like: plain data, no Kconfig."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from embedkit.errors import InputError
from embedkit.kernel.config import KernelConfig

_SYMBOL = re.compile(r"(?:CONFIG_)?(\w+)", re.ASCII)


class Prefer(StrEnum):
    """How a symbol that may be y or m is turned on. AUTO: m where the config has MODULES."""

    AUTO = "auto"
    BUILT_IN = "y"
    MODULE = "m"


@dataclass(frozen=True)
class Want:
    """One wish: ``symbol`` (without ``CONFIG_``) shall be ``value``.

    ``value`` is y, m, n, ``on`` (y or m) or the text of a number or string symbol.
    ``alternatives`` are symbols of which any one does as well. ``early`` says that a board needs
    it before its root filesystem is mounted, so that ``on`` means y. ``reason`` is one sentence,
    ``feature`` the group under which a fragment lists it.
    """

    symbol: str
    value: str = "on"
    reason: str = ""
    feature: str = ""
    level: str = "necessary"
    alternatives: tuple[str, ...] = ()
    early: bool = False

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbol and its alternatives."""
        return (self.symbol, *self.alternatives)

    @property
    def text(self) -> str:
        """``VETH=on``, as messages name it."""
        return f"{' or '.join(self.symbols)}={self.value}"

    def accepts(self, value: str) -> bool:
        """Whether a symbol's value (as Kconfig gives it) is what is wanted."""
        if self.value == "on":
            return value in ("y", "m")
        if value == self.value:
            return True
        try:
            return int(value, 0) == int(self.value, 0)
        except ValueError:
            return False


class Obstacle(StrEnum):
    """Why a want cannot be had."""

    UNKNOWN = "unknown"
    ARCHITECTURE = "architecture"
    PROTECTED = "protected"
    CONFLICT = "conflict"
    IMPOSSIBLE = "impossible"
    NOT_FOUND = "not-found"


@dataclass(frozen=True)
class Refused:
    """A want that could not be had.

    ``reason`` is a sentence; ``allow`` names the protected symbols that would have to change;
    ``proven`` is False only where the search gave up before it had tried everything.
    """

    want: Want
    obstacle: Obstacle
    reason: str
    allow: tuple[str, ...] = ()
    proven: bool = True


@dataclass(frozen=True)
class Assignment:
    """One line of the fragment.

    ``want`` is the wish that it fulfils itself, or None for a prerequisite; ``needed_by`` the
    symbol that led to it; ``because`` a sentence for people; ``where`` file:line in the tree.
    ``quoted`` tells a string symbol.
    """

    symbol: str
    value: str
    before: str
    feature: str
    because: str
    needed_by: str = ""
    want: Want | None = None
    where: str = ""
    quoted: bool = False

    @property
    def raw(self) -> str:
        """The value as a .config writes it."""
        if not self.quoted:
            return self.value
        return '"' + self.value.replace("\\", "\\\\").replace('"', '\\"') + '"'


@dataclass(frozen=True)
class Change:
    """A symbol that has another value afterwards without being assigned."""

    symbol: str
    before: str
    after: str

    @property
    def lost(self) -> bool:
        """Whether something that was on is off now."""
        return self.before in ("y", "m") and self.after == "n"


@dataclass(frozen=True)
class Resolution:
    """The plan: what to set, what that brings along, what could not be had.

    ``patched`` is the source config with the assignments made in its text, ``full`` the .config
    that the kernel's own ``make olddefconfig`` would make of it, ``minimal`` its defconfig.
    """

    assignments: tuple[Assignment, ...]
    satisfied: tuple[Want, ...]
    already: tuple[Want, ...]
    refused: tuple[Refused, ...]
    changes: tuple[Change, ...]
    patched: KernelConfig
    full: KernelConfig
    minimal: KernelConfig
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every want is fulfilled."""
        return not self.refused

    @property
    def lost(self) -> tuple[Change, ...]:
        """What the assignments turn off as a side effect."""
        return tuple(change for change in self.changes if change.lost)


def parse_enable(words: Iterable[str], *, feature: str = "asked for") -> tuple[Want, ...]:
    """``SYM``, ``CONFIG_SYM`` or ``SYM=value`` from ``--enable``.

    Raises InputError for a word that names no symbol.
    """
    found = []
    for word in words:
        name, _, value = word.partition("=")
        found.append(
            Want(_symbol(name, word), _unquoted(value) or "on", "asked for", feature, "asked")
        )
    return tuple(found)


def parse_disable(words: Iterable[str], *, feature: str = "asked for") -> tuple[Want, ...]:
    """``SYM`` or ``CONFIG_SYM`` from ``--disable``. Raises InputError like parse_enable()."""
    return tuple(Want(_symbol(word, word), "n", "asked for", feature, "asked") for word in words)


def _unquoted(value: str) -> str:
    """A text as people copy it from a .config, quotes around it included."""
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value


def _symbol(name: str, word: str) -> str:
    match = _SYMBOL.fullmatch(name.strip())
    if match is None:
        raise InputError(
            f"'{word}' names no kernel symbol", hint="write VETH, CONFIG_VETH, VETH=m or NR_CPUS=8"
        )
    return match.group(1)
