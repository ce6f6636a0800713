"""A second lock on the door: tests that point embedkit at real disks run under it.

An audit hook sees every ``open`` that Python makes, whichever module asks. Opening a block
device that is not a loop device for writing raises, whatever embedkit decided before. It
can be installed, and never taken away.
"""

from __future__ import annotations

import os
import stat
import sys

_LOOP_MAJOR = 7
_installed = False


class DangerousOpen(BaseException):
    """embedkit tried to write to a device that the tests did not make. Nothing catches this."""


def _hook(event: str, args: tuple[object, ...]) -> None:
    if event != "open" or not args:
        return
    path, mode, flags = (*args, None, None)[:3]
    writes = isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))
    writes = writes or (isinstance(mode, str) and any(letter in mode for letter in "wax+"))
    if not writes or not isinstance(path, str | bytes | os.PathLike):
        return
    try:
        status = os.stat(path)  # noqa: PTH116 - bytes and str alike
    except OSError:
        return
    if stat.S_ISBLK(status.st_mode) and os.major(status.st_rdev) != _LOOP_MAJOR:
        raise DangerousOpen(f"a test opened {path!r} for writing")


def install() -> None:
    """From here on this process cannot open a block device but a loop device for writing."""
    global _installed
    if not _installed:
        sys.addaudithook(_hook)
        _installed = True
