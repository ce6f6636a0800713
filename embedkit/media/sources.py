"""Where an image's bytes come from before they are decoded: a file, a pipe, the network."""

from __future__ import annotations

import hashlib
import os
import queue
import sys
import threading
from pathlib import Path
from typing import IO, Any

from embedkit.errors import InputError, TargetError

_PIECE = 1 << 20
_PIECES_AHEAD = 32


class HashedSource:
    """Passes bytes on and hashes them; ``finish`` compares once everything was read.

    ``held`` are bytes that were already read (to recognise the format) and come again first.
    """

    def __init__(self, read: Any, *, expected_sha256: str | None, held: bytes = b"") -> None:
        self._read = read
        self._held = held
        self._expected = expected_sha256
        self._digest = hashlib.sha256() if expected_sha256 else None
        self.stored_bytes = 0

    def read(self, count: int) -> bytes:
        if self._held:
            data, self._held = self._held[:count], self._held[count:]
        else:
            data = self._read(count)
        self.stored_bytes += len(data)
        if self._digest is not None:
            self._digest.update(data)
        return data

    def finish(self) -> None:
        """Reads what is left and compares the hash. Raises InputError where it differs."""
        if self._digest is None:
            return
        while self.read(_PIECE):
            pass
        found = self._digest.hexdigest()
        if found != self._expected:
            raise InputError(f"the image's sha256 is {found}, not {self._expected} as expected")


class Prefetch:
    """Reads ahead on a thread of its own, so that a slow pipe does not stop the decoder."""

    def __init__(self, file: Any, name: str) -> None:
        self._file = file
        self._name = name
        self._queue: queue.Queue[bytes | BaseException] = queue.Queue(_PIECES_AHEAD)
        self._left = b""
        self._ended = False
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)
        self._thread.start()

    def read(self, count: int) -> bytes:
        if not self._left and not self._ended:
            item = self._queue.get()
            if isinstance(item, BaseException):
                self._ended = True
                raise item
            self._left = item
            self._ended = not item
        data, self._left = self._left[:count], self._left[count:]
        return data

    def close(self) -> None:
        """Lets the thread end; one that waits in a read of a pipe ends with the process."""
        self._closed.set()
        while not self._queue.empty():
            self._queue.get_nowait()

    def _run(self) -> None:
        try:
            while not self._closed.is_set():
                piece = self._file.read(_PIECE)
                self._put(piece)
                if not piece:
                    return
        except (OSError, ValueError) as error:
            failure = TargetError(f"reading the image failed: {error}", where=self._name)
            self._put(failure)
        except Exception as error:  # http.client has errors of its own
            self._put(TargetError(f"the download broke off: {error!r}", where=self._name))

    def _put(self, item: bytes | BaseException) -> None:
        while not self._closed.is_set():
            try:
                self._queue.put(item, timeout=0.5)
                return
            except queue.Full:
                continue


def open_file(path: Path) -> IO[bytes]:
    """An image file for reading. Raises InputError where it cannot be one."""
    try:
        if path.is_dir():
            raise InputError("the image is a folder", where=str(path))
        if not path.exists():
            raise InputError("there is no such image", where=str(path))
        if not path.is_file():
            raise InputError(
                "the image is not a regular file", where=str(path), hint="a pipe is given as '-'"
            )
        file = path.open("rb", buffering=0)
    except OSError as error:
        raise InputError(f"cannot read the image: {error.strerror}", where=str(path)) from error
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
    return file


def open_stdin() -> IO[bytes]:
    """Standard input as the image. Raises InputError where it is a terminal."""
    if sys.stdin.isatty():
        raise InputError("the image is to come from standard input, but that is the terminal")
    # Unbuffered: a thread that waits in a buffered read holds a lock that the end of the
    # interpreter needs, and Ctrl-C would end in an abort.
    return open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)


def open_url(url: str) -> Any:
    """An http(s) download that has begun. Raises TargetError where the server refuses it."""
    # Costs a fifth of a small flash's time to import, and few images come from the network.
    import urllib.error
    import urllib.request

    request = urllib.request.Request(
        url, headers={"User-Agent": "embedkit", "Accept-Encoding": "identity"}
    )
    try:
        # Only http and https reach this place (see stream.open_image).
        return urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        raise TargetError(f"the server answered {error.code} {error.reason}", where=url) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise TargetError(f"the download failed: {reason}", where=url) from error
