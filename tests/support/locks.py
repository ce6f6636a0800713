"""What processes that test side by side share, and how they keep out of each other's way.

A lock is a file that the kernel lets go when its holder ends, however it ends. What lies in the
cache is made once for all of them; and what there is one of on a machine (its next free loop
device, its binfmt_misc) is changed by one while no other looks at it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from embedkit.data import cache_folder

_mine: set[str] = set()
# Settled when the tests are collected: some give themselves another home later.
CACHE = cache_folder() / "tests"


@contextlib.contextmanager
def held(name: str, *, shared: bool = False) -> Iterator[None]:
    """The lock ``name`` as long as the block lasts; with ``shared``, beside others that share it.

    Inside a block that holds it, taking it again does nothing.
    """
    if name in _mine:
        yield
        return
    path = CACHE / "locks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        _mine.add(name)
        try:
            yield
        finally:
            _mine.discard(name)


def made_once(target: Path, fill: Callable[[Path], None]) -> Path:
    """The folder ``target``; where it is not there yet, ``fill`` fills an empty one for it.

    It appears under its name when it is whole. Others that want it wait meanwhile.
    """
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with held(hashlib.sha1(os.fsencode(target)).hexdigest()):
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".part-") as temporary:
                folder = Path(temporary, "files")
                folder.mkdir()
                fill(folder)
                folder.rename(target)
    return target
