"""Answers "what is this symbol for" and "which symbol does this message miss" from profiles."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from embedkit.errors import did_you_mean
from embedkit.kernel import message
from embedkit.kernel.expression import names
from embedkit.kernel.message import Match
from embedkit.kernel.profile import Feature, Level, Profile, Symbol, Versions, Weight

_SYMBOL = re.compile(r"(?:CONFIG_)?([A-Za-z0-9_-]+)(?:=[ymn]|\.ko(?:\.\w+)?)?", re.ASCII)


@dataclass(frozen=True)
class Use:
    """A place in a profile that asks for the symbol; ``kernel`` bounds where it does."""

    profile: str
    section: str
    driver: str
    level: Level
    kernel: Versions


@dataclass(frozen=True)
class FeatureUse:
    """A feature that needs the symbol; ``direct``: by itself, not through another feature.

    ``weights`` says how much the feature weighs in each profile that counts it.
    """

    feature: Feature
    direct: bool
    weights: tuple[tuple[str, Weight], ...]


@dataclass(frozen=True)
class Explanation:
    """All that the profiles say of one symbol.

    ``now`` are symbols that were called so before, ``asked_as`` is the module's name where it
    was that and not the symbol that was asked for.
    """

    symbol: Symbol
    uses: tuple[Use, ...]
    features: tuple[FeatureUse, ...]
    now: tuple[str, ...]
    asked_as: str = ""

    @property
    def exists(self) -> str:
        """The kernel versions that have it, in words."""
        words = str(self.symbol.exists)
        return f"{words}, on {', '.join(self.symbol.arch)} only" if self.symbol.arch else words


def looks_like_symbol(text: str) -> bool:
    """Whether ``text`` is one word that may name a symbol or a module."""
    return _SYMBOL.fullmatch(text.strip()) is not None


def known_symbols(profiles: Iterable[Profile]) -> dict[str, Symbol]:
    """Every symbol that any of ``profiles`` knows or names; the first to explain it wins."""
    found: dict[str, Symbol] = {}
    for profile in profiles:
        for name in _mentioned(profile):
            symbol = profile.symbol(name)
            if name not in found or not found[name].why:
                found[name] = symbol
    return found


def by_symbol(text: str, profiles: Sequence[Profile]) -> Explanation | None:
    """What ``profiles`` say of the symbol ``text``, or None where they do not know it.

    ``CONFIG_`` and small letters are fine, and so is the name of the symbol's module.
    """
    parts = _SYMBOL.fullmatch(text.strip())
    if parts is None:
        return None
    known = known_symbols(profiles)
    name, asked_as = parts[1].upper(), ""
    if name not in known:
        asked_as = parts[1].replace("-", "_")
        modules = {s.module.replace("-", "_").lower(): s.name for s in known.values() if s.module}
        name = modules.get(asked_as.lower(), "")
    if not name:
        return None
    return Explanation(
        known[name],
        tuple(_uses(name, profiles)),
        tuple(_features(name, profiles)),
        tuple(symbol.name for symbol in known.values() if name in symbol.was),
        asked_as,
    )


def suggestion(text: str, profiles: Iterable[Profile]) -> str | None:
    """``did you mean 'X'?`` for a symbol that is not known, or None."""
    parts = _SYMBOL.fullmatch(text.strip())
    return did_you_mean(parts[1].upper(), known_symbols(profiles)) if parts else None


def by_message(text: str, profiles: Iterable[Profile]) -> tuple[Match, ...]:
    """The symbols whose symptom ``text`` is, best first; none where it is none of ours."""
    return message.find(text, known_symbols(profiles).values())


def _mentioned(profile: Profile) -> Iterable[str]:
    yield from profile.symbols
    for section in profile.sections:
        for group in section.groups:
            yield from group.symbols
    for feature in profile.features.values():
        yield from (term.name for term in names(feature.needs) if not term.feature)


def _uses(name: str, profiles: Iterable[Profile]) -> Iterable[Use]:
    for profile in profiles:
        uses = (
            Use(profile.name, section.title, group.driver, group.level, group.kernel)
            for section in profile.sections
            for group in section.groups
            if name in group.symbols
        )
        yield from dict.fromkeys(uses)


def _features(name: str, profiles: Sequence[Profile]) -> Iterable[FeatureUse]:
    found: dict[str, tuple[Feature, bool]] = {}
    weights: dict[str, list[tuple[str, Weight]]] = {}
    for profile in profiles:
        direct = {feature.name for feature in profile.uses().get(name, ())}
        for feature in profile.features.values():
            if name not in profile.feature_symbols(feature.name):
                continue
            found.setdefault(feature.name, (feature, feature.name in direct))
            if feature.name in profile.weights:
                weight = profile.weights[feature.name]
                weights.setdefault(feature.name, []).append((profile.name, weight))
    for feature, is_direct in sorted(found.values(), key=lambda pair: not pair[1]):
        yield FeatureUse(feature, is_direct, tuple(weights.get(feature.name, ())))
