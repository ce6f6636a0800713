"""A store for images that are being made: documents in memory, layers in files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

from embedkit.errors import InputError
from embedkit.oci import digest as digests
from embedkit.oci.content import Store, open_regular
from embedkit.oci.documents import Descriptor


class MemoryStore:
    """Small documents, files of layers, and a store below for what is in neither."""

    def __init__(self, where: str, below: Store | None = None) -> None:
        self.where = where
        self.documents: dict[str, bytes] = {}
        self.files: dict[str, Path] = {}
        self.below = below

    def add(self, content: bytes, media_type: str) -> Descriptor:
        """Keeps a document; its descriptor."""
        descriptor = Descriptor(media_type, digests.of(content), len(content))
        self.documents[descriptor.digest] = content
        return descriptor

    def open(self, descriptor: Descriptor) -> BinaryIO:
        if descriptor.digest in self.documents:
            return io.BytesIO(self.documents[descriptor.digest])
        if descriptor.digest in self.files:
            return open_regular(self.files[descriptor.digest], "the layer")
        if self.below is None:
            raise InputError(f"no content {descriptor.digest}", where=self.where)
        return self.below.open(descriptor)

    def file(self, descriptor: Descriptor) -> Path | None:
        if descriptor.digest in self.files:
            return self.files[descriptor.digest]
        if self.below is None or descriptor.digest in self.documents:
            return None
        return self.below.file(descriptor)

    def close(self) -> None:
        if self.below is not None:
            self.below.close()
