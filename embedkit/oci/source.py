"""An opened image source, and the one shape that all its images take.

Whatever was read (layout folder, archive of either kind, registry) becomes an
:class:`ImageTree`: a name and one entry a platform. Indexes inside indexes are flattened.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from embedkit.errors import InputError
from embedkit.oci import mediatypes, reference
from embedkit.oci.content import Store, read_document
from embedkit.oci.documents import (
    Config,
    Descriptor,
    Index,
    Manifest,
    parse_config,
    parse_index,
    parse_manifest,
)
from embedkit.oci.limits import DEFAULT, Limits
from embedkit.oci.platform import Platform, normalise

REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"


@dataclass(frozen=True)
class Root:
    """One thing that a source offers under a name ("" where it has none)."""

    name: str
    descriptors: tuple[Descriptor, ...]


@dataclass(frozen=True)
class Source:
    """An opened source. Close it with its store."""

    store: Store
    roots: tuple[Root, ...]


@dataclass(frozen=True)
class Entry:
    """One platform's manifest, and where its content is.

    ``label`` is the platform that the index gives it, None where it gives none.
    """

    store: Store
    descriptor: Descriptor

    @property
    def label(self) -> Platform | None:
        return self.descriptor.platform

    def manifest(self, limits: Limits = DEFAULT) -> Manifest:
        """The manifest, checked."""
        raw = read_document(self.store, self.descriptor, limits.document)
        where = f"{self.store.where}: manifest {self.descriptor.digest}"
        found = parse_manifest(raw, where, limits=limits)
        if found.media_type != self.descriptor.media_type:
            # Docker's own rule against confusing one document for another.
            raise InputError(
                f"the index says {self.descriptor.media_type}, the manifest says "
                f"{found.media_type}",
                where=where,
            )
        return found

    def config(self, manifest: Manifest, limits: Limits = DEFAULT) -> Config:
        """The image config, checked, with as many diff_ids as there are layers."""
        raw = read_document(self.store, manifest.config, limits.config)
        where = f"{self.store.where}: config {manifest.config.digest}"
        found = parse_config(raw, where, limits=limits)
        if len(found.diff_ids) != len(manifest.layers):
            raise InputError(
                f"the config lists {len(found.diff_ids)} layers, the manifest "
                f"{len(manifest.layers)}",
                where=where,
            )
        return found


@dataclass(frozen=True)
class ImageTree:
    """An image of one or several platforms.

    ``index`` is None for a single manifest; ``raw_index`` holds the index's bytes as long as
    they still describe ``entries``.
    """

    name: str
    entries: tuple[Entry, ...]
    index: Index | None = None
    raw_index: bytes | None = field(default=None, repr=False)

    @property
    def images(self) -> tuple[Entry, ...]:
        """The entries that a machine could run: attestations left out."""
        return tuple(entry for entry in self.entries if not entry.descriptor.is_attestation)


def choose_root(source: Source, wanted: str | None) -> Root:
    """The root named ``wanted``, or the only one. Raises InputError with the names there are."""
    where = source.store.where
    if not source.roots:
        raise InputError("there is no image in it", where=where)
    if wanted is None:
        if len({root.descriptors[0].digest for root in source.roots}) == 1:
            return source.roots[0]
        names = ", ".join(root.name or "(untagged)" for root in source.roots[:20])
        raise InputError(
            f"{len(source.roots)} images are in it: {names}",
            where=where,
            hint="name one, as FILE:TAG",
        )
    for fits in (_same_name, _same_tag):
        found = [root for root in source.roots if fits(root.name, wanted)]
        if len(found) == 1:
            return found[0]
    names = ", ".join(root.name or "(untagged)" for root in source.roots[:20])
    raise InputError(f"no image named '{wanted}' is in it; there are: {names}", where=where)


def _same_name(name: str, wanted: str) -> bool:
    if name == wanted:
        return True
    try:
        return "/" in name and name == str(reference.parse(wanted))
    except InputError:
        return False


def _same_tag(name: str, wanted: str) -> bool:
    tail = name.rsplit("/", 1)[-1]
    return tail.partition(":")[2] == wanted


def read_tree(source: Source, wanted: str | None = None, *, limits: Limits = DEFAULT) -> ImageTree:
    """The image named ``wanted`` (or the only one) with all its platforms.

    Raises InputError for indexes nested deeper or holding more than the limits allow.
    """
    root = choose_root(source, wanted)
    store = source.store
    if len(root.descriptors) == 1 and not root.descriptors[0].is_index:
        return ImageTree(root.name, (Entry(store, root.descriptors[0]),))
    if len(root.descriptors) > 1:
        # A flat layout: index.json itself is the list of platforms.
        flat = tuple(_without_names(descriptor) for descriptor in root.descriptors)
        entries = tuple(_flatten(store, flat, limits))
        return ImageTree(root.name, entries, Index(mediatypes.INDEX, ()))
    raw = read_document(store, root.descriptors[0], limits.document)
    where = f"{store.where}: index {root.descriptors[0].digest}"
    index = parse_index(raw, where, limits=limits)
    entries = tuple(_flatten(store, index.manifests, limits))
    nested = any(entry.is_index for entry in index.manifests)
    return ImageTree(root.name, entries, index, None if nested else raw)


def _without_names(descriptor: Descriptor) -> Descriptor:
    kept = {k: v for k, v in descriptor.annotations.items() if k not in (REF_NAME, CONTAINERD_NAME)}
    return replace(descriptor, annotations=kept)


def _flatten(store: Store, descriptors: tuple[Descriptor, ...], limits: Limits) -> Iterator[Entry]:
    """Every manifest below ``descriptors``, depth first, each index visited once."""
    visited: set[str] = set()
    total = 0
    stack = [(descriptor, 1) for descriptor in reversed(descriptors)]
    while stack:
        descriptor, depth = stack.pop()
        if descriptor.media_type in mediatypes.MANIFESTS:
            total += 1
            if total > limits.index_entries:
                raise InputError(
                    f"more than {limits.index_entries} manifests in nested indexes",
                    where=store.where,
                )
            yield Entry(store, descriptor)
        elif descriptor.is_index:
            if depth > limits.index_depth:
                raise InputError(
                    f"indexes nested deeper than {limits.index_depth} levels",
                    where=f"{store.where}: {descriptor.digest}",
                )
            if descriptor.digest in visited:
                raise InputError(
                    "the same index is listed twice", where=f"{store.where}: {descriptor.digest}"
                )
            visited.add(descriptor.digest)
            raw = read_document(store, descriptor, limits.document)
            inner = parse_index(raw, f"{store.where}: index {descriptor.digest}", limits=limits)
            stack += [(child, depth + 1) for child in reversed(inner.manifests)]


def platform_of(entry: Entry, config: Config) -> Platform:
    """The label where there is one, else what the config says, canonical."""
    return normalise(entry.label or config.platform)
