"""Loop devices for tests: made here, detached here, by their own name.

Whoever holds the lock LOOPS alone knows which name comes next.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from support import locks

LOOPS = "loops"


@contextlib.contextmanager
def loop(
    backing: Path,
    *,
    size: int | None = None,
    sector: int = 512,
    read_only: bool = False,
    direct: bool = False,
) -> Iterator[Path]:
    """A loop device over ``backing``, which is made with ``size`` bytes where that is given."""
    if size is not None:
        with backing.open("wb") as file:
            file.truncate(size)
    options = ["--find", "--show", "--sector-size", str(sector)]
    options += ["--read-only"] if read_only else []
    options += ["--direct-io=on"] if direct else []
    with locks.held(LOOPS, shared=True):
        made = subprocess.run(
            ["losetup", *options, backing], check=True, capture_output=True, text=True
        )
    device = Path(made.stdout.strip())
    assert device.name.startswith("loop"), device
    try:
        yield device
    finally:
        with locks.held(LOOPS, shared=True):
            subprocess.run(["losetup", "--detach", device], check=False, capture_output=True)


@contextlib.contextmanager
def partitions(device: Path) -> Iterator[None]:
    """The partitions of a loop device as devices of their own, without losetup's -P."""
    subprocess.run(["partx", "--add", device], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["partx", "--delete", device], check=False, capture_output=True)
