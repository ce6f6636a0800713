"""A small read-only registry over a static export, for the bench and for boards in a lab.

It reads files and answers GET and HEAD, nothing else: no upload, no listing of folders, no
path that is not a registry's. Ranges work, so that a broken download goes on.
"""

from __future__ import annotations

import http.server
import os
import re
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO

from embedkit.errors import EmbedkitError, LackError
from embedkit.oci import digest as digests
from embedkit.oci import reference
from embedkit.oci.content import open_regular
from embedkit.oci.documents import sniff_media_type
from embedkit.oci.limits import DEFAULT
from embedkit.oci.static import documents

_ROUTE = re.compile(
    r"/v2/(?P<path>[a-z0-9/._-]{1,255})/(?P<kind>manifests|blobs|tags)/(?P<name>[^/]+)"
)
_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{0,18})")
_CLIENT_SECONDS = 60.0
_MAX_CLIENTS = 64


class Server(http.server.ThreadingHTTPServer):
    """Serves ``folder``; ``log`` gets one line a request. Stop it with shutdown()."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(
        self, folder: Path, address: str, port: int, log: Callable[[str], None] | None = None
    ) -> None:
        documents(folder)  # refuses what is no export before the port is taken
        self.folder = folder
        self.log = log or (lambda line: None)
        self.requests = 0
        self._slots = threading.BoundedSemaphore(_MAX_CLIENTS)
        if ":" in address:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((address, port), _Handler)
        except OSError as error:
            raise LackError(
                f"cannot listen on {address} port {port}: {error.strerror}",
                hint="--listen takes another address and port",
            ) from error

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        self._slots.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is not our error."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "embedkit"
    sys_version = ""
    timeout = _CLIENT_SECONDS

    def handle_one_request(self) -> None:
        # Docker tries TLS first; only an HTTP answer to its hello makes it go on with HTTP.
        peek = getattr(self.rfile, "peek", None)
        if peek is not None and peek(1)[:1] == b"\x16":
            self.wfile.write(
                b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            self.close_connection = True
            return
        super().handle_one_request()

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, format: str, *args: Any) -> None:
        self.server.requests += 1
        self.server.log(f"{self.address_string()} {format % args}")

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        if path in ("/v2/", "/v2"):
            self._bytes(b"{}", "application/json", {}, body)
            return
        match = _ROUTE.fullmatch(path)
        if match is None or not reference.is_path(match["path"]):
            self._missing("NAME_UNKNOWN", body)
            return
        name = match["name"].replace("%3A", ":").replace("%3a", ":")
        if match["kind"] == "blobs" and digests.is_digest(name):
            self._blob(match["path"], name, body)
        elif match["kind"] == "manifests" and (digests.is_digest(name) or reference.is_tag(name)):
            self._manifest(match["path"], name, body)
        elif match["kind"] == "tags" and name == "list":
            self._tags(match["path"], body)
        else:
            self._missing("UNSUPPORTED", body)

    def _open(self, *parts: str) -> BinaryIO | None:
        try:
            return open_regular(self.server.folder.joinpath("v2", *parts), "the file")
        except EmbedkitError:
            return None

    def _manifest(self, path: str, name: str, body: bool) -> None:
        file = self._open(path, "manifests", name)
        if file is None:
            self._missing("MANIFEST_UNKNOWN", body)
            return
        with file:
            content = file.read(DEFAULT.document + 1)
        try:
            media_type = sniff_media_type(content, name)
        except EmbedkitError:
            self._missing("MANIFEST_INVALID", body)
            return
        digest = name if digests.is_digest(name) else digests.of(content)
        self._bytes(content, media_type, {"Docker-Content-Digest": digest}, body)

    def _tags(self, path: str, body: bool) -> None:
        file = self._open(path, "tags", "list")
        if file is None:
            self._missing("NAME_UNKNOWN", body)
            return
        with file:
            self._bytes(file.read(DEFAULT.document), "application/json", {}, body)

    def _blob(self, path: str, digest: str, body: bool) -> None:
        file = self._open(path, "blobs", digest)
        if file is None:
            self._missing("BLOB_UNKNOWN", body)
            return
        with file:
            size = os.fstat(file.fileno()).st_size
            begin, end = 0, size
            wanted = _RANGE.fullmatch(self.headers.get("Range", ""))
            if wanted is not None:
                begin = int(wanted[1])
                end = min(int(wanted[2]) + 1, size) if wanted[2] else size
                if begin >= end:
                    self._refuse_range(size)
                    return
            self.send_response(HTTPStatus.PARTIAL_CONTENT if wanted else HTTPStatus.OK)
            if wanted is not None:
                self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{size}")
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(end - begin))
            self.send_header("Docker-Content-Digest", digest)
            self.send_header("Accept-Ranges", "bytes")
            self.end_headers()
            if body:
                self._send_file(file, begin, end)

    def _send_file(self, file: BinaryIO, begin: int, end: int) -> None:
        self.wfile.flush()
        while begin < end:
            sent = os.sendfile(self.connection.fileno(), file.fileno(), begin, end - begin)
            if sent == 0:
                self.close_connection = True
                return
            begin += sent

    def _refuse_range(self, size: int) -> None:
        self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
        self.send_header("Content-Range", f"bytes */{size}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _missing(self, code: str, body: bool) -> None:
        content = b'{"errors":[{"code":"%s","message":"not here"}]}' % code.encode()
        self._bytes(content, "application/json", {}, body, HTTPStatus.NOT_FOUND)

    def _bytes(
        self,
        content: bytes,
        media_type: str,
        headers: dict[str, str],
        body: bool,
        status: HTTPStatus = HTTPStatus.OK,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content)
