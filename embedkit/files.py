"""Writing files so that an interruption leaves the old one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from embedkit.errors import LackError


def write_atomically(path: Path, content: bytes, *, mode: int | None = None) -> None:
    """Puts ``content`` under ``path``: whole, or not at all.

    The bytes go to a temporary file beside it, are flushed to the disk and then renamed.
    A symlink is followed (its target is replaced, the link stays). The permissions of an
    existing file are kept unless ``mode`` is given. A terminal, a pipe or ``/dev/null`` is
    written to, never replaced. Raises LackError where that is not possible.
    """
    temporary = None
    try:
        path = path.resolve()
        kind = path.stat().st_mode if path.exists() else None
        if kind is not None and (stat.S_ISCHR(kind) or stat.S_ISFIFO(kind)):
            path.write_bytes(content)
            return
        if kind is not None and not stat.S_ISREG(kind):
            raise LackError(f"cannot write {path}: it is not a regular file")
        if mode is None:
            mode = 0o666 & ~current_umask() if kind is None else stat.S_IMODE(kind)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:200]}.")
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
    except RuntimeError as error:  # Python 3.11 and 3.12 say so of symlinks in a circle
        raise LackError(f"cannot write {path}: its symlinks lead in a circle") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def backup_path(path: Path) -> Path:
    """A free name beside ``path`` for its old content: ``NAME.bak``, ``NAME.bak2``…

    An older backup is somebody's only way back; one that holds the same bytes will do again.
    """
    content = path.read_bytes() if path.is_file() else None
    free = path.with_name(f"{path.name}.bak")
    number = 2
    while free.exists() and not (free.is_file() and free.read_bytes() == content):
        free = path.with_name(f"{path.name}.bak{number}")
        number += 1
    return free


def current_umask() -> int:
    """This process's umask (which can only be read by setting it)."""
    current = os.umask(0)
    os.umask(current)
    return current


@contextlib.contextmanager
def alone(lock: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Holds ``lock``, a file made where it is missing, so that one process at a time goes on.

    ``waiting`` is called where another holds it, and may raise instead. The lock ends with the
    process, however that ends. Raises LackError where the file cannot be made.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("a")
    except OSError as error:
        raise LackError(f"cannot write {lock}: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
