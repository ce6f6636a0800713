"""Which versions of kernel and QEMU can do what."""

from __future__ import annotations

import os
import re
from pathlib import Path

from embedkit import process
from embedkit.errors import InputError, did_you_mean

# binfmt_misc tells a program through AT_FLAGS that argv[0] was kept since 5.12; QEMU looks
# since 6.0. An older QEMU takes the kept argv[0] for the program's first argument.
_ARGV0_KERNEL = (5, 12)
_ARGV0_QEMU = (6, 0)


def kernel(release: str | None = None) -> tuple[int, int]:
    """Major and minor number of the running kernel, or of ``release``; (0, 0) if unknown."""
    return _first_pair(release or os.uname().release)


def flags(qemu: Path, *, credentials: bool = False) -> str:
    """The flags to register this QEMU with: always F, P where both sides know it."""
    said = process.run([qemu, "--version"], check=False, timeout=20).text
    kept = kernel() >= _ARGV0_KERNEL and _first_pair(said) >= _ARGV0_QEMU
    return "OC"[: 1 + credentials] + ("P" if kept else "") + "F"


def check_cpu(qemu: Path, cpu: str) -> None:
    """Raises InputError where this QEMU has no CPU of this name.

    Said here because QEMU itself would say it only once the command starts, with exit code 1.
    """
    name = cpu.partition(",")[0]  # features may follow: max,sve=off
    listed = process.run([qemu, "-cpu", "help"], check=False, timeout=20).text
    known = [words[-1] for words in _cpu_lines(listed)]
    if name not in known:
        raise InputError(
            f"{qemu.name} has no CPU '{name}'",
            hint=did_you_mean(name, known) or "known: " + ", ".join(known),
        )


def _cpu_lines(listed: str) -> list[list[str]]:
    found = []
    for line in listed.splitlines():
        words = line.replace("'", "").split()
        if line.startswith("Recognized"):  # x86 lists its features after the CPUs
            break
        if not words or line.rstrip().endswith(":"):
            continue
        # "x86 486   (alias …)", "PowerPC 970_v2.2  PVR …", "  cortex-a15", "rv64"
        kinds = ("x86", "PowerPC", "s390", "MIPS")
        found.append([words[1] if words[0] in kinds and len(words) > 1 else words[0]])
    return found


def _first_pair(text: str) -> tuple[int, int]:
    found = re.search(r"(\d+)\.(\d+)", text)
    return (int(found.group(1)), int(found.group(2))) if found else (0, 0)
