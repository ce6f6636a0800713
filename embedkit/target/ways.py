"""The ways in which bytes get to the end of a file on the target, best first.

``exec``: a compressed stream into what the target can unpack with; ``sftp``; ``scp`` (the
old protocol of ``scp -O``); ``base64`` in blocks; ``serial``: blocks over a shell that is no
clean pipe. Every way can begin in the middle of the file.
"""

from __future__ import annotations

import base64
import contextlib
import queue
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embedkit.errors import TargetError
from embedkit.process import last_line
from embedkit.progress import Task
from embedkit.target.base import Channel, CommandFailed, ConnectionLost, Equipped, quote_path
from embedkit.target.follow import FOLLOW_BYTES, can_follow, followed
from embedkit.target.linkspeed import MEASURE_BYTES, measure
from embedkit.target.source import PIECE_BYTES, Source
from embedkit.target.squeeze import Squeeze, choose, compressed, unpacker

if TYPE_CHECKING:
    from embedkit.target.digest import Digester

# A busy moment can make a fast link look like this; a slow one does so twice.
_DOUBTFUL_RATES = (12e6, 60e6)
# More than a moment's worth, and little of the files that are sent in trials of it.
_TRIAL_BYTES = 4 * MEASURE_BYTES
_TRIAL_FROM_BYTES = 8 * _TRIAL_BYTES
# How often the reader of what is written looks for more; it waits that long at the end, too.
_FAST_NAP, _SLOW_NAP = 0.03, 0.3
_SCP_PIECE_BYTES = 8 << 20
_BASE64_PIECE_BYTES = 384 << 10
_SERIAL_PIECE_BYTES = 48 << 10
_SERIAL_LARGEST_BYTES = 8 << 20

WAYS = ("exec", "sftp", "scp", "base64", "serial")


@dataclass
class Sending:
    """One file on its way. ``sent_bytes`` counts what went over the wire."""

    target: Equipped
    source: Source
    part: str
    task: Task
    sent_bytes: int = 0
    squeeze: Squeeze = Squeeze.NONE
    tool: Digester | None = None
    # What the target read of the file while it wrote it: an answer of ``tool``.
    answer: str | None = None

    def counted(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self.sent_bytes += len(piece)
            yield piece


def ways_of(target: Equipped) -> list[str]:
    """What ``target`` can do, best first; SFTP is only asked for where nothing better is."""
    tools = target.tools()
    if not target.carries_binary:
        return ["serial"]
    found = ["exec"] if "cat" in tools else []
    if sftp_opener(target) is not None:
        found.append("sftp")
    if "scp" in tools and "cat" in tools:
        found.append("scp")
    if _base64_decoder(tools):
        found.append("base64")
    return found


def append(way: str, sending: Sending, offset: int) -> None:
    """Sends all from ``offset`` on to the end of the part file, which has ``offset`` bytes."""
    try:
        _SENDERS[way](sending, offset)
    except CommandFailed as failed:
        raise TargetError(
            f"writing {sending.part} failed: {failed.result.complaint}", where=sending.target.name
        ) from failed


def sftp_opener(target: Equipped) -> Callable[[], Any] | None:
    """What opens an SFTP session (a paramiko SFTPClient), or None where none can be."""
    opener: Callable[[], Any] | None = getattr(target, "open_sftp", None)
    return opener


def _writer(sending: Sending, command: str) -> str:
    """A command that appends to the part file, and leaves its process id to be found.

    After a cut the old writer may still be there with decoded bytes in hand; who resumes
    looks for it by this id (see transfer.py).
    """
    part = quote_path(sending.part)
    return f"umask 077; echo $$ >{part}.pid && exec {command} >>{part}"


def _stream(sending: Sending, squeeze: Squeeze, start: int) -> None:
    """All from ``start`` on, and the digest of the whole meanwhile where that is worth it."""
    target = sending.target
    command = unpacker(squeeze, target.tools())
    if command is None:
        raise TargetError(f"it has nothing that unpacks {squeeze}", where=target.name)
    complaints: list[bytes] = []
    answers: list[bytes] = []

    def output(channel: Channel, data: bytes) -> None:
        (answers if channel is Channel.STDOUT else complaints).append(data)

    packed = compressed(
        squeeze,
        sending.source.pieces(start),
        rate=target.link_rate,
        sent=sending.task.advance,
    )
    script = _writer(sending, command)
    large = sending.source.size - start >= FOLLOW_BYTES
    if follows := large and sending.tool is not None and can_follow(target.tools()):
        nap = _FAST_NAP if (target.link_rate or 0) > _DOUBTFUL_RATES[0] else _SLOW_NAP
        script = followed(script, sending.part, sending.tool, nap)
    code = target.stream(script, input=sending.counted(packed), output=output)
    if code != 0:
        complaint = last_line(b"".join(complaints)) or f"exit code {code}"
        raise TargetError(f"writing {sending.part} failed: {complaint}", where=target.name)
    if follows:
        sending.answer = b"".join(answers).decode("utf-8", "replace")


def _send_exec(sending: Sending, offset: int) -> None:
    source, target = sending.source, sending.target
    left = source.size - offset
    if target.link_rate is None and left > 4 * MEASURE_BYTES:
        target.link_rate = _trial(sending, offset, MEASURE_BYTES)
        offset += MEASURE_BYTES
        if _is_doubtful(target.link_rate):
            size = _TRIAL_BYTES if left > _TRIAL_FROM_BYTES else MEASURE_BYTES
            target.link_rate = max(target.link_rate, _trial(sending, offset, size))
            offset += size
    if left > PIECE_BYTES and target.link_rate is not None:
        middle = offset + (source.size - offset) // 2
        sample = b"".join(source.pieces(middle, middle + 4 * PIECE_BYTES))
        tools = target.tools()
        possible = [squeeze for squeeze in Squeeze if unpacker(squeeze, tools)]
        untried = target.unpack_rate is None and left > _TRIAL_FROM_BYTES
        if untried and _is_doubtful(target.link_rate):
            # Whether it unpacks as fast as that, nobody knows before it has.
            promising = choose(target.link_rate, sample, possible, target.link_rate * 10)
            if promising is not Squeeze.NONE:
                target.unpack_rate = _trial(sending, offset, _TRIAL_BYTES, promising)
                offset += _TRIAL_BYTES
        sending.squeeze = choose(target.link_rate, sample, possible, target.unpack_rate)
    if offset < source.size or offset == 0:
        begun = time.monotonic()
        _stream(sending, sending.squeeze, offset)
        if sending.squeeze is Squeeze.NONE and source.size - offset > 8 * MEASURE_BYTES:
            # The best measurement there is, for the next file.
            target.link_rate = (source.size - offset) / (time.monotonic() - begun)


def _is_doubtful(rate: float) -> bool:
    return _DOUBTFUL_RATES[0] < rate < _DOUBTFUL_RATES[1]


def _trial(sending: Sending, start: int, size: int, squeeze: Squeeze = Squeeze.NONE) -> float:
    """Sends the next ``size`` bytes; returns how many a second arrived."""
    command = unpacker(squeeze, sending.target.tools())
    assert command is not None
    packed = compressed(
        squeeze,
        sending.source.pieces(start, start + size),
        rate=sending.target.link_rate,
        sent=sending.task.advance,
    )
    line = _writer(sending, command)
    return measure(sending.target, line, sending.counted(packed), size)


def _send_sftp(sending: Sending, offset: int) -> None:
    opener = sftp_opener(sending.target)
    assert opener is not None
    from paramiko import SSHException

    try:
        client = opener()
    except ConnectionLost:
        raise
    except (OSError, SSHException, EOFError) as error:
        raise TargetError("it has no SFTP server", where=sending.target.name) from error
    try:
        with client.open(sending.part, "r+" if offset else "w") as file:
            file.chmod(0o600)
            file.seek(offset)
            # Without pipelining every 32 KiB wait for an answer: 40 to 100 times slower.
            file.set_pipelined(True)
            for piece in sending.counted(sending.source.pieces(offset)):
                file.write(piece)
                sending.task.advance(len(piece))
    except (OSError, SSHException, EOFError) as error:
        _raise_lost_or(sending, error)
    finally:
        with contextlib.suppress(OSError, EOFError, SSHException):
            client.close()


def connection_is_lost(target: object, error: BaseException) -> bool:
    """Whether ``error`` comes from a broken connection and not from the file.

    paramiko's SFTP client wraps the end of the stream in an SSHException of its own, at a time
    when its transport may not have noticed yet.
    """
    if not getattr(target, "alive", True) or isinstance(error, (EOFError, ConnectionError)):
        return True
    return isinstance(error.__context__, EOFError)


def _raise_lost_or(sending: Sending, error: Exception) -> None:
    if connection_is_lost(sending.target, error):
        raise ConnectionLost(
            f"the connection broke: {error or 'end of file'}", where=sending.target.name
        ) from error
    raise TargetError(
        f"writing {sending.part} failed: {error}", where=sending.target.name
    ) from error


def _send_scp(sending: Sending, offset: int) -> None:
    """In pieces: the protocol cannot begin in the middle of a file, so each piece is a file of
    its own that is joined to the part when it is there."""
    part = quote_path(sending.part)
    while offset < sending.source.size or offset == 0:
        size = min(_SCP_PIECE_BYTES, sending.source.size - offset)
        _scp_piece(sending, f"{sending.part}.scp", offset, size)
        sending.target.run(f"umask 077; cat {part}.scp >>{part} && rm -f {part}.scp", timeout=600)
        offset += size
        if size == 0:
            return


def _scp_piece(sending: Sending, path: str, offset: int, size: int) -> None:
    answers: queue.Queue[bytes] = queue.Queue()
    errors: list[str] = []

    def output(channel: Channel, data: bytes) -> None:
        if channel is Channel.STDERR:
            errors.append(data.decode("utf-8", "replace"))
            return
        for index in range(len(data)):
            answers.put(data[index : index + 1])

    def accepted() -> bool:
        # rcp's protocol: 0 is yes; 1 and 2 are followed by a line of complaint.
        answer = answers.get(timeout=60)
        if answer == b"\0":
            return True
        line = b""
        while not line.endswith(b"\n") and len(line) < 1000:
            line += answers.get(timeout=10)
        errors.append(line.decode("utf-8", "replace"))
        return False

    def talk() -> Iterator[bytes]:
        try:
            if not accepted():
                return
            yield f"C0600 {size} part\n".encode()
            if not accepted():
                return
            for piece in sending.source.pieces(offset, offset + size):
                yield piece
                sending.task.advance(len(piece))
            yield b"\0"
            accepted()
        except queue.Empty:
            errors.append("scp on the target does not answer")

    code = sending.target.stream(
        f"exec scp -t {quote_path(path)}", input=sending.counted(talk()), output=output
    )
    if code != 0 or errors:
        lines = "".join(errors).strip().splitlines()
        raise TargetError(
            f"scp to {path} failed: {lines[-1] if lines else f'exit code {code}'}",
            where=sending.target.name,
        )


def _base64_decoder(tools: frozenset[str]) -> str | None:
    if "base64" in tools:
        return "base64 -d"
    if "openssl" in tools:
        return "openssl base64 -d"
    if "uudecode" in tools:
        return "uudecode -o /dev/stdout"
    return None


def _send_base64(sending: Sending, offset: int) -> None:
    decoder = _base64_decoder(sending.target.tools())
    if decoder is None:
        raise TargetError("it has nothing that decodes base64", where=sending.target.name)
    for piece in _blocks(sending.source, offset, _BASE64_PIECE_BYTES):
        text = base64.encodebytes(piece)
        if decoder.startswith("uudecode"):
            text = b"begin-base64 600 part\n" + text + b"====\n"
        sending.sent_bytes += len(text)
        sending.target.run(_writer(sending, decoder), input=text, timeout=600)
        sending.task.advance(len(piece))


def _send_serial(sending: Sending, offset: int) -> None:
    """Blocks that the exchange below checks and repeats; compressed, as the line is slow."""
    tools = sending.target.tools()
    unpack = unpacker(Squeeze.GZIP, tools)
    sending.squeeze = Squeeze.GZIP if unpack else Squeeze.NONE
    blocks = _packed(sending.source, offset) if unpack else _plain(sending.source, offset)
    for size, packed in blocks:
        sending.sent_bytes += len(packed)
        sending.target.run(_writer(sending, unpack or "cat"), input=packed, timeout=None)
        sending.task.advance(size)


def _plain(source: Source, offset: int) -> Iterator[tuple[int, bytes]]:
    for block in _blocks(source, offset, _SERIAL_PIECE_BYTES):
        yield len(block), block


def _packed(source: Source, offset: int) -> Iterator[tuple[int, bytes]]:
    """How many bytes, and their gzip: as many as make a piece worth a command of its own, so that
    a cut costs little and an empty stretch of an image next to nothing."""
    packer, size, packed = zlib.compressobj(9, zlib.DEFLATED, 31), 0, b""
    for piece in source.pieces(offset) if source.size else (b"",):
        packed += packer.compress(piece)
        size += len(piece)
        if len(packed) >= _SERIAL_PIECE_BYTES or size >= _SERIAL_LARGEST_BYTES:
            yield size, packed + packer.flush()
            packer, size, packed = zlib.compressobj(9, zlib.DEFLATED, 31), 0, b""
    if size or not source.size:
        yield size, packed + packer.flush()


def _blocks(source: Source, offset: int, size: int) -> Iterator[bytes]:
    if source.size == 0:
        yield b""
    while offset < source.size:
        yield b"".join(source.pieces(offset, offset + size))
        offset += size


_SENDERS: dict[str, Callable[[Sending, int], None]] = {
    "exec": _send_exec,
    "sftp": _send_sftp,
    "scp": _send_scp,
    "base64": _send_base64,
    "serial": _send_serial,
}
