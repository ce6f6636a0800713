"""Sizes and durations as people write and read them. Inside embedkit a size is bytes, an int."""

from __future__ import annotations

import re

from embedkit.errors import InputError

SECTOR = 512

_FACTORS = {
    "": 1,
    "B": 1,
    "K": 1 << 10,
    "KIB": 1 << 10,
    "M": 1 << 20,
    "MIB": 1 << 20,
    "G": 1 << 30,
    "GIB": 1 << 30,
    "T": 1 << 40,
    "TIB": 1 << 40,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "S": SECTOR,
}
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")


def parse_size(text: str) -> int:
    """Bytes of ``"32KiB"``, ``"1.5 GiB"``, ``"63s"`` (512-byte sectors), ``"4096"``.

    As genimage and dd do, a bare K, M, G, T is binary; KB, MB, GB, TB are decimal.
    Raises InputError for anything else.
    """
    match = _SIZE.fullmatch(text)
    factor = _FACTORS.get(match.group(2).upper()) if match else None
    if match is None or factor is None:
        raise InputError(f"'{text}' is not a size", hint="write it as '32KiB', '1.5GiB' or '63s'")
    from fractions import Fraction  # here, for it takes a while to import

    # A float would lose bytes of large sizes and invent fractions of others.
    size = Fraction(match.group(1)) * factor
    if size.denominator != 1:
        raise InputError(f"'{text}' is not a whole number of bytes")
    return int(size)


def format_size(size: int) -> str:
    """``1.5 GiB``: for people. Exact sizes belong beside it in bytes."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        # 1023.96 KiB would be shown as 1024.0 KiB.
        if abs(value) < (1024 if unit == "B" else 1023.95):
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def format_seconds(seconds: float) -> str:
    """``0.8 s``, ``42 s``, ``3 min 05 s``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"
