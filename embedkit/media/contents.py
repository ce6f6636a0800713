"""Finds the files that a layout asks for: in the artifacts folder, or as the user named them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from embedkit.board.model import Blob, Layout, Partition
from embedkit.errors import InputError, did_you_mean
from embedkit.media.artifacts import Artifact, ext_size, look, recognise
from embedkit.media.layout import ContentKind

_ARCHIVES = ("tar", "gzip", "xz", "zstd", "bzip2")
_EXT = ("ext2", "ext3", "ext4")
_MIB = 1 << 20


@dataclass
class Wrongs:
    """Collects what is wrong with the inputs, so that all of it is told at once."""

    found: list[InputError] = field(default_factory=list)

    def add(self, error: InputError) -> None:
        self.found.append(error)

    def raise_if_any(self, what: str) -> None:
        """One InputError for all."""
        if not self.found:
            return
        if len(self.found) == 1:
            raise self.found[0]
        lines = []
        for error in self.found:
            hint = f" [{error.hint}]" if error.hint else ""
            lines.append(f"\n  - {error}{hint}")
        raise InputError(f"{len(self.found)} problems with {what}:{''.join(lines)}")


@dataclass(frozen=True)
class Content:
    """What fills a partition."""

    kind: ContentKind
    path: Path | None = None
    files: tuple[tuple[Path, str], ...] = ()


@dataclass(frozen=True)
class Artifacts:
    """A folder of artifacts and the user's own choices, by the name of blob or partition."""

    folder: Path | None
    chosen: Mapping[str, Path]

    def check_names(self, layout: Layout) -> None:
        """Raises InputError for a choice that names nothing in ``layout``."""
        known = [blob.name for blob in layout.blobs]
        known += [partition.name for partition in layout.partitions]
        for name in self.chosen:
            if name not in known:
                raise InputError(
                    f"layout {layout.name} has no blob or partition '{name}'",
                    hint=did_you_mean(name, known) or f"known: {', '.join(known)}",
                )

    def find(self, name: str, images: tuple[str, ...]) -> Path | None:
        """The user's choice for ``name``, else the first of ``images`` that exists."""
        if name in self.chosen:
            path = self.chosen[name]
            if not path.exists():
                raise InputError(f"{name}: no such file or folder", where=str(path))
            return path
        if self.folder is None:
            return None
        for image in images:
            path = self.folder / image
            if path.exists():
                return path
        return None

    def blob(self, blob: Blob) -> Artifact | None:
        """The blob's file. None where it is optional and missing. Raises InputError."""
        path = self.find(blob.name, blob.images)
        if path is not None:
            return look(path)
        if blob.optional:
            return None
        raise InputError(f"{blob.name}: {self._missing(blob.images)}", hint=self._hint(blob.name))

    def _hint(self, name: str) -> str:
        folder = "" if self.folder else "--artifacts FOLDER finds it; or "
        return f"{folder}name the file itself: --blob {name}=PATH"

    def _missing(self, images: tuple[str, ...]) -> str:
        names = " or ".join(images)
        return f"{names} is not in {self.folder}" if self.folder else f"{names} was not given"

    def partition(self, partition: Partition) -> Content:
        """What fills a partition with a file system. Raises InputError."""
        path = self.find(partition.name, partition.images)
        if path is not None:
            return Content(_content_kind(path, partition), path)
        if partition.files:
            return Content(ContentKind.FILES, files=self._gather(partition))
        if partition.filesystem == "squashfs":
            raise InputError(f"{partition.name}: {self._missing(partition.images)}")
        return Content(ContentKind.EMPTY)

    def _gather(self, partition: Partition) -> tuple[tuple[Path, str], ...]:
        found: dict[str, Path] = {}
        for pattern in partition.files:
            if not self._add(pattern, found):
                raise InputError(
                    f"{partition.name}: {self._missing((pattern,))}",
                    hint=f"or give the whole content: --blob {partition.name}=FOLDER",
                )
        for pattern in partition.optional_files:
            self._add(pattern, found)
        return tuple((found[name], name) for name in sorted(found))

    def _add(self, pattern: str, found: dict[str, Path]) -> bool:
        if self.folder is None:
            return False
        matches = sorted(path for path in self.folder.glob(pattern) if path.is_file())
        for path in matches:
            # Shells and U-Boot know a file by its place under the folder, overlays/x.dtbo.
            found[path.relative_to(self.folder).as_posix()] = path
        return bool(matches)


def _content_kind(path: Path, partition: Partition) -> ContentKind:
    if path.is_dir():
        return ContentKind.FOLDER
    artifact = look(path)
    found = recognise(artifact)
    if found in _ARCHIVES:
        return ContentKind.TAR
    wanted = "ext4" if partition.filesystem in _EXT else partition.filesystem
    if found != wanted:
        raise InputError(
            f"{partition.name}: the file is neither a {partition.filesystem} image nor a tar "
            f"archive (it looks like {found})",
            where=str(path),
        )
    if wanted == "ext4":
        ext_size(artifact)
    return ContentKind.IMAGE


def left_empty(filled: Iterable[tuple[Partition, Content | None]]) -> list[str]:
    """A warning for each partition whose files are missing, and that is made empty."""
    return [
        f"{spec.name} is left empty: none of {', '.join(spec.images)} was found"
        for spec, content in filled
        if spec.images and content is not None and content.kind is ContentKind.EMPTY
    ]


def needed_bytes(content: Content) -> int:
    """Room for ``content`` where the board file leaves the partition's size open, in bytes.

    An image takes what it has. A folder or tar gets its files in blocks of 4 KiB, a quarter
    more, and 32 MiB for the file system itself; an empty one 64 MiB.
    """
    if content.kind is ContentKind.IMAGE and content.path is not None:
        return -(-content.path.stat().st_size // _MIB) * _MIB
    if content.kind is ContentKind.EMPTY:
        return 64 * _MIB
    if content.kind is ContentKind.FILES:
        used = sum(_blocks(path.stat().st_size) for path, _ in content.files)
    elif content.kind is ContentKind.FOLDER and content.path is not None:
        used = _folder_bytes(content.path)
    else:
        assert content.path is not None
        used = _tar_bytes(content.path)
    return -(-(used * 5 // 4 + 32 * _MIB) // (4 * _MIB)) * (4 * _MIB)


def _blocks(size: int) -> int:
    return -(-size // 4096) * 4096 + 4096 // 8


def _folder_bytes(folder: Path) -> int:
    used = 0
    for base, folders, files in os.walk(folder):
        used += 4096 * len(folders)
        used += sum(_blocks(os.lstat(os.path.join(base, name)).st_size) for name in files)  # noqa: PTH118
    return used


def _tar_bytes(path: Path) -> int:
    from embedkit.media.archive import open_tar

    with open_tar(path) as archive:
        return sum(_blocks(member.size) + 4096 * member.isdir() for member in archive)
