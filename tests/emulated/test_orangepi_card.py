"""A composed card starts an emulated Orange Pi PC: boot ROM, SPL, U-Boot, kernel, SSH."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.references import assembled, booted

from embedkit import board
from embedkit.emulate.machine import Machine
from embedkit.emulate.reference import Reference

pytestmark = pytest.mark.needs(
    "debian", "program:qemu-system-arm", "program:qemu-img", "program:mke2fs"
)


@pytest.fixture(scope="module")
def machine(new_card: Callable[[Reference], Path]) -> Iterator[Machine]:
    how = board.load("orangepi-pc").emulation
    assert how is not None and how.card_boot
    reference = assembled("orangepi-pc")
    assert reference.kernel is None
    with booted(reference, new_card(reference)) as machine:
        yield machine


def test_every_stage_of_the_card_s_boot_chain_ran(machine: Machine) -> None:
    log = machine.state.log.read_text(errors="replace")
    stages = ["U-Boot SPL ", "Trying to boot from MMC1", "Found /boot/extlinux/extlinux.conf",
              "Starting kernel", board.load("orangepi-pc").console.login_prompt]  # fmt: skip
    places = [log.find(stage) for stage in stages]
    assert -1 not in places and places == sorted(places), log


def test_rootfs_is_the_archive_s(machine: Machine) -> None:
    """What the board sees is what the tar said: type of processor, root's files, modes."""
    with machine.target() as target:
        said = target.run(
            "uname -m; cat /proc/device-tree/model; echo; "
            "stat -c '%n %a %u %g %Y' /opt /usr/bin/busybox /root/.ssh/authorized_keys; "
            # Written, flushed and read back: the root file system is writable and whole.
            "echo hello >/root/x && sync && cat /root/x && rm /root/x"
        ).text
    assert said.splitlines() == [
        "armv7l",
        "Xunlong Orange Pi PC\0",
        "/opt 755 0 0 1700000000",
        "/usr/bin/busybox 755 0 0 1700000000",
        "/root/.ssh/authorized_keys 600 0 0 1700000000",
        "hello",
    ]
