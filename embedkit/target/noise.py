"""What a serial console mixes into everything: kernel messages, ANSI codes, carriage returns.

What is removed here is only a guess at what does not belong; whoever relies on it compares a
checksum afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# CSI and OSC sequences, two-byte escapes (ECMA-48).
_ANSI = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_78=>])")
# "[   12.345678] usb 1-1: …" to the end of its line, with "<6>" before it on some consoles.
_KERNEL = rb"(?:<\d>)?\[ *\d{1,7}\.\d{3,6}\](?:\[[^\]\n]{1,12}\])?[^\n]*\n"
_WITH_BREAK = re.compile(rb"\r*\n(?=" + _KERNEL + rb")|" + _KERNEL)
_ALONE = re.compile(_KERNEL)


def without_ansi(data: bytes) -> bytes:
    """``data`` without terminal control sequences and carriage returns."""
    return _ANSI.sub(b"", data).replace(b"\r", b"")


def readings(data: bytes) -> Iterator[bytes]:
    """What ``data`` may have been before messages got into it, likeliest first.

    A message in the middle of a line may have brought a line break of its own before it, or not.
    """
    clean = without_ansi(data)
    yield clean
    alone = _ALONE.sub(b"", clean)
    if alone != clean:
        yield alone
        yield _ALONE.sub(b"", _WITH_BREAK.sub(b"", clean))


def tail_line(data: bytes) -> str:
    """The last, unfinished line, as text, with messages removed: where a prompt would be."""
    clean = _ALONE.sub(b"", without_ansi(data) + b"")
    return clean.rpartition(b"\n")[2].decode("utf-8", "replace")
