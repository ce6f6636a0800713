"""Text from files and boards made fit to show: nothing in it steers a terminal or a page.

Kernel configs and console output are read with ``surrogateescape``, so any string here may
carry bytes that no encoding takes, escape sequences, or Unicode controls that turn the
reading direction of what follows.
"""

from __future__ import annotations

import re

# surrogateescape (PEP 383) keeps the byte 0xNN as U+DCNN; other surrogates come only from bugs.
_ESCAPED_BYTES = re.compile("[\udc80-\udcff]+")
_SURROGATE = re.compile("[\ud800-\udfff]")
# Tabs and line ends count as plain in running text.
_NOT_PLAIN_ASCII = re.compile(r"[^\n\t -~]")
_SPACES = re.compile(r"\s+")


def encodable(text: str) -> str:
    """``text`` as UTF-8 can carry it: undecodable bytes become ``\\x80``, the rest stays."""
    if not _SURROGATE.search(text):
        return text
    text = _ESCAPED_BYTES.sub(_bytes_shown, text)
    return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _bytes_shown(match: re.Match[str]) -> str:
    # Neighbouring bytes may well form a UTF-8 character together.
    return match[0].encode("ascii", "surrogateescape").decode("utf-8", "backslashreplace")


def safe(text: str) -> str:
    """``text`` with every control character shown as an escape; line ends and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    text = encodable(text.replace("\r\n", "\n"))
    return _NOT_PLAIN_ASCII.sub(_shown, text)


def _shown(match: re.Match[str]) -> str:
    character = match[0]
    if character.isprintable():
        return character
    from unicodedata import category

    if category(character) == "Zs":
        return " "
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def one_line(text: str) -> str:
    """``text`` on one line: a label that holds a line end must not look like two rows."""
    return _SPACES.sub(" ", safe(text)).strip()


def is_preformatted(text: str) -> bool:
    """Whether the spaces of ``text`` carry meaning: indents, columns, drawings."""
    return any(line.startswith((" ", "\t")) or "  " in line.strip() for line in text.split("\n"))


def columns(text: str) -> int:
    """How many terminal columns ``text`` takes: wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(
        0 if combining(character) else 2 if east_asian_width(character) in "WF" else 1
        for character in text
    )


def padded(text: str, width: int) -> str:
    """``text`` filled with spaces to ``width`` columns."""
    return text + " " * (width - columns(text))
