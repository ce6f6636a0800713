"""A registry made of plain files, for any web server or object store.

Clients are strict about one thing that files do not have: a manifest's Content-Type must be
its media type. (Measured: with application/octet-stream or application/json no client pulls;
with the right type all do but oras, which also wants Docker-Content-Digest.) So beside the
files lies the configuration that gives each its type; see static_config.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from embedkit.errors import InputError, LackError
from embedkit.files import write_atomically
from embedkit.oci import digest as digests
from embedkit.oci import reference
from embedkit.oci.content import Blob, open_regular
from embedkit.oci.documents import Descriptor, sniff_media_type
from embedkit.oci.limits import DEFAULT
from embedkit.oci.sink import Written, place_file

MARK = "v2/index.json"
"""What ``/v2/`` answers; its presence says that a folder is an export."""


@dataclass(frozen=True)
class Document:
    """One manifest path of an export: what it is called on the server and what it is."""

    url_path: str
    media_type: str
    digest: str
    size: int


class StaticSink:
    """Writes below DIR/v2: blobs first, tags last. Several exports may share one folder."""

    def __init__(self, folder: Path, path: str) -> None:
        if not reference.is_path(path):
            raise InputError(f"'{path}' is not a repository's name")
        if folder.exists() and any(folder.iterdir()) and not (folder / MARK).is_file():
            raise InputError(
                f"{folder} exists and is not a static registry",
                hint="give a new folder, or one that 'oci static export' made",
            )
        self.folder = folder
        self.path = path
        self._root = folder / "v2" / path
        try:
            for part in ("blobs", "manifests", "tags"):
                (self._root / part).mkdir(parents=True, exist_ok=True)
            write_atomically(folder / MARK, b"{}\n", mode=0o644)
            self.scratch = Path(tempfile.mkdtemp(dir=folder, prefix=".partial."))
        except OSError as error:
            raise LackError(f"cannot write {folder}: {error.strerror}") from error

    @property
    def where(self) -> str:
        return f"{self.folder}/v2/{self.path}"

    def has(self, descriptor: Descriptor) -> bool:
        path = self._root / "blobs" / descriptor.digest
        return path.is_file() and path.stat().st_size == descriptor.size

    def put(self, blob: Blob) -> None:
        if self.has(blob.descriptor):
            return
        target = self._root / "blobs" / blob.descriptor.digest
        try:
            place_file(blob, target, self.scratch)
        except OSError as error:
            raise LackError(f"cannot write {target}: {error.strerror}") from error

    def put_manifest(self, descriptor: Descriptor, content: bytes) -> None:
        write_atomically(self._root / "manifests" / descriptor.digest, content, mode=0o644)

    def finish(self, images: Sequence[Written]) -> None:
        for image in images:
            tag = reference.parse(image.name).tag if "/" in image.name else image.name
            if not reference.is_tag(tag):
                raise InputError(f"'{image.name}' has no tag to export it under")
            content = (self._root / "manifests" / image.root.digest).read_bytes()
            write_atomically(self._root / "manifests" / tag, content, mode=0o644)
        tags = sorted(p.name for p in (self._root / "manifests").iterdir() if ":" not in p.name)
        listing = json.dumps({"name": self.path, "tags": tags}).encode() + b"\n"
        write_atomically(self._root / "tags" / "list", listing, mode=0o644)
        self.abort()

    def abort(self) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)


def documents(folder: Path) -> list[Document]:
    """Every manifest of an export, by tag and by digest, sorted by path.

    Raises InputError where ``folder`` is no export or a file is no manifest.
    """
    if not (folder / MARK).is_file():
        raise InputError(
            f"{folder} is not a static registry", hint="'embedkit oci static export' makes one"
        )
    found = []
    base = folder / "v2"
    for place, folders, names in os.walk(base):
        folders.sort()
        here = Path(place)
        if here.name != "manifests" or here == base:
            continue
        repository = here.parent.relative_to(base).as_posix()
        if not reference.is_path(repository):
            continue
        for name in sorted(names):
            if not (reference.is_tag(name) or digests.is_digest(name)):
                continue
            with open_regular(here / name, "the manifest") as file:
                content = file.read(DEFAULT.document + 1)
            media_type = sniff_media_type(content, str(here / name))
            digest = digests.of(content)
            if digests.is_digest(name):
                digests.check(content, name, None, str(here / name))
                digest = name
            found.append(
                Document(f"/v2/{repository}/manifests/{name}", media_type, digest, len(content))
            )
    return found
