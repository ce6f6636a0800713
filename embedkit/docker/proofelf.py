"""A program of under 300 bytes for each architecture, assembled by hand: it prints a text and
ends with an exit code, so a board needs no compiler, no libc and no registry to prove that it
runs containers.

Sources: the ELF gABI; the architectures' instruction manuals; Linux's system call tables
(arch/*/entry/syscalls, include/uapi/asm-generic/unistd.h).
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from embedkit.errors import InputError

TEXT_LIMIT = 100
"""Bytes of text: they have to fit the immediate operands of every architecture."""

# A page of 64 KiB is the largest that arm64 kernels use.
_BASE = 0x10000


def program(arch: str, text: bytes, code: int) -> bytes:
    """An executable for ``arch`` (Docker's word) that writes ``text`` to standard output and
    exits with ``code``. Raises InputError for an architecture it does not know."""
    make = _MACHINES.get(arch)
    if make is None:
        raise InputError(
            f"no proof program is known for {arch or 'an unknown architecture'}",
            hint=f"known: {', '.join(_MACHINES)}",
        )
    if not 0 < len(text) <= TEXT_LIMIT or not 0 <= code <= 255:
        raise ValueError("the text has 1 to 100 bytes, the code one")
    return make(text, code)


def known() -> tuple[str, ...]:
    """The architectures that there is a program for."""
    return tuple(_MACHINES)


def _elf32(machine: int, flags: int, code: Callable[[int], bytes], text: bytes) -> bytes:
    start = 52 + 32
    body = code(_BASE + start) + text
    size = start + len(body)
    header = b"\x7fELF\x01\x01\x01" + bytes(9) + struct.pack(
        "<HHIIIIIHHHHHH", 2, machine, 1, _BASE + start, 52, 0, flags, 52, 32, 1, 0, 0, 0
    )  # fmt: skip
    segment = struct.pack("<IIIIIIII", 1, 0, _BASE, _BASE, size, size, 5, 0x10000)
    return header + segment + body


def _elf64(machine: int, flags: int, code: Callable[[int], bytes], text: bytes) -> bytes:
    start = 64 + 56
    body = code(_BASE + start) + text
    size = start + len(body)
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack(
        "<HHIQQQIHHHHHH", 2, machine, 1, _BASE + start, 64, 0, flags, 64, 56, 1, 0, 0, 0
    )  # fmt: skip
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x10000)
    return header + segment + body


def _amd64(text: bytes, code: int) -> bytes:
    def make(_: int) -> bytes:
        # mov eax, 1 (write); mov edi, 1; lea rsi, [rip+N]; mov edx, len; syscall;
        # mov eax, 60 (exit); mov edi, code; syscall
        return (
            b"\xb8\x01\0\0\0\xbf\x01\0\0\0\x48\x8d\x35" + struct.pack("<i", 5 + 2 + 5 + 5 + 2)
            + b"\xba" + struct.pack("<I", len(text)) + b"\x0f\x05"
            + b"\xb8\x3c\0\0\0\xbf" + struct.pack("<I", code) + b"\x0f\x05"
        )  # fmt: skip

    return _elf64(62, 0, make, text)


def _386(text: bytes, code: int) -> bytes:
    def make(at: int) -> bytes:
        # mov eax, 4 (write); mov ebx, 1; mov ecx, text; mov edx, len; int 0x80;
        # mov eax, 1 (exit); mov ebx, code; int 0x80
        return (
            b"\xb8\x04\0\0\0\xbb\x01\0\0\0\xb9" + struct.pack("<I", at + 34)
            + b"\xba" + struct.pack("<I", len(text)) + b"\xcd\x80"
            + b"\xb8\x01\0\0\0\xbb" + struct.pack("<I", code) + b"\xcd\x80"
        )  # fmt: skip

    return _elf32(3, 0, make, text)


def _arm(text: bytes, code: int) -> bytes:
    def make(_: int) -> bytes:
        # ARM mode, ARMv4 and later; EABI: the call's number is in r7. The program counter
        # reads 8 ahead, so "add r1, pc, #16" two words in points past the eighth word.
        return struct.pack(
            "<8I",
            0xE3A07004,  # mov r7, #4 (write)
            0xE3A00001,  # mov r0, #1
            0xE28F1000 | 16,  # add r1, pc, #16
            0xE3A02000 | len(text),  # mov r2, #len
            0xEF000000,  # svc 0
            0xE3A00000 | code,  # mov r0, #code
            0xE3A07001,  # mov r7, #1 (exit)
            0xEF000000,  # svc 0
        )

    # EABI version 5, and nothing about floats: right for soft and hard float boards.
    return _elf32(40, 0x05000000, make, text)


def _arm64(text: bytes, code: int) -> bytes:
    def make(_: int) -> bytes:
        offset = 6 * 4  # from the adr to behind the eighth word
        return struct.pack(
            "<8I",
            0xD2800808,  # mov x8, #64 (write)
            0xD2800020,  # mov x0, #1
            0x10000001 | (offset & 3) << 29 | (offset >> 2) << 5,  # adr x1, text
            0xD2800002 | len(text) << 5,  # mov x2, #len
            0xD4000001,  # svc #0
            0xD2800000 | code << 5,  # mov x0, #code
            0xD2800BA8,  # mov x8, #93 (exit)
            0xD4000001,  # svc #0
        )

    return _elf64(183, 0, make, text)


def _riscv64(text: bytes, code: int) -> bytes:
    def addi(to: int, of: int, value: int) -> int:
        return value << 20 | of << 15 | to << 7 | 0x13

    def make(_: int) -> bytes:
        a0, a1, a2, a7 = 10, 11, 12, 17
        offset = 7 * 4  # from the auipc to behind the ninth word
        return struct.pack(
            "<9I",
            addi(a7, 0, 64),  # write
            addi(a0, 0, 1),
            a1 << 7 | 0x17,  # auipc a1, 0
            addi(a1, a1, offset),
            addi(a2, 0, len(text)),
            0x73,  # ecall
            addi(a0, 0, code),
            addi(a7, 0, 93),  # exit
            0x73,  # ecall
        )

    return _elf64(243, 0, make, text)


_MACHINES: dict[str, Callable[[bytes, int], bytes]] = {
    "amd64": _amd64,
    "386": _386,
    "arm": _arm,
    "arm64": _arm64,
    "riscv64": _riscv64,
}
