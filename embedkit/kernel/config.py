"""A Linux kernel configuration: what its text tells of the kernel.

A config that the kernel wrote in full (a ``.config``) decides every symbol: what it does not name
is n. A *minimal* one (a defconfig or a fragment) does not: what it does not name is unknown until
``make olddefconfig`` expands it on a kernel tree.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import NamedTuple

from embedkit.kernel.dotconfig import DotConfig, Duplicate, Value, parse_line, render_line

__all__ = [
    "Duplicate",
    "KernelConfig",
    "KernelVersion",
    "Value",
    "canonical_arch",
    "parse_line",
    "render_line",
]

_HEADER = re.compile(r"^#\s*(?:Linux/(\S+)|Linux kernel version:)\s+(\d+\.\d+\S*)", re.MULTILINE)
_VERSION = re.compile(r"v?(\d+)\.(\d+)")
_GENERATED = re.compile(r"^# Automatically generated (?:file|make config)", re.MULTILINE)
# Symbols without a prompt: the kernel writes dozens of them into a full config, and no defconfig
# or fragment ever holds them, because nobody can set them.
_PROMPTLESS = re.compile(r"^CONFIG_(?:HAVE|ARCH_HAS|ARCH_SUPPORTS|GENERIC)_\w+=y", re.MULTILINE)
_PROMPTLESS_ENOUGH = 12


class KernelVersion(NamedTuple):
    """``major.minor`` as requirement gates compare it, with the full release for people."""

    major: int
    minor: int

    @classmethod
    def parse(cls, text: str) -> KernelVersion | None:
        """The version at the start of ``text`` (``"4.14.222-foo"``), or None."""
        match = _VERSION.match(text.strip())
        if match is None or len(match.group(1)) > 4 or len(match.group(2)) > 6:
            return None
        return cls(int(match.group(1)), int(match.group(2)))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


class KernelConfig(DotConfig):
    """One kernel configuration, full or minimal."""

    @cached_property
    def _header(self) -> tuple[str | None, str | None]:
        match = _HEADER.search(self.text, 0, 4096)
        return (match.group(1), match.group(2)) if match else (None, None)

    @property
    def release(self) -> str | None:
        """The kernel release in the header (``"4.14.222"``), or None."""
        return self._header[1]

    @property
    def version(self) -> KernelVersion | None:
        """The kernel version in the header, or None."""
        return KernelVersion.parse(self.release) if self.release else None

    @cached_property
    def arch(self) -> str | None:
        """The architecture, as the kernel's ARCH names it: from the header, else from symbols."""
        if self._header[0]:
            return canonical_arch(self._header[0])
        for symbol, arch in _ARCH_SYMBOLS:
            if self.values.get(symbol) == "y":
                return arch
        return None

    @cached_property
    def is_full(self) -> bool:
        """Whether it decides every symbol (a ``.config``), so that absence means n."""
        if _GENERATED.search(self.text, 0, 4096):
            return True
        promptless = _PROMPTLESS.finditer(self.text)
        return sum(1 for _ in zip(promptless, range(_PROMPTLESS_ENOUGH), strict=False)) == (
            _PROMPTLESS_ENOUGH
        )


# Checked in this order: a 64-bit kernel also sets X86, and arm64 does not set ARM.
_ARCH_SYMBOLS = (
    ("ARM64", "arm64"),
    ("ARM", "arm"),
    ("X86", "x86"),
    ("RISCV", "riscv"),
    ("MIPS", "mips"),
    ("PPC", "powerpc"),
    ("S390", "s390"),
    ("LOONGARCH", "loongarch"),
    ("SPARC", "sparc"),
)
_ARCH_ALIASES = {
    "x86_64": "x86",
    "i386": "x86",
    "amd64": "x86",
    "aarch64": "arm64",
    "armhf": "arm",
    "armel": "arm",
    "armv7l": "arm",
    "armv6l": "arm",
    "riscv64": "riscv",
    "riscv32": "riscv",
    "ppc64le": "powerpc",
    "ppc64el": "powerpc",
    "mips64el": "mips",
    "mipsel": "mips",
    "s390x": "s390",
    "sparc64": "sparc",
    "loongarch64": "loongarch",
    "loong64": "loongarch",
}


def canonical_arch(name: str) -> str:
    """The kernel's SRCARCH for ``name``, which may be Debian's or uname's word for it."""
    return _ARCH_ALIASES.get(name, name)
