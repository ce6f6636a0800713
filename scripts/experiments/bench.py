"""The board of the experiment: the ARMv7 reference board with Docker's programs on its card."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from embedkit import board as boards
from embedkit.emulate.machine import Machine, Medium, plan, start
from embedkit.emulate.reference import Reference, assemble
from embedkit.progress import NullProgress
from embedkit.target.emulated import authorized_key

_BOARD = "qemu-arm-virt"
_BOOT_SECONDS = 900.0  # on a loaded machine; a quiet one needs 10


class Bench:
    """Works in one folder; the card is made once, and every boot leaves it as it is."""

    def __init__(self, work: Path) -> None:
        self._card = work / "board.img"
        self.reference: Reference = assemble(
            "arm", authorized_key=authorized_key(), progress=NullProgress()
        )
        if not self._card.exists():
            self._compose(work / "artifacts")

    def _compose(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        rootfs = folder / "rootfs.tar"
        shutil.copyfile(self.reference.folder / "rootfs.tar", rootfs)
        with tarfile.open(rootfs, "a") as tar:
            for program in sorted(self.reference.bundle.iterdir()):
                tar.add(program, f"usr/local/bin/{program.name}", filter=_of_root)
        words: list[str | Path] = [
            "compose",
            _BOARD,
            "--artifacts",
            folder,
            "--size",
            "2GiB",
            "-o",
            self._card,
        ]
        argv = [sys.executable, "-m", "embedkit.cli", *words]
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
        shutil.rmtree(folder)

    @contextmanager
    def booted(self, kernel: Path) -> Iterator[Machine]:
        """The board with ``kernel``. Raises BootFailed where it does not come up."""
        board = boards.load(_BOARD)
        medium = Medium(self._card, kernel, arguments=f"{board.boot.arguments} panic=-1")
        with start(plan(board, medium), NullProgress()) as machine:
            machine.wait(_BOOT_SECONDS, "ssh")
            yield machine


def _of_root(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    info.mode = 0o755
    return info
