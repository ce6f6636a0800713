"""Media types: the OCI image-spec's (media-types.md) and Docker's equivalents."""

from __future__ import annotations

from typing import Literal

Compression = Literal["none", "gzip", "zstd", "bzip2", "xz"]
Family = Literal["oci", "docker"]

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"

INDEXES = (INDEX, DOCKER_INDEX)
MANIFESTS = (MANIFEST, DOCKER_MANIFEST)
CONFIGS = (CONFIG, DOCKER_CONFIG)

# What a client asks a registry for, OCI first.
ACCEPT = ", ".join((INDEX, MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST))

_LAYERS: dict[str, tuple[Family, Compression]] = {
    LAYER: ("oci", "none"),
    LAYER + "+gzip": ("oci", "gzip"),
    LAYER + "+zstd": ("oci", "zstd"),
    "application/vnd.oci.image.layer.nondistributable.v1.tar": ("oci", "none"),
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": ("oci", "gzip"),
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": ("oci", "zstd"),
    DOCKER_LAYER: ("docker", "none"),
    DOCKER_LAYER + ".gzip": ("docker", "gzip"),
    # Nobody standardised it, BuildKit writes it when asked for zstd without oci-mediatypes.
    DOCKER_LAYER + ".zstd": ("docker", "zstd"),
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip": ("docker", "gzip"),
    # Never written: docker save archives may hold them, and they are converted on the way.
    LAYER + "+bzip2": ("oci", "bzip2"),
    LAYER + "+xz": ("oci", "xz"),
}


def is_layer(media_type: str) -> bool:
    """Whether it is a filesystem layer (and not, say, an attestation)."""
    return media_type in _LAYERS


def layer_compression(media_type: str) -> Compression:
    """How a layer of this type is compressed; "none" for what is no layer."""
    return _LAYERS.get(media_type, ("oci", "none"))[1]


def layer(family: Family, compression: Compression) -> str:
    """The type of a layer. Docker's family has none for zstd: ValueError."""
    if family == "oci":
        return LAYER if compression == "none" else f"{LAYER}+{compression}"
    if compression not in ("none", "gzip"):
        raise ValueError(f"a Docker manifest cannot hold {compression} layers")
    return DOCKER_LAYER if compression == "none" else DOCKER_LAYER + ".gzip"


def family(media_type: str) -> Family:
    """Whether a manifest's or an index's type is the OCI's or Docker's."""
    return "docker" if media_type in (DOCKER_INDEX, DOCKER_MANIFEST) else "oci"
