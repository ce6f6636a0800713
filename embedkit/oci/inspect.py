"""What is inside of an image: each layer's files and waste, the programs, what is odd.

``efficiency`` is the share of the stored file bytes that a container can see: 1.0 means that
no layer holds anything that a later one overwrote or deleted. Duplicates (equal files at
several places) are told apart; they lie in the image for a reason more often than not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol, cast

from embedkit.errors import InputError
from embedkit.oci import compression as compress
from embedkit.oci import mediatypes
from embedkit.oci.content import open_blob
from embedkit.oci.documents import Config, Descriptor, Manifest
from embedkit.oci.limits import CHUNK, DEFAULT, Limits
from embedkit.oci.platform import Platform
from embedkit.oci.recognise import (
    MAX_EVIDENCE,
    Evidence,
    Verdict,
    examine,
    judge,
    mismatch,
    missing_loaders,
)
from embedkit.oci.rootfs import RootFs, Waste
from embedkit.oci.source import Entry, platform_of
from embedkit.oci.streams import Pulled
from embedkit.oci.tarread import TarReader
from embedkit.progress import NullProgress, Progress

_SMALLEST_DUPLICATE = 4096


class Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


@dataclass(frozen=True)
class LayerFacts:
    """One layer: what it weighs and what it did. Sizes in bytes; ``digest`` as stored."""

    digest: str
    diff_id: str
    compression: str
    size: int
    unpacked: int
    files: int
    wasted: int
    command: str


@dataclass(frozen=True)
class Duplicate:
    """Equal files: the bytes of one of them, how many there are, and some of their paths."""

    size: int
    count: int
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Inspection:
    """One platform's image. ``wasted`` is sorted, the largest first."""

    platform: Platform
    digest: str
    config_digest: str
    config: Config
    manifest: Manifest
    layers: tuple[LayerFacts, ...]
    stored_bytes: int
    visible_bytes: int
    wasted_bytes: int
    wasted: tuple[Waste, ...]
    duplicates: tuple[Duplicate, ...]
    programs: Verdict
    mislabelled: str | None
    missing_loaders: tuple[str, ...]
    problems: tuple[str, ...]
    rootfs: RootFs

    @property
    def size(self) -> int:
        """Bytes of the layers and the config as they travel."""
        return sum(layer.size for layer in self.layers) + self.manifest.config.size

    @property
    def efficiency(self) -> float:
        """Visible bytes by stored bytes; 1.0 for an image without files."""
        if self.stored_bytes == 0:
            return 1.0
        return (self.stored_bytes - self.wasted_bytes) / self.stored_bytes


def inspect(
    entry: Entry,
    *,
    duplicates: bool = True,
    verify: bool = True,
    progress: Progress | None = None,
    limits: Limits = DEFAULT,
) -> Inspection:
    """Reads every layer of one platform's image once, checking digests and diff_ids.

    ``verify`` may be False where the same layers are read again, checked, before anything
    comes of the result: plain layers in files are then skimmed.

    Raises InputError for what is damaged or beyond the limits.
    """
    manifest = entry.manifest(limits)
    if not manifest.is_image:
        raise InputError(
            f"{entry.descriptor.digest} is an artifact of the type "
            f"{manifest.artifact_type or manifest.config.media_type}, not an image",
            where=entry.store.where,
        )
    config = entry.config(manifest, limits)
    rootfs = RootFs(entry.store.where)
    evidence: dict[str, Evidence] = {}
    facts = []
    total = sum(layer.size for layer in manifest.layers)
    task = (progress or NullProgress()).start("read layers", total=total, unit="bytes")
    try:
        commands = _commands(config, len(manifest.layers))
        for number, layer in enumerate(manifest.layers):
            reading = _LayerReading(entry, number, layer, config.diff_ids[number], limits)
            reading.run(rootfs, evidence, duplicates, verify)
            task.advance(layer.size)
            facts.append(reading.facts(rootfs, commands[number]))
    finally:
        task.finish()
    platform = platform_of(entry, config)
    seen = [item for path, item in evidence.items() if rootfs.find(path) is not None]
    verdict = judge(seen, entrypoint(config))
    visible = sum(node.size for _, node in rootfs.files())
    return Inspection(
        platform=platform,
        digest=entry.descriptor.digest,
        config_digest=manifest.config.digest,
        config=config,
        manifest=manifest,
        layers=tuple(facts),
        stored_bytes=rootfs.stored_bytes,
        visible_bytes=visible,
        wasted_bytes=rootfs.wasted_bytes,
        wasted=tuple(sorted(rootfs.wasted, key=lambda item: (-item.size, item.path))),
        duplicates=_duplicates(rootfs) if duplicates else (),
        programs=verdict,
        mislabelled=mismatch(verdict, platform),
        missing_loaders=missing_loaders(seen, lambda path: rootfs.find(path) is not None),
        problems=tuple(rootfs.problems),
        rootfs=rootfs,
    )


class _LayerReading:
    def __init__(
        self, entry: Entry, number: int, layer: Descriptor, diff_id: str, limits: Limits
    ) -> None:
        self.entry = entry
        self.number = number
        self.layer = layer
        self.diff_id = diff_id
        self.limits = limits
        self.unpacked = 0
        self.files = 0

    def run(self, rootfs: RootFs, evidence: dict[str, Evidence], marks: bool, verify: bool) -> None:
        where = f"{self.entry.store.where}: layer {self.number + 1} ({self.layer.digest})"
        kind = mediatypes.layer_compression(self.layer.media_type)
        if kind == "none" and not verify and self._glance(where, rootfs, evidence, marks):
            return
        # The digest of a layer that lies plain is its diff_id, and is checked on the way.
        packed = self.layer.digest != self.diff_id
        plain = hashlib.new(self.diff_id.partition(":")[0]) if packed else None
        with (
            open_blob(self.entry.store, self.layer) as raw,
            compress.decompressed(raw, kind, where, limits=self.limits) as stream,
        ):
            tapped = _Tap(stream, plain)
            reader = TarReader(cast(BinaryIO, tapped), where, limits=self.limits)
            self._members(reader, rootfs, evidence, marks)
            while tapped.read(CHUNK):
                pass
        self.unpacked = tapped.seen
        if plain is not None and plain.hexdigest() != self.diff_id.partition(":")[2]:
            raise InputError(
                f"the layer's content is not what the config says ({self.diff_id})", where=where
            )

    def _glance(
        self, where: str, rootfs: RootFs, evidence: dict[str, Evidence], marks: bool
    ) -> bool:
        """Looks at a plain layer in a file by its headers and programs alone, if it is one."""
        with self.entry.store.open(self.layer) as stream:
            if not stream.seekable():
                return False
            reader = TarReader(stream, where, seekable=True, limits=self.limits)
            self._members(reader, rootfs, evidence, marks)
        self.unpacked = self.layer.size
        return True

    def _members(
        self, reader: TarReader, rootfs: RootFs, evidence: dict[str, Evidence], marks: bool
    ) -> None:
        for member in reader:
            node = rootfs.add(member, self.number)
            self.files += 1
            if node is None or member.kind != "file":
                continue
            evidence.pop(member.path, None)
            mark = hashlib.blake2b(digest_size=16) if marks and member.size else None
            found = examine(member.path, member.size, _marking(reader, mark))
            if found is not None and len(evidence) < MAX_EVIDENCE:
                evidence[member.path] = found
            if mark is not None:
                while piece := reader.read(CHUNK):
                    mark.update(piece)
                node.mark = mark.digest()

    def facts(self, rootfs: RootFs, command: str) -> LayerFacts:
        return LayerFacts(
            digest=self.layer.digest,
            diff_id=self.diff_id,
            compression=mediatypes.layer_compression(self.layer.media_type),
            size=self.layer.size,
            unpacked=self.unpacked,
            files=self.files,
            wasted=rootfs.wasted_by.get(self.number, 0),
            command=command,
        )


class _Tap(Pulled):
    """Hashes and counts what is read."""

    def __init__(self, stream: BinaryIO, made: Hash | None) -> None:
        super().__init__()
        self._stream = stream
        self._hash = made
        self.seen = 0

    def read(self, size: int = -1, /) -> bytes:
        content = self._stream.read(size)
        if self._hash is not None:
            self._hash.update(content)
        self.seen += len(content)
        return content


def _marking(reader: TarReader, mark: Hash | None) -> Callable[[int], bytes]:
    """The reader's ``read``, whose bytes also go into ``mark``."""

    def read(size: int) -> bytes:
        piece = reader.read(size)
        if mark is not None:
            mark.update(piece)
        return piece

    return read


def entrypoint(config: Config) -> Sequence[str]:
    """The words that a container of this image starts with."""
    for key in ("Entrypoint", "Cmd"):
        words = config.run.get(key)
        if isinstance(words, list) and words:
            return [str(word) for word in words]
    return ()


def _commands(config: Config, layers: int) -> list[str]:
    """What made each layer, by the history; "" where it does not tell."""
    made = [entry.created_by or entry.comment for entry in config.history if not entry.empty_layer]
    return made if len(made) == layers else [""] * layers


def _duplicates(rootfs: RootFs) -> tuple[Duplicate, ...]:
    groups: dict[tuple[int, bytes], list[str]] = {}
    for path, node in rootfs.files():
        if node.kind == "file" and node.size >= _SMALLEST_DUPLICATE and node.mark:
            groups.setdefault((node.size, node.mark), []).append(path)
    found = [
        Duplicate(size, len(paths), tuple(paths[:20]))
        for (size, _), paths in groups.items()
        if len(paths) > 1
    ]
    return tuple(sorted(found, key=lambda item: -item.size * (item.count - 1))[:100])
