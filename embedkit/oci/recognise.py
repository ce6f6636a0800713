"""Which platform a set of programs needs, by the evidence of their ELF headers."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

from embedkit import elf
from embedkit.oci.limits import CHUNK
from embedkit.oci.platform import Platform, normalise

_IN_MEMORY = 8 << 20
_MOST = 256 << 20
MAX_EVIDENCE = 20_000


@dataclass(frozen=True)
class Evidence:
    """One ELF file of an image."""

    path: str
    elf: elf.Elf

    @property
    def platform(self) -> Platform:
        """What it runs on. An ARM program that does not say is taken for a v7: a hard-float
        ABI needs v6 at least, in practice Debian's and Fedora's v7."""
        variant = self.elf.variant or ("v7" if self.elf.architecture == "arm" else "")
        return Platform("linux", self.elf.architecture or "unknown", variant)

    @property
    def certain(self) -> bool:
        return self.elf.architecture != "arm" or bool(self.elf.variant)


@dataclass(frozen=True)
class Verdict:
    """What a set of programs needs.

    ``platform`` is None where no program was found. ``certain`` is False where an ARM
    variant had to be guessed. ``decisive`` is the program that decided, ``others`` are those
    of other architectures. ``tightest`` is one that is laid out for the smallest memory pages.
    """

    platform: Platform | None
    certain: bool = True
    decisive: Evidence | None = None
    others: tuple[Evidence, ...] = ()
    tightest: Evidence | None = None


def examine(path: str, size: int, read: Callable[[int], bytes]) -> Evidence | None:
    """Looks at one file of an image through ``read(n)`` and leaves the rest unread.

    Files above 256 MiB are judged by their beginning. None where it is no ELF file, or one
    that says nothing of the machine that the image runs on (firmware, kernel modules).
    """
    if size < 52 or not _counts(path):
        return None
    head = read(elf.HEADER_BYTES)
    if not head.startswith(elf.MAGIC):
        return None
    if size <= _IN_MEMORY:
        pieces = [head]
        while piece := read(CHUNK):
            pieces.append(piece)
        found = elf.read(b"".join(pieces))
    else:
        found = _examine_large(head, read)
    if found is None or not found.loadable:
        return None
    # An image may hold tens of thousands: no file's list of libraries is kept in memory.
    return Evidence(path, replace(found, needed=(), soname="", rpath=(), runpath=()))


def _examine_large(head: bytes, read: Callable[[int], bytes]) -> elf.Elf | None:
    with tempfile.TemporaryFile(prefix="embedkit-") as file:
        file.write(head)
        written = len(head)
        while written < _MOST and (piece := read(CHUNK)):
            file.write(piece)
            written += len(piece)
        file.flush()
        return elf.read_file(file)


def _counts(path: str) -> bool:
    """Whether a program at ``path`` tells what the machine must be."""
    padded = f"/{path}"
    # Firmware is for other processors; hwcaps folders hold optional builds for better CPUs.
    return not (
        "/lib/firmware/" in padded
        or "/glibc-hwcaps/" in padded
        or "/hwcaps/" in padded
        or "/neon/" in padded
        or padded.endswith((".ko", ".o", ".debug"))
    )


def examine_stream(path: str, size: int, stream: BinaryIO) -> Evidence | None:
    """:func:`examine` for an open file."""
    return examine(path, size, stream.read)


def judge(evidence: Iterable[Evidence], entrypoint: Sequence[str] = ()) -> Verdict:
    """What all programs together need: the architecture of the entrypoint (else of most), and
    on ARM the newest variant that any of them was built for."""
    found = list(evidence)
    if not found:
        return Verdict(None)
    wanted = entrypoint[0].lstrip("/") if entrypoint else ""
    first = next((item for item in found if item.path == wanted), None)
    if first is None:
        common = Counter(item.platform.architecture for item in found).most_common(1)[0][0]
        first = next(item for item in found if item.platform.architecture == common)
    architecture = first.platform.architecture
    alike = [item for item in found if item.platform.architecture == architecture]
    others = tuple(item for item in found if item.platform.architecture != architecture)
    paged = [item for item in alike if item.elf.page_bytes > 1]
    tightest = min(paged, key=lambda item: item.elf.page_bytes, default=None)
    if architecture != "arm":
        return Verdict(normalise(first.platform), True, first, others, tightest)
    known = [item for item in alike if item.certain]
    newest = max(known or alike, key=lambda item: item.platform.variant)
    # A program that says nothing counts for nothing beside one that does.
    platform = replace(first.platform, variant=newest.platform.variant)
    return Verdict(normalise(platform), bool(known), newest, others, tightest)


def mismatch(verdict: Verdict, label: Platform) -> str | None:
    """Why programs of ``verdict`` do not run where ``label`` promises; None where they do."""
    needed = verdict.platform
    if needed is None or verdict.decisive is None or needed.architecture == "unknown":
        return None
    label = normalise(label)
    if label.os != "linux":
        return None
    path = verdict.decisive.path
    if needed.architecture != label.architecture:
        return f"labelled {label}, but /{path} is a program for {needed}"
    if needed.architecture == "arm" and verdict.certain and needed.variant > label.variant:
        return f"labelled {label}, but /{path} was built for {needed} and dies on {label}"
    return None


def missing_loaders(evidence: Iterable[Evidence], exists: Callable[[str], bool]) -> tuple[str, ...]:
    """``/bin/app needs /lib/ld.so``, for every dynamic loader that the image lacks, once."""
    said: dict[str, str] = {}
    for item in evidence:
        loader = item.elf.interpreter
        if loader and loader not in said and not exists(loader):
            said[loader] = f"/{item.path} needs the dynamic loader {loader}"
    return tuple(said.values())
