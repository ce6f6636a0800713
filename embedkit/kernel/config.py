"""A Linux kernel configuration as text: read it, ask it, change it, write it back to the byte.

The format is what ``scripts/kconfig/confdata.c`` writes and reads: ``CONFIG_X=y|m|n``, a number,
a quoted string, or ``# CONFIG_X is not set``; every other line is a comment or noise. A config
that the kernel wrote in full (a ``.config``) decides every symbol: what it does not name is n.
A *minimal* one (a defconfig or a fragment) does not: what it does not name is unknown until
``make olddefconfig`` expands it on a kernel tree.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple

_ASSIGNMENT = re.compile(r"CONFIG_(\w+)=(.*)", re.ASCII)
_UNSET = re.compile(r"# CONFIG_(\w+) is not set\s*", re.ASCII)
# One pass over the whole text is ten times faster than one match for each line.
_LINES = re.compile(
    r"^(?:CONFIG_(\w+)=([^\n]*)|# CONFIG_(\w+) is not set[ \t\r]*)$",
    re.ASCII | re.MULTILINE,
)
_HEADER = re.compile(r"^#\s*(?:Linux/(\S+)|Linux kernel version:)\s+(\d+\.\d+\S*)", re.MULTILINE)
_VERSION = re.compile(r"v?(\d+)\.(\d+)")
_GENERATED = re.compile(r"^# Automatically generated (?:file|make config)", re.MULTILINE)
# Symbols without a prompt: the kernel writes dozens of them into a full config, and no defconfig
# or fragment ever holds them, because nobody can set them.
_PROMPTLESS = re.compile(r"^CONFIG_(?:HAVE|ARCH_HAS|ARCH_SUPPORTS|GENERIC)_\w+=y", re.MULTILINE)
_PROMPTLESS_ENOUGH = 12


class Value(StrEnum):
    """How a symbol stands in a config."""

    BUILT_IN = "y"
    MODULE = "m"
    OFF = "n"
    OTHER = "value"
    UNKNOWN = "unknown"


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


class Duplicate(NamedTuple):
    """A symbol given more than once: the last line wins, as in the kernel's own reader."""

    symbol: str
    line: int
    value: str
    earlier_line: int
    earlier_value: str


class KernelConfig:
    """One configuration. ``text`` is kept exactly; everything else is read from it.

    ``origin`` says where it came from, for messages. Not to be changed once made.
    """

    def __init__(self, text: str, origin: str = "<text>") -> None:
        self.text = text
        self.origin = origin

    @classmethod
    def from_bytes(cls, content: bytes, origin: str = "<text>") -> KernelConfig:
        """Decodes ``content``; bytes that are not UTF-8 survive the round trip."""
        return cls(content.decode("utf-8", "surrogateescape"), origin)

    def to_bytes(self) -> bytes:
        """The exact bytes that it was read from."""
        return self.text.encode("utf-8", "surrogateescape")

    @cached_property
    def _scanned(self) -> tuple[dict[str, str], int]:
        """The values, and how many lines gave them."""
        lines = _LINES.findall(self.text)
        return {
            name or unset: value.rstrip() if name else "n" for name, value, unset in lines
        }, len(lines)

    @property
    def values(self) -> dict[str, str]:
        """Symbol (without ``CONFIG_``) → raw value; ``n`` for "is not set"; strings keep quotes."""
        return self._scanned[0]

    @cached_property
    def duplicates(self) -> tuple[Duplicate, ...]:
        """Symbols given more than once, in the file's order."""
        values, lines = self._scanned
        if len(values) == lines:
            return ()
        seen: dict[str, tuple[int, str]] = {}
        found = []
        for number, line in enumerate(self.text.split("\n"), 1):
            parsed = parse_line(line)
            if parsed is None:
                continue
            symbol, value = parsed
            if symbol in seen:
                found.append(Duplicate(symbol, number, value, *seen[symbol]))
            seen[symbol] = (number, value)
        return tuple(found)

    def value(self, symbol: str) -> Value:
        """How ``symbol`` stands; UNKNOWN where a minimal config does not name it."""
        raw = self.values.get(symbol)
        if raw is None:
            return Value.OFF if self.is_full else Value.UNKNOWN
        if raw in ("y", "m", "n"):
            return Value(raw)
        return Value.OTHER

    def enabled(self, symbol: str) -> bool:
        """Whether it is y or m."""
        return self.values.get(symbol) in ("y", "m")

    def string(self, symbol: str) -> str | None:
        """The value of a string symbol, unquoted; None where absent or not a string."""
        raw = self.values.get(symbol, "")
        if len(raw) < 2 or not (raw.startswith('"') and raw.endswith('"')):
            return None
        return re.sub(r"\\(.)", r"\1", raw[1:-1])

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

    def with_values(self, changes: dict[str, str]) -> KernelConfig:
        """A copy with ``changes`` (symbol → raw value) made where the symbols stand.

        A symbol that is given several times keeps only its last line's place; new symbols go
        to the end. Line ends stay as they are in the file.
        """
        newline = "\r\n" if "\r\n" in self.text else "\n"
        lines = self.text.split("\n")
        last: dict[str, int] = {}
        drop: set[int] = set()
        for index, line in enumerate(lines):
            parsed = parse_line(line)
            if parsed is not None and parsed[0] in changes:
                if parsed[0] in last:
                    drop.add(last[parsed[0]])
                last[parsed[0]] = index
        for symbol, index in last.items():
            carriage = "\r" if lines[index].endswith("\r") else ""
            lines[index] = render_line(symbol, changes[symbol]) + carriage
        kept = [line for index, line in enumerate(lines) if index not in drop]
        text = "\n".join(kept)
        added = [render_line(symbol, changes[symbol]) for symbol in changes if symbol not in last]
        if added:
            if text and not text.endswith("\n"):
                text += newline
            text += newline.join(added) + newline
        return KernelConfig(text, self.origin)


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


def parse_line(line: str) -> tuple[str, str] | None:
    """``(symbol, raw value)`` of one line; None for comments and noise."""
    match = _ASSIGNMENT.fullmatch(line.rstrip("\r"))
    if match is not None:
        return match.group(1), match.group(2).rstrip()
    match = _UNSET.fullmatch(line)
    return (match.group(1), "n") if match is not None else None


def render_line(symbol: str, value: str) -> str:
    """The line that the kernel would write for ``symbol``."""
    return f"# CONFIG_{symbol} is not set" if value == "n" else f"CONFIG_{symbol}={value}"
