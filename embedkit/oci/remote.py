"""Repositories of registries as stores and sinks."""

from __future__ import annotations

import io
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, cast

from embedkit.errors import InputError, TargetError
from embedkit.oci import digest as digests
from embedkit.oci import http as web
from embedkit.oci import mediatypes
from embedkit.oci.content import Blob
from embedkit.oci.documents import Descriptor, sniff_media_type
from embedkit.oci.limits import CHUNK
from embedkit.oci.reference import Reference
from embedkit.oci.registry import Client, NotFound
from embedkit.oci.sink import Written
from embedkit.oci.source import Root, Source
from embedkit.oci.streams import Pulled

UPLOAD_PIECE = 64 << 20
"""Blobs above this size go up in pieces, so that a cut connection costs one piece."""


_KEPT_SIZE = 256 << 10
_KEPT_COUNT = 256


class RepositoryStore:
    """The content of one repository."""

    def __init__(self, client: Client, path: str) -> None:
        self.client = client
        self.path = path
        self.documents: dict[str, bytes] = {}
        self._scope = f"repository:{path}:pull"

    @property
    def where(self) -> str:
        return f"{self.client.host}/{self.path}"

    def open(self, descriptor: Descriptor) -> BinaryIO:
        if descriptor.digest in self.documents:
            return io.BytesIO(self.documents[descriptor.digest])
        if descriptor.media_type in (*mediatypes.INDEXES, *mediatypes.MANIFESTS):
            content, _, _ = self.client.manifest(self.path, descriptor.digest)
            # A manifest is read more than once; each reading checks it anew.
            if len(content) <= _KEPT_SIZE and len(self.documents) < _KEPT_COUNT:
                self.documents[descriptor.digest] = content
            return io.BytesIO(content)
        return cast(BinaryIO, _Download(self.client, self.path, descriptor))

    def file(self, descriptor: Descriptor) -> Path | None:
        return None

    def close(self) -> None:
        self.client.close()


class _Download(Pulled):
    """A blob's bytes; a connection that breaks is taken up again where it broke."""

    def __init__(self, client: Client, path: str, descriptor: Descriptor) -> None:
        super().__init__()
        self._client = client
        self._path = f"/v2/{path}/blobs/{descriptor.digest}"
        self._scope = f"repository:{path}:pull"
        self._size = descriptor.size
        self._at = 0
        self._failures = 0
        self._body: web.Body | None = None

    def read(self, size: int = -1, /) -> bytes:
        return self._client.http.retry(lambda: self._try(size if size >= 0 else CHUNK))

    def _try(self, size: int) -> bytes:
        if self._body is None:
            self._body = self._connect()
        try:
            content = self._body.read(size)
        except web.Temporary:
            self._failures += 1
            self._body.close()
            self._body = None
            if self._failures > 20:
                raise TargetError(
                    "the download broke off 20 times", where=self._client.host
                ) from None
            raise
        self._at += len(content)
        return content

    def _connect(self) -> web.Body:
        headers = {"Range": f"bytes={self._at}-"} if self._at else {}
        response, url = self._client.request(
            "GET", self._path, self._scope, headers=headers, good=(200, 206), follow=True,
            tries=False,
        )  # fmt: skip
        body = web.Body(response, url)
        if self._at and response.status == 206:
            begin = re.match(r"bytes (\d{1,18})-", response.headers.get("Content-Range", ""))
            if begin is None or int(begin.group(1)) != self._at:
                body.close()
                raise TargetError("the server sends another range than asked", where=url[:200])
        elif self._at:
            # The server knows no ranges: read again up to where we were.
            left = self._at
            while left and (piece := body.read(min(left, CHUNK))):
                left -= len(piece)
        return body

    def close(self) -> None:
        if self._body is not None:
            self._body.close()
        super().close()


def open_repository(client: Client, ref: Reference) -> Source:
    """The image that ``ref`` names, as a source.

    Raises NotFound where the registry lacks it, InputError where its answer is not what its
    digest says.
    """
    store = RepositoryStore(client, ref.path)
    content, media_type, stated = client.manifest(ref.path, ref.selector)
    found = digests.of(content)
    if ref.digest:
        digests.check(content, ref.digest, None, str(ref))
        found = ref.digest
    elif digests.is_digest(stated):
        digests.check(content, stated, None, str(ref))
    said = sniff_media_type(content, str(ref))
    if media_type not in (*mediatypes.INDEXES, *mediatypes.MANIFESTS):
        raise InputError(
            f"the server calls the manifest '{media_type[:60]}' instead of '{said}'",
            where=str(ref),
            hint="a static registry must send each manifest's own Content-Type",
        )
    if media_type != said:
        raise InputError(f"the server calls a '{said}' a '{media_type}'", where=str(ref))
    store.documents[found] = content
    return Source(store, (Root(str(ref), (Descriptor(media_type, found, len(content)),)),))


class RepositorySink:
    """Pushes into one repository: what is there is skipped, what a neighbour has is mounted."""

    def __init__(self, client: Client, ref: Reference, mount_from: Sequence[str] = ()) -> None:
        self.client = client
        self.ref = ref
        self.scratch = Path(tempfile.mkdtemp(prefix="embedkit-"))
        self.sent_bytes = 0
        self.skipped_bytes = 0
        self.mounted_bytes = 0
        self._mount_from = tuple(path for path in mount_from if path != ref.path)
        self._scope = f"repository:{ref.path}:pull,push"
        self._documents: dict[str, bytes] = {}
        self._lock = threading.Lock()

    @property
    def where(self) -> str:
        return f"{self.ref.host}/{self.ref.path}"

    def has(self, descriptor: Descriptor) -> bool:
        try:
            response, _ = self.client.request(
                "HEAD", f"/v2/{self.ref.path}/blobs/{descriptor.digest}", self._scope, follow=True
            )
        except NotFound:
            return False
        response.drain_conn()
        length = response.headers.get("Content-Length", "")
        return not length.isdigit() or int(length) == descriptor.size

    def put(self, blob: Blob) -> None:
        size = blob.descriptor.size
        if self.has(blob.descriptor):
            self._count("skipped_bytes", size)
            return
        location = ""
        for other in self._mount_from:
            location = self._begin(f"?mount={blob.descriptor.digest}&from={other}", other)
            if not location:
                self._count("mounted_bytes", size)
                return
        self._upload(blob, location or self._begin("", ""))
        self._count("sent_bytes", size)

    def _count(self, what: str, size: int) -> None:
        with self._lock:
            setattr(self, what, getattr(self, what) + size)

    def _begin(self, query: str, other: str) -> str:
        """Opens an upload; its URL, or "" where the registry mounted the blob instead."""
        scope = self._scope + (f" repository:{other}:pull" if other else "")
        response, url = self.client.request(
            "POST", f"/v2/{self.ref.path}/blobs/uploads/{query}", scope,
            headers={"Content-Length": "0"}, good=(201, 202),
        )  # fmt: skip
        response.drain_conn()
        if response.status == 201:
            return ""
        return web.absolute(url, response.headers.get("Location", ""))

    def _upload(self, blob: Blob, location: str) -> None:
        size = blob.descriptor.size
        if size > UPLOAD_PIECE:
            location = self._upload_pieces(blob, location)
            self._close_upload(location, blob, None)
        else:
            self._close_upload(location, blob, size)

    def _close_upload(self, location: str, blob: Blob, length: int | None) -> None:
        """PUT: with the whole content, or (``length`` None) after the pieces."""
        url = location + ("&" if "?" in location else "?") + f"digest={blob.descriptor.digest}"
        headers = {"Content-Type": "application/octet-stream"}
        try:
            self._put(url, headers, blob, length, tries=False)
        except web.Temporary:
            # An upload that broke off is over: only a new one is sure to be empty.
            if length is None:
                self._put(url, headers, blob, length, tries=True)
                return
            self.client.http.sleep(0.5)
            self.client.http.retry(
                lambda: self._put(
                    self._with_digest(self._begin("", ""), blob), headers, blob, length, tries=False
                )
            )

    @staticmethod
    def _with_digest(location: str, blob: Blob) -> str:
        return location + ("&" if "?" in location else "?") + f"digest={blob.descriptor.digest}"

    def _put(
        self, url: str, headers: dict[str, str], blob: Blob, length: int | None, *, tries: bool
    ) -> None:
        response, _ = self.client.request(
            "PUT", url, self._scope,
            headers=headers if length is not None else {**headers, "Content-Length": "0"},
            body=blob.open if length is not None else None,
            length=length, good=(201, 204), tries=tries,
        )  # fmt: skip
        response.drain_conn()

    def _upload_pieces(self, blob: Blob, location: str) -> str:
        """PATCH piece by piece; after a failure the registry is asked how far it is."""
        pieces = _Pieces(blob)
        try:
            return self._send_pieces(pieces, blob, location)
        finally:
            pieces.close()

    def _send_pieces(self, pieces: _Pieces, blob: Blob, location: str) -> str:
        at = 0
        failures = 0
        while at < blob.descriptor.size:
            end = min(at + UPLOAD_PIECE, blob.descriptor.size)
            try:
                response, url = self.client.request(
                    "PATCH", location, self._scope,
                    headers={
                        "Content-Type": "application/octet-stream",
                        "Content-Range": f"{at}-{end - 1}",
                    },
                    body=pieces.opener(at, end), length=end - at, good=(202, 204),
                    tries=False,
                )  # fmt: skip
                response.drain_conn()
                location = web.absolute(url, response.headers.get("Location", url))
                at = end
            except web.Temporary as error:
                failures += 1
                if failures >= self.client.http.tries:
                    raise TargetError(
                        f"the upload broke off {failures} times: {error.message}", where=error.where
                    ) from error
                self.client.http.sleep(0.5 * failures)
                at, location = self._progress(location, at)
        return location

    def _progress(self, location: str, sent: int) -> tuple[int, str]:
        """How many bytes the registry has of an upload, and where it goes on."""
        response, url = self.client.request("GET", location, self._scope, good=(204, 202))
        response.drain_conn()
        there = re.match(r"(?:bytes=)?0-(\d{1,18})$", response.headers.get("Range", ""))
        # "0-0" stands for nothing and for one byte alike; a byte sent twice is refused.
        at = int(there.group(1)) + 1 if there and int(there.group(1)) else 0
        if at > sent + UPLOAD_PIECE:
            raise TargetError("the registry says it has more than was sent", where=self.where)
        return at, web.absolute(url, response.headers.get("Location", url))

    def put_manifest(self, descriptor: Descriptor, content: bytes) -> None:
        self._documents[descriptor.digest] = content
        self._send_manifest(descriptor, descriptor.digest)

    def _send_manifest(self, descriptor: Descriptor, selector: str) -> None:
        content = self._documents[descriptor.digest]
        response, url = self.client.request(
            "PUT", f"/v2/{self.ref.path}/manifests/{selector}", self._scope,
            headers={"Content-Type": descriptor.media_type},
            body=lambda: content, length=len(content), good=(200, 201, 202),
        )  # fmt: skip
        response.drain_conn()
        stated = response.headers.get("Docker-Content-Digest", "")
        if stated and stated != descriptor.digest:
            raise TargetError(
                f"the registry stored {stated} instead of {descriptor.digest}", where=url[:200]
            )

    def finish(self, images: Sequence[Written]) -> None:
        for image in images:
            if self.ref.tag:
                self._send_manifest(image.root, self.ref.tag)
        self.abort()

    def abort(self) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)


class _Pieces:
    """A blob read once from front to end in pieces, and again from a piece that failed."""

    def __init__(self, blob: Blob) -> None:
        self.blob = blob
        self.stream: BinaryIO | None = None
        self.at = 0

    def opener(self, begin: int, end: int) -> Callable[[], BinaryIO]:
        return lambda: self._open(begin, end)

    def _open(self, begin: int, end: int) -> BinaryIO:
        if self.stream is None or self.at != begin:
            self.close()
            self.stream = self.blob.open()
            self.at = 0
            while self.at < begin and self._read(min(begin - self.at, CHUNK)):
                pass
        return cast(BinaryIO, _Piece(self, end))

    def _read(self, size: int) -> bytes:
        assert self.stream is not None
        content = self.stream.read(size)
        self.at += len(content)
        return content

    def read_until(self, end: int, size: int) -> bytes:
        if self.at < end:
            return self._read(min(size, end - self.at))
        # The read beyond the last byte is where the blob checks its digest.
        return self._read(1) if end == self.blob.descriptor.size else b""

    def close(self) -> None:
        if self.stream is not None:
            self.stream.close()
            self.stream = None


class _Piece(Pulled):
    """The bytes of a blob up to ``end``."""

    def __init__(self, pieces: _Pieces, end: int) -> None:
        super().__init__()
        self._pieces = pieces
        self._end = end

    def read(self, size: int = -1, /) -> bytes:
        return self._pieces.read_until(self._end, size if size > 0 else CHUNK)
