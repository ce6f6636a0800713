"""Finds a kernel config in what the user names."""

from __future__ import annotations

from pathlib import Path

from embedkit.errors import InputError
from embedkit.kernel.config import KernelConfig


def load(source: str | None) -> KernelConfig:
    """The config in the file ``source``. Raises InputError where it cannot be read."""
    path = Path(source or "/proc/config.gz")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    if content.startswith(b"\x1f\x8b"):
        import gzip

        content = gzip.decompress(content)
    return KernelConfig.from_bytes(content, str(path))
