"""Which platform a set of programs needs, by the evidence of their ELF headers."""

from __future__ import annotations

import mmap
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

from embedkit.oci import elf
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


@dataclass(frozen=True)
class Verdict:
    """What a set of programs needs.

    ``platform`` is None where no program was found. ``certain`` is False where an ARM
    variant had to be guessed. ``decisive`` is the program that decided, ``others`` are those
    of other architectures.
    """

    platform: Platform | None
    certain: bool = True
    decisive: Evidence | None = None
    others: tuple[Evidence, ...] = ()


def examine(path: str, size: int, read: Callable[[int], bytes]) -> Evidence | None:
    """Looks at one file of an image through ``read(n)`` and leaves the rest unread.

    Files above 256 MiB are judged by their beginning. None where it is no ELF file, or one
    that says nothing of the machine that the image runs on (firmware, kernel modules).
    """
    if size < 52 or not _counts(path):
        return None
    head = read(elf.HEAD)
    if not head.startswith(elf.MAGIC):
        return None
    if size <= _IN_MEMORY:
        pieces = [head]
        while piece := read(CHUNK):
            pieces.append(piece)
        found = elf.read(b"".join(pieces))
    else:
        found = _examine_large(head, read)
    return Evidence(path, found) if found and found.loadable else None


def _examine_large(head: bytes, read: Callable[[int], bytes]) -> elf.Elf | None:
    with tempfile.TemporaryFile(prefix="embedkit-") as file:
        file.write(head)
        written = len(head)
        while written < _MOST and (piece := read(CHUNK)):
            file.write(piece)
            written += len(piece)
        file.flush()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            return elf.read(mapped)


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
        common = Counter(item.elf.platform.architecture for item in found).most_common(1)[0][0]
        first = next(item for item in found if item.elf.platform.architecture == common)
    architecture = first.elf.platform.architecture
    alike = [item for item in found if item.elf.platform.architecture == architecture]
    others = tuple(item for item in found if item.elf.platform.architecture != architecture)
    if architecture != "arm":
        return Verdict(normalise(first.elf.platform), True, first, others)
    known = [item for item in alike if item.elf.variant_known]
    newest = max(known or alike, key=lambda item: item.elf.platform.variant)
    # A program that says nothing counts for nothing beside one that does.
    platform = replace(first.elf.platform, variant=newest.elf.platform.variant)
    return Verdict(normalise(platform), bool(known), newest, others)


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
