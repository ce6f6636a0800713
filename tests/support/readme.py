"""The console blocks of a document: commands and what they are said to print."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

_BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
_ELLIPSIS = "…"


class Command(NamedTuple):
    """``$ words`` and the lines under it. ``line`` is where it stands in the document."""

    words: str
    expected: tuple[str, ...]
    line: int


def commands(document: Path) -> list[Command]:
    """Every command of every console block, in order; a trailing backslash goes on."""
    text = document.read_text()
    found: list[Command] = []
    for block in _BLOCK.finditer(text):
        start = text.count("\n", 0, block.start(1)) + 1
        words, expected, line = "", [], start
        for number, content in enumerate(block.group(1).splitlines(), start):
            if content.startswith("$ "):
                if words:
                    found.append(Command(words, tuple(expected), line))
                words, expected, line = content[2:], [], number
            elif words.endswith("\\") and not expected:
                words = words[:-1].rstrip() + " " + content.strip()
            else:
                expected.append(content)
        if words:
            found.append(Command(words, tuple(expected), line))
    return found


def explain_mismatch(expected: tuple[str, ...], output: str) -> str | None:
    """None where ``output`` holds the expected lines in order.

    A line that is just an ellipsis stands for any lines; one inside a line for any words. What
    follows an ellipsis may come anywhere later; otherwise lines must follow each other.
    """
    lines = [line.rstrip() for line in output.splitlines()]
    at = 0
    free = True
    for wanted in expected:
        if wanted.strip() == _ELLIPSIS:
            free = True
            continue
        parts = (re.escape(part) for part in wanted.rstrip().split(_ELLIPSIS))
        pattern = re.compile(".*".join(parts))
        window = range(at, len(lines)) if free else range(at, min(at + 1, len(lines)))
        hit = next((index for index in window if pattern.fullmatch(lines[index])), None)
        if hit is None:
            return f"not printed (here or later): {wanted!r}"
        at, free = hit + 1, False
    return None
