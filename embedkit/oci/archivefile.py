"""An archive file opened for reading members in place, without unpacking it anywhere."""

from __future__ import annotations

import os
import posixpath
import tempfile
from pathlib import Path
from typing import BinaryIO, cast

from embedkit.errors import InputError, LackError
from embedkit.oci import compression
from embedkit.oci.content import FileSlice, open_regular
from embedkit.oci.limits import CHUNK, DEFAULT, Limits
from embedkit.oci.mediatypes import Compression
from embedkit.oci.tarread import Member, TarReader

_MAX_LINKS = 8


class ArchiveFile:
    """A tar archive, plain or compressed as a whole, as a table of its members.

    A compressed archive is unpacked once into an unnamed temporary file. Members are found
    by their path; links between members are followed inside the archive only.
    """

    def __init__(self, path: Path, *, limits: Limits = DEFAULT) -> None:
        self.path = path
        self.where = str(path)
        self._file = open_regular(path, "the archive")
        try:
            head = self._file.read(compression.HEAD)
            self._file.seek(0)
            kind = compression.sniff(head)
            if kind != "none":
                self._file = unpacked(self._file, kind, self.where, limits)
            self._members = self._scan(limits)
        except BaseException:
            self._file.close()
            raise

    def _scan(self, limits: Limits) -> dict[str, Member]:
        reader = TarReader(
            self._file,
            self.where,
            seekable=True,
            max_members=limits.archive_members,
            limits=limits,
        )
        # As tar does: of two members with one name, the later counts.
        return {member.path: member for member in reader}

    def __contains__(self, path: str) -> bool:
        return path in self._members

    def member(self, path: str) -> Member:
        """The regular file at ``path``, through links. Raises InputError where there is none."""
        asked = path
        for _ in range(_MAX_LINKS):
            found = self._members.get(posixpath.normpath(path).lstrip("/"))
            if found is None:
                break
            if found.kind == "file":
                if found.sparse:
                    raise InputError(f"the member '{asked}' is sparse", where=self.where)
                return found
            if found.kind == "symlink":
                path = posixpath.join(posixpath.dirname(found.path), found.link)
            elif found.kind == "link":
                path = found.link
            else:
                break
        raise InputError(f"the archive has no file '{asked[:200]}'", where=self.where)

    def open(self, path: str) -> BinaryIO:
        """The data of the member at ``path``."""
        found = self.member(path)
        return cast(BinaryIO, FileSlice(self._file.fileno(), found.offset, found.size))

    def read(self, path: str, limit: int) -> bytes:
        """All data of a small member. Raises InputError where it exceeds ``limit`` bytes."""
        found = self.member(path)
        if found.size > limit:
            raise InputError(
                f"'{path}' has {found.size} bytes; more than {limit} are not accepted",
                where=self.where,
            )
        content = os.pread(self._file.fileno(), found.size, found.offset)
        if len(content) != found.size:
            raise InputError(f"'{path}' is cut off", where=self.where)
        return content

    def close(self) -> None:
        self._file.close()


def unpacked(file: BinaryIO, kind: Compression, where: str, limits: Limits) -> BinaryIO:
    target = tempfile.TemporaryFile(prefix="embedkit-")  # noqa: SIM115 (the caller closes it)
    try:
        with compression.decompressed(file, kind, where, limits=limits) as stream:
            while content := stream.read(CHUNK):
                target.write(content)
        target.flush()
    except OSError as error:
        target.close()
        raise LackError(
            f"cannot unpack {where} into a temporary file: {error.strerror}",
            hint="TMPDIR names another folder for it",
        ) from error
    except BaseException:
        target.close()
        raise
    return cast(BinaryIO, target)
