"""Where blobs come from: stores, and the checked ways of reading them.

A store only finds bytes. Everything that uses them goes through :func:`read_document` or
:func:`open_blob`, which check size and digest, so that no store can forget to.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from embedkit.errors import InputError
from embedkit.oci import digest as digests
from embedkit.oci.documents import Descriptor
from embedkit.oci.limits import CHUNK, DEFAULT
from embedkit.oci.streams import Pulled


class Store(Protocol):
    """A place with content by digest: a layout folder, an archive, a registry's repository."""

    @property
    def where(self) -> str:
        """The place in messages."""

    def open(self, descriptor: Descriptor) -> BinaryIO:
        """The content's bytes from the beginning, not checked. InputError where it is absent."""

    def file(self, descriptor: Descriptor) -> Path | None:
        """A file that holds exactly this content (to hard-link), if there is one."""

    def close(self) -> None:
        """Lets go of files and connections. May be called more than once."""


@dataclass(frozen=True)
class Blob:
    """Content on its way: what it is, and how to read it (again, where a transfer is retried).

    ``open`` gives a stream that checks itself. ``file`` holds exactly this content;
    ``temporary`` says that the receiver may take that file for itself.
    """

    descriptor: Descriptor
    open: Callable[[], BinaryIO]
    file: Path | None = None
    temporary: bool = False


def open_blob(store: Store, descriptor: Descriptor) -> BinaryIO:
    """A stream of the content that checks itself; the caller reads it to its end and closes it."""
    source = store.open(descriptor)
    reader = digests.VerifyingReader(source, descriptor.digest, descriptor.size, store.where)
    return cast(BinaryIO, reader)


def blob_of(store: Store, descriptor: Descriptor) -> Blob:
    """The content as a blob to hand on."""
    return Blob(descriptor, lambda: open_blob(store, descriptor), store.file(descriptor))


def blob_of_bytes(content: bytes, media_type: str) -> Blob:
    """A small blob from memory."""
    descriptor = Descriptor(media_type, digests.of(content), len(content))
    return Blob(descriptor, lambda: io.BytesIO(content))


def read_document(store: Store, descriptor: Descriptor, limit: int = DEFAULT.document) -> bytes:
    """All of a small content, checked. Raises InputError where it exceeds ``limit`` bytes."""
    if descriptor.size > limit:
        raise InputError(
            f"a document of {descriptor.size} bytes; more than {limit} are not accepted",
            where=f"{store.where}: {descriptor.digest}",
        )
    with open_blob(store, descriptor) as stream:
        return read_to_end(stream)


def read_to_end(stream: BinaryIO) -> bytes:
    """Everything up to the stream's end, which is where it checks itself."""
    return b"".join(iter(lambda: stream.read(CHUNK), b""))


class FileSlice(Pulled):
    """Part of an open file as a stream. Many may read one file at once (pread)."""

    def __init__(self, descriptor: int, offset: int, size: int) -> None:
        super().__init__()
        self._file = descriptor
        self._begin = offset
        self._at = offset
        self._end = offset + size

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        origin = {io.SEEK_SET: self._begin, io.SEEK_CUR: self._at, io.SEEK_END: self._end}[whence]
        self._at = max(self._begin, origin + offset)
        return self._at - self._begin

    def tell(self) -> int:
        return self._at - self._begin

    def read(self, size: int = -1, /) -> bytes:
        left = max(self._end - self._at, 0)
        content = os.pread(self._file, left if size < 0 else min(size, left), self._at)
        self._at += len(content)
        return content


def open_regular(path: Path, what: str) -> BinaryIO:
    """Opens ``path``, which must be a regular file: a FIFO or a device never blocks us.

    Raises InputError otherwise.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise InputError(f"cannot read {what}: {error.strerror}", where=str(path)) from error
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise InputError(f"{what} is not a regular file", where=str(path))
        return os.fdopen(handle, "rb", buffering=0)
    except BaseException:
        os.close(handle)
        raise
