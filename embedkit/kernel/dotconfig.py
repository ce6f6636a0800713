"""A configuration as Kconfig writes it: read it, ask it, change it, write it back to the byte.

The format is what ``scripts/kconfig/confdata.c`` writes and reads: ``CONFIG_X=y|m|n``, a number,
a quoted string, or ``# CONFIG_X is not set``; every other line is a comment or noise. The
kernel's symbols carry the prefix ``CONFIG_``; Buildroot's carry none.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import cache, cached_property
from typing import ClassVar, NamedTuple, Self


class Value(StrEnum):
    """How a symbol stands in a config."""

    BUILT_IN = "y"
    MODULE = "m"
    OFF = "n"
    OTHER = "value"
    UNKNOWN = "unknown"


class Duplicate(NamedTuple):
    """A symbol given more than once: the last line wins, as in Kconfig's own reader."""

    symbol: str
    line: int
    value: str
    earlier_line: int
    earlier_value: str


@cache
def _lines_of(prefix: str) -> re.Pattern[str]:
    # One pass over the whole text is ten times faster than one match for each line.
    return re.compile(
        rf"^(?:{prefix}(\w+)=([^\n]*)|# {prefix}(\w+) is not set[ \t\r]*)$",
        re.ASCII | re.MULTILINE,
    )


class DotConfig:
    """One configuration. ``text`` is kept exactly; everything else is read from it.

    ``origin`` says where it came from, for messages. Not to be changed once made.
    """

    prefix: ClassVar[str] = "CONFIG_"

    def __init__(self, text: str, origin: str = "<text>") -> None:
        self.text = text
        self.origin = origin

    @classmethod
    def from_bytes(cls, content: bytes, origin: str = "<text>") -> Self:
        """Decodes ``content``; bytes that are not UTF-8 survive the round trip."""
        return cls(content.decode("utf-8", "surrogateescape"), origin)

    def to_bytes(self) -> bytes:
        """The exact bytes that it was read from."""
        return self.text.encode("utf-8", "surrogateescape")

    @cached_property
    def _scanned(self) -> tuple[dict[str, str], int]:
        """The values, and how many lines gave them."""
        lines = _lines_of(self.prefix).findall(self.text)
        return {
            name or unset: value.rstrip() if name else "n" for name, value, unset in lines
        }, len(lines)

    @property
    def values(self) -> dict[str, str]:
        """Symbol (without the prefix) → raw value; ``n`` for "is not set"; strings keep quotes."""
        return self._scanned[0]

    @cached_property
    def duplicates(self) -> tuple[Duplicate, ...]:
        """Symbols given more than once, in the file's order."""
        values, lines = self._scanned
        if len(values) == lines:
            return ()
        seen: dict[str, tuple[int, str]] = {}
        found = []
        for number, line in enumerate(self.text.split("\n"), 1):
            parsed = parse_line(line, self.prefix)
            if parsed is None:
                continue
            symbol, value = parsed
            if symbol in seen:
                found.append(Duplicate(symbol, number, value, *seen[symbol]))
            seen[symbol] = (number, value)
        return tuple(found)

    def value(self, symbol: str) -> Value:
        """How ``symbol`` stands; UNKNOWN where a minimal config does not name it."""
        raw = self.values.get(symbol)
        if raw is None:
            return Value.OFF if self.is_full else Value.UNKNOWN
        if raw in ("y", "m", "n"):
            return Value(raw)
        return Value.OTHER

    def enabled(self, symbol: str) -> bool:
        """Whether it is y or m."""
        return self.values.get(symbol) in ("y", "m")

    def string(self, symbol: str) -> str | None:
        """The value of a string symbol, unquoted; None where absent or not a string."""
        raw = self.values.get(symbol, "")
        if len(raw) < 2 or not (raw.startswith('"') and raw.endswith('"')):
            return None
        return re.sub(r"\\(.)", r"\1", raw[1:-1])

    @property
    def is_full(self) -> bool:
        """Whether it decides every symbol, so that absence means n."""
        return True

    def with_values(self, changes: dict[str, str]) -> Self:
        """A copy with ``changes`` (symbol → raw value) made where the symbols stand.

        A symbol that is given several times keeps only its last line's place; new symbols go
        to the end. Line ends stay as they are in the file.
        """
        newline = "\r\n" if "\r\n" in self.text else "\n"
        lines = self.text.split("\n")
        last: dict[str, int] = {}
        drop: set[int] = set()
        for index, line in enumerate(lines):
            parsed = parse_line(line, self.prefix)
            if parsed is not None and parsed[0] in changes:
                if parsed[0] in last:
                    drop.add(last[parsed[0]])
                last[parsed[0]] = index
        for symbol, index in last.items():
            carriage = "\r" if lines[index].endswith("\r") else ""
            lines[index] = render_line(symbol, changes[symbol], self.prefix) + carriage
        kept = [line for index, line in enumerate(lines) if index not in drop]
        text = "\n".join(kept)
        added = [
            render_line(symbol, changes[symbol], self.prefix)
            for symbol in changes
            if symbol not in last
        ]
        if added:
            if text and not text.endswith("\n"):
                text += newline
            text += newline.join(added) + newline
        return type(self)(text, self.origin)


def parse_line(line: str, prefix: str = "CONFIG_") -> tuple[str, str] | None:
    """``(symbol, raw value)`` of one line; None for comments and noise."""
    match = _lines_of(prefix).fullmatch(line)
    if match is None:
        return None
    name, value, unset = match.groups()
    return (name, value.rstrip()) if name is not None else (unset, "n")


def render_line(symbol: str, value: str, prefix: str = "CONFIG_") -> str:
    """The line that Kconfig would write for ``symbol``."""
    return f"# {prefix}{symbol} is not set" if value == "n" else f"{prefix}{symbol}={value}"
