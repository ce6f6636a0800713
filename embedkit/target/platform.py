"""Which programs a board can run: from ``uname -m``, /proc/cpuinfo and an ELF header."""

from __future__ import annotations

import base64
import binascii
import re

from embedkit.elf import FLOAT_HARD, FLOAT_SOFT, architecture, read
from embedkit.target.facts import Elf, Platform

_EXACT = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "arm64": "arm64",
    "riscv64": "riscv64",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "loongarch64": "loong64",
    "mips": "mips",
    "mips64": "mips64",
}


def read_elf(lines: list[str]) -> Elf | None:
    """The header that the probe read: a path, then hexadecimal bytes or base64."""
    if len(lines) < 2:
        return None
    path, *rest = lines
    try:
        if rest[0].strip() == "b64":
            data = base64.b64decode("".join(rest[1:]))
        else:
            data = bytes.fromhex("".join("".join(rest).split()))
    except (ValueError, binascii.Error):
        return None
    return parse_elf(path, data)


def parse_elf(path: str, data: bytes) -> Elf | None:
    """The first 52 bytes of an ELF file (gABI, "ELF Header"); None for anything else."""
    found = read(data)
    if found is None:
        return None
    return Elf(path, found.bits, not found.big_endian, found.machine, found.flags)


def read_platform(
    machine: str, cpuinfo: list[str], elf: Elf | None, loaders: list[str]
) -> Platform:
    """What ``uname -m``, /proc/cpuinfo, a program's header and the C libraries there tell."""
    fields: dict[str, str] = {}
    cpus = 0
    for line in cpuinfo:
        name, _, value = line.partition(":")
        if name.strip() == "processor":
            cpus += 1
        fields.setdefault(name.strip(), value.strip())
    features = tuple(
        (fields.get("Features") or fields.get("flags") or fields.get("isa", "")).split()
    )
    userland = ""
    if elf is not None:
        userland = architecture(elf.machine, elf.bits, not elf.little_endian)
    arch, variant = _arch(machine, fields, userland)
    return Platform(
        arch=arch,
        variant=variant,
        userland_arch=userland or arch,
        hard_float=_hard_float(arch, userland, elf, features, loaders),
        machine=machine,
        cpu=fields.get("model name") or fields.get("Hardware") or fields.get("Processor", ""),
        cpus=cpus,
        features=features,
        elf=elf,
    )


def _arch(machine: str, fields: dict[str, str], userland: str) -> tuple[str, str]:
    if machine in _EXACT:
        return _EXACT[machine], "v8" if _EXACT[machine] == "arm64" else ""
    if re.fullmatch(r"i[3-6]86", machine):
        return "386", ""
    match = re.match(r"armv(\d)", machine)
    if match is not None:
        return "arm", f"v{match.group(1)}"
    # No uname: the program's header tells the machine, /proc/cpuinfo which ARM it is.
    if userland == "arm":
        number = re.match(r"\d+", fields.get("CPU architecture", ""))
        return "arm", f"v{min(int(number.group()), 8)}" if number else ""
    return userland, "v8" if userland == "arm64" else ""


def _hard_float(
    arch: str, userland: str, elf: Elf | None, features: tuple[str, ...], loaders: list[str]
) -> bool | None:
    if "arm" not in (arch, userland) or arch not in ("arm", "arm64"):
        return None
    if elf is not None and elf.machine == 40:
        if elf.flags & FLOAT_HARD:
            return True
        if elf.flags & FLOAT_SOFT:
            return False
    if any("armhf" in loader for loader in loaders):
        return True
    if loaders:
        return False
    # A static userland that says nothing: what the CPU has decides what a program may use.
    if any(feature.startswith("vfp") for feature in features):
        return True
    return False if features else None
