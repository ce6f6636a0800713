"""LZO1X: the block decoder, and the files of ``lzop`` that kernel images carry.

The block format is described in the kernel's ``Documentation/staging/lzo.rst``; the file format
is what ``lzop`` writes and the kernel's ``lib/decompress_unlzo.c`` reads. The kernel's own
extension of the format (run lengths of zeros, version 1) exists for swap only and never in files.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from embedkit.kernel.stream import ByteReader, DamagedError

MAGIC = b"\x89LZO\x00\r\n\x1a\n"

_MAX_BLOCK = 64 << 20
_ADLER32_EXPANDED, _ADLER32_PACKED = 0x1, 0x2
_CRC32_EXPANDED, _CRC32_PACKED = 0x100, 0x200
_EXTRA_FIELD, _MULTIPART, _FILTER = 0x40, 0x400, 0x800
_METHODS = (1, 2, 3)  # LZO1X-1, LZO1X-1(15), LZO1X-999: one decoder for all


def decode_block(block: bytes, limit: int) -> bytes:
    """Expands one LZO1X block to at most ``limit`` bytes.

    Raises DamagedError for anything that is not a whole, valid block.
    """
    try:
        out, end = _decode(block, limit)
    except IndexError:
        raise DamagedError("an LZO block is cut short") from None
    if end != len(block):
        raise DamagedError("an LZO block ends before its data")
    return bytes(out)


def _decode(block: bytes, limit: int) -> tuple[bytearray, int]:
    """The expanded bytes, and where in ``block`` its end marker ends.

    ``literals`` is what the instruction before left to copy: it also gives instructions
    below 16 their meaning (0: a run of literals; 1 to 3: a 2-byte match close by; 4 or more:
    a 3-byte match farther away).
    """
    out = bytearray()
    at = 0
    literals = 0
    if block[0] > 17:
        at = 1
        literals = block[0] - 17
        if literals > len(block) - 1:
            raise IndexError
        out += block[1 : 1 + literals]
        at += literals
        # Fewer than four literals count as if a match had left them.
        literals = min(literals, 4)
    while True:
        instruction = block[at]
        at += 1
        if instruction >= 64:
            length = (instruction >> 5) + 1
            distance = (block[at] << 3) + (instruction >> 2 & 7) + 1
            at += 1
            literals = instruction & 3
        elif instruction >= 16:
            if instruction >= 32:
                length, base = instruction & 31, 31
            else:
                length, base = instruction & 7, 7
            if length == 0:
                length, at = _long(block, at, base)
            length += 2
            low = block[at] | block[at + 1] << 8
            at += 2
            literals = low & 3
            distance = low >> 2
            if instruction >= 32:
                distance += 1
            else:
                distance += 16384 + ((instruction & 8) << 11)
                if distance == 16384:
                    return out, at
        elif literals == 0:
            length = instruction
            if length == 0:
                length, at = _long(block, at, 15)
            length += 3
            stop = at + length
            if stop > len(block):
                raise IndexError
            out += block[at:stop]
            at = stop
            literals = 4
            if len(out) > limit:
                raise DamagedError("an LZO block expands beyond its limit")
            continue
        else:
            distance = (block[at] << 2) + (instruction >> 2) + 1
            at += 1
            length = 2
            if literals == 4:
                distance += 2048
                length = 3
            literals = instruction & 3
        size = len(out)
        start = size - distance
        if start < 0:
            raise DamagedError("an LZO block points before its start")
        if size + length > limit:
            raise DamagedError("an LZO block expands beyond its limit")
        if length <= distance:
            out += out[start : start + length]
        else:
            out += (out[start:] * (length // distance + 1))[:length]
        if literals:
            stop = at + literals
            if stop > len(block):
                raise IndexError
            out += block[at:stop]
            at = stop


def _long(block: bytes, at: int, base: int) -> tuple[int, int]:
    """A length too great for its instruction: 255 for each zero byte, then the last byte."""
    start = at
    while block[at] == 0:
        at += 1
    return base + 255 * (at - start) + block[at], at + 1


def expand(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The expanded blocks of an ``lzop`` file; what follows it is left alone."""
    reader = ByteReader(chunks)
    flags = _header(reader)
    while size := _number(reader):
        packed = _number(reader)
        if size > _MAX_BLOCK or packed > size:
            raise DamagedError("an lzop block has an impossible size")
        adler = _number(reader) if flags & _ADLER32_EXPANDED else None
        crc = _number(reader) if flags & _CRC32_EXPANDED else None
        if packed < size:
            reader.exactly(4 * bool(flags & _ADLER32_PACKED) + 4 * bool(flags & _CRC32_PACKED))
        content = reader.exactly(packed)
        if packed < size:
            content = decode_block(content, size)
        if (
            len(content) != size
            or (adler is not None and zlib.adler32(content) != adler)
            or (crc is not None and zlib.crc32(content) != crc)
        ):
            raise DamagedError("an lzop block does not match its checksum")
        yield content


def _header(reader: ByteReader) -> int:
    """Reads the file's header; returns its flags."""
    reader.exactly(len(MAGIC))
    version = _number(reader, 2)
    modern = version >= 0x940
    reader.exactly(4 if modern else 2)
    if _number(reader, 1) not in _METHODS:
        raise DamagedError("an lzop file of an unknown method")
    if modern:
        reader.exactly(1)
    flags = _number(reader)
    if flags & (_FILTER | _MULTIPART):
        raise DamagedError("an lzop file with a filter or in several parts")
    reader.exactly(12 if modern else 8)
    reader.exactly(_number(reader, 1))
    reader.exactly(4)
    if flags & _EXTRA_FIELD:
        reader.exactly(min(_number(reader), _MAX_BLOCK) + 4)
    return flags


def _number(reader: ByteReader, size: int = 4) -> int:
    return int.from_bytes(reader.exactly(size), "big")
