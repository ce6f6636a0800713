"""LZ4: the block decoder, the frame format of files and the legacy frames of kernel images.

The formats are the LZ4 project's ``lz4_Block_format.md`` and ``lz4_Frame_format.md``; what the
kernel's build appends and accepts is in its ``lib/decompress_unlz4.c`` and
``scripts/Makefile.lib`` (``lz4 -l``, then the expanded size as 4 bytes).
"""

from __future__ import annotations

from collections.abc import Iterator

from embedkit.kernel.stream import ByteReader, DamagedError

FRAME_MAGIC = b"\x04\x22\x4d\x18"
LEGACY_MAGIC = b"\x02\x21\x4c\x18"

LEGACY_BLOCK = 8 << 20
_HISTORY = 64 << 10
_BLOCK_SIZES = {4: 64 << 10, 5: 256 << 10, 6: 1 << 20, 7: 4 << 20}


def bound(size: int) -> int:
    """The most bytes that ``size`` bytes take compressed (``LZ4_compressBound``)."""
    return size + size // 255 + 16


def decode_block(block: bytes, limit: int, history: bytes = b"") -> bytes:
    """Expands one block to at most ``limit`` bytes; ``history`` is what came before it.

    A kernel has millions of sequences: the two loops for long lengths are not one function,
    because the call would cost more than all the rest.

    Raises DamagedError for anything that is not a whole, valid block.
    """
    out = bytearray(history)
    before = len(history)
    limit += before
    end = len(block)
    at = 0
    try:
        while True:
            token = block[at]
            at += 1
            length = token >> 4
            if length:
                if length == 15:
                    more = 255
                    while more == 255:
                        more = block[at]
                        at += 1
                        length += more
                stop = at + length
                if stop > end:
                    raise DamagedError("an LZ4 block ends within its literals")
                out += block[at:stop]
                at = stop
            if at == end:
                break
            distance = block[at] | block[at + 1] << 8
            at += 2
            length = (token & 15) + 4
            if length == 19:
                more = 255
                while more == 255:
                    more = block[at]
                    at += 1
                    length += more
            size = len(out)
            start = size - distance
            if start < 0 or distance == 0:
                raise DamagedError("an LZ4 block points before its start")
            if size + length > limit:
                raise DamagedError("an LZ4 block expands beyond its limit")
            if length <= distance:
                out += out[start : start + length]
            else:
                pattern = out[start:]
                out += (pattern * (length // distance + 1))[:length]
    except IndexError:
        raise DamagedError("an LZ4 block is cut short") from None
    if len(out) > limit:
        raise DamagedError("an LZ4 block expands beyond its limit")
    return bytes(out[before:])


def expand_legacy(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The expanded blocks of legacy frames; what follows the last frame is left alone.

    Every block but the last expands to 8 MiB, so a shorter one is the end: the size that the
    kernel's build appends is then never mistaken for another block.
    """
    reader = ByteReader(chunks)
    reader.exactly(4)
    expanded = LEGACY_BLOCK
    while expanded == LEGACY_BLOCK:
        head = reader.upto(4)
        if head == LEGACY_MAGIC:
            continue
        size = int.from_bytes(head, "little")
        if len(head) < 4 or not 0 < size <= bound(LEGACY_BLOCK):
            return
        block = decode_block(reader.exactly(size), LEGACY_BLOCK)
        expanded = len(block)
        yield block


def expand_frames(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The expanded blocks of one or more frames as ``lz4`` writes them (checksums unchecked)."""
    reader = ByteReader(chunks)
    while reader.upto(4) == FRAME_MAGIC:
        flags, descriptor = reader.exactly(2)
        if flags >> 6 != 1:
            raise DamagedError("an LZ4 frame of an unknown version")
        if flags & 1:
            raise DamagedError("an LZ4 frame that needs a dictionary")
        limit = _BLOCK_SIZES.get(descriptor >> 4 & 7)
        if limit is None:
            raise DamagedError("an LZ4 frame with an invalid block size")
        reader.exactly((8 if flags & 8 else 0) + 1)
        yield from _frame_blocks(reader, flags, limit)


def _frame_blocks(reader: ByteReader, flags: int, limit: int) -> Iterator[bytes]:
    linked, block_checksum, content_checksum = not flags & 0x20, flags & 0x10, flags & 4
    history = b""
    while size := int.from_bytes(reader.exactly(4), "little"):
        stored = size >> 31
        size &= 0x7FFFFFFF
        if size > limit:
            raise DamagedError("an LZ4 block is larger than its frame allows")
        content = reader.exactly(size)
        block = content if stored else decode_block(content, limit, history)
        if block_checksum:
            reader.exactly(4)
        if linked:
            history = (history + block)[-_HISTORY:]
        yield block
    if content_checksum:
        reader.exactly(4)
