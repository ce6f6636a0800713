"""Walks the frames of a zstd stream without decompressing it (RFC 8878, section 3.1).

Tells whether a stream ends where a frame ends (libzstd's stream reader takes a cut stream
for its end), and how large the content claims to be.
"""

from __future__ import annotations

from embedkit.errors import InputError

_MAGIC = 0xFD2FB528
_SKIPPABLE = 0x184D2A50
# libzstd's own limit (ZSTD_WINDOWLOG_LIMIT_DEFAULT): more than 128 MiB must be asked for.
_MAX_WINDOW = 128 << 20


class FrameWalker:
    """Fed with the stream's bytes in order, in pieces of any size.

    ``at_boundary``: all frames seen so far are whole. ``content_size``: bytes that the
    frames' headers promise together, None where one does not say.
    """

    def __init__(self) -> None:
        self.at_boundary = True
        self.content_size: int | None = 0
        self.frames = 0
        self._skip = 0
        self._held = b""
        self._step = self._magic
        self._need = 4
        self._has_checksum = False

    def feed(self, data: bytes | memoryview) -> None:
        """Takes the next bytes. Raises InputError for what is not zstd."""
        position = 0
        size = len(data)
        while True:
            if self._skip:
                step = min(self._skip, size - position)
                position += step
                self._skip -= step
                if self._skip:
                    return
            missing = self._need - len(self._held)
            if size - position < missing:
                self._held += bytes(data[position:])
                if self._held:
                    self.at_boundary = False
                return
            head = self._held + bytes(data[position : position + missing])
            position += missing
            self._held = b""
            self._step(head)

    def jump(self) -> int:
        """How many of the next bytes need not be fed; they count as seen."""
        skipped, self._skip = self._skip, 0
        return skipped

    def _magic(self, head: bytes) -> None:
        magic = int.from_bytes(head, "little")
        self.at_boundary = False
        if magic == _MAGIC:
            self._step, self._need = self._descriptor, 1
        elif magic & 0xFFFFFFF0 == _SKIPPABLE:
            self._step, self._need = self._skippable, 4
        else:
            raise InputError("what follows a zstd frame is not zstd")

    def _skippable(self, head: bytes) -> None:
        self._skip = int.from_bytes(head, "little")
        # The skip is taken before the next head: a cut one leaves _skip over.
        self._end_of_frame()

    def _descriptor(self, head: bytes) -> None:
        descriptor = head[0]
        if descriptor & 0x08:
            raise InputError("the zstd frame uses a reserved bit")
        single = bool(descriptor & 0x20)
        self._has_checksum = bool(descriptor & 0x04)
        self._size_bytes = (1 if single else 0, 2, 4, 8)[descriptor >> 6]
        self._dictionary_bytes = (0, 1, 2, 4)[descriptor & 3]
        self._single = single
        self._need = (0 if single else 1) + self._dictionary_bytes + self._size_bytes
        self._step = self._header
        if self._need == 0:  # cannot be: a single segment always says its size
            self._header(b"")

    def _header(self, head: bytes) -> None:
        self.frames += 1
        if not self._single:
            exponent, mantissa = head[0] >> 3, head[0] & 7
            window = (1 << (10 + exponent)) // 8 * (8 + mantissa)
            if window > _MAX_WINDOW:
                raise InputError(
                    f"it needs a window of {window >> 20} MiB; at most 128 MiB are allowed",
                    hint="compress it again without --long, or decompress it first",
                )
        if self._size_bytes:
            size = int.from_bytes(head[-self._size_bytes :], "little")
            if self._size_bytes == 2:
                size += 256
            if self.content_size is not None:
                self.content_size += size
        else:
            self.content_size = None
        self._step, self._need = self._block, 3

    def _block(self, head: bytes) -> None:
        header = int.from_bytes(head, "little")
        last, kind, size = header & 1, header >> 1 & 3, header >> 3
        if kind == 3 or size > 128 << 10:
            raise InputError("a zstd block is damaged")
        self._skip = 1 if kind == 1 else size
        if last:
            self._skip += 4 if self._has_checksum else 0
            self._end_of_frame()

    def _end_of_frame(self) -> None:
        self._step, self._need = self._magic, 4
        self.at_boundary = True

    @property
    def complete(self) -> bool:
        """The bytes seen so far are whole frames, at least one of them."""
        return self.at_boundary and not self._skip and not self._held and self.frames > 0
