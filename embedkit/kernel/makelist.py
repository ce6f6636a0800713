"""A list of paths as make reads it: words split at spaces, but not inside ``$(…)``."""

from __future__ import annotations

_PAIRS = {"(": ")", "{": "}"}


def split(text: str) -> tuple[str, ...]:
    """The words of ``text``, unexpanded; a reference such as ``$(call f,a b)`` stays whole."""
    return tuple(text[start:end] for start, end in _spans(text))


def append(text: str, word: str) -> str:
    """``text`` with ``word`` at its end; everything before it stays as it is."""
    return f"{text.rstrip()} {word}" if text.strip() else word


def without(text: str, index: int) -> str:
    """``text`` without its word number ``index`` and the spaces before it."""
    spans = _spans(text)
    start = spans[index - 1][1] if index else 0
    end = spans[index][1] if index else (spans[1][0] if len(spans) > 1 else len(text))
    return text[:start] + text[end:]


def _spans(text: str) -> list[tuple[int, int]]:
    found = []
    start: int | None = None
    closing: list[str] = []
    for index, character in enumerate(text):
        if not closing and character.isspace():
            if start is not None:
                found.append((start, index))
                start = None
            continue
        if start is None:
            start = index
        if character in _PAIRS and (closing or text[index - 1 : index] == "$"):
            closing.append(_PAIRS[character])
        elif closing and character == closing[-1]:
            closing.pop()
    if start is not None:
        found.append((start, len(text)))
    return found
