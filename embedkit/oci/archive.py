"""Image archives: ``docker save`` of every age, and OCI layouts in a tar.

A docker archive has no manifest of its own (moby, image/tarexport): one is made in memory
with the layers as they lie in the archive. The config's bytes stay as they are: their digest
is the image's ID.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, BinaryIO

from embedkit.errors import InputError
from embedkit.oci import compression, mediatypes, reference
from embedkit.oci import digest as digests
from embedkit.oci.archivefile import ArchiveFile
from embedkit.oci.content import open_regular
from embedkit.oci.documents import Descriptor, Manifest, parse_config
from embedkit.oci.layout import LAYOUT_FILE, open_layout_archive
from embedkit.oci.limits import CHUNK, DEFAULT, Limits
from embedkit.oci.source import Root, Source

MANIFEST_FILE = "manifest.json"
_MAX_IMAGES = 1000


class DockerArchiveStore:
    """The content of a docker archive, by the digests of the manifests made for it."""

    def __init__(self, archive: ArchiveFile) -> None:
        self.archive = archive
        self.documents: dict[str, bytes] = {}
        self.layers: dict[str, str] = {}

    @property
    def where(self) -> str:
        return self.archive.where

    def open(self, descriptor: Descriptor) -> BinaryIO:
        if descriptor.digest in self.documents:
            return io.BytesIO(self.documents[descriptor.digest])
        if descriptor.digest in self.layers:
            return self.archive.open(self.layers[descriptor.digest])
        raise InputError(f"no content {descriptor.digest}", where=self.where)

    def file(self, descriptor: Descriptor) -> Path | None:
        return None

    def close(self) -> None:
        self.archive.close()


def open_archive(path: Path, *, limits: Limits = DEFAULT) -> Source:
    """An image archive of any kind. Raises InputError where it is none."""
    archive = ArchiveFile(path, limits=limits)
    try:
        if LAYOUT_FILE in archive:
            return open_layout_archive(archive, limits=limits)
        if MANIFEST_FILE in archive:
            return _open_docker(archive, limits)
        hint = None
        if "repositories" in archive:
            what = "a docker archive of before Docker 1.10, without a manifest.json"
            hint = "load and save it once with a newer Docker"
        else:
            what = "a tar archive without an image in it"
            hint = "'embedkit oci build' makes an image from a root filesystem"
        raise InputError(what, where=str(path), hint=hint)
    except BaseException:
        archive.close()
        raise


def _open_docker(archive: ArchiveFile, limits: Limits) -> Source:
    where = f"{archive.where}: {MANIFEST_FILE}"
    try:
        images = json.loads(archive.read(MANIFEST_FILE, limits.document))
    except (ValueError, RecursionError) as error:
        raise InputError(f"not a JSON document: {str(error)[:200]}", where=where) from error
    if not isinstance(images, list) or len(images) > _MAX_IMAGES:
        raise InputError(f"not a list of at most {_MAX_IMAGES} images", where=where)
    store = DockerArchiveStore(archive)
    named: dict[str, list[Descriptor]] = {}
    for number, image in enumerate(images):
        descriptor = _read_image(store, image, f"{where}[{number}]", limits)
        tags = image.get("RepoTags") or [""]
        for tag in tags[:1000] if isinstance(tags, list) else [""]:
            name = str(reference.parse(str(tag))) if tag else ""
            named.setdefault(name, []).append(descriptor)
    return Source(store, tuple(Root(name, tuple(found)) for name, found in named.items()))


def _read_image(store: DockerArchiveStore, image: Any, where: str, limits: Limits) -> Descriptor:
    """Makes the manifest of one image of the archive."""
    paths = image.get("Layers") if isinstance(image, dict) else None
    config_path = image.get("Config") if isinstance(image, dict) else None
    # Go writes null for an image without layers.
    paths = [] if paths is None and isinstance(config_path, str) else paths
    if (
        not isinstance(config_path, str)
        or not isinstance(paths, list)
        or not all(isinstance(path, str) for path in paths)
    ):
        raise InputError("an image without Config and Layers", where=where)
    raw = store.archive.read(config_path, limits.config)
    config = parse_config(raw, f"{store.where}: {config_path}", limits=limits)
    if len(config.diff_ids) != len(paths):
        raise InputError(
            f"the config lists {len(config.diff_ids)} layers, the archive {len(paths)}",
            where=where,
        )
    layers = tuple(
        _read_layer(store, path, diff_id)
        for path, diff_id in zip(paths, config.diff_ids, strict=True)
    )
    config_descriptor = Descriptor(mediatypes.CONFIG, digests.of(raw), len(raw))
    store.documents[config_descriptor.digest] = raw
    manifest = Manifest(mediatypes.MANIFEST, config_descriptor, layers).to_bytes()
    # No platform here: an archive has no labels, and a config's may lack the variant.
    descriptor = Descriptor(mediatypes.MANIFEST, digests.of(manifest), len(manifest))
    store.documents[descriptor.digest] = manifest
    return descriptor


def _read_layer(store: DockerArchiveStore, path: str, diff_id: str) -> Descriptor:
    member = store.archive.member(path)
    with store.archive.open(path) as stream:
        kind = compression.sniff(stream.read(compression.HEAD))
    if kind == "none":
        # The digest of a plain layer is its diff_id; reading it checks that.
        digest = diff_id
    else:
        # The file's name may state the digest, but nothing vouches for it.
        made = digests.hasher("sha256:")
        with store.archive.open(path) as stream:
            while content := stream.read(CHUNK):
                made.update(content)
        digest = f"sha256:{made.hexdigest()}"
    store.layers[digest] = path
    return Descriptor(mediatypes.layer("oci", kind), digest, member.size)


def looks_like_image(path: Path) -> bool:
    """Whether ``path`` is an image archive, and not a root filesystem or anything else.

    Only a beginning is unpacked where the archive is compressed as a whole.
    """
    from embedkit.oci.tarread import TarReader

    with open_regular(path, "the archive") as file:
        head = file.read(compression.HEAD)
        file.seek(0)
        kind = compression.sniff(head)
        with compression.decompressed(file, kind, str(path)) as stream:
            try:
                for count, member in enumerate(TarReader(stream, str(path))):
                    if member.path in (LAYOUT_FILE, MANIFEST_FILE, "repositories"):
                        return True
                    if count > 2000 or member.path in ("etc", "bin", "usr", "lib", "sbin"):
                        return False
            except InputError:
                return False
    return False
