"""Reference boards for tests: assembled, composed, booted.

They are the user's own: what an earlier run or a user assembled is taken from the cache.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from embedkit import board as boards
from embedkit.emulate.machine import Machine, Medium, plan, start
from embedkit.emulate.reference import Reference, assemble
from embedkit.errors import LackError
from embedkit.progress import NullProgress
from embedkit.target.emulated import authorized_key
from support import debian

BOOT_SECONDS = 600  # on a loaded machine; a quiet one needs a twentieth


def assembled(kind: str) -> Reference:
    try:
        return assemble(kind, authorized_key=authorized_key(), progress=NullProgress())
    except LackError as error:
        debian.give_up(str(error))
        raise


def composed(reference: Reference, image: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "embedkit.cli", "compose", reference.board, "--artifacts",
         reference.folder, "--size", "4GiB", "-o", image],
        check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return image


@contextmanager
def booted(reference: Reference, card: Path, kernel: Path | None = None) -> Iterator[Machine]:
    """The board, with a ``kernel`` that needs no initramfs in place of Debian's where given."""
    board = boards.load(reference.board)
    if kernel is not None:
        medium = Medium(card, kernel, arguments=f"{board.boot.arguments} panic=-1")
    else:
        arguments = reference.arguments if reference.kernel else None  # else the card has them
        medium = Medium(card, reference.kernel, reference.initrd, arguments=arguments)
    with start(plan(board, medium), NullProgress()) as machine:
        machine.wait(BOOT_SECONDS, "ssh")
        yield machine


def embedkit(command: str, *words: str | Path) -> tuple[int, dict[str, Any]]:
    """Exit code and report of a command, run as a process of its own."""
    argv = [sys.executable, "-m", "embedkit.cli", command, "--json", *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)
