"""An input image of any kind as one sequence of bytes: raw, .gz, .xz, .zst, .bz2 or .zip,
from a file, standard input or an http(s) URL. What it is, its content says, not its name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from embedkit.errors import InputError
from embedkit.media import decode, sources, xz
from embedkit.media.ranges import Range, merge
from embedkit.media.sparse import data_ranges
from embedkit.media.zstd_frames import FrameWalker
from embedkit.progress import Task

STDIN = "-"
_HEAD = 512
# A frame's and a block's header and a checksum, all at once (RFC 8878, 3.1.1).
_ZSTD_HEAD = 24
_MAGICS = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"PK\x03\x04", "zip"),
)
_BZIP2 = re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)", re.DOTALL)
# What people give by mistake, and the way out.
_FOREIGN = (
    (b"QFI\xfb", "a QEMU qcow2 disk", "qemu-img convert -O raw FILE card.img"),
    (b"KDMV", "a VMware disk", "qemu-img convert -O raw FILE card.img"),
    (b"\x3a\xff\x26\xed", "an Android sparse image", "simg2img FILE card.img"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first: 7z x FILE"),
    (b"Rar!", "a RAR archive", "unpack it first"),
    (b"\x04\x22\x4d\x18", "lz4 data", "lz4 -dc FILE | embedkit flash - DEVICE"),
    (b"\x89LZO", "lzop data", "lzop -dc FILE | embedkit flash - DEVICE"),
    (b"LZIP", "lzip data", "lzip -dc FILE | embedkit flash - DEVICE"),
    (b"\x27\x05\x19\x56", "a U-Boot uImage, not a card", "embedkit flash BOARD --artifacts DIR"),
    (b"\x7fELF", "a program (ELF), not a card", None),
    (b"<?xml", "a text file, perhaps the .bmap", "give the image; its .bmap is found beside it"),
)


@dataclass(frozen=True)
class ImageInfo:
    """What is known of an image. Sizes are bytes.

    ``size``: of the decoded image, None where only decoding tells. ``holes_known``: a raw
    file, whose holes the file system tells. ``checked``: the container was found whole
    (its content may still be damaged).
    """

    name: str
    kind: str
    size: int | None
    stored_size: int | None
    path: Path | None
    checked: bool

    @property
    def reopenable(self) -> bool:
        """It can be read a second time."""
        return self.path is not None

    @property
    def is_plain_file(self) -> bool:
        """Any byte of it can be read at once: nothing has to be decoded."""
        return self.kind == "raw" and self.path is not None


class Image:
    """An input image. ``reader`` begins a pass over it; a pipe or URL has only one."""

    def __init__(self, info: ImageInfo, *, sha256: str | None, source: Any = None) -> None:
        self.info = info
        self._sha256 = sha256
        self._source = source
        self._blocks: tuple[xz.XzBlock, ...] | None = None

    def reader(self, wanted: Sequence[Range] | None = None) -> Reader:
        """A pass from the first byte. Bytes outside ``wanted`` may read as zeros."""
        info = self.info
        if info.path is None:
            source, self._source = self._source, None
            assert source is not None, "a pipe can be read once"
            return Reader(info, _decoder(info, source), source, None)
        file = sources.open_file(info.path)
        if info.kind == "raw" and self._sha256 is None:
            return Reader(info, _FileDecoder(file), None, file)
        if info.kind == "xz" and self._sha256 is None:
            if self._blocks is None:
                self._blocks = xz.read_index(file.fileno())
            return Reader(info, xz.XzDecoder(file.fileno(), self._blocks, wanted), None, file)
        if info.kind == "zip" and self._sha256 is None:
            from embedkit.media import zipped

            return Reader(info, zipped.open_member(file), None, file)
        source = sources.HashedSource(file.read, expected_sha256=self._sha256)
        if info.kind == "zip":
            # The archive is read through its directory: its own hash is taken beforehand.
            source.finish()
            from embedkit.media import zipped

            return Reader(info, zipped.open_member(file), None, file)
        return Reader(info, _decoder(info, source), source, file)

    def data_ranges(self) -> tuple[Range, ...] | None:
        """Where a raw file has data and not holes; None where that cannot be told."""
        if self.info.kind != "raw" or self.info.path is None or self.info.size is None:
            return None
        with sources.open_file(self.info.path) as file:
            return merge(data_ranges(file.fileno(), self.info.size))

    def count(self, limit: int | None, task: Task) -> ImageInfo:
        """Decodes the whole image once to learn its size and that it is sound.

        Raises InputError where it is not, or goes on beyond ``limit`` bytes. Only for images
        that can be read again.
        """
        reader = self.reader()
        try:
            size = 0
            while step := reader.decoder.skip(16 << 20):
                size += step
                task.advance(step)
                if limit is not None and size > limit:
                    raise InputError(
                        f"the image unpacks to more than the {limit} bytes there is room for",
                        where=self.info.name,
                    )
            reader.finish()
        finally:
            reader.close()
        self.info = replace(self.info, size=size, checked=True)
        return self.info


class Reader:
    """One pass over an image."""

    def __init__(self, info: ImageInfo, decoder: Any, source: Any, file: Any) -> None:
        self.info = info
        self.decoder: decode.Decoder = decoder
        self._source = source
        self._file = file
        self.position = 0

    def readinto(self, view: memoryview) -> int:
        """Fills ``view``; fewer bytes at the image's end only."""
        count = self.decoder.readinto(view)
        self.position += count
        return count

    def seek(self, offset: int) -> None:
        """Goes forward to ``offset``. Raises InputError where the image ends before."""
        missing = offset - self.position
        assert missing >= 0, "a pass goes forward only"
        if missing and (skipped := self.decoder.skip(missing)) < missing:
            raise InputError(
                f"the image ends at byte {self.position + skipped}, "
                f"but its block map has data at byte {offset}",
                where=self.info.name,
            )
        self.position = offset

    def drain(self, limit: int | None) -> int:
        """Reads to the end, so that trailing sums are checked; returns the image's size.

        Raises InputError where the image goes on beyond ``limit``.
        """
        while True:
            step = self.decoder.skip(16 << 20)
            if not step:
                break
            self.position += step
            if limit is not None and self.position > limit:
                raise InputError(
                    f"the image is longer than the {limit} bytes that were promised",
                    where=self.info.name,
                )
        self.finish()
        return self.position

    def finish(self) -> None:
        """Compares the expected hash, where one was given."""
        if isinstance(self._source, sources.HashedSource):
            self._source.finish()

    def close(self) -> None:
        for thing in (self.decoder, self._file):
            close = getattr(thing, "close", None)
            if close is not None:
                close()


class _FileDecoder:
    """A raw file: holes are jumped over."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        self._position = 0

    def readinto(self, view: memoryview) -> int:
        done = 0
        while done < len(view):
            count = os.preadv(self._file.fileno(), [view[done:]], self._position)
            if not count:
                break
            done += count
            self._position += count
        return done

    def skip(self, count: int) -> int:
        step = max(0, min(count, self._size - self._position))
        self._position += step
        return step


def open_image(name: str, *, sha256: str | None = None) -> Image:
    """The image called ``name``: a path, ``-`` or an http(s) URL.

    ``sha256`` is the hex hash that the stored (compressed) bytes must have; a URL needs one.
    Raises InputError for what is not an image, or is not whole as far as its container tells.
    """
    if sha256 is not None:
        sha256 = sha256.lower()
        if not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise InputError("--sha256 takes 64 hexadecimal digits")
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", name)
    if scheme is None and name != STDIN:
        return _open_path(Path(name), sha256)
    if scheme is not None:
        if scheme.group(1).lower() not in ("http", "https"):
            raise InputError(f"images come by http or https, not by {scheme.group(1)}", where=name)
        if sha256 is None:
            raise InputError(
                "an image from the network needs its expected hash",
                where=name,
                hint="give --sha256, as the publisher lists it",
            )
        response = sources.open_url(name)
        length = response.headers.get("Content-Length") or ""
        stored = int(length) if length.isdecimal() else None
        source, label = sources.Prefetch(response, name), name
    else:
        stored, label = None, "standard input"
        source = sources.Prefetch(sources.open_stdin(), label)
    head = b""
    while len(head) < _HEAD and (piece := source.read(_HEAD - len(head))):
        head += piece
    kind = recognise(head, label)
    if kind == "zip":
        raise InputError(
            "a zip archive cannot be read as a stream",
            where=label,
            hint="save it first, or: unzip -p FILE | embedkit flash - DEVICE",
        )
    info = ImageInfo(label, kind, stored if kind == "raw" else None, stored, None, False)
    hashed = sources.HashedSource(source.read, expected_sha256=sha256, held=head)
    return Image(info, sha256=sha256, source=hashed)


def recognise(head: bytes, name: str) -> str:
    """raw, gzip, xz, zstd, bzip2 or zip, from the first bytes.

    Raises InputError for what is known not to be a card's image.
    """
    if not head:
        raise InputError("the image is empty", where=name)
    for magic, kind in _MAGICS:
        if head.startswith(magic):
            return kind
    if _BZIP2.match(head):
        return "bzip2"
    if head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F:
        return "zstd"
    for magic, what, hint in _FOREIGN:
        if head.startswith(magic):
            raise InputError(f"this is {what}", where=name, hint=hint)
    if head[257:262] == b"ustar":
        raise InputError("this is a tar archive, not a card's image", where=name)
    return "raw"


def _open_path(path: Path, sha256: str | None) -> Image:
    with sources.open_file(path) as file:
        stored = os.fstat(file.fileno()).st_size
        kind = recognise(file.read(_HEAD), str(path))
        size: int | None = None
        checked = True
        try:
            if kind == "raw":
                size = stored
            elif kind == "xz":
                blocks = xz.read_index(file.fileno())
                size = blocks[-1].end if blocks else 0
            elif kind == "zstd":
                size = _walk_zstd(file)
            elif kind == "zip":
                from embedkit.media import zipped

                size = zipped.find(file)[1].file_size
            else:
                checked = False
        except InputError as error:
            error.where = error.where or str(path)
            raise
    return Image(ImageInfo(str(path), kind, size, stored, path, checked), sha256=sha256)


def gzip_size_is(path: Path, size: int) -> bool:
    """Whether the last four bytes of a .gz are ``size`` modulo 2^32 (RFC 1952, ISIZE).

    A cut file ends in other bytes, four billion to one.
    """
    with sources.open_file(path) as file:
        end = os.fstat(file.fileno()).st_size
        tail = os.pread(file.fileno(), 4, max(0, end - 4))
    return int.from_bytes(tail, "little") == size & 0xFFFFFFFF


def _walk_zstd(file: IO[bytes]) -> int | None:
    walker = FrameWalker()
    position, end = 0, os.fstat(file.fileno()).st_size
    while position < end:
        # Headers only: the blocks between them are jumped over.
        piece = os.pread(file.fileno(), _ZSTD_HEAD, position)
        walker.feed(piece)
        position += len(piece) + walker.jump()
    if position > end:
        raise decode.truncated("zstd")
    if not walker.complete:
        raise decode.truncated("zstd")
    return walker.content_size


def _decoder(info: ImageInfo, source: Any) -> decode.Decoder:
    kind = info.kind
    if kind == "gzip":
        return decode.gzip_decoder(source)
    if kind == "xz":
        return decode.xz_decoder(source)
    if kind == "zstd":
        # Where the size is known, a stream that ends early is noticed by its length.
        return decode.ZstdDecoder(source, walk=info.size is None)
    if kind == "bzip2":
        return decode.bzip2_decoder(source)
    assert kind == "raw", kind
    return decode.PlainDecoder(source)
