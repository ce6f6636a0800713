"""Writing files so that an interruption leaves the old one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from embedkit.errors import LackError


def write_atomically(path: Path, content: bytes, *, mode: int | None = None) -> None:
    """Puts ``content`` under ``path``: whole, or not at all.

    The bytes go to a temporary file beside it, are flushed to the disk and then renamed.
    A symlink is followed (its target is replaced, the link stays). The permissions of an
    existing file are kept unless ``mode`` is given. Raises LackError where the folder
    cannot be written.
    """
    path = path.resolve()
    if mode is None:
        mode = path.stat().st_mode & 0o7777 if path.exists() else 0o666 & ~current_umask()
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
        temporary = None
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise LackError(f"cannot write {path}: {error.strerror}") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def current_umask() -> int:
    """This process's umask (which can only be read by setting it)."""
    current = os.umask(0)
    os.umask(current)
    return current
