"""Finds and reads the kernel config that the user names, in whatever form it comes.

Here are the *places*: a file, standard input, a folder, the running kernel, a board. What lies
there (text, compressed, a kernel image) is told by its content, in ``embedkit.kernel.content``,
which is imported only for what is not plain text.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from embedkit.errors import EmbedkitError, InputError, LackError
from embedkit.kernel.config import KernelConfig
from embedkit.kernel.text import CONFIG_HINT, CONFIG_LINE, MAX_CONFIG, check_text

if TYPE_CHECKING:
    from embedkit.kernel.content import Found

STDIN = "-"

_HEAD = 64 << 10
_PIECE = 1 << 20
_MAX_HELD = 64 << 20
_MAX_FILE = 4 << 30
_TARGETS = ("ssh://", "serial://", "serial+", "local:", "qemu:")
_URLS = ("http://", "https://", "ftp://")
# A shell's <(command) is a pipe under such a name: it is open already, so reading it never hangs
# for want of a writer.
_OPEN_PIPES = ("/dev/fd/", "/proc/self/fd/", "/dev/stdin")
# How compressed data begins: some of it holds whole lines of the text unchanged.
_PACKED = (
    b"\x1f\x8b",
    b"\xfd7zXZ",
    b"\x28\xb5\x2f\xfd",
    b"\x02\x21\x4c\x18",
    b"\x04\x22\x4d\x18",
    b"\x89LZO",
    b"\x5d\0",
    b"BZh",
)

# Where a running kernel's config is, best first; {release} is what `uname -r` says.
RUNNING = (
    "/proc/config.gz",
    "/boot/config-{release}",
    "/lib/modules/{release}/config",
    "/lib/modules/{release}/build/.config",
    "/lib/modules/{release}/kernel/kernel/configs.ko",
    "/lib/modules/{release}/kernel/kernel/configs.ko.gz",
    "/lib/modules/{release}/kernel/kernel/configs.ko.xz",
    "/lib/modules/{release}/kernel/kernel/configs.ko.zst",
    "/boot/vmlinuz-{release}",
)
_RELEASE = "/proc/sys/kernel/osrelease"


class FileReader(Protocol):
    """What can read the files of a running system: this machine, or a board."""

    @property
    def name(self) -> str:
        """What people call it: ``this machine``, ``ssh://board``."""

    def read_file(self, path: str, limit: int) -> bytes:
        """The bytes of ``path``, no more than ``limit``.

        Raises OSError (FileNotFoundError, PermissionError…) where it cannot be read,
        EmbedkitError where the system itself cannot be reached.
        """


class LocalFiles:
    """The files of this machine, or of a root filesystem under ``root``."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    @property
    def name(self) -> str:
        return "this machine" if self._root == Path("/") else str(self._root)

    def read_file(self, path: str, limit: int) -> bytes:
        place = self._root / path.lstrip("/")
        if not stat.S_ISREG(place.stat().st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        with place.open("rb") as file:
            return file.read(limit)


def load(
    source: str | None,
    *,
    stdin: BinaryIO | None = None,
    root: Path = Path("/"),
    target: Callable[[str], FileReader] | None = None,
) -> KernelConfig:
    """The kernel config in ``source``: a path, ``-``, a target, or None for the running kernel.

    ``stdin`` stands in for standard input, ``root`` for the machine's root folder; ``target``
    opens ``ssh://…``, ``serial://…``, ``qemu:…`` and ``local:``. The config's ``origin`` tells
    the way: ``zImage (zImage → gzip at 0x4a10 → IKCONFIG)``.

    Raises InputError where there is no kernel config, LackError where it may not be read.
    """
    if source is None:
        return load_running(LocalFiles(root))
    if not source:
        raise InputError("the source's name is empty", hint=CONFIG_HINT)
    if source == STDIN:
        return _from_stream(stdin or sys.stdin.buffer, "standard input")
    if source.startswith(_TARGETS):
        if target is None:
            raise InputError(
                "reading the config of a target is not supported yet",
                hint=f"for example: ssh BOARD zcat /proc/config.gz | embedkit check-kernel {STDIN}",
                where=source,
            )
        return load_running(target(source))
    if source.startswith(_URLS):
        raise InputError("embedkit downloads no configs", hint="download it first", where=source)
    return _from_path(Path(source))


def load_running(files: FileReader) -> KernelConfig:
    """The config of the kernel that runs where ``files`` come from.

    Raises InputError that lists every place tried.
    """
    try:
        release = files.read_file(_RELEASE, 256).decode("utf-8", "replace").strip()
    except OSError:
        release = ""
    if "/" in release:  # a name for files: never a way out of their folders
        release = ""
    tried = []
    for pattern in RUNNING:
        if "{release}" in pattern and not release:
            continue
        path = pattern.format(release=release)
        try:
            content = files.read_file(path, _MAX_HELD)
            return _from_bytes(
                content, path if files.name == "this machine" else f"{files.name}: {path}"
            )
        except FileNotFoundError:
            tried.append(f"{path} (not there)")
        except OSError as error:
            tried.append(f"{path} ({_why(error)})")
        except InputError as error:
            tried.append(f"{path} ({error.message})")
    kernel = f"kernel {release}" if release else "running kernel"
    raise InputError(
        f"no config of the {kernel} of {files.name} found; tried {', '.join(tried)}",
        hint="'modprobe configs' may offer /proc/config.gz; else name a config or a kernel image",
    )


def _from_path(path: Path) -> KernelConfig:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return _from_folder(path)
        if stat.S_ISREG(mode):
            return _from_file(path)
        if stat.S_ISFIFO(mode) and str(path).startswith(_OPEN_PIPES):
            with path.open("rb") as file:
                return _from_stream(file, str(path))
    except OSError as error:
        raise _unreadable(error, path) from error
    except ValueError as error:
        raise InputError("this is not a valid path", where=ascii(str(path))) from error
    raise InputError(
        f"this is {_special(mode)}, not a file",
        hint=f"pipe its content into embedkit and give '{STDIN}' as the source",
        where=str(path),
    )


def _from_file(path: Path) -> KernelConfig:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        head = os.read(descriptor, _HEAD)
        size = os.fstat(descriptor).st_size
        if not _is_plain(head):
            return _from_content(descriptor, max(size, len(head)), str(path))
        pieces = [head]
        missing = MAX_CONFIG + 1 - len(head)
        while missing > 0 and (piece := os.read(descriptor, min(missing, _PIECE))):
            pieces.append(piece)
            missing -= len(piece)
    finally:
        os.close(descriptor)
    return _plain(b"".join(pieces), str(path))


def _from_content(descriptor: int, size: int, name: str) -> KernelConfig:
    from embedkit.kernel import content
    from embedkit.kernel.stream import FileBlob

    if size == 0:
        raise InputError("it is empty", hint=CONFIG_HINT, where=name)
    if size > _MAX_FILE:
        limit = f"{_MAX_FILE >> 30} GiB"
        raise InputError(f"larger than {limit}: no kernel", hint=CONFIG_HINT, where=name)
    return _found(content.find(FileBlob(descriptor, size), name), name)


def _from_folder(folder: Path) -> KernelConfig:
    from embedkit.kernel import folders

    if not os.access(folder, os.R_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    found = folders.config_file(folder)
    if found is not None:
        return _from_path(found)
    tried = []
    for image in folders.images(folder):
        try:
            return _from_path(image)
        except EmbedkitError:
            tried.append(str(image.relative_to(folder)))
    raise folders.nothing_there(folder, tried)


def _from_stream(stream: BinaryIO, name: str) -> KernelConfig:
    """Reads to the end where that is near, so that every form can be read from a pipe."""
    pieces = []
    size = 0
    try:
        while size <= _MAX_HELD and (piece := stream.read(_PIECE)):
            pieces.append(piece)
            size += len(piece)
    except OSError as error:
        raise InputError(f"it cannot be read: {_why(error)}", where=name) from error
    if size <= _MAX_HELD:
        return _from_bytes(b"".join(pieces), name)
    from embedkit.kernel import content

    return _found(content.find_in_stream(_rest(pieces, stream), name), name)


def _rest(pieces: list[bytes], stream: BinaryIO) -> Iterator[bytes]:
    while pieces:
        yield pieces.pop(0)
    while piece := stream.read(_PIECE):
        yield piece


def _from_bytes(content: bytes, name: str) -> KernelConfig:
    if _is_plain(content[:_HEAD]) or not content:
        return _plain(content, name)
    from embedkit.kernel.content import find
    from embedkit.kernel.stream import MemoryBlob

    return _found(find(MemoryBlob(content), name), name)


def _is_plain(head: bytes) -> bool:
    """The quick look that spares the usual case every other."""
    return (
        not head.startswith(_PACKED) and b"\0" not in head and CONFIG_LINE.search(head) is not None
    )


def _plain(content: bytes, name: str) -> KernelConfig:
    try:
        check_text(content)
    except InputError as error:
        error.where = name
        raise
    return KernelConfig.from_bytes(content, name)


def _found(found: Found, name: str) -> KernelConfig:
    origin = f"{name} ({' → '.join(found.way)})" if found.way else name
    return KernelConfig.from_bytes(found.content, origin)


def _unreadable(error: OSError, path: Path) -> EmbedkitError:
    if isinstance(error, PermissionError):
        return LackError("it may not be read", hint="check its permissions", where=str(path))
    if error.errno == errno.ELOOP:
        return InputError("symbolic links that lead in a circle", where=str(path))
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        what = "a symbolic link to nothing" if path.is_symlink() else "no such file or folder"
        return InputError(what, where=str(path))
    return InputError(f"it cannot be read: {_why(error)}", where=str(path))


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _special(mode: int) -> str:
    for test, what in (
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISCHR, "a character device"),
        (stat.S_ISBLK, "a block device"),
        (stat.S_ISSOCK, "a socket"),
    ):
        if test(mode):
            return what
    return "a special file"
