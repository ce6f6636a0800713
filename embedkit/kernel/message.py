"""Finds the kernel symbols whose absence a pasted error message speaks of.

Two kinds of knowledge, both in the profiles: ``match`` patterns for messages that cannot be
mistaken, and for symbols without any the words of ``symptom`` themselves, in their order, rare
words weighing more. An error number in a symptom ("operation not supported") has to be in the
message too: the same sentence with another one has another cause.
"""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from embedkit.kernel.profile import Symbol

# Longer than any daemon's message; the rest of a pasted log says nothing new.
MESSAGE_LIMIT = 16 * 1024
# modprobe of kmod and of BusyBox, and OpenWrt's; what dockerd tries first says the same.
_NO_MODULE = re.compile(
    r"module '?([a-z0-9_-]+)'? not found in (?:directory|modules\.dep)"
    r"|failed to find a module named ([a-z0-9_-]+)"
)
# So much of a symptom's weight has to be in the message, and so many of its words.
_ENOUGH = 0.8
_FEWEST_WORDS = 4

# Looking back first keeps a long run of backslashes from being read once for each of them.
_ESCAPED_BREAK = re.compile(r"(?<!\\)\\+[nrt]")
_ESCAPED_QUOTE = re.compile(r"(?<!\\)\\+(?=[\"'`])")
_COLOR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_QUOTES = str.maketrans(dict.fromkeys('"`´‘’“”', "'"))
_SIMPLER = (
    (re.compile(r"\b\d{4}-\d\d-\d\d[t ]\d\d:\d\d:\d\d[.,\d]*(?:z|[+-]\d\d:?\d\d)?"), "#"),
    (re.compile(r"\b(veth|tap|vx-)[0-9a-f.-]{5,}\b"), r"\1"),
    (re.compile(r"\bbr-[0-9a-f]{6,}\b"), "br"),
    (re.compile(r"(?<![\w:])[0-9a-f]{1,4}(?::[0-9a-f]{0,4}){2,8}(?:/\d+)?(?![\w:])"), "#"),
    (re.compile(r"\b\d+(?:\.\d+){3}(?:/\d+)?(?::\d+)?"), "#"),
    (re.compile(r"\bv\d+(?:\.\d+)*\b"), "v#"),
    (re.compile(r"\b0x[0-9a-f]+\b"), "#"),
    (re.compile(r"\b(?=[a-f]*\d)[0-9a-f]{10,64}\b"), "#"),
    (re.compile(r"(?<![\w.])\d+(?:\.\d+)*(?![\w])"), "#"),
    (re.compile(r"\s+"), " "),
)
_ERRORS = (
    "operation not supported",
    "operation not permitted",
    "invalid argument",
    "no such device or address",
    "no such device",
    "no such file or directory",
    "no such process",
    "function not implemented",
    "protocol not supported",
    "address family not supported by protocol",
    "permission denied",
    "file exists",
    "device or resource busy",
    "too many links",
    "cannot allocate memory",
    "no space left on device",
)
_ERROR = re.compile("|".join(_ERRORS))
_WORD = re.compile(r"[a-z0-9_!/<>=.-]*[a-z][a-z0-9_/<>=.-]*")
# "dockerd: …": who says it is no part of what is said.
_SPEAKER = re.compile(r"^[a-z][\w.() -]{0,30}?: ")

# How much a common part weighs, and its words.
_Cell = tuple[float, tuple[str, ...]]


@dataclass(frozen=True)
class Match:
    """A symbol that a message points to.

    ``score`` is at most 1, ``words`` what of the message made it; ``certain`` says that a
    pattern matched, not merely the words of the symptom.
    """

    symbol: Symbol
    score: float
    words: tuple[str, ...]
    certain: bool


def normalise(text: str) -> str:
    """``text`` without what differs from one machine and run to the next.

    Lower case; every quote is ``'``; numbers, addresses, times and ids are ``#``; escapes of
    logs within logs are undone, line breaks are blanks.
    """
    text = _COLOR.sub("", text[:MESSAGE_LIMIT])
    text = _ESCAPED_QUOTE.sub("", _ESCAPED_BREAK.sub(" ", text))
    text = text.lower().translate(_QUOTES)
    for pattern, simpler in _SIMPLER:
        text = pattern.sub(simpler, text)
    return text.strip()


def find(text: str, symbols: Iterable[Symbol]) -> tuple[Match, ...]:
    """The symbols that ``text`` points to, best first; none rather than a guess.

    Where a pattern matches or a module was not found, similar words count no more.
    """
    known = tuple(symbols)
    simple = normalise(text)
    certain = _by_pattern(simple, known)
    named = {match.symbol.name for match in certain}
    modules = tuple(m for m in _by_module(simple, known) if m.symbol.name not in named)
    if certain or modules:
        return certain + modules
    found: dict[str, Match] = {}
    weights = _weights(known)
    for line in re.split(r"[\r\n]+", text[:MESSAGE_LIMIT]):
        for match in _by_words(normalise(line), known, weights):
            before = found.get(match.symbol.name)
            if before is None or match.score > before.score:
                found[match.symbol.name] = match
    return tuple(sorted(found.values(), key=lambda match: -match.score))


def _by_pattern(text: str, symbols: tuple[Symbol, ...]) -> tuple[Match, ...]:
    hits = []
    for symbol in symbols:
        spans = [
            hit.group() for pattern in symbol.match if (hit := _compiled(pattern).search(text))
        ]
        if spans:
            hits.append((symbol, max(spans, key=len)))
    # The pattern that explains most of the message is the most particular one.
    longest = max((len(span) for _, span in hits), default=1)
    matches = [
        Match(symbol, round(len(span) / longest, 2), tuple(span.split()), certain=True)
        for symbol, span in hits
    ]
    return tuple(sorted(matches, key=lambda match: -match.score))


def _by_module(text: str, symbols: tuple[Symbol, ...]) -> Iterable[Match]:
    """The symbols of modules that ``text`` says are not there; they may be built in, though."""
    gone = {(hit[1] or hit[2]).replace("-", "_"): hit.group() for hit in _NO_MODULE.finditer(text)}
    for symbol in symbols:
        said = gone.get(symbol.module.replace("-", "_").lower())
        if said is not None:
            yield Match(symbol, 0.5, tuple(said.split()), certain=False)


@functools.lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


def alternatives(symptom: str) -> tuple[str, ...]:
    """The messages in a symptom: `` / `` stands between several."""
    parts = (_SPEAKER.sub("", normalise(part)) for part in symptom.split(" / "))
    return tuple(part for part in parts if part)


@functools.lru_cache(maxsize=1024)
def _said(symptom: str) -> tuple[tuple[str, ...], ...]:
    return tuple(_tokens(said) for said in alternatives(symptom))


def _tokens(text: str) -> tuple[str, ...]:
    marked = _ERROR.sub(lambda hit: " " + hit.group().replace(" ", "_") + " ", text)
    return tuple(word.strip(".,:;-") for word in _WORD.findall(marked))


def _errors(tokens: Iterable[str]) -> frozenset[str]:
    return frozenset(token for token in tokens if token.replace("_", " ") in _ERRORS)


def _weights(symbols: tuple[Symbol, ...]) -> Mapping[str, float]:
    """Word → how much it tells: the fewer symptoms have it, the more."""
    counts: Counter[str] = Counter()
    for symbol in symbols:
        counts.update({word for words in _said(symbol.symptom) for word in words})
    return {word: math.log(1 + len(symbols) / count) for word, count in counts.items()}


def _by_words(
    text: str, symbols: tuple[Symbol, ...], weights: Mapping[str, float]
) -> Iterable[Match]:
    message = _tokens(text)
    if len(message) < _FEWEST_WORDS:
        return
    present = set(message)
    for symbol in symbols:
        if symbol.match:
            continue
        best: Match | None = None
        for words in _said(symbol.symptom):
            errors = _errors(words)
            whole = sum(weights[word] for word in words)
            if len(words) < _FEWEST_WORDS or (errors and not errors & present):
                continue
            if sum(weights[word] for word in words if word in present) < _ENOUGH * whole:
                continue
            common = _common(words, message, weights)
            score = sum(weights[word] for word in common) / whole
            if score >= _ENOUGH and len(common) >= _FEWEST_WORDS:
                candidate = Match(symbol, round(score, 2), common, certain=False)
                best = candidate if best is None or candidate.score > best.score else best
        if best is not None:
            yield best


def _common(
    words: tuple[str, ...], message: tuple[str, ...], weights: Mapping[str, float]
) -> tuple[str, ...]:
    """The heaviest of ``words`` that ``message`` has in the same order."""
    # The table of the longest common subsequence, of which only the last row is kept.
    above: list[_Cell] = [(0.0, ())] * (len(message) + 1)
    for word in words:
        row: list[_Cell] = [(0.0, ())]
        for column, other in enumerate(message, 1):
            best = max(above[column], row[-1], key=lambda cell: cell[0])
            if word == other:
                weight, common = above[column - 1]
                candidate: _Cell = (weight + weights[word], (*common, word))
                best = max(best, candidate, key=lambda cell: cell[0])
            row.append(best)
        above = row
    return above[-1][1]
