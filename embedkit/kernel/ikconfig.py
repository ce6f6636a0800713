"""The config that a kernel built with CONFIG_IKCONFIG carries in its read-only data.

``kernel/configs.c`` places a gzip of the .config between two markers; ``scripts/extract-ikconfig``
looks for the first together with gzip's first bytes, and so does this.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from embedkit.kernel.text import CONFIG_LINE, MAX_CONFIG

MARKER = b"IKCFG_ST"

_MAX_PACKED = 4 << 20
_MAX_FALSE_MARKERS = 64
_START = MARKER + b"\x1f\x8b\x08"


@dataclass(frozen=True)
class Scan:
    """What a pass over a kernel's bytes found.

    ``config`` is None where there is none; ``markers`` counts the markers without a config
    behind them, ``scanned`` the bytes looked at.
    """

    config: bytes | None
    markers: int
    scanned: int


def scan(pieces: Iterator[bytes]) -> Scan:
    """Looks for the first embedded config; reads no further than its end.

    Raises DamagedError (from the pieces themselves) where they cannot be read on.
    """
    overlap = len(_START) - 1
    window = b""
    scanned = markers = 0
    for piece in pieces:
        scanned += len(piece)
        window = window[-overlap:] + piece if len(window) > overlap else window + piece
        at = window.find(MARKER)
        while at >= 0:
            if len(window) - at < len(_START):
                break
            markers += 1
            if window.startswith(_START, at) and markers <= _MAX_FALSE_MARKERS:
                window = window[at:]
                window, config = _gather(window, pieces)
                if config is not None:
                    return Scan(config, markers - 1, scanned)
                at = 0
            at = window.find(MARKER, at + 1)
    return Scan(None, markers, scanned)


def _gather(window: bytes, pieces: Iterator[bytes]) -> tuple[bytes, bytes | None]:
    """The config at the start of ``window``, which is lengthened from ``pieces`` as needed."""
    import zlib

    engine = zlib.decompressobj(31)
    kept = [window]
    packed = window[len(MARKER) :]
    taken = 0
    config = bytearray()
    while packed and taken <= _MAX_PACKED and len(config) <= MAX_CONFIG:
        taken += len(packed)
        try:
            config += engine.decompress(packed, MAX_CONFIG + 1 - len(config))
        except zlib.error:
            break
        if engine.eof:
            return b"".join(kept), bytes(config) if CONFIG_LINE.search(config) else None
        packed = next(pieces, b"")
        kept.append(packed)
    return b"".join(kept), None
