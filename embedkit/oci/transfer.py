"""Moves images from stores to a sink, changing compression and manifest family on the way.

Configs are never rewritten here, so an image keeps its ID whatever happens to its layers.
Documents that need no change keep their bytes, and with them their digests.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from embedkit.errors import InputError, LackError
from embedkit.oci import compression as compress
from embedkit.oci import digest as digests
from embedkit.oci import mediatypes
from embedkit.oci.content import Blob, Store, blob_of, open_blob, read_document
from embedkit.oci.documents import Config, Descriptor, Index, Manifest
from embedkit.oci.limits import DEFAULT, Limits
from embedkit.oci.mediatypes import Compression, Family
from embedkit.oci.platform import Platform
from embedkit.oci.sink import Sink, Written
from embedkit.oci.source import Entry, ImageTree, platform_of
from embedkit.progress import Progress, Task


@dataclass(frozen=True)
class Shape:
    """How the receiver wants images.

    ``compression`` None: layers stay as they are, but what lies uncompressed, or compressed
    with what no registry knows, becomes gzip. ``keep_plain`` lets uncompressed layers be.
    ``zstd`` says whether the receiver reads zstd layers (Docker does since version 23).
    ``family`` None keeps the manifests' family.
    """

    compression: Compression | None = None
    level: int | None = None
    keep_plain: bool = False
    zstd: bool = True
    family: Family | None = None

    def target(self, layer: Descriptor, family: Family) -> Compression:
        """The compression that ``layer`` shall have in a manifest of ``family``."""
        now = mediatypes.layer_compression(layer.media_type)
        wanted = self.compression
        if wanted is None:
            kept = now in ("gzip", "zstd") or (now == "none" and self.keep_plain)
            wanted = now if kept else "gzip"
        if wanted == "zstd" and (not self.zstd or family == "docker"):
            return "gzip"
        return wanted


def check_shape(shape: Shape) -> None:
    """Raises InputError for wishes that contradict each other."""
    if shape.compression == "zstd" and shape.family == "docker":
        raise InputError(
            "a Docker manifest cannot hold zstd layers",
            hint="use OCI manifests (--type oci), or gzip",
        )
    if shape.compression == "zstd" and not shape.zstd:
        raise InputError("Docker before version 23 cannot read zstd layers", hint="use gzip")


def transfer(
    trees: Sequence[ImageTree],
    sink: Sink,
    shape: Shape,
    progress: Progress,
    *,
    limits: Limits = DEFAULT,
    workers: int | None = None,
) -> tuple[Written, ...]:
    """Puts every tree into ``sink`` and finishes it; the sink is aborted on any error.

    Returns what was written, in the order of ``trees``.
    """
    check_shape(shape)
    try:
        made = _Transfer(sink, shape, progress, limits, workers or _workers())
        written = tuple(made.tree(tree) for tree in trees)
        sink.finish(written)
        return written
    except BaseException:
        sink.abort()
        raise


def _workers() -> int:
    return max(2, min(4, os.cpu_count() or 2))


class _Transfer:
    def __init__(
        self, sink: Sink, shape: Shape, progress: Progress, limits: Limits, workers: int
    ) -> None:
        self.sink = sink
        self.shape = shape
        self.progress = progress
        self.limits = limits
        self.workers = workers
        # One layer of several platforms is worked on once.
        self.jobs: dict[tuple[str, Compression], Future[Descriptor]] = {}

    def tree(self, tree: ImageTree) -> Written:
        loaded = [self._load(entry) for entry in tree.entries]
        total = sum(
            layer.size for _, manifest, _ in loaded for layer in (*manifest.layers, manifest.config)
        )
        task = self.progress.start(
            f"copy {tree.name or 'image'} to {self.sink.where}", total=total, unit="bytes"
        )
        pool = ThreadPoolExecutor(self.workers)
        try:
            pending = [
                self._start(pool, entry, manifest, config, task)
                for entry, manifest, config in loaded
            ]
            _raise_first(self.jobs.values())
            results = [
                self._finish_entry(entry, manifest, config, layers)
                for (entry, manifest, config), layers in zip(loaded, pending, strict=True)
            ]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            task.finish()
        return self._root(tree, results)

    def _load(self, entry: Entry) -> tuple[Entry, Manifest, Config | None]:
        manifest = entry.manifest(self.limits)
        config = entry.config(manifest, self.limits) if manifest.is_image else None
        return entry, manifest, config

    def _start(
        self,
        pool: ThreadPoolExecutor,
        entry: Entry,
        manifest: Manifest,
        config: Config | None,
        task: Task,
    ) -> list[Future[Descriptor]]:
        """Futures of the layers, and of the config as the last."""
        futures = []
        family = self.shape.family or mediatypes.family(manifest.media_type)
        diff_ids = config.diff_ids if config else ("",) * len(manifest.layers)
        for layer, diff_id in zip(manifest.layers, diff_ids, strict=True):
            now = mediatypes.layer_compression(layer.media_type)
            wanted = self.shape.target(layer, family) if config else now
            key = (layer.digest, wanted)
            if key not in self.jobs:
                self.jobs[key] = pool.submit(
                    self._layer, entry.store, layer, diff_id, now, wanted, task
                )
            futures.append(self.jobs[key])
        key = (manifest.config.digest, "none")
        if key not in self.jobs:
            self.jobs[key] = pool.submit(self._raw, entry.store, manifest.config, task)
        return [*futures, self.jobs[key]]

    def _raw(self, store: Store, descriptor: Descriptor, task: Task) -> Descriptor:
        self.sink.put(blob_of(store, descriptor))
        task.advance(descriptor.size)
        return descriptor

    def _layer(
        self,
        store: Store,
        layer: Descriptor,
        diff_id: str,
        now: Compression,
        wanted: Compression,
        task: Task,
    ) -> Descriptor:
        if now == wanted:
            return self._raw(store, layer, task)
        blob = recompressed(
            store, layer, diff_id, wanted, self.sink.scratch, level=self.shape.level,
            limits=self.limits,
        )  # fmt: skip
        self.sink.put(blob)
        if blob.file is not None:
            blob.file.unlink(missing_ok=True)
        task.advance(layer.size)
        return blob.descriptor

    def _finish_entry(
        self,
        entry: Entry,
        manifest: Manifest,
        config: Config | None,
        layers: list[Future[Descriptor]],
    ) -> tuple[Descriptor, Platform | None, Manifest]:
        """Puts the manifest, changed where it must be; its descriptor as the index has it."""
        changed = manifest
        if config is not None:
            changed = _reshaped(manifest, [job.result() for job in layers[:-1]], self.shape)
        if changed == manifest:
            raw = read_document(entry.store, entry.descriptor, self.limits.document)
            descriptor = entry.descriptor
        else:
            raw = changed.to_bytes()
            descriptor = replace(
                entry.descriptor,
                media_type=changed.media_type,
                digest=digests.of(raw),
                size=len(raw),
            )
        self.sink.put_manifest(descriptor, raw)
        platform = platform_of(entry, config) if config else None
        return descriptor, platform, changed

    def _root(
        self, tree: ImageTree, results: list[tuple[Descriptor, Platform | None, Manifest]]
    ) -> Written:
        images = tuple(
            (platform, manifest)
            for descriptor, platform, manifest in results
            if platform is not None and not descriptor.is_attestation
        )
        if tree.index is None:
            return Written(tree.name, results[0][0], images)
        family = self.shape.family or mediatypes.family(tree.index.media_type)
        media_type = mediatypes.DOCKER_INDEX if family == "docker" else mediatypes.INDEX
        entries = tuple(descriptor for descriptor, _, _ in results)
        raw = tree.raw_index
        unchanged = entries == tuple(entry.descriptor for entry in tree.entries)
        if raw is None or not unchanged or media_type != tree.index.media_type:
            notes = tree.index.annotations if family == "oci" else {}
            raw = Index(media_type, entries, notes).to_bytes()
        root = Descriptor(media_type, digests.of(raw), len(raw))
        self.sink.put_manifest(root, raw)
        return Written(tree.name, root, images)


def _raise_first(jobs: Iterable[Future[Any]]) -> None:
    """Waits for all jobs, or for the first that fails, and raises its error."""
    done, _ = wait(jobs, return_when=FIRST_EXCEPTION)
    for job in done:
        if not job.cancelled() and (error := job.exception()) is not None:
            raise error


def _reshaped(manifest: Manifest, layers: list[Descriptor], shape: Shape) -> Manifest:
    """The manifest with other layers and, where wanted, of the other family."""
    family = shape.family or mediatypes.family(manifest.media_type)
    if family == mediatypes.family(manifest.media_type) and tuple(layers) == manifest.layers:
        return manifest
    docker = family == "docker"
    typed = tuple(
        replace(
            layer,
            media_type=mediatypes.layer(family, mediatypes.layer_compression(layer.media_type)),
            annotations={} if docker else layer.annotations,
        )
        for layer in layers
    )
    config = replace(
        manifest.config, media_type=mediatypes.DOCKER_CONFIG if docker else mediatypes.CONFIG
    )
    return Manifest(
        mediatypes.DOCKER_MANIFEST if docker else mediatypes.MANIFEST,
        config,
        typed,
        {} if docker else manifest.annotations,
    )


def recompressed(
    store: Store,
    layer: Descriptor,
    diff_id: str,
    wanted: Compression,
    scratch: Path,
    *,
    level: int | None = None,
    limits: Limits = DEFAULT,
) -> Blob:
    """``layer`` with another compression, as a temporary file in ``scratch``.

    The unpacked content is checked against ``diff_id``: a layer that does not hold what its
    config says is refused here, before it is given a new digest of its own.
    """
    now = mediatypes.layer_compression(layer.media_type)
    where = f"{store.where}: layer {layer.digest}"
    handle, name = tempfile.mkstemp(dir=scratch, prefix="layer-")
    path = Path(name)
    try:
        with open_blob(store, layer) as raw, os.fdopen(handle, "wb", buffering=0) as out:
            plain: Any = compress.decompressed(raw, now, where, limits=limits)
            # The digest of a layer that lies plain is its diff_id, and checked already.
            if layer.digest != diff_id:
                plain = _Checked(plain, diff_id, where)
            made = hashlib.sha256()
            size = 0
            for piece in compress.compressed(plain, wanted, level):
                made.update(piece)
                size += len(piece)
                out.write(piece)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise LackError(f"cannot write {path}: {error.strerror}") from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    family = mediatypes.family(mediatypes.MANIFEST)
    descriptor = replace(
        layer,
        media_type=mediatypes.layer(family, wanted),
        digest=f"sha256:{made.hexdigest()}",
        size=size,
    )
    return Blob(descriptor, lambda: path.open("rb"), path, temporary=True)


class _Checked:
    """Hashes what is read and compares it with the diff_id at the end."""

    def __init__(self, stream: BinaryIO, diff_id: str, where: str) -> None:
        self._stream = stream
        self._diff_id = diff_id
        self._where = where
        self._hash = digests.hasher(diff_id)

    def read(self, size: int) -> bytes:
        content = self._stream.read(size)
        if content:
            self._hash.update(content)
        elif self._hash.hexdigest() != digests.split(self._diff_id)[1]:
            raise InputError(
                f"the layer's content is not what the config says ({self._diff_id})",
                where=self._where,
            )
        return content
