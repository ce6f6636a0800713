"""The small language in which a feature says what it needs: ``A & (B | @other-feature)``.

Evaluation is four-valued and keeps what stands in the way, so that a verdict can name it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import NamedTuple

_TOKEN = re.compile(r"\s*(?:(?P<name>@?[A-Za-z0-9][\w-]*)|(?P<mark>[&|()]))")


class Grade(IntEnum):
    """How far something is there. The order matters: all of a list is its smallest grade."""

    NO = 0
    UNKNOWN = 1
    MODULE = 2
    YES = 3
    # Not a matter for this kernel: it drops out of every expression.
    MOOT = 4

    @property
    def word(self) -> str:
        """The grade as a person reads it."""
        return ("no", "undecided", "yes, as modules", "yes", "yes")[self]


class Outcome(NamedTuple):
    """A grade and, below MODULE, the symbols that stand in the way."""

    grade: Grade
    lacking: tuple[str, ...] = ()


class Name(NamedTuple):
    """A symbol, or with ``feature`` another feature."""

    name: str
    feature: bool = False


class Group(NamedTuple):
    """All of its terms, or with ``any`` one of them."""

    terms: tuple[Name | Group, ...]
    any: bool = False


Expression = Name | Group
Lookup = Callable[[Name], Outcome]


def parse(text: str) -> Expression:
    """The expression in ``text``. Raises ValueError, with the place, where it is not one."""
    tokens = _tokens(text)
    expression, rest = _any(tokens, 0, text)
    if rest != len(tokens):
        raise ValueError(f"unexpected '{tokens[rest]}' in '{text}'")
    return expression


def _tokens(text: str) -> list[str]:
    tokens = []
    position = 0
    text = text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ValueError(f"cannot read '{text[position:]}' in '{text}'")
        tokens.append(match.group("name") or match.group("mark"))
        position = match.end()
    return tokens


def _any(tokens: list[str], at: int, text: str) -> tuple[Expression, int]:
    terms = []
    while True:
        term, at = _all(tokens, at, text)
        terms.append(term)
        if at >= len(tokens) or tokens[at] != "|":
            return (terms[0] if len(terms) == 1 else Group(tuple(terms), any=True)), at
        at += 1


def _all(tokens: list[str], at: int, text: str) -> tuple[Expression, int]:
    terms = []
    while True:
        term, at = _term(tokens, at, text)
        terms.append(term)
        if at >= len(tokens) or tokens[at] != "&":
            return (terms[0] if len(terms) == 1 else Group(tuple(terms))), at
        at += 1


def _term(tokens: list[str], at: int, text: str) -> tuple[Expression, int]:
    if at >= len(tokens):
        raise ValueError(f"'{text}' ends too early")
    token = tokens[at]
    if token == "(":
        expression, at = _any(tokens, at + 1, text)
        if at >= len(tokens) or tokens[at] != ")":
            raise ValueError(f"a ')' is missing in '{text}'")
        return expression, at + 1
    if token in "&|)":
        raise ValueError(f"unexpected '{token}' in '{text}'")
    return Name(token.removeprefix("@"), feature=token.startswith("@")), at + 1


def names(expression: Expression) -> Iterable[Name]:
    """Every symbol and feature that it speaks of, in its order."""
    if isinstance(expression, Name):
        yield expression
        return
    for term in expression.terms:
        yield from names(term)


def evaluate(expression: Expression, lookup: Lookup) -> Outcome:
    """What ``lookup`` says of the names, put together."""
    if isinstance(expression, Name):
        return lookup(expression)
    outcomes = [evaluate(term, lookup) for term in expression.terms]
    relevant = [outcome for outcome in outcomes if outcome.grade is not Grade.MOOT]
    if not relevant:
        return Outcome(Grade.MOOT)
    if expression.any:
        # The best way in; among ways that are all shut, one that can be opened, and of those
        # the one that lacks least.
        return max(
            relevant,
            key=lambda outcome: (outcome.grade, bool(outcome.lacking), -len(outcome.lacking)),
        )
    grade = min(outcome.grade for outcome in relevant)
    lacking = tuple(
        dict.fromkeys(
            symbol
            for outcome in relevant
            if outcome.grade is grade and grade < Grade.MODULE
            for symbol in outcome.lacking
        )
    )
    return Outcome(grade, lacking)
