"""What QEMU is told: from a board's ``[emulate]`` to its command line.

QEMU is started in the state folder of the emulation, so all paths of that folder are relative:
a Unix socket's path may have 107 bytes (unix(7)), a home folder may be deeper than that.
"""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from pathlib import Path

from embedkit.board.model import Board, Emulation
from embedkit.errors import InputError

OVERLAY, CONSOLE, LOG, QMP = "card.qcow2", "console.sock", "console.log", "qmp.sock"
# Python's names of machines → ours.
_HOSTS = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "riscv64": "riscv64"}
# Translated code: QEMU's own default is a quarter of the guest's memory and up to 1 GiB
# (accel/tcg/tcg-all.c); a small system's kernel and programs fit into this.
_TRANSLATIONS_MIB = 256
_CONSOLE = re.compile(r"(?<!\S)console=\S+")
_CARD_ROOT = re.compile(r"(?<!\S)root=/dev/mmcblk\d+p(\d+)")


@dataclass(frozen=True)
class Medium:
    """What to boot from. ``card`` is a raw card image, which is never written to; ``kernel`` and
    what belongs to it are for machines that are given them; ``arguments`` None: the board's."""

    card: Path | None = None
    kernel: Path | None = None
    initrd: Path | None = None
    device_tree: Path | None = None
    arguments: str | None = None


def emulation_of(board: Board) -> Emulation:
    """How QEMU stands in for ``board``. Raises InputError where the board file does not say."""
    if board.emulation is None:
        raise InputError(
            f"the board file of {board.name} does not say how QEMU stands in for it",
            where=str(board.path),
            hint="give it an [emulate] table; docs/boards.md tells what belongs there",
        )
    return board.emulation


def kernel_arguments(board: Board, medium: Medium) -> str:
    """The kernel's command line: what was given, else the board's own.

    The board's names its own serial line and its card slot; where QEMU's machine has others,
    they are put in their place.
    """
    if medium.arguments is not None:
        return medium.arguments
    how = emulation_of(board)
    text = board.boot.arguments or f"console={how.console} root=/dev/mmcblk0p1 rootwait rw"
    if how.console != board.console.device:
        text = _CONSOLE.sub(f"console={how.console}", text)
    if how.drive == "virtio":
        text = _CARD_ROOT.sub(r"root=/dev/vda\1", text)
    return text


def accelerators(board: Board, wanted: str, *, host: str | None = None) -> tuple[str, ...]:
    """Those to try, best first, for ``wanted`` ("auto", "kvm", "tcg"). Raises InputError.

    That /dev/kvm can be opened says little: QEMU may end on a register that this machine's
    kernel does not let it set. Only a start tells.
    """
    here = host if host is not None else _HOSTS.get(platform.machine(), "")
    how = emulation_of(board)
    # A board's own machine has a processor that no other can stand in for.
    fits = board.arch == here and how.machine.partition(",")[0] in ("virt", "q35", "pc")
    if wanted == "kvm" and not fits:
        raise InputError(
            f"KVM cannot run {board.name} ({board.arch}) on this machine ({here or 'unknown'})",
            hint="--accelerator tcg emulates the processor",
        )
    if wanted == "auto":
        return ("kvm", "tcg") if fits else ("tcg",)
    return (wanted,)


def command_line(
    board: Board,
    medium: Medium,
    accelerator: str,
    *,
    memory: int | None = None,
    processors: int | None = None,
    ssh_port: int | None = None,
    network: bool = True,
    keep: bool = False,
) -> tuple[str, ...]:
    """QEMU's words. ``ssh_port`` None: QEMU takes a free one. ``keep``: what is written to the
    card must outlast a crash of this machine. Raises InputError."""
    how = emulation_of(board)
    argv = [how.program, "-M", _machine(how, accelerator)]
    if accelerator == "kvm":
        argv += ["-accel", "kvm", "-cpu", "host"]
    else:
        argv += ["-accel", f"tcg,thread={_threads(board)},tb-size={_TRANSLATIONS_MIB}"]
        argv += ["-cpu", how.cpu] if how.cpu else []
    argv += ["-m", f"{(memory or how.memory) >> 20}M", "-smp", str(processors or how.processors)]
    # Nothing but what is asked for; also no window, no menu on Ctrl-A, no default network.
    argv += ["-nodefaults", "-no-user-config", "-display", "none"]
    argv += ["-chardev", f"socket,id=serial,path={CONSOLE},server=on,wait=off,logfile={LOG}"]
    if how.machine.startswith("raspi") and how.console.startswith("ttyS"):
        # The mini UART is these machines' second line (hw/arm/bcm2835_peripherals.c).
        argv += ["-serial", "null"]
    argv += ["-serial", "chardev:serial"]
    argv += ["-qmp", f"unix:{QMP},server=on,wait=off"]
    if medium.card is not None:
        argv += _drive(how, keep)
    argv += _network(how, ssh_port) if network else ["-nic", "none"]
    if _has_virtio(how):
        # A board without it gathers entropy for a long time before it makes its SSH keys.
        argv += ["-device", _virtio(how, "rng")]
    return (*argv, *_kernel(board, medium))


def _machine(how: Emulation, accelerator: str) -> str:
    if accelerator == "kvm" and how.machine.startswith("virt") and "aarch64" in how.program:
        return f"{how.machine},gic-version=host"
    return how.machine


def _threads(board: Board) -> str:
    # x86 guests expect more order of memory than other machines keep.
    strict = board.arch == "amd64" and _HOSTS.get(platform.machine()) != "amd64"
    return "single" if strict else "multi"


def _has_virtio(how: Emulation) -> bool:
    return "virtio" in (how.drive, how.network)


def _virtio(how: Emulation, kind: str) -> str:
    # virtio-mmio needs least of a kernel: no PCI.
    bus = "device" if how.machine.startswith("virt") else "pci"
    return f"virtio-{kind}-{bus}"


def _drive(how: Emulation, keep: bool) -> list[str]:
    # An overlay that is thrown away needs no flushes to the disk.
    common = f"file={OVERLAY},format=qcow2,cache={'writeback' if keep else 'unsafe'}"
    if how.drive == "sd":
        return ["-drive", f"if=sd,{common}"]
    return [
        "-drive", f"if=none,id=card,{common},discard=unmap,werror=enospc",
        "-device", f"{_virtio(how, 'blk')},drive=card",
    ]  # fmt: skip


def _network(how: Emulation, ssh_port: int | None) -> list[str]:
    # Port 0: the kernel of this machine picks a free one when QEMU binds it.
    user = f"user,id=net,hostfwd=tcp:127.0.0.1:{ssh_port or 0}-:22"
    if how.network == "onboard":
        return ["-nic", user]
    device = "usb-net" if how.network == "usb" else _virtio(how, "net")
    return ["-netdev", user, "-device", f"{device},netdev=net"]


def _kernel(board: Board, medium: Medium) -> list[str]:
    how = emulation_of(board)
    if medium.kernel is None:
        if not how.card_boot:
            raise InputError(
                f"QEMU's machine for {board.name} does not start from a card: it needs a kernel",
                hint="give --kernel FILE (and --initrd FILE where the kernel needs one)",
            )
        if medium.card is None:
            raise InputError(
                f"there is nothing to boot {board.name} from", hint="give --card FILE or --kernel"
            )
        extra = (medium.initrd, medium.device_tree, medium.arguments)
        if any(given is not None for given in extra):
            raise InputError(
                "an initrd, a device tree or kernel arguments need a kernel to go with",
                hint="a card's own are set in its boot script",
            )
        return []
    argv = ["-kernel", str(medium.kernel)]
    if medium.initrd is not None:
        argv += ["-initrd", str(medium.initrd)]
    if medium.device_tree is not None:
        argv += ["-dtb", str(medium.device_tree)]
    return [*argv, "-append", kernel_arguments(board, medium)]
