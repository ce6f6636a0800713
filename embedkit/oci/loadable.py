"""One platform's image, chosen for a machine and packed for the machine's own store.

Two kinds of stores are fed. Docker's own (overlay2 and its like) knows layers by their chain
IDs: it never opens the archive's member for a layer whose chain it has, so the member may be
absent (measured with 20.10.24 and 26.1.5; moby image/tarexport/load.go). containerd's, which
Docker may use as well, knows blobs by their digests and takes an OCI layout that lacks those
it has (containerd 1.6.20; Docker 26.1.5).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from embedkit.errors import InputError
from embedkit.oci import mediatypes
from embedkit.oci.content import blob_of, read_document
from embedkit.oci.documents import Config, Manifest
from embedkit.oci.inspect import inspect
from embedkit.oci.layout import blob_path
from embedkit.oci.limits import DEFAULT, Limits
from embedkit.oci.platform import Platform, normalise, same
from embedkit.oci.resolve import Candidate, choose
from embedkit.oci.sink import ArchiveSink, Written, dump_list
from embedkit.oci.source import Entry, ImageTree, platform_of
from embedkit.oci.transfer import recompressed
from embedkit.progress import NullProgress, Progress, Task


@dataclass(frozen=True)
class Chosen:
    """The entry for a machine. ``why`` is a sentence; ``exact`` whether it is the machine's own
    platform and not one that it runs as well."""

    entry: Entry
    manifest: Manifest
    config: Config
    platform: Platform
    why: str
    exact: bool

    @property
    def image_id(self) -> str:
        """What Docker's own store calls the image."""
        return self.manifest.config.digest

    @property
    def digest(self) -> str:
        """What containerd calls it."""
        return self.entry.descriptor.digest


@dataclass(frozen=True)
class Packed:
    """A written archive: the layers in it and those left out, by their diff_ids."""

    path: Path
    size: int
    layers: tuple[str, ...]
    left_out: tuple[str, ...]
    layer_bytes: int
    left_out_bytes: int


def choose_for(tree: ImageTree, machine: Platform, *, limits: Limits = DEFAULT) -> Chosen:
    """What of ``tree`` a machine of that platform runs best, by containerd's and Docker's rules.

    Raises InputError, with the platforms that there are, where nothing fits.
    """
    found = []
    for entry in tree.images:
        manifest = entry.manifest(limits)
        if manifest.is_image:
            found.append((entry, manifest, entry.config(manifest, limits)))
    candidates = [Candidate(entry.label, config.platform) for entry, _, config in found]
    choice = choose("containerd", candidates, machine)
    if choice.index is None:
        there = ", ".join(str(platform_of(entry, config)) for entry, _, config in found)
        raise InputError(
            f"nothing in the image runs on {normalise(machine)}; it has: {there or 'nothing'}",
            where=tree.name,
            hint=f"build it for that platform: embedkit oci build --platform {normalise(machine)}",
        )
    entry, manifest, config = found[choice.index]
    platform = platform_of(entry, config)
    return Chosen(entry, manifest, config, platform, choice.why, same(platform, machine))


def check_label(
    chosen: Chosen, *, progress: Progress | None = None, limits: Limits = DEFAULT
) -> tuple[int, ...]:
    """Reads the layers; the bytes that each unpacks to.

    Raises InputError where the programs do not run where the label says.
    """
    # Digests are checked where the layers are packed.
    found = inspect(chosen.entry, duplicates=False, verify=False, progress=progress, limits=limits)
    wrong = found.mislabelled
    if wrong is not None:
        raise InputError(
            wrong,
            where=chosen.entry.store.where,
            hint="--trust-labels takes it all the same; embedkit oci merge writes it right",
        )
    return tuple(layer.unpacked for layer in found.layers)


def chains(diff_ids: Sequence[str]) -> tuple[str, ...]:
    """The chain ID of each layer on top of those below it (image-spec, config.md)."""
    found: list[str] = []
    for diff_id in diff_ids:
        text = f"{found[-1]} {diff_id}" if found else diff_id
        found.append(f"sha256:{hashlib.sha256(text.encode()).hexdigest()}" if found else diff_id)
    return tuple(found)


def layers_there(chosen: Chosen, images: Iterable[Sequence[str]]) -> frozenset[int]:
    """The numbers of the layers that a store with ``images`` (lists of diff_ids) has, each on
    top of just those that are below it here."""
    there = {chain for image in images for chain in chains(image)}
    return frozenset(n for n, chain in enumerate(chains(chosen.config.diff_ids)) if chain in there)


def blobs_there(chosen: Chosen, blobs: Collection[str]) -> frozenset[int]:
    """The numbers of the layers whose very blobs a content store has."""
    return frozenset(n for n, each in enumerate(chosen.manifest.layers) if each.digest in blobs)


@contextmanager
def _packing(
    path: Path, total: int, progress: Progress | None
) -> Iterator[tuple[ArchiveSink, Task]]:
    """An archive to be written, which goes again where that fails, and its progress."""
    sink = ArchiveSink(path)
    task = (progress or NullProgress()).start("pack layers", total=total, unit="bytes")
    try:
        yield sink, task
    except BaseException:
        sink.abort()
        raise
    finally:
        task.finish()


def pack_layers(
    chosen: Chosen,
    path: Path,
    there: Collection[int],
    *,
    progress: Progress | None = None,
    limits: Limits = DEFAULT,
) -> Packed:
    """A docker archive without a name, its layers plain: what carries it compresses it."""
    store, manifest = chosen.entry.store, chosen.manifest
    names = []
    total = sum(layer.size for n, layer in enumerate(manifest.layers) if n not in there)
    sizes: dict[int, int] = {}
    with _packing(path, total, progress) as (sink, task):
        for number, (layer, diff_id) in enumerate(
            zip(manifest.layers, chosen.config.diff_ids, strict=True)
        ):
            names.append(blob_path(diff_id))
            if number in there:
                continue
            if mediatypes.layer_compression(layer.media_type) == "none":
                if layer.digest != diff_id:
                    raise InputError(
                        f"the layer {layer.digest} is not what the config says ({diff_id})",
                        where=store.where,
                    )
                blob = blob_of(store, layer)
            else:
                blob = recompressed(store, layer, diff_id, "none", sink.scratch, limits=limits)
            sizes[number] = blob.descriptor.size
            sink.put(blob)
            task.advance(layer.size)
        config = blob_of(store, manifest.config)
        sink.put(config)
        entry: dict[str, object] = {
            "Config": blob_path(manifest.config.digest),
            "RepoTags": None,
            "Layers": names,
        }
        sink.finish_with({"manifest.json": dump_list([entry])}, durable=False)
    return _packed(chosen, path, there, sum(sizes.values()))


def pack_blobs(
    chosen: Chosen,
    path: Path,
    name: str,
    there: Collection[int],
    *,
    progress: Progress | None = None,
    limits: Limits = DEFAULT,
) -> Packed:
    """An OCI layout in a tar under ``name`` ("": none), every document and blob as it is."""
    store, manifest = chosen.entry.store, chosen.manifest
    sent = [layer for n, layer in enumerate(manifest.layers) if n not in there]
    total = sum(layer.size for layer in sent)
    with _packing(path, total, progress) as (sink, task):
        for layer in sent:
            sink.put(blob_of(store, layer))
            task.advance(layer.size)
        sink.put(blob_of(store, manifest.config))
        raw = read_document(store, chosen.entry.descriptor, limits.document)
        sink.put_manifest(chosen.entry.descriptor, raw)
        sink.finish([Written(name, chosen.entry.descriptor, ((chosen.platform, manifest),))])
    return _packed(chosen, path, there, total)


def _packed(chosen: Chosen, path: Path, there: Collection[int], layer_bytes: int) -> Packed:
    numbered = list(enumerate(chosen.config.diff_ids))
    return Packed(
        path,
        path.stat().st_size,
        tuple(diff_id for n, diff_id in numbered if n not in there),
        tuple(diff_id for n, diff_id in numbered if n in there),
        layer_bytes,
        sum(layer.size for n, layer in enumerate(chosen.manifest.layers) if n in there),
    )
