"""An image in a zip archive. The archive must be a file: its directory is at its end."""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from typing import IO

from embedkit.errors import InputError
from embedkit.media import decode


def find(file: IO[bytes]) -> tuple[zipfile.ZipFile, zipfile.ZipInfo]:
    """The one image in a zip archive: its only file, or its only one named like an image."""
    try:
        archive = zipfile.ZipFile(file)
        files = [item for item in archive.infolist() if not item.is_dir()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise InputError(f"the zip archive is damaged or not complete: {error}") from error
    images = [f for f in files if re.search(r"\.(img|wic|raw|iso|sdcard|bin)$", f.filename, re.I)]
    chosen = files if len(files) == 1 else images
    if len(chosen) != 1:
        listed = ", ".join(sorted(item.filename[:60] for item in files)[:8]) or "nothing"
        raise InputError(f"the zip archive holds {len(chosen) or 'no'} images: {listed}")
    if chosen[0].flag_bits & 1:
        raise InputError("the image in the zip archive is encrypted")
    return archive, chosen[0]


def open_member(file: IO[bytes]) -> decode.Decoder:
    """The image in a zip archive, decoded; its CRC-32 is compared at its end."""
    archive, member = find(file)
    try:
        opened = archive.open(member)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:
        raise InputError(f"the zip archive is damaged: {error}") from error
    if member.compress_type != zipfile.ZIP_DEFLATED:
        return decode.PlainDecoder(_ZipSource(opened))
    # The local header's own lengths tell where the data begins (APPNOTE.TXT 4.3.7).
    lengths = os.pread(file.fileno(), 4, member.header_offset + 26)
    start = member.header_offset + 30 + lengths[0] + (lengths[1] << 8)
    start += lengths[2] + (lengths[3] << 8)
    source = _Window(file.fileno(), start, member.compress_size)
    return _CheckedDecoder(decode.deflate_decoder(source), member)


class _ZipSource:
    """A member read by the standard library, which checks its sum; errors become ours."""

    def __init__(self, member: IO[bytes]) -> None:
        self._member = member

    def read(self, count: int) -> bytes:
        try:
            return self._member.read(count)
        except EOFError:
            raise decode.truncated("zip") from None
        except Exception as error:
            raise InputError(f"the zip archive is damaged: {error}") from error


class _Window:
    def __init__(self, descriptor: int, start: int, length: int) -> None:
        self._descriptor = descriptor
        self._at = start
        self._end = start + length

    def read(self, count: int) -> bytes:
        data = os.pread(self._descriptor, min(count, self._end - self._at), self._at)
        self._at += len(data)
        return data


class _CheckedDecoder:
    """Compares the member's CRC-32 and size at its end."""

    def __init__(self, inner: decode.Decoder, member: zipfile.ZipInfo) -> None:
        self._inner = inner
        self._member = member
        self._crc = 0
        self._size = 0
        self._scratch = memoryview(bytearray(1 << 20))

    def readinto(self, view: memoryview) -> int:
        count = self._inner.readinto(view)
        self._crc = _crc32(view[:count], self._crc)
        self._size += count
        if count < len(view) and (
            self._crc != self._member.CRC or self._size != self._member.file_size
        ):
            raise InputError("the image in the zip archive is damaged: its checksum is wrong")
        return count

    def skip(self, count: int) -> int:
        done = 0
        while done < count:
            got = self.readinto(self._scratch[: min(count - done, len(self._scratch))])
            if not got:
                break
            done += got
        return done


def _crc32(data: memoryview, start: int) -> int:
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib.crc32(data, start)
    return isal_zlib.crc32(data, start)
