"""Architectures: their names, QEMU's name, and how the kernel recognises their programs.

Sources: the ELF gABI (the header's layout, e_machine), ``fs/binfmt_misc.c`` (magic and mask),
and QEMU's ``scripts/qemu-binfmt-conf.sh`` for what QEMU calls an architecture.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

from embedkit.elf import MACHINES, Elf
from embedkit.errors import InputError, did_you_mean

HEADER_BYTES = 20
"""Of an ELF header as far as e_machine: what magic and mask cover."""

_EXEC, _DYN = 2, 3


@dataclass(frozen=True)
class Architecture:
    """One architecture, named as container images name it.

    ``qemu`` is the suffix of QEMU's user emulator (``qemu-arm``); ``aliases`` are what Debian,
    the kernel, Docker's ``--platform`` and people call it.
    """

    name: str
    qemu: str
    aliases: tuple[str, ...] = ()

    @property
    def machine(self) -> int:
        return MACHINES[self.name][0]

    @property
    def bits(self) -> int:
        return MACHINES[self.name][1]

    @property
    def big_endian(self) -> bool:
        return MACHINES[self.name][2]

    @property
    def entry(self) -> str:
        """The name of its binfmt_misc entry; Debian and systemd use the same."""
        return f"qemu-{self.qemu}"

    def header(self, kind: int = _EXEC) -> bytes:
        """The first 20 bytes of a program for it; ``kind`` is e_type (2 EXEC, 3 DYN)."""
        order = ">" if self.big_endian else "<"
        identity = bytes((0x7F, *b"ELF", self.bits // 32, 2 if self.big_endian else 1, 1))
        return identity.ljust(16, b"\0") + struct.pack(order + "HH", kind, self.machine)

    @property
    def magic(self) -> bytes:
        """The header's bytes that binfmt_misc compares, under :attr:`mask`."""
        return self.header()

    @property
    def mask(self) -> bytes:
        """Any OS ABI (byte 7), and the lowest bit of e_type: EXEC (2) and DYN (3) alike."""
        mask = bytearray(b"\xff" * HEADER_BYTES)
        mask[7] = 0
        mask[17 if self.big_endian else 16] = 0xFE
        return bytes(mask)


ARCHITECTURES = (
    Architecture("arm", "arm", ("armv5", "armv6", "armv7", "armv7l", "armhf", "armel")),
    Architecture("arm64", "aarch64", ("aarch64", "armv8", "arm64v8")),
    Architecture("386", "i386", ("i386", "i486", "i586", "i686", "x86")),
    Architecture("amd64", "x86_64", ("x86_64", "x86-64", "x64")),
    Architecture("riscv64", "riscv64", ("riscv",)),
    Architecture("loong64", "loongarch64", ("loongarch64", "loongarch")),
    Architecture("ppc64le", "ppc64le", ("ppc64el", "powerpc64le")),
    Architecture("s390x", "s390x"),
    Architecture("mips", "mips"),
    Architecture("mipsle", "mipsel", ("mipsel",)),
    Architecture("mips64", "mips64"),
    Architecture("mips64le", "mips64el", ("mips64el",)),
)
_BY_NAME = {
    name: architecture
    for architecture in ARCHITECTURES
    for name in (architecture.name, architecture.qemu, *architecture.aliases)
}


def architecture(name: str) -> Architecture:
    """The architecture called ``name``: also ``linux/arm/v7``, ``armhf``, ``qemu-arm``.

    Raises InputError where there is none.
    """
    asked = name.lower().removeprefix("linux/").removeprefix("qemu-")
    # A variant (arm/v6) has the same ELF header: QEMU's CPU makes the difference, not the entry.
    found = _BY_NAME.get(asked) or _BY_NAME.get(asked.partition("/")[0])
    if found is None:
        raise InputError(
            f"there is no architecture '{name}'",
            hint=did_you_mean(asked, _BY_NAME)
            or "known: " + ", ".join(each.name for each in ARCHITECTURES),
        )
    return found


def of_program(found: Elf) -> Architecture | None:
    """The architecture of an ELF file; None where it is unknown, or the file no program."""
    return _BY_NAME.get(found.architecture) if found.loadable else None


def matches(header: bytes, magic: bytes, mask: bytes, offset: int = 0) -> bool:
    """Whether the kernel takes a file beginning with ``header`` for ``magic`` under ``mask``.

    An empty mask compares every bit, as ``search_binfmt_handler`` does.
    """
    part = header[offset : offset + len(magic)]
    if not magic or len(part) < len(magic):
        return False
    bits = mask or b"\xff" * len(magic)
    return all((a ^ b) & m == 0 for a, b, m in zip(part, magic, bits, strict=False))


def native(machine: str | None = None) -> tuple[Architecture, ...]:
    """What runs here without emulation; ``machine`` as in ``uname -m`` (default: this one's).

    A 32-bit x86 program runs on a 64-bit x86 kernel. Whether an arm64 machine runs 32-bit ARM
    is the CPU's matter, and many no longer do: it is taken for foreign here.
    """
    asked = (machine or os.uname().machine).lower()
    found = _BY_NAME.get(asked) or _BY_NAME.get(asked[:5])  # armv7l, armv6l, armv5tejl
    if found is None:
        return ()
    return (found, _BY_NAME["386"]) if found.name == "amd64" else (found,)
