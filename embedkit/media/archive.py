"""Reads tar archives, compressed or not, from front to back."""

from __future__ import annotations

import contextlib
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from embedkit.errors import InputError


@contextlib.contextmanager
def open_plain(path: Path) -> Iterator[IO[bytes]]:
    """The decompressed bytes of ``path`` (plain, gzip, bzip2, xz or zstd, told by content).

    Raises InputError for a stream that is damaged or cut short.
    """
    import bz2
    import gzip
    import lzma
    import zlib

    import zstandard

    try:
        with contextlib.ExitStack() as stack:
            raw: IO[bytes] = stack.enter_context(path.open("rb"))
            magic = raw.read(6)
            raw.seek(0)
            if magic.startswith(b"\x1f\x8b"):
                plain: object = gzip.GzipFile(fileobj=raw)
            elif magic.startswith(b"\xfd7zXZ"):
                plain = lzma.LZMAFile(raw)  # noqa: SIM115 - raw is closed, and that is all
            elif magic.startswith(b"BZh"):
                plain = bz2.BZ2File(raw)
            elif magic.startswith(b"\x28\xb5\x2f\xfd"):
                decoder = zstandard.ZstdDecompressor()
                plain = decoder.stream_reader(raw, read_across_frames=True)
            else:
                plain = raw
            yield cast(IO[bytes], plain)
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
        raise InputError(f"is not a readable tar archive: {error}", where=str(path)) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error}", where=str(path)) from error


@contextlib.contextmanager
def open_tar(path: Path) -> Iterator[tarfile.TarFile]:
    """A stream over the members of ``path``.

    Members come once, in their order: read a file's content before asking for the next.
    Raises InputError for what is no tar archive or is damaged or cut short.
    """
    with open_plain(path) as plain, tarfile.open(fileobj=plain, mode="r|") as archive:
        yield archive
