"""A local file into a command on the target, compressed as pays on this link.

Nothing is left behind on the target where the line breaks: the command sees the end of its
input, and whoever pipes begins anew (``put`` resumes instead, and needs the room for a file).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from embedkit.progress import NullProgress, Progress
from embedkit.target.base import Channel, Equipped
from embedkit.target.linkspeed import MEASURE_BYTES, measure
from embedkit.target.source import PIECE_BYTES, Source
from embedkit.target.squeeze import Squeeze, choose, compressed, unpacker

_MOST_OUTPUT_BYTES = 1 << 20


@dataclass(frozen=True)
class Piped:
    """A command that took a file. ``sent_bytes`` went over the wire; output is cut at 1 MiB."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    sent_bytes: int
    squeeze: Squeeze


def pipe(
    target: Equipped,
    command: str,
    file: Path,
    *,
    unpacks: Collection[Squeeze] = (),
    head: bytes = b"",
    progress: Progress | None = None,
    title: str = "",
) -> Piped:
    """Runs ``command`` with ``file`` as its standard input, ``head`` before it.

    ``unpacks`` are the formats that the command itself undoes; for others a program of the
    target's is put before it. Nothing is compressed after a ``head``: it speaks of the bytes
    that follow. Raises ConnectionLost where the line breaks.
    """
    source = Source.of(file)
    squeeze = Squeeze.NONE if head else _squeeze(target, source, unpacks)
    line = command
    if squeeze is not Squeeze.NONE and squeeze not in unpacks:
        line = f"{unpacker(squeeze, target.tools())} | {command}"
    task = (progress or NullProgress()).start(title, total=source.size, unit="bytes")
    sent = 0
    output: dict[Channel, bytearray] = {Channel.STDOUT: bytearray(), Channel.STDERR: bytearray()}

    def pieces() -> Iterator[bytes]:
        nonlocal sent
        if head:
            yield head
        packed = compressed(squeeze, source.pieces(0), rate=target.link_rate, sent=task.advance)
        for piece in packed:
            sent += len(piece)
            yield piece

    def keep(channel: Channel, data: bytes) -> None:
        if len(output[channel]) < _MOST_OUTPUT_BYTES:
            output[channel] += data

    try:
        code = target.stream(line, input=pieces(), output=keep)
    finally:
        task.finish()
    return Piped(code, bytes(output[Channel.STDOUT]), bytes(output[Channel.STDERR]), sent, squeeze)


def _squeeze(target: Equipped, source: Source, unpacks: Collection[Squeeze]) -> Squeeze:
    if source.size <= PIECE_BYTES:
        return Squeeze.NONE
    if target.link_rate is None:
        if source.size <= 4 * MEASURE_BYTES:
            return Squeeze.NONE
        pieces = source.pieces(0, MEASURE_BYTES)
        target.link_rate = measure(target, "exec cat >/dev/null", pieces, MEASURE_BYTES)
    middle = source.size // 2
    sample = b"".join(source.pieces(middle, middle + 4 * PIECE_BYTES))
    tools = target.tools()
    possible = [each for each in Squeeze if each in unpacks or unpacker(each, tools)]
    return choose(target.link_rate, sample, possible, target.unpack_rate)
