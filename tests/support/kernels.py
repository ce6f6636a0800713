"""Real kernel configs out of Debian packages."""

from __future__ import annotations

import lzma
from pathlib import Path

from support import debian, locks

ARCHITECTURES = ("armhf", "armel", "arm64", "amd64", "i386", "riscv64")


def debian_configs() -> dict[str, Path]:
    """Name → plain ``.config`` of every kernel in Debian's linux-config packages."""
    with locks.held("configs"):
        return _debian_configs()


def _debian_configs() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for arch in ARCHITECTURES:
        try:
            packages = debian.search("^linux-config-[0-9.]+$", arch)
        except debian.NotToBeHad:
            continue
        for package in packages:
            for packed in sorted(debian.unpack(package, arch).rglob("config.*.xz")):
                plain = debian.cache() / "configs" / f"{package}-{packed.name.removesuffix('.xz')}"
                if not plain.exists():
                    plain.parent.mkdir(exist_ok=True)
                    temporary = plain.with_suffix(".part")
                    temporary.write_bytes(lzma.decompress(packed.read_bytes()))
                    temporary.rename(plain)
                found[plain.name] = plain
    return found
