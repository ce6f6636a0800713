"""Requirement profiles: what an engine needs of a kernel, as data.

A profile lists sections of requirements in the order they are shown, features that are made
of symbols, and what is known about each symbol. Profiles extend one another: knowledge and
sections of the extended ones come first. :mod:`embedkit.kernel.profile_file` reads them.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

from embedkit.kernel.config import KernelVersion
from embedkit.kernel.expression import Expression, names

_BOUND = re.compile(r"(<=|>=|<|>)\s*(\d+)\.(\d+)")


class Level(StrEnum):
    """How much a requirement weighs."""

    NECESSARY = "necessary"
    RECOMMENDED = "recommended"
    OPTIONAL = "optional"


class Weight(StrEnum):
    """What it means for the engine when a feature is not there."""

    CORE = "core"  # it does not run
    NECESSARY = "necessary"  # it runs, but not as it should: the check fails
    LIMITS = "limits"  # it runs with limits
    EXTRA = "extra"  # good to know


class Versions(NamedTuple):
    """A range of kernel versions: from ``low`` (included) to ``high`` (not included)."""

    low: KernelVersion | None = None
    high: KernelVersion | None = None

    @classmethod
    def parse(cls, text: str) -> Versions:
        """``">=3.6 <6.1"``, ``"<=5.1"``. Raises ValueError."""
        if not text:
            return cls()
        low = high = None
        rest = _BOUND.sub("", text).strip()
        if rest:
            raise ValueError(f"'{text}' is not a range of kernel versions such as '>=3.6 <6.1'")
        for sign, major, minor in _BOUND.findall(text):
            bound = KernelVersion(int(major), int(minor))
            after = KernelVersion(bound.major, bound.minor + 1)
            if sign.startswith(">"):
                low = bound if sign == ">=" else after
            else:
                high = bound if sign == "<" else after
        return cls(low, high)

    def holds(self, version: KernelVersion) -> bool:
        """Whether ``version`` lies in the range."""
        return not self.is_before(version) and not self.is_after(version)

    def is_before(self, version: KernelVersion) -> bool:
        """Whether ``version`` comes before the range."""
        return self.low is not None and version < self.low

    def is_after(self, version: KernelVersion) -> bool:
        """Whether ``version`` comes after the range."""
        return self.high is not None and version >= self.high

    def __str__(self) -> str:
        return self.words("Linux")

    def words(self, product: str) -> str:
        """The range as a person says it, of the versions of ``product``."""
        low, high = (_said(bound) for bound in self)
        if low and high:
            return f"from {product} {low} until before {high}"
        if low:
            return f"from {product} {low} on"
        return f"before {product} {high}" if high else f"in every {product}"

    def __bool__(self) -> bool:
        return self.low is not None or self.high is not None


def _said(bound: KernelVersion | None) -> str:
    """``6.1``, or ``2025.05`` where the versions are dates."""
    if bound is None:
        return ""
    return f"{bound.major}.{bound.minor:02}" if bound.major >= 1000 else str(bound)


class Symbol(NamedTuple):
    """What is known about one Kconfig symbol, whatever asks for it.

    ``match`` are regular expressions for messages that only its absence brings, over text as
    :func:`embedkit.kernel.message.normalise` makes it.
    """

    name: str
    why: str = ""
    symptom: str = ""
    match: tuple[str, ...] = ()
    exists: Versions = Versions()
    was: tuple[str, ...] = ()
    implied_before: bool = False
    module: str = ""
    arch: tuple[str, ...] = ()
    instead: str = ""
    security: bool = False


class Note(NamedTuple):
    """Lines that belong under a group when these symbols stand so."""

    text: tuple[str, ...]
    set: tuple[str, ...] = ()
    unset: tuple[str, ...] = ()
    any_unset: tuple[str, ...] = ()


class Group(NamedTuple):
    """Symbols that share a level, a gate and a rule.

    With ``first`` only the first symbol that is on counts (and is a warning if it is among
    ``bad``); otherwise each is a requirement of its own. ``unless`` names a symbol that makes
    the group needless.
    """

    symbols: tuple[str, ...]
    level: Level
    kernel: Versions = Versions()
    unless: str = ""
    first: bool = False
    bad: tuple[str, ...] = ()
    driver: str = ""
    heading: str = ""
    notes: tuple[Note, ...] = ()


class Section(NamedTuple):
    """A titled list of groups; with ``drivers`` each group belongs to a named driver."""

    title: str
    groups: tuple[Group, ...]
    drivers: bool = False


class Feature(NamedTuple):
    """Something a user can do, and the symbols it takes."""

    name: str
    title: str
    needs: Expression
    kernel: Versions = Versions()
    security: bool = False


class Limit(NamedTuple):
    """A value under /proc that has to be above a number, on a running system."""

    path: str
    above: int
    hint: str
    why: str


class Subject(StrEnum):
    """What a profile is about: whose configuration it asks something of."""

    KERNEL = "kernel"
    BUILDROOT = "buildroot"

    @property
    def product(self) -> str:
        """The name whose versions its gates compare."""
        return "Linux" if self is Subject.KERNEL else "Buildroot"


class Size(NamedTuple):
    """A size in a configuration that has to reach ``at_least_bytes`` where ``when`` is on."""

    symbol: str
    when: str
    at_least_bytes: int
    level: Level
    why: str = ""
    symptom: str = ""
    hint: str = ""


class Profile(NamedTuple):
    """A profile with everything that it extends."""

    name: str
    title: str
    source: str
    notes: tuple[str, ...]
    sections: tuple[Section, ...]
    symbols: dict[str, Symbol]
    features: dict[str, Feature]
    weights: dict[str, Weight]
    limits: tuple[Limit, ...] = ()
    subject: Subject = Subject.KERNEL
    sizes: tuple[Size, ...] = ()

    def symbol(self, name: str) -> Symbol:
        """What is known about ``name``: at least its name."""
        return self.symbols.get(name) or Symbol(name)

    def uses(self) -> dict[str, list[Feature]]:
        """Symbol → the features that speak of it themselves, for all symbols at once."""
        found: dict[str, list[Feature]] = {}
        for feature in self.features.values():
            for name in dict.fromkeys(names(feature.needs)):
                if not name.feature:
                    found.setdefault(name.name, []).append(feature)
        return found

    def feature_symbols(self, name: str) -> tuple[str, ...]:
        """Every symbol that the feature speaks of, through other features too."""
        found: dict[str, None] = {}

        def visit(feature: str, seen: tuple[str, ...]) -> None:
            if feature in seen or feature not in self.features:
                return
            for term in names(self.features[feature].needs):
                if term.feature:
                    visit(term.name, (*seen, feature))
                else:
                    found[term.name] = None

        visit(name, ())
        return tuple(found)
