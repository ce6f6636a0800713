"""How much a foreign image, archive or registry may ask of this machine.

Nothing read from outside decides how much memory or disk embedkit uses: every loop over
foreign data ends at one of these numbers with an error that names it.
"""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

CHUNK = 64 * KIB
"""Bytes that are read, hashed and written at a time. Larger pieces cost more: each is a fresh
mapping of memory for the allocator, and the kernel clears its pages."""


@dataclass(frozen=True)
class Limits:
    """Bounds in bytes or counts; the defaults fit every image in the wild that we know of.

    ``document`` bounds a manifest or an index: the distribution spec wants 4 MiB to work.
    """

    document: int = 4 * MIB
    config: int = 8 * MIB
    index_entries: int = 1000
    index_depth: int = 4
    layers: int = 1000
    archive_members: int = 200_000
    layer_members: int = 2_000_000
    layer_unpacked: int = 64 * GIB
    # gzip reaches 1032:1 and zstd more on zeros; real layers stay below 100:1.
    bomb_ratio: int = 500
    bomb_free: int = 256 * MIB
    pax_header: int = 1 * MIB
    zstd_window: int = 128 * MIB
    xz_memory: int = 256 * MIB


DEFAULT = Limits()
