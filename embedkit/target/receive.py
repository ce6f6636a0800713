"""Files from the target: as careful as the way there. See :mod:`embedkit.target.transfer`."""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from embedkit.errors import InputError, LackError, TargetError
from embedkit.process import last_line
from embedkit.progress import NullProgress, Progress, Task
from embedkit.target.base import Channel, ConnectionLost, Equipped, Transfer, quote_path
from embedkit.target.digest import Digester, digester
from embedkit.target.errand import HASH_SECONDS, RECONNECT_SECONDS, Errand, check_way
from embedkit.target.squeeze import Decompressor, Squeeze, packer
from embedkit.target.ways import connection_is_lost, sftp_opener

# Below this the board's gzip, at some 5 to 20 MB/s, no longer slows the link down.
_PACK_BELOW_RATE = 3e6
_SERIAL_PIECE_BYTES = 48 << 10
_SERIAL_LARGEST_BYTES = 4 << 20
_BASE64_PIECE_BYTES = 768 << 10
_SFTP_PIECE_BYTES = 32 << 10
WAYS = ("exec", "sftp", "base64", "serial")


@dataclass
class _Receiving:
    target: Equipped
    path: str
    size: int
    part: Path
    task: Task = field(default_factory=lambda: NullProgress().start(""))
    received_bytes: int = 0
    squeeze: Squeeze = Squeeze.NONE


def get(
    target: Equipped,
    path: str,
    destination: Path,
    *,
    progress: Progress | None = None,
    way: str | None = None,
    reconnect_seconds: float = RECONNECT_SECONDS,
) -> Transfer:
    """Target.get, with the ``way`` (one of WAYS) chosen by the caller where given.

    Raises InputError where ``destination`` cannot be, TargetError where the target has no such
    file or what arrived is not what it has, LackError where it cannot be written here.
    """
    if destination.is_dir():
        destination = destination / (path.rstrip("/").rpartition("/")[2] or "file")
    if not destination.parent.is_dir():
        raise InputError(f"there is no folder {destination.parent}")
    check_way(way, WAYS)
    return _Errand(target, path, destination, way, progress).run(reconnect_seconds)


class _Errand(Errand):
    """One file to be fetched."""

    def __init__(
        self,
        target: Equipped,
        path: str,
        destination: Path,
        way: str | None,
        progress: Progress | None,
    ) -> None:
        super().__init__(target, path, way, progress)
        self._destination = destination

    def once(self) -> Transfer:
        target, destination = self.target, self._destination
        tool = digester(target)
        size, wanted = _look(target, self.path, tool)
        digest = f"{tool.name}:{wanted}" if tool else ""
        same_size = destination.is_file() and destination.stat().st_size == size
        if tool and same_size and tool.of_file(destination) == wanted:
            return self.done(str(destination), size, digest, "none", skipped=True)
        ident = wanted[:12] or "x"
        part = destination.with_name(f".{destination.name[:100]}.embedkit-{ident}.part")
        receiving = _Receiving(target, self.path, size, part)
        offset = _beginning(receiving, tool)
        receiving.task = self.started(size, offset)
        way = self.way or _best_way(target)
        try:
            _fill(receiving, way, offset)
        except OSError as error:
            raise LackError(f"cannot write {part}: {error.strerror}") from error
        finally:
            self.moved_bytes += receiving.received_bytes
        if tool and tool.of_file(part) != wanted:
            part.unlink()
            raise TargetError(
                f"what arrived of {self.path} is not what the target has",
                where=target.name,
                hint="the file may have been changed while it was read; try again",
            )
        part.chmod(0o666 & ~_umask())
        part.replace(destination)
        if receiving.squeeze != Squeeze.NONE:
            way += f"+{receiving.squeeze}"
        return self.done(str(destination), size, digest, way)


def _look(target: Equipped, path: str, tool: Digester | None) -> tuple[int, str]:
    name = quote_path(path)
    size = "stat -L -c %s" if "stat" in target.tools() else "wc -c <"
    asked = (
        f"[ -d {name} ] && echo folder && exit; [ -r {name} ] || {{ echo none; exit; }}; "
        f"{size} {name}; {f'{tool.command} <{name}' if tool else ':'}"
    )
    lines = target.run(asked, timeout=HASH_SECONDS, check=False).text.splitlines()
    first = lines[0].strip() if lines else ""
    if not first.isdecimal():
        if first == "folder":
            raise TargetError(
                f"{path} is a folder",
                where=target.name,
                hint=f"embedkit run TARGET -- tar czf - -C {name} . >folder.tar.gz",
            )
        raise TargetError(f"{path} is not there, or may not be read", where=target.name)
    digest = tool.read_answer(lines[1]) if tool and len(lines) > 1 else None
    if tool and digest is None:
        raise TargetError(f"its {tool.program} cannot read {path}", where=target.name)
    return int(first), digest or ""


def _fill(receiving: _Receiving, way: str, offset: int) -> None:
    with receiving.part.open("r+b" if receiving.part.exists() else "wb") as file:
        file.truncate(offset)
        file.seek(offset)
        if offset < receiving.size:
            _RECEIVERS[way](receiving, file, offset)
        file.flush()
        os.fsync(file.fileno())


def _best_way(target: Equipped) -> str:
    if not target.carries_binary:
        return "serial"
    if "cat" in target.tools():
        return "exec"
    return "sftp" if sftp_opener(target) else "base64"


def _beginning(receiving: _Receiving, tool: Digester | None) -> int:
    """How many bytes of an earlier part are a true beginning of the file, by digest."""
    part, target = receiving.part, receiving.target
    size = part.stat().st_size if part.is_file() else 0
    if tool is None or not 0 < size <= receiving.size:
        return 0
    if size == receiving.size:
        return size  # the comparison at the end tells
    if "head" not in target.tools():
        return 0
    asked = f"head -c {size} {quote_path(receiving.path)} | {tool.command}"
    there = tool.read_answer(target.run(asked, timeout=HASH_SECONDS).text)
    return size if there == tool.of_file(part) else 0


def _from(receiving: _Receiving, offset: int) -> str:
    name = quote_path(receiving.path)
    if offset == 0:
        return f"cat {name}"
    if "tail" in receiving.target.tools():
        return f"tail -c +{offset + 1} {name}"
    # Without tail, skip what is known block by block.
    return f"{{ dd bs=1 count={offset} of=/dev/null 2>/dev/null; cat; }} <{name}"


def _receive_exec(receiving: _Receiving, file: BinaryIO, offset: int) -> None:
    target = receiving.target
    squeeze = Squeeze.NONE
    if target.link_rate is not None and target.link_rate < _PACK_BELOW_RATE:
        tools = target.tools()
        squeeze = next((s for s in (Squeeze.ZSTD, Squeeze.GZIP) if packer(s, tools)), squeeze)
    command = _from(receiving, offset)
    if squeeze is not Squeeze.NONE:
        command += f" | {packer(squeeze, target.tools())}"
    receiving.squeeze = squeeze
    unpack = Decompressor(squeeze)
    complaints: list[bytes] = []

    def output(channel: Channel, data: bytes) -> None:
        if channel is Channel.STDERR:
            complaints.append(data)
            return
        receiving.received_bytes += len(data)
        plain = unpack.feed(data)
        file.write(plain)
        receiving.task.advance(len(plain))

    begun = time.monotonic()
    code = target.stream(command, output=output)
    if code != 0 or not unpack.whole:
        complaint = last_line(b"".join(complaints)) or f"exit code {code}"
        raise TargetError(
            f"reading {receiving.path} failed: {complaint}",
            where=target.name,
        )
    if squeeze is Squeeze.NONE and receiving.received_bytes > 4 << 20:
        target.link_rate = receiving.received_bytes / (time.monotonic() - begun)


def _receive_sftp(receiving: _Receiving, file: BinaryIO, offset: int) -> None:
    opener = sftp_opener(receiving.target)
    if opener is None:
        raise TargetError("it has no SFTP", where=receiving.target.name)
    from paramiko import SSHException

    try:
        client = opener()
    except (OSError, SSHException, EOFError) as error:
        raise TargetError("it has no SFTP server", where=receiving.target.name) from error
    try:
        with client.open(receiving.path, "r") as remote:
            remote.seek(offset)
            # All requests at once: limiting them to 64 costs 94 % of the rate.
            _quiet_prefetch(remote)
            remote.prefetch(receiving.size)
            while offset < receiving.size:
                data = remote.read(_SFTP_PIECE_BYTES)
                if not data:
                    break
                offset += len(data)
                file.write(data)
                receiving.received_bytes += len(data)
                receiving.task.advance(len(data))
    except (OSError, SSHException, EOFError) as error:
        if connection_is_lost(receiving.target, error):
            raise ConnectionLost(
                f"the connection broke: {error}", where=receiving.target.name
            ) from error
        raise TargetError(
            f"reading {receiving.path} failed: {error}", where=receiving.target.name
        ) from error
    finally:
        with contextlib.suppress(OSError, EOFError, SSHException):
            client.close()
    if offset < receiving.size:
        raise ConnectionLost("the file ended early", where=receiving.target.name)


def _quiet_prefetch(remote: Any) -> None:
    """paramiko asks for the pieces in a thread that prints a traceback when the line breaks; the
    reader sees that too, and says it as it should be said."""
    work = remote._prefetch_thread

    def quietly(*args: object) -> None:
        with contextlib.suppress(OSError, EOFError):
            work(*args)

    remote._prefetch_thread = quietly


def _receive_base64(receiving: _Receiving, file: BinaryIO, offset: int) -> None:
    """In pieces, so that a cut costs one of them."""
    tools = receiving.target.tools()
    encode = "base64" if "base64" in tools else "openssl base64"
    while offset < receiving.size:
        cut = f" | head -c {_BASE64_PIECE_BYTES}" if "head" in tools else ""
        command = f"{_from(receiving, offset)}{cut} | {encode}"
        text = receiving.target.run(command, timeout=None).stdout
        try:
            data = base64.b64decode(b"".join(text.split()), validate=True)
        except binascii.Error as error:
            raise TargetError("what arrived is no base64", where=receiving.target.name) from error
        if not data:
            raise TargetError(
                f"{receiving.path} became shorter while it was read", where=receiving.target.name
            )
        file.write(data)
        file.flush()
        offset += len(data)
        receiving.received_bytes += len(text)
        receiving.task.advance(len(data))


def _receive_serial(receiving: _Receiving, file: BinaryIO, offset: int) -> None:
    """Piece by piece: each is checked by the exchange below and kept when it is there."""
    target = receiving.target
    tools = target.tools()
    pack = "gzip -c" if "gzip" in tools else None
    receiving.squeeze = Squeeze.GZIP if pack else Squeeze.NONE
    largest = _SERIAL_PIECE_BYTES
    while offset < receiving.size:
        size = min(largest, receiving.size - offset)
        command = f"{_from(receiving, offset)} | head -c {size}"
        got = target.run(f"{command} | {pack}" if pack else command, timeout=None).stdout
        data = Decompressor(receiving.squeeze).feed(got)
        if len(data) != size:
            raise TargetError(
                f"{receiving.path} became shorter while it was read", where=target.name
            )
        file.write(data)
        file.flush()
        offset += size
        receiving.received_bytes += len(got)
        receiving.task.advance(size)
        # Pieces of a like size on the line: an empty stretch of an image is soon over.
        if len(got) < _SERIAL_PIECE_BYTES // 2:
            largest = min(largest * 2, _SERIAL_LARGEST_BYTES)
        elif len(got) > _SERIAL_PIECE_BYTES:
            largest = max(largest // 2, _SERIAL_PIECE_BYTES)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


_RECEIVERS: dict[str, Callable[[_Receiving, BinaryIO, int], None]] = {
    "exec": _receive_exec,
    "sftp": _receive_sftp,
    "base64": _receive_base64,
    "serial": _receive_serial,
}
