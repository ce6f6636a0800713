"""A composed card starts an emulated Orange Pi PC: boot ROM, SPL, U-Boot, kernel, login."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest
from support import debian, orangepi

from embedkit import board

pytestmark = pytest.mark.needs(
    "debian", "program:qemu-system-arm", "program:mke2fs", "program:debugfs"
)
_STEP_SECONDS = 180  # for one step on a loaded machine; a quiet one needs a sixth of it


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("orangepi")
    try:
        orangepi.artifacts(folder / "artifacts")
    except debian.NotToBeHad as error:
        debian.give_up(str(error))
    image = folder / "card.img"
    subprocess.run(
        [sys.executable, "-m", "embedkit.cli", "compose", "orangepi-pc", "--size", "power-of-two",
         "--artifacts", folder / "artifacts", "-o", image],
        check=True,
    )  # fmt: skip
    return image


@pytest.fixture(scope="module")
def console(card: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[pexpect.spawn[str]]:
    how = board.load("orangepi-pc").emulation
    assert how is not None and how.card_boot
    log = (tmp_path_factory.mktemp("console") / "log").open("w")
    child = pexpect.spawn(
        how.program,
        ["-M", how.machine, "-m", f"{how.memory >> 20}M", "-nographic", "-no-reboot", "-nic",
         "none", "-drive", f"if=sd,format=raw,file={card}"],
        encoding="utf-8",
        codec_errors="replace",
        timeout=_STEP_SECONDS,
    )  # fmt: skip
    child.logfile_read = log
    yield child
    child.close(force=True)
    log.close()


def test_card_boots_to_a_login(console: pexpect.spawn[str]) -> None:
    prompts = board.load("orangepi-pc").console
    console.expect("U-Boot SPL ")
    console.expect("Trying to boot from MMC1")
    console.expect("Found /boot/extlinux/extlinux.conf")
    console.expect("Starting kernel")
    console.expect_exact(prompts.login_prompt)
    console.sendline("root")
    console.expect("# ")


def test_rootfs_is_the_archive_s(console: pexpect.spawn[str]) -> None:
    """What the board sees is what the tar said: type of processor, root's files, modes."""
    console.sendline("echo is-$(uname -m)-$(cat /proc/device-tree/model | cut -d' ' -f1-2)")
    console.expect("is-armv7l-Xunlong Orange")
    console.sendline("stat -c 'stat-%a-%u-%g-%Y' /tmp /bin/busybox")
    console.expect("stat-1777-0-0-1700000000")
    console.expect("stat-755-0-0-1700000000")
    # Written, flushed and read back: the root file system is writable and whole.
    console.sendline("echo hello > /root/x && sync && cat /root/x && echo done-$?")
    console.expect("hello\r+\ndone-0")
