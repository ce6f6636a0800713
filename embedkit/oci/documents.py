"""The JSON documents of an image: descriptor, index, manifest, config.

Each is read strictly (types, digests, sizes, counts) and remembers nothing that embedkit does
not use; documents that are only moved keep their bytes. Fields: image-spec v1.1 and Docker's
manifest v2 schema 2.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from embedkit.errors import InputError
from embedkit.oci import digest as digests
from embedkit.oci import mediatypes
from embedkit.oci.limits import DEFAULT, Limits
from embedkit.oci.platform import Platform

_MAX_SIZE = 1 << 62
ATTESTATION = "vnd.docker.reference.type"


@dataclass(frozen=True)
class Descriptor:
    """A reference to content: what it is, its digest and its size in bytes."""

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str = ""

    def to_json(self) -> dict[str, Any]:
        made: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
        }
        if self.platform is not None:
            made["platform"] = _platform_json(self.platform)
        if self.annotations:
            made["annotations"] = dict(self.annotations)
        if self.artifact_type:
            made["artifactType"] = self.artifact_type
        return made

    @property
    def is_index(self) -> bool:
        return self.media_type in mediatypes.INDEXES

    @property
    def is_attestation(self) -> bool:
        """BuildKit's provenance and SBOM entries, which no machine can run."""
        return ATTESTATION in self.annotations or (
            self.platform is not None and self.platform.architecture == "unknown"
        )


@dataclass(frozen=True)
class Index:
    """An image index, or Docker's manifest list."""

    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        made: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "manifests": [entry.to_json() for entry in self.manifests],
        }
        if self.annotations:
            made["annotations"] = dict(self.annotations)
        return dump(made)


@dataclass(frozen=True)
class Manifest:
    """One platform's image: its config and its layers, the lowest first."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str = ""

    @property
    def is_image(self) -> bool:
        """Whether it is a container image, and not another artifact in an image's clothes."""
        return self.config.media_type in mediatypes.CONFIGS and all(
            mediatypes.is_layer(layer.media_type) for layer in self.layers
        )

    def to_bytes(self) -> bytes:
        made: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "config": self.config.to_json(),
            "layers": [layer.to_json() for layer in self.layers],
        }
        if self.annotations:
            made["annotations"] = dict(self.annotations)
        return dump(made)


@dataclass(frozen=True)
class History:
    """One entry of a config's history."""

    created_by: str
    comment: str
    empty_layer: bool


@dataclass(frozen=True)
class Config:
    """An image's config: what embedkit asks of it. ``values`` is the whole document."""

    platform: Platform
    diff_ids: tuple[str, ...]
    history: tuple[History, ...]
    created: str
    values: Mapping[str, Any]

    @property
    def run(self) -> Mapping[str, Any]:
        """The ``config`` object: entrypoint, environment and so on."""
        found = self.values.get("config")
        return found if isinstance(found, dict) else {}


def dump(values: Mapping[str, Any]) -> bytes:
    """Compact JSON in a stable order (the order of insertion), as the digests need it."""
    return json.dumps(values, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def load(content: bytes, where: str) -> dict[str, Any]:
    """A JSON object. Raises InputError for anything else."""
    try:
        values = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        said = "too deeply nested" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"not a JSON document: {said[:200]}", where=where) from error
    if not isinstance(values, dict):
        raise InputError("not a JSON object", where=where)
    return values


def parse_index(content: bytes, where: str, *, limits: Limits = DEFAULT) -> Index:
    """An index from its bytes. Raises InputError where it breaks the specification."""
    values = _document(content, where)
    entries = values.get("manifests")
    if not isinstance(entries, list):
        raise InputError("an index without a list of manifests", where=where)
    if len(entries) > limits.index_entries:
        raise InputError(
            f"an index with {len(entries)} manifests; more than {limits.index_entries} "
            "are not accepted",
            where=where,
        )
    return Index(
        _text(values, "mediaType", where) or mediatypes.INDEX,
        tuple(_descriptor(entry, f"{where}: manifests[{n}]") for n, entry in enumerate(entries)),
        _texts(values.get("annotations"), where),
    )


def parse_manifest(content: bytes, where: str, *, limits: Limits = DEFAULT) -> Manifest:
    """A manifest from its bytes. Raises InputError where it breaks the specification."""
    values = _document(content, where)
    layers = values.get("layers")
    if not isinstance(layers, list):
        raise InputError("a manifest without a list of layers", where=where)
    if len(layers) > limits.layers:
        raise InputError(
            f"a manifest with {len(layers)} layers; more than {limits.layers} are not accepted",
            where=where,
        )
    return Manifest(
        _text(values, "mediaType", where) or mediatypes.MANIFEST,
        _descriptor(values.get("config"), f"{where}: config"),
        tuple(_descriptor(layer, f"{where}: layers[{n}]") for n, layer in enumerate(layers)),
        _texts(values.get("annotations"), where),
        _text(values, "artifactType", where),
    )


def parse_config(content: bytes, where: str, *, limits: Limits = DEFAULT) -> Config:
    """An image config from its bytes. Raises InputError where it breaks the specification."""
    values = load(content, where)
    rootfs = values.get("rootfs")
    ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    # `"diff_ids": null` is what Go writes for an image without layers.
    ids = [] if ids is None and isinstance(rootfs, dict) else ids
    if not isinstance(ids, list) or len(ids) > limits.layers:
        raise InputError("an image config without a proper rootfs.diff_ids", where=where)
    history = values.get("history") or []
    entries = history if isinstance(history, list) else []
    return Config(
        _platform(values, where),
        tuple(digests.parse(item, f"{where}: rootfs.diff_ids") for item in ids),
        tuple(
            History(
                str(entry.get("created_by", "")),
                str(entry.get("comment", "")),
                entry.get("empty_layer") is True,
            )
            for entry in entries[:10_000]
            if isinstance(entry, dict)
        ),
        _text(values, "created", where),
        values,
    )


def sniff_media_type(content: bytes, where: str) -> str:
    """The type of a manifest or index whose bytes are all there is to go by."""
    values = load(content, where)
    stated = values.get("mediaType")
    if isinstance(stated, str) and stated in (*mediatypes.INDEXES, *mediatypes.MANIFESTS):
        return stated
    if values.get("schemaVersion") == 1:
        raise InputError(
            "a Docker schema 1 manifest: a format of before 2016 that nothing writes any more",
            where=where,
            hint="pull and push it once with a Docker before 27 to convert it",
        )
    if "manifests" in values:
        return mediatypes.INDEX
    if "layers" in values and "config" in values:
        return mediatypes.MANIFEST
    raise InputError("neither an image manifest nor an index", where=where)


def _document(content: bytes, where: str) -> dict[str, Any]:
    values = load(content, where)
    if values.get("schemaVersion") != 2:
        raise InputError(
            f"schemaVersion is {str(values.get('schemaVersion'))[:20]}, not 2", where=where
        )
    return values


def _descriptor(value: object, where: str) -> Descriptor:
    if not isinstance(value, dict):
        raise InputError("a descriptor is missing", where=where)
    size = value.get("size")
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < _MAX_SIZE:
        raise InputError("a descriptor's size must be a number of bytes", where=where)
    media_type = _text(value, "mediaType", where)
    if not media_type:
        raise InputError("a descriptor without a mediaType", where=where)
    platform = value.get("platform")
    return Descriptor(
        media_type,
        digests.parse(value.get("digest"), where),
        size,
        _platform(platform, where) if isinstance(platform, dict) else None,
        _texts(value.get("annotations"), where),
        _text(value, "artifactType", where),
    )


def _platform(values: Mapping[str, Any], where: str) -> Platform:
    features = values.get("os.features")
    return Platform(
        _text(values, "os", where),
        _text(values, "architecture", where),
        _text(values, "variant", where),
        _text(values, "os.version", where),
        tuple(str(item) for item in features[:100]) if isinstance(features, list) else (),
    )


def _platform_json(platform: Platform) -> dict[str, Any]:
    made: dict[str, Any] = {"architecture": platform.architecture, "os": platform.os}
    if platform.os_version:
        made["os.version"] = platform.os_version
    if platform.os_features:
        made["os.features"] = list(platform.os_features)
    if platform.variant:
        made["variant"] = platform.variant
    return made


def _text(values: Mapping[str, Any], key: str, where: str) -> str:
    value = values.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InputError(f"'{key}' must be a text", where=where)
    return value


def _texts(value: object, where: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise InputError("annotations must map texts to texts", where=where)
    return value
