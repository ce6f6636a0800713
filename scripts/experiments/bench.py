"""The board of the experiment: the ARMv7 reference board, with Docker deployed on its card."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from embedkit import board as boards
from embedkit.emulate.machine import Machine, Medium, plan, start
from embedkit.emulate.reference import Reference, assemble
from embedkit.process import run
from embedkit.progress import NullProgress
from embedkit.target.emulated import authorized_key

_BOARD = "qemu-arm-virt"
_BOOT_SECONDS = 900.0  # on a loaded machine; a quiet one needs 10


class Bench:
    """Works in one folder; the card is made once, and every boot leaves it as it is."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._card = work / "board.img"
        self.reference: Reference = assemble(
            "arm", authorized_key=authorized_key(), progress=NullProgress()
        )

    def prepare(self, kernel: Path) -> None:
        """Composes the card and deploys Docker on it, under the kernel that has everything."""
        if self._card.exists():
            return
        fresh = self._work / "fresh.img"
        fresh.unlink(missing_ok=True)
        _embedkit(
            "compose", _BOARD, "--artifacts", self.reference.folder, "--size", "2GiB", "-o", fresh
        )
        with self._machine(fresh, kernel, keep=True) as machine:
            machine.wait(_BOOT_SECONDS, "ssh")
            _embedkit(
                "deploy", machine.state.url, "--bundle", self.reference.bundle, "--allow-dynamic"
            )
            assert machine.stop(deadline_seconds=60), "the board does not shut down by itself"
            state = machine.state
        part = self._work / ".board.img"
        run(["qemu-img", "convert", "-O", "raw", state.overlay, part])
        _embedkit("emulate", "stop", state.name)
        part.rename(self._card)
        fresh.unlink()

    @contextmanager
    def booted(self, kernel: Path) -> Iterator[Machine]:
        """The board with ``kernel``. Raises BootFailed where it does not come up."""
        with self._machine(self._card, kernel) as machine:
            machine.wait(_BOOT_SECONDS, "ssh")
            yield machine

    def _machine(self, card: Path, kernel: Path, *, keep: bool = False) -> Machine:
        board = boards.load(_BOARD)
        arguments = f"{board.boot.arguments} panic=-1"
        medium = Medium(card=card, kernel=kernel, arguments=arguments)
        return start(plan(board, medium, keep=keep), NullProgress())


def _embedkit(*words: str | Path) -> None:
    argv = [sys.executable, "-m", "embedkit.cli", *words, "--quiet"]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
