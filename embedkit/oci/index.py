"""Merges images of single platforms into one index.

Platform and variant come from the configs, checked against the programs inside: where a tool
left them wrong (``docker import`` on an x86 machine, an ARM image without its variant), the
index says what the programs need, and the merge says so.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from embedkit.errors import InputError
from embedkit.oci import mediatypes
from embedkit.oci.documents import Index
from embedkit.oci.inspect import inspect
from embedkit.oci.limits import DEFAULT, Limits
from embedkit.oci.mediatypes import Family
from embedkit.oci.platform import Platform, normalise, same
from embedkit.oci.recognise import mismatch
from embedkit.oci.source import Entry, ImageTree, platform_of
from embedkit.progress import Progress


@dataclass(frozen=True)
class Part:
    """One image to merge: what the user called it, its tree, and the platform that the user
    says it is for (None: found out)."""

    label: str
    tree: ImageTree
    platform: Platform | None = None


@dataclass(frozen=True)
class Placed:
    """One platform of the index: where it came from, and what had to be corrected."""

    platform: Platform
    source: str
    entry: Entry
    note: str = ""


@dataclass(frozen=True)
class Merged:
    """The index to write, and how each of its platforms came to be."""

    tree: ImageTree
    placed: tuple[Placed, ...]
    notes: tuple[str, ...]


def merge(
    parts: Sequence[Part],
    name: str,
    *,
    family: Family = "oci",
    annotations: Mapping[str, str] | None = None,
    check: bool = True,
    progress: Progress | None = None,
    limits: Limits = DEFAULT,
) -> Merged:
    """Lays the images of all parts into one index, in the order given.

    ``check`` reads every layer to compare the programs with the label; without it the
    configs are believed. Raises InputError where two images are for one platform, or a
    stated platform contradicts the programs.
    """
    jobs: list[tuple[Part, Entry]] = []
    notes: list[str] = []
    for part in parts:
        images = part.tree.images
        dropped = len(part.tree.entries) - len(images)
        if dropped:
            notes.append(f"{part.label}: {dropped} attestations left out; they name no platform")
        if part.platform is not None and len(images) != 1:
            raise InputError(
                f"{part.label} holds {len(images)} images, so it is not one for {part.platform}"
            )
        jobs += [(part, entry) for entry in images]
    # Hashing and unpacking run outside of the interpreter's lock: a thread a core is worth it.
    with ThreadPoolExecutor(max(2, min(4, os.cpu_count() or 2))) as pool:
        placed = list(pool.map(lambda job: _place(job[0], job[1], check, progress, limits), jobs))
    _refuse_duplicates(placed)
    if not placed:
        raise InputError("there is nothing to merge")
    entries = tuple(
        replace(item.entry, descriptor=replace(item.entry.descriptor, platform=item.platform))
        for item in placed
    )
    media_type = mediatypes.DOCKER_INDEX if family == "docker" else mediatypes.INDEX
    tree = ImageTree(name, entries, Index(media_type, (), dict(annotations or {})))
    notes += [f"{item.source}: {item.note}" for item in placed if item.note]
    return Merged(tree, tuple(placed), tuple(notes))


def _place(
    part: Part, entry: Entry, check: bool, progress: Progress | None, limits: Limits
) -> Placed:
    manifest = entry.manifest(limits)
    config = entry.config(manifest, limits)
    if not config.platform.architecture and part.platform is None and not check:
        raise InputError(
            "the image's config names no architecture",
            where=part.label,
            hint=f"say what it is: linux/arm/v7={part.label}",
        )
    said = part.platform or platform_of(entry, config)
    placed = Placed(normalise(said), part.label, entry)
    if check:
        placed = _checked(placed, part, entry, progress, limits)
    raw_config = normalise(config.platform)
    if not placed.note and entry.label is not None and not same(entry.label, config.platform):
        return replace(
            placed, note=f"its config says {raw_config}; the index keeps its label {entry.label}"
        )
    return placed


def _checked(
    placed: Placed, part: Part, entry: Entry, progress: Progress | None, limits: Limits
) -> Placed:
    """The platform that the programs need, where the label promises another."""
    found = inspect(entry, duplicates=False, verify=False, progress=progress, limits=limits)
    needed = found.programs.platform
    if needed is None or needed.architecture == "unknown" or found.programs.decisive is None:
        if not placed.platform.architecture:
            raise InputError(
                "neither the config nor any program says what it is for",
                where=part.label,
                hint=f"say it: linux/arm/v7={part.label}",
            )
        return placed
    stated = found.config.platform
    program = f"/{found.programs.decisive.path}"
    if mismatch(found.programs, placed.platform):
        if part.platform is not None:
            raise InputError(
                f"{program} needs {needed}, not {part.platform}",
                where=part.label,
                hint="leave the platform out to take what the programs need",
            )
        note = f"is labelled {placed.platform}, but {program} needs {needed}: listed as {needed}"
        return replace(placed, platform=needed, note=note)
    if stated.architecture == "arm" and not stated.variant and entry.label in (None, stated):
        if part.platform is None and found.programs.certain and needed.variant != "v7":
            note = f"its config names no ARM variant; {program} needs {needed}"
            return replace(placed, platform=needed, note=note)
        if part.platform is None:
            return replace(placed, note=f"its config names no ARM variant: {placed.platform}")
    return placed


def _refuse_duplicates(placed: Sequence[Placed]) -> None:
    seen: dict[tuple[str, str, str, str], Placed] = {}
    for item in placed:
        canonical = normalise(item.platform)
        key = (canonical.os, canonical.architecture, canonical.variant, canonical.os_version)
        if key in seen:
            other = seen[key]
            same_image = other.entry.descriptor.digest == item.entry.descriptor.digest
            what = "the same image twice" if same_image else f"two images for {canonical}"
            raise InputError(
                f"{what}: {other.source} and {item.source}",
                hint="leave one out, or say what one is for: PLATFORM=IMAGE",
            )
        seen[key] = item
