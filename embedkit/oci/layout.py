"""OCI image layouts: a folder, or the same tree in a tar archive (image-spec, image-layout.md)."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from embedkit.errors import InputError
from embedkit.oci import digest as digests
from embedkit.oci.archivefile import ArchiveFile
from embedkit.oci.content import open_regular
from embedkit.oci.documents import Descriptor, load, parse_index
from embedkit.oci.limits import DEFAULT, Limits
from embedkit.oci.source import CONTAINERD_NAME, REF_NAME, Root, Source

LAYOUT_FILE = "oci-layout"
LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


def blob_path(digest: str) -> str:
    """Where the layout keeps a blob, relative to its root."""
    return "blobs/{}/{}".format(*digests.split(digest))


def is_layout(folder: Path) -> bool:
    """Whether ``folder`` says that it is an image layout."""
    return (folder / LAYOUT_FILE).is_file()


class FolderStore:
    """The blobs of a layout folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def where(self) -> str:
        return str(self.folder)

    def open(self, descriptor: Descriptor) -> BinaryIO:
        return open_regular(self.folder / blob_path(descriptor.digest), descriptor.digest)

    def file(self, descriptor: Descriptor) -> Path | None:
        path = self.folder / blob_path(descriptor.digest)
        return path if path.is_file() and not path.is_symlink() else None

    def close(self) -> None:
        pass


class ArchiveStore:
    """The blobs of a layout in a tar archive."""

    def __init__(self, archive: ArchiveFile) -> None:
        self.archive = archive

    @property
    def where(self) -> str:
        return self.archive.where

    def open(self, descriptor: Descriptor) -> BinaryIO:
        return self.archive.open(blob_path(descriptor.digest))

    def file(self, descriptor: Descriptor) -> Path | None:
        return None

    def close(self) -> None:
        self.archive.close()


def open_folder(folder: Path, *, limits: Limits = DEFAULT) -> Source:
    """A layout folder. Raises InputError where it is none."""
    if not is_layout(folder):
        raise InputError(f"{folder} is not an image layout: it has no file '{LAYOUT_FILE}'")
    with open_regular(folder / LAYOUT_FILE, LAYOUT_FILE) as file:
        _check_version(file.read(4096), str(folder))
    with open_regular(folder / "index.json", "index.json") as file:
        raw = file.read(limits.document + 1)
    return Source(FolderStore(folder), _roots(raw, f"{folder}/index.json", limits))


def open_layout_archive(archive: ArchiveFile, *, limits: Limits = DEFAULT) -> Source:
    """A layout in an archive that has the file ``oci-layout``."""
    _check_version(archive.read(LAYOUT_FILE, 4096), archive.where)
    raw = archive.read("index.json", limits.document)
    return Source(ArchiveStore(archive), _roots(raw, f"{archive.where}: index.json", limits))


def _check_version(content: bytes, where: str) -> None:
    version = load(content, f"{where}: {LAYOUT_FILE}").get("imageLayoutVersion")
    if not isinstance(version, str) or not version.startswith("1."):
        raise InputError(f"image layout version {str(version)[:20]!r} is not known", where=where)


def _roots(raw: bytes, where: str, limits: Limits) -> tuple[Root, ...]:
    """What index.json offers: entries of one name (or of none) are one image's platforms."""
    if len(raw) > limits.document:
        raise InputError(f"larger than {limits.document} bytes", where=where)
    named: dict[str, list[Descriptor]] = {}
    for descriptor in parse_index(raw, where, limits=limits).manifests:
        notes = descriptor.annotations
        name = notes.get(CONTAINERD_NAME) or notes.get(REF_NAME) or ""
        named.setdefault(name, []).append(descriptor)
    return tuple(Root(name, tuple(found)) for name, found in named.items())
