"""Where images go: the protocol of every receiver, and the two that are files.

Both leave what was there before until the last moment: blobs are added under their digests,
and the index, or the archive as a whole, is put in place at the end.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tarfile
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from embedkit.errors import InputError, LackError
from embedkit.files import write_atomically
from embedkit.oci import mediatypes, reference
from embedkit.oci.content import Blob, open_regular
from embedkit.oci.documents import Descriptor, Index, Manifest, dump, parse_index
from embedkit.oci.layout import LAYOUT, LAYOUT_FILE, blob_path, is_layout
from embedkit.oci.limits import CHUNK
from embedkit.oci.platform import Platform, tag_suffix
from embedkit.oci.source import CONTAINERD_NAME, REF_NAME

_FICLONE = 0x40049409


@dataclass(frozen=True)
class Written:
    """An image whose content a sink has: its root and its platforms' manifests.

    ``name`` is a full reference (with host and path), or a bare tag, or "".
    """

    name: str
    root: Descriptor
    images: tuple[tuple[Platform, Manifest], ...]


class Sink(Protocol):
    """A receiver of images. ``put`` may be called from several threads."""

    @property
    def where(self) -> str:
        """The place in messages."""

    @property
    def scratch(self) -> Path:
        """A folder for temporary files, on the receiver's file system where that helps."""

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the content is there already."""

    def put(self, blob: Blob) -> None:
        """Takes the content, unless it is there already."""

    def put_manifest(self, descriptor: Descriptor, content: bytes) -> None:
        """Takes a manifest or an index, after all that it refers to."""

    def finish(self, images: Sequence[Written]) -> None:
        """Makes the images visible under their names."""

    def abort(self) -> None:
        """Drops what is not finished; after ``finish`` it does nothing."""


class FolderSink:
    """An image layout folder, new or existing: images are added, same names replaced."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._new = not folder.exists() or not any(folder.iterdir())
        if not self._new and not is_layout(folder):
            raise InputError(f"{folder} exists and is not an image layout")
        self._made: Path | None = None
        try:
            if self._new:
                folder.parent.mkdir(parents=True, exist_ok=True)
                name = tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.")
                self._made = self._work = Path(name)
                self._work.chmod(0o755)
            else:
                self._work = folder
            (self._work / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
            self.scratch = Path(tempfile.mkdtemp(dir=self._work, prefix=".partial."))
        except OSError as error:
            raise LackError(f"cannot write {folder}: {error.strerror}") from error

    @property
    def where(self) -> str:
        return str(self.folder)

    def has(self, descriptor: Descriptor) -> bool:
        path = self._work / blob_path(descriptor.digest)
        return path.is_file() and path.stat().st_size == descriptor.size

    def put(self, blob: Blob) -> None:
        if self.has(blob.descriptor):
            return
        target = self._work / blob_path(blob.descriptor.digest)
        target.parent.mkdir(exist_ok=True)
        try:
            place_file(blob, target, self.scratch)
        except OSError as error:
            raise LackError(f"cannot write {target}: {error.strerror}") from error

    def put_manifest(self, descriptor: Descriptor, content: bytes) -> None:
        path = self._work / blob_path(descriptor.digest)
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, content, mode=0o644)

    def finish(self, images: Sequence[Written]) -> None:
        added = [entry for image in images for entry in index_entries(image)]
        names = {_name(entry) for entry in added}
        kept: list[Descriptor] = []
        if not self._new:
            with open_regular(self._work / "index.json", "index.json") as file:
                old = parse_index(file.read(), f"{self.folder}/index.json")
            kept = [entry for entry in old.manifests if _name(entry) not in names]
        index = Index(mediatypes.INDEX, (*kept, *added))
        shutil.rmtree(self.scratch)
        write_atomically(self._work / LAYOUT_FILE, LAYOUT, mode=0o644)
        write_atomically(self._work / "index.json", index.to_bytes(), mode=0o644)
        if self._made is not None:
            if self.folder.exists():
                self.folder.rmdir()
            self._made.rename(self.folder)
            self._made = None

    def abort(self) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)
        if self._made is not None:
            shutil.rmtree(self._made, ignore_errors=True)


class ArchiveSink:
    """A new archive that Docker of any age and every OCI tool reads.

    It is an OCI layout with a docker ``manifest.json`` beside it that points at the same
    blobs, as docker save writes since version 25. Docker's classic store has one platform a
    tag: it gives the plain tag to the first platform and the others a suffix (``-arm-v7``).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._seen: set[str] = set()
        self._closed = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.scratch = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
            self._file = (self.scratch / "archive").open("wb", buffering=0)
        except OSError as error:
            raise LackError(f"cannot write {path}: {error.strerror}") from error
        for folder in ("blobs", "blobs/sha256"):
            self._file.write(_header(folder, 0, directory=True))

    @property
    def where(self) -> str:
        return str(self.path)

    def has(self, descriptor: Descriptor) -> bool:
        return descriptor.digest in self._seen

    def put(self, blob: Blob) -> None:
        with self._lock:
            if blob.descriptor.digest in self._seen:
                return
            begin = self._file.tell()
            try:
                self._append(blob)
            except OSError as error:
                raise LackError(f"cannot write {self.path}: {error.strerror}") from error
            except BaseException:
                self._file.seek(begin)
                self._file.truncate()
                raise
            self._seen.add(blob.descriptor.digest)

    def _append(self, blob: Blob) -> None:
        size = blob.descriptor.size
        self._file.write(_header(blob_path(blob.descriptor.digest), size))
        if blob.temporary and blob.file is not None:
            with blob.file.open("rb") as source:
                at = 0
                while at < size:
                    at += os.sendfile(self._file.fileno(), source.fileno(), at, size - at)
            blob.file.unlink()
        else:
            with blob.open() as stream:
                while content := stream.read(CHUNK):
                    _write_all(self._file.fileno(), content)
        self._file.write(bytes(-size % 512))

    def put_manifest(self, descriptor: Descriptor, content: bytes) -> None:
        self._member(blob_path(descriptor.digest), content, descriptor.digest)

    def _member(self, name: str, content: bytes, digest: str | None = None) -> None:
        with self._lock:
            if digest in self._seen:
                return
            padded = content + bytes(-len(content) % 512)
            _write_all(self._file.fileno(), _header(name, len(content)) + padded)
            if digest is not None:
                self._seen.add(digest)

    def finish(self, images: Sequence[Written]) -> None:
        entries = tuple(entry for image in images for entry in index_entries(image))
        self._member("index.json", Index(mediatypes.INDEX, entries).to_bytes())
        docker = [entry for image in images for entry in _docker_entries(image)]
        self.finish_with({"manifest.json": dump_list(docker), LAYOUT_FILE: LAYOUT})

    def finish_with(self, documents: Mapping[str, bytes], *, durable: bool = True) -> None:
        """Ends the archive with these documents; ``durable``: it must outlive a power cut."""
        for name, content in documents.items():
            self._member(name, content)
        try:
            self._file.write(bytes(1024))
            if durable:
                os.fsync(self._file.fileno())
            self._file.close()
            (self.scratch / "archive").replace(self.path)
        except OSError as error:
            raise LackError(f"cannot write {self.path}: {error.strerror}") from error
        shutil.rmtree(self.scratch, ignore_errors=True)
        self._closed = True

    def abort(self) -> None:
        if not self._closed:
            self._file.close()
            shutil.rmtree(self.scratch, ignore_errors=True)


def place_file(blob: Blob, target: Path, scratch: Path) -> None:
    """Puts the blob's content under ``target``: moved, linked, cloned or copied, and checked."""
    if blob.temporary and blob.file is not None:
        blob.file.chmod(0o644)
        try:
            blob.file.replace(target)
            return
        except OSError:  # another file system
            pass
    temporary = scratch / f"{threading.get_ident()}-{target.name[:16]}"
    try:
        if blob.file is not None and _linked(blob.file, temporary):
            drain(blob)
        else:
            with temporary.open("xb", buffering=0) as file:
                if blob.file is not None and _cloned(blob.file, file.fileno()):
                    drain(blob)
                else:
                    with blob.open() as stream:
                        while content := stream.read(CHUNK):
                            _write_all(file.fileno(), content)
        temporary.replace(target)
    finally:
        # Also after success: renaming a name of a file onto another does nothing.
        temporary.unlink(missing_ok=True)


def drain(blob: Blob) -> None:
    """Reads the content to its end for its check alone."""
    with blob.open() as stream:
        while stream.read(CHUNK):
            pass


def _linked(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except OSError:
        return False
    return True


def _cloned(source: Path, handle: int) -> bool:
    try:
        with source.open("rb") as file:
            fcntl.ioctl(handle, _FICLONE, file.fileno())
    except OSError:
        return False
    return True


def index_entries(image: Written) -> list[Descriptor]:
    """What index.json says of an image: its root, with the names that the tools look for."""
    root = image.root
    if not root.is_index and root.platform is None and image.images:
        root = replace(root, platform=image.images[0][0])
    if not image.name:
        return [root]
    if "/" in image.name:
        parsed = reference.parse(image.name)
        names = {CONTAINERD_NAME: str(parsed), REF_NAME: parsed.tag or parsed.digest}
    else:
        names = {REF_NAME: image.name}
    return [replace(root, annotations={**root.annotations, **names})]


def _name(entry: Descriptor) -> str:
    notes = entry.annotations
    return notes.get(CONTAINERD_NAME) or notes.get(REF_NAME) or entry.digest


def _docker_entries(image: Written) -> list[dict[str, object]]:
    made: list[dict[str, object]] = []
    name = reference.parse(image.name).short if "/" in image.name else ""
    for number, (platform, manifest) in enumerate(image.images):
        tags = []
        if name and "@" not in name:
            suffix = f"-{tag_suffix(platform)}" if len(image.images) > 1 else ""
            tags = [name + suffix] if suffix else []
            tags += [name] if number == 0 else []
        made.append(
            {
                "Config": blob_path(manifest.config.digest),
                "RepoTags": tags or None,
                "Layers": [blob_path(layer.digest) for layer in manifest.layers],
            }
        )
    return made


def dump_list(values: Sequence[dict[str, object]]) -> bytes:
    """A JSON list in the same style as :func:`embedkit.oci.documents.dump`."""
    return b"[" + b",".join(dump(value) for value in values) + b"]"


def _header(name: str, size: int, *, directory: bool = False) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o755 if directory else 0o644
    member.type = tarfile.DIRTYPE if directory else tarfile.REGTYPE
    return member.tobuf(tarfile.PAX_FORMAT)


def _write_all(handle: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(handle, view) :]
