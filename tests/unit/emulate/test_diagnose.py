"""Why a board does not come up, from logs as boards write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedkit.emulate.diagnose import Scene, boots, certain, guess, last_lines

_SPL = b"\r\nU-Boot SPL 2023.01+dfsg-2 (Jun 22 2026 - 08:38:07 +0000)\r\nDRAM: 1024 MiB\r\n"
_UBOOT = (
    _SPL + b"Trying to boot from MMC1\r\n\r\n\r\nU-Boot 2023.01+dfsg-2 Allwinner Technology\r\n\r\n"
    b"Hit any key to stop autoboot:  0 \r\n"
)
_EXTLINUX = (
    _UBOOT + b"switch to partitions #0, OK\r\nmmc0 is current device\r\nScanning mmc 0:1...\r\n"
    b"Found /boot/extlinux/extlinux.conf\r\nRetrieving file: /boot/extlinux/extlinux.conf\r\n"
)
_KERNEL = (
    b"[    0.000000] Booting Linux on physical CPU 0x0\r\n"
    b"[    0.000000] Linux version 6.1.0-50-armmp (debian-kernel@lists.debian.org)\r\n"
    b"[    0.000000] Kernel command line: console=ttyAMA0 root=/dev/vdz9 rw\r\n"
)
_NO_ROOT = (
    _KERNEL + b"[    2.1] /dev/root: Can't open blockdev\r\n"
    b'[    2.2] VFS: Cannot open root device "vdz9" or unknown-block(0,0): error -6\r\n'
    b"[    2.3] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\r\n"
)
_INIT_DIED = b"[    3.0] Kernel panic - not syncing: Attempted to kill init! exitcode=0x%08x\r\n"

_CASES = [
    ("panic-no-root", _NO_ROOT, {}, "root=/dev/vdz9"),
    (
        "panic-no-init",
        _KERNEL
        + b"[ 3.0] Kernel panic - not syncing: No working init found.  Try passing init=\r\n",
        {},
        "no init to start on /dev/vdz9",
    ),
    ("panic-init-died", _KERNEL + _INIT_DIED % 0x100, {}, "with exit code 1"),
    ("panic-init-died", _KERNEL + _INIT_DIED % 0xB, {}, "by signal SIGSEGV"),
    ("panic-init-died", _KERNEL + _INIT_DIED % 0x7F00, {}, "with exit code 127"),
    (
        "panic-out-of-memory",
        _KERNEL + b"[ 1.0] Kernel panic - not syncing: System is deadlocked on memory\r\n",
        {},
        "memory does not suffice",
    ),
    (
        "panic",
        _KERNEL + b"[ 1.0] Kernel panic - not syncing: Fatal exception in interrupt\r\n",
        {},
        "Fatal exception in interrupt",
    ),
    ("no-root-device", _KERNEL + b"[ 2.0] Waiting for root device /dev/vdz9...\r\n", {}, "vdz9"),
    (
        "no-root-device",
        _KERNEL + b"ALERT!  /dev/mmcblk0p2 does not exist.  Dropping to a shell!\r\n(initramfs) ",
        {},
        "/dev/mmcblk0p2",
    ),
    (
        "no-root-device",
        _KERNEL + b"initramfs: waiting for the root device /dev/vda1\r\n",
        {},
        "/dev/vda1",
    ),
    ("uboot-no-script", _UBOOT + b"=> ", {"from_card": True}, "boot script is missing"),
    (
        "uboot-no-script",
        _UBOOT + b"BOOTP broadcast 1\r\nRetrieving file: pxelinux.cfg/default-arm\r\n",
        {"from_card": True},
        "on the network",
    ),
    (
        "uboot-missing-file",
        _EXTLINUX + b"Retrieving file: /boot/zImage\r\nSkipping board for failure retrieving kernel"
        b"\r\nSCRIPT FAILED: continuing...\r\n=> ",
        {"from_card": True},
        "names 'kernel'",
    ),
    (
        "uboot-bad-image",
        _EXTLINUX + b"Bad Linux ARM zImage magic!\r\n=> ",
        {"from_card": True},
        "does not understand",
    ),
    (
        "uboot-no-card",
        _UBOOT + b"Card did not respond to voltage select! : -110\r\n=> ",
        {"from_card": True},
        "cannot read the card",
    ),
    (
        "spl-no-loader",
        _SPL + b"Trying to boot from MMC1\r\nSPL: failed to boot from all boot devices\r\n"
        b"### ERROR ### Please RESET the board ###\r\n",
        {"from_card": True},
        "first stage",
    ),
    ("silence-loader", b"", {"from_card": True, "loader_problem": "it is elsewhere"}, "elsewhere"),
    ("silence-console", b"", {"arguments": "root=/dev/vda1"}, "not told console=ttyAMA0"),
    ("silence-console", b"", {"arguments": "console=ttyS3,115200"}, "told console=ttyS3, and this"),
    ("silence-console", b"\r\n", {"arguments": "console=ttyAMA0"}, "does not start"),
    (
        "silence-kernel",
        _EXTLINUX
        + b"append: console=ttyS3,115200 root=/dev/mmcblk0p1\r\n\r\nStarting kernel ...\r\n",
        {"from_card": True, "console": "ttyS0"},
        "told console=ttyS3, and this line is ttyS0",
    ),
    (
        "no-login",
        _KERNEL
        + b"[ 3.0] Run /sbin/init as init process\r\ncan't open /dev/ttyS9: No such file\r\n",
        {},
        "a login for ttyS9 does not start",
    ),
    ("reset-loop", _NO_ROOT * 3, {}, "started 3 times"),
    ("reset-loop", _SPL * 4, {"from_card": True}, "started 4 times"),
    ("slow", _KERNEL + b"[ 1.0] still going\r\n", {"quiet_seconds": 0.5}, "still starting"),
]


@pytest.mark.parametrize(("kind", "log", "known", "said"), _CASES)
def test_guesses(kind: str, log: bytes, known: dict[str, object], said: str) -> None:
    scene = Scene(log, **{"console": "ttyAMA0", **known})  # type: ignore[arg-type]
    found = guess(scene)
    assert found.kind == kind
    assert said in found.guess
    assert found.advice


@pytest.mark.parametrize(
    ("log", "quiet", "kind"),
    [
        (_NO_ROOT, 0.2, ""),  # its reason may follow
        (_NO_ROOT, 2.0, "panic-no-root"),
        (_NO_ROOT * 3, 0.0, "reset-loop"),
        (_UBOOT, 2.0, ""),
        (_UBOOT + b"=> ", 2.0, "uboot-no-script"),
        (_UBOOT + b"BOOTP broadcast 1\r\n", 0.0, "uboot-no-script"),
        (_EXTLINUX + b"Starting kernel ...\r\n", 30.0, ""),
        (_KERNEL + b"[ 2.0] Waiting for root device /dev/vdz9...\r\n", 5.0, ""),
        (_KERNEL + b"[ 2.0] Waiting for root device /dev/vdz9...\r\n", 30.0, "no-root-device"),
        (
            _KERNEL + b"initramfs: waiting for the root device /dev/mmcblk0p1\r\n"
            b"initramfs: /dev/mmcblk0p1 is there\r\n",
            30.0,
            "",
        ),
        (b"", 60.0, ""),
    ],
)
def test_what_is_certain_is_not_waited_for(log: bytes, quiet: float, kind: str) -> None:
    found = certain(Scene(log, "ttyAMA0", from_card=True, quiet_seconds=quiet))
    assert (found.kind if found else "") == kind


def test_only_the_last_start_counts() -> None:
    """A board that panicked, was reset and waits at U-Boot's prompt has no panic any more."""
    log = _EXTLINUX + b"Starting kernel ...\r\n" + _NO_ROOT + _UBOOT + b"=> "
    assert boots(log) == 2
    found = certain(Scene(log, "ttyS0", from_card=True))
    assert found is not None and found.kind == "uboot-no-script"


def test_last_lines_steer_no_terminal() -> None:
    log = b"one\r\n\x1b[31mred\x1b[0m \x07bell\x9b31m\r\n\r\n\xff\xfe\r\n" + b"x" * 500 + b"\r\n"
    lines = last_lines(log)
    assert lines[:2] == ("one", "red ?bell\ufffd31m")
    assert len(lines[-1]) == 200
    assert all(line.isprintable() for line in lines)
    assert last_lines(b"line\r\n" * 100) == ("line",) * 12


@given(st.binary(max_size=2000))
def test_any_log_gets_a_guess(log: bytes) -> None:
    for from_card in (True, False):
        scene = Scene(log, "ttyAMA0", arguments="console=ttyS0", from_card=from_card)
        certain(scene)
        assert guess(scene).guess
        last_lines(log)
