"""Finds a kernel config in bytes, whatever wraps it: recognised by content, never by name.

Bytes are text, or compressed, or an image with parts, or a kernel; all but the first lead to
further bytes, until a config is found or a bound is met. Everything is read as streams; only
images that wrap a compressed kernel are held in memory.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from embedkit.errors import InputError
from embedkit.kernel import ikconfig
from embedkit.kernel.decompress import Codec, candidates, codec_of
from embedkit.kernel.images import HEAD, form_of
from embedkit.kernel.stream import Blob, ByteReader, CutShortError, DamagedError, MemoryBlob
from embedkit.kernel.text import CONFIG_HINT, MAX_CONFIG, check_text, is_text
from embedkit.units import format_size

_MIB = 1 << 20
_MAX_WAY = 8
_MAX_CANDIDATES = 2048
_SEARCH_SECONDS = 20.0
# From this much expanded data on, a failure is that of a real payload and no chance find.
_REAL = 64 << 10
# A kernel compresses 2 to 10 times.
_BOMB_SIZE = 32 * _MIB
_BOMB_RATIO = 100

IKCONFIG_HINT = (
    "it was built without CONFIG_IKCONFIG=y; "
    "give the .config or /boot/config-VERSION that belongs to it"
)


@dataclass(frozen=True)
class Found:
    """A config's bytes and the way to it, for people: ``("zImage", "gzip at 0x4a10", …)``."""

    content: bytes
    way: tuple[str, ...]


@dataclass(frozen=True)
class Limits:
    """What one search may cost in all, in bytes.

    ``work`` is what is expanded, together with the compressed bytes read for it; ``held`` what
    is kept in memory; ``searched`` how far into an image compressed data is looked for.
    """

    work: int = 512 * _MIB
    held: int = 96 * _MIB
    searched: int = 128 * _MIB


class _NothingError(Exception):
    """No config here. Of several, the one with the greatest ``weight`` is told."""

    def __init__(self, message: str, hint: str | None = None, weight: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.weight = weight


class _TooMuchError(_NothingError):
    """The search as a whole has cost too much: it ends."""


def find(blob: Blob, where: str, limits: Limits | None = None) -> Found:
    """The config in ``blob``. Raises InputError, naming ``where``, if there is none to be had."""
    try:
        return _Search(limits or Limits()).in_blob(blob, ())
    except _NothingError as nothing:
        raise InputError(nothing.message, hint=nothing.hint, where=where) from None


def find_in_stream(pieces: Iterator[bytes], where: str, limits: Limits | None = None) -> Found:
    """As :func:`find` for bytes that can be read only once."""
    try:
        return _Search(limits or Limits()).in_stream(pieces)
    except _NothingError as nothing:
        raise InputError(nothing.message, hint=nothing.hint, where=where) from None


class _Search:
    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._work = 0
        self._expanded = 0
        self._held = 0

    def in_blob(self, blob: Blob, way: tuple[str, ...]) -> Found:
        """Looks into bytes with random access."""
        _check_way(way)
        head = blob.read(0, HEAD)
        codec = codec_of(head)
        if codec is not None:
            return self._in_codec(codec, blob, 0, way)
        if is_text(head):
            return Found(_text(blob.pieces()), way)
        form = form_of(head)
        nothings = []
        if form is not None:
            for name, part in form.parts(blob):
                step = f"{form.name} '{name}'" if name else form.name
                try:
                    return self.in_blob(part, (*way, step))
                except _TooMuchError:
                    raise
                except _NothingError as nothing:
                    nothings.append(nothing)
            if nothings:
                raise max(nothings, key=lambda one: one.weight)
            way = (*way, form.name)
        try:
            return self._in_kernel(blob.pieces(), way)
        except _NothingError as nothing:
            nothings.append(nothing)
        return self._among_candidates(blob, way, nothings)

    def in_stream(self, pieces: Iterator[bytes]) -> Found:
        """Looks into bytes that come from outside and may never end."""
        return self._in_pieces(self._charged(pieces), ())

    def _in_pieces(
        self, pieces: Iterator[bytes], way: tuple[str, ...], *, by_chance: bool = False
    ) -> Found:
        """Looks into a stream; ``by_chance`` says that it was found by its magic alone."""
        _check_way(way)
        before = self._expanded
        reader = ByteReader(pieces)
        try:
            head = reader.peek(HEAD)
            if not head:
                raise _NothingError("nothing but empty data is in it", CONFIG_HINT)
            codec = codec_of(head)
            if codec is not None:
                inner = self._expand(codec, reader.rest())
                return self._in_pieces(inner, (*way, codec.name), by_chance=by_chance)
            if is_text(head):
                if by_chance:
                    raise _NothingError("text")
                return Found(_text(reader.rest()), way)
            form = form_of(head)
            if form is not None and form.wraps:
                held = self._hold(reader.rest(), form.name)
                return self.in_blob(MemoryBlob(held), way)
            if form is not None:
                way = (*way, form.name)
            return self._in_kernel(reader.rest(), way)
        except DamagedError as damage:
            done = self._expanded - before
            raise _damaged(damage, way, done if done >= _REAL else 0) from None

    def _in_codec(
        self, codec: Codec, blob: Blob, at: int, way: tuple[str, ...], *, by_chance: bool = False
    ) -> Found:
        start = blob.start + at
        step = f"{codec.name} at {start:#x}" if start else codec.name
        expanded = self._expand(codec, self._charged(blob.pieces(at)))
        return self._in_pieces(expanded, (*way, step), by_chance=by_chance)

    def _in_kernel(self, pieces: Iterator[bytes], way: tuple[str, ...]) -> Found:
        """Looks for the embedded config in an uncompressed kernel, or in what may be one."""
        result = ikconfig.scan(pieces)
        if result.config is not None:
            return Found(result.config, (*way, "IKCONFIG"))
        if result.markers:
            message = "the marker IKCFG_ST is in it, but no kernel config follows it"
            raise _NothingError(message, CONFIG_HINT, max(2, result.scanned))
        if not way:
            message = "neither a kernel config nor a kernel image that carries one"
            raise _NothingError(message, CONFIG_HINT, 1)
        weight = result.scanned if len(way) > 1 and result.scanned >= _REAL else 1
        raise _NothingError(f"no kernel config in this {' → '.join(way)}", IKCONFIG_HINT, weight)

    def _among_candidates(
        self, blob: Blob, way: tuple[str, ...], nothings: list[_NothingError]
    ) -> Found:
        """Tries all that may be compressed data; raises the weightiest failure."""
        deadline = time.monotonic() + _SEARCH_SECONDS
        for number, (at, codec) in enumerate(candidates(blob, self._limits.searched)):
            if number >= _MAX_CANDIDATES or time.monotonic() > deadline:
                break
            try:
                return self._in_codec(codec, blob, at, way, by_chance=True)
            except _TooMuchError:
                raise
            except _NothingError as nothing:
                nothings.append(nothing)
        raise max(nothings, key=lambda one: one.weight)

    def _charged(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """``pieces`` against the bound on work."""
        for piece in pieces:
            self._work += len(piece)
            if self._work > self._limits.work:
                raise _TooMuchError(
                    f"more than {format_size(self._limits.work)} of data "
                    "without a kernel config in it",
                    CONFIG_HINT,
                )
            yield piece

    def _expand(self, codec: Codec, packed: Iterator[bytes]) -> Iterator[bytes]:
        """What ``packed`` expands to; a damage is marked with the codec."""
        taken = given = 0

        def counted() -> Iterator[bytes]:
            nonlocal taken
            for piece in packed:
                taken += len(piece)
                yield piece

        try:
            for piece in self._charged(codec.expand(counted())):
                given += len(piece)
                self._expanded += len(piece)
                if given > _BOMB_SIZE and given > taken * _BOMB_RATIO:
                    raise _NothingError(
                        f"the {codec.name} data expands more than {_BOMB_RATIO} times, "
                        f"to over {format_size(_BOMB_SIZE)}: no kernel does",
                        CONFIG_HINT,
                        given,
                    )
                yield piece
        except DamagedError as damage:
            if damage.codec is None:
                damage.codec = codec.name
            raise

    def _hold(self, pieces: Iterator[bytes], name: str) -> bytearray:
        held = bytearray()
        try:
            for piece in pieces:
                if self._held + len(held) + len(piece) > self._limits.held:
                    limit = format_size(self._limits.held)
                    message = f"the compressed {name} is larger than {limit}"
                    raise _TooMuchError(message, "expand it first")
                held += piece
        except CutShortError:
            # What the kernel needs may be there all the same.
            if not held:
                raise
        self._held += len(held)
        return held


def _check_way(way: tuple[str, ...]) -> None:
    if len(way) > _MAX_WAY:
        raise _NothingError(f"nested too deeply: {' → '.join(way)}", CONFIG_HINT)


def _damaged(damage: DamagedError, way: tuple[str, ...], weight: int) -> _NothingError:
    what = f"the {damage.codec or 'compressed'} data"
    if isinstance(damage, CutShortError):
        message = f"{what} is cut short"
        hint = "the file is not whole: copy or build it again"
    else:
        message = f"{what} is damaged: {damage}"
        hint = "copy or build the file again"
    if len(way) > 1:
        message += f", in {' → '.join(way)}"
    return _NothingError(message, hint, weight)


def _text(pieces: Iterator[bytes]) -> bytes:
    """The whole text, if it is a kernel config."""
    content = bytearray()
    for piece in pieces:
        content += piece
        if len(content) > MAX_CONFIG:
            break
    try:
        check_text(bytes(content))
    except InputError as error:
        raise _NothingError(error.message, error.hint) from None
    return bytes(content)
