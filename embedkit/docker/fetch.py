"""Fetches Docker's static archives: from Docker's own download layout, or a mirror of it.

The layout is ``BASE/ARCH/docker-VERSION.tgz`` with an index page for each ARCH. Docker
publishes no checksums there, so the digest is the user's to give; without one, the first
download's is kept beside the file and a later download that differs is refused.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from embedkit.errors import EmbedkitError, InputError, LackError, did_you_mean
from embedkit.files import write_atomically
from embedkit.progress import NullProgress, Progress

DEFAULT_MIRROR = "https://download.docker.com/linux/static/stable"
# What Docker calls the folders (uname -m, but for 32-bit ARM), and what users call them.
ARCHES = {
    "x86_64": "x86_64", "amd64": "x86_64",
    "aarch64": "aarch64", "arm64": "aarch64",
    "armhf": "armhf", "armv7": "armhf", "arm": "armhf",
    "armel": "armel", "armv6": "armel",
    "ppc64le": "ppc64le", "s390x": "s390x",
}  # fmt: skip
_VERSION = re.compile(r"[0-9][0-9A-Za-z.+~-]{0,40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHUNK = 256 << 10
_INDEX_LIMIT_BYTES = 4 << 20
_ARCHIVE_LIMIT_BYTES = 1 << 30
_SECONDS = 60.0
_TRIES = 5


@dataclass(frozen=True)
class Fetched:
    """An archive in the cache. ``first`` says that nothing was there to compare it with."""

    path: Path
    url: str
    sha256: str
    size_bytes: int
    sent_bytes: int
    cached: bool
    resumed_at_bytes: int
    first: bool


@dataclass(frozen=True)
class Source:
    """Where from. ``insecure`` allows plain http, which anybody on the way can change."""

    mirror: str = DEFAULT_MIRROR
    insecure: bool = False

    def folder(self, arch: str) -> str:
        """The URL of an architecture's folder. Raises InputError."""
        scheme = urlsplit(self.mirror).scheme
        if scheme not in ("https", "http"):
            raise InputError(f"the mirror '{self.mirror}' is not an http(s) URL")
        if scheme == "http" and not self.insecure:
            raise InputError(
                "the mirror is plain http: anybody on the way can change what arrives",
                where=self.mirror,
                hint="use https, or give --insecure-http and a --sha256",
            )
        if arch not in ARCHES:
            raise InputError(
                f"Docker has no static archives for '{arch}'",
                hint=did_you_mean(arch, ARCHES)
                or f"known: {', '.join(dict.fromkeys(ARCHES.values()))}",
            )
        return f"{self.mirror.rstrip('/')}/{ARCHES[arch]}"


def versions(source: Source, arch: str) -> tuple[str, ...]:
    """What the mirror's index page lists, newest first. Raises LackError, InputError."""
    url = f"{source.folder(arch)}/"
    with _open(url, source, {}) as answer:
        page = answer.read(_INDEX_LIMIT_BYTES).decode("utf-8", "replace")
    found = set(re.findall(r"docker-(\d[\w.+~-]{0,40}?)\.tgz", page))
    return tuple(sorted(found, key=_order, reverse=True))


def _order(version: str) -> list[tuple[int, int, str]]:
    """Numbers by their value; a release after its candidates (27.0.0-rc.1 < 27.0.0)."""
    parts = re.findall(r"\d+|[a-z]+", version)
    key = [(2, int(part), "") if part.isdigit() else (0, 0, part) for part in parts]
    return [*key, (1, 0, "")]


def fetch(
    source: Source,
    arch: str,
    version: str | None,
    cache: Path,
    *,
    sha256: str | None = None,
    progress: Progress | None = None,
) -> Fetched:
    """The archive of ``version`` (None: the newest listed), in ``cache``.

    What is there already is not fetched again, what was cut off is gone on with. Raises
    InputError where the digest differs or there is no such version, LackError where the
    mirror cannot be reached.
    """
    folder = source.folder(arch)
    if sha256 is not None and not _SHA256.fullmatch(sha256):
        raise InputError("a sha256 has 64 hexadecimal digits")
    if version is None:
        listed = versions(source, arch)
        version = next((one for one in listed if "-rc" not in one and "-beta" not in one), None)
        if version is None:
            raise InputError("the mirror lists no version", where=f"{folder}/")
    if not _VERSION.fullmatch(version):
        raise InputError(f"'{version}' is not a version")
    url = f"{folder}/docker-{version}.tgz"
    place = cache / hashlib.sha256(folder.encode()).hexdigest()[:12]
    path = place / ARCHES[arch] / f"docker-{version}.tgz"
    path.parent.mkdir(parents=True, exist_ok=True)
    pin = path.with_suffix(".tgz.sha256")
    pinned = pin.read_text().strip() if pin.exists() else None
    if path.exists():
        digest = _digest(path)
        if digest == (sha256 or pinned or digest):
            return Fetched(path, url, digest, path.stat().st_size, 0, True, 0, pinned is None)
        if sha256 is None:
            path.unlink()  # damaged since: its own record says so
    download = _Download(source, url, path.with_suffix(".tgz.part"), progress or NullProgress())
    try:
        digest = download.all()
    except _NotThere:
        raise _no_such_version(source, arch, version, url) from None
    wanted = sha256 or pinned
    if wanted is not None and digest != wanted:
        download.part.unlink(missing_ok=True)
        whose = "the one given" if sha256 else "what this mirror sent the first time"
        raise InputError(
            f"the archive's sha256 is {digest} and not {whose}, {wanted}",
            where=url,
            hint="do not use it; ask for the right digest where you trust the answer",
        )
    write_atomically(pin, f"{digest}\n".encode())
    download.part.replace(path)
    download.tag.unlink(missing_ok=True)
    size = path.stat().st_size
    return Fetched(
        path, url, digest, size, download.sent_bytes, False, download.resumed_at, wanted is None
    )


def _no_such_version(source: Source, arch: str, version: str, url: str) -> InputError:
    try:
        listed = versions(source, arch)
    except EmbedkitError:
        listed = ()
    guess = did_you_mean(version, listed)
    newest = f"the newest is {listed[0]}" if listed else None
    return InputError(f"there is no Docker {version} for {ARCHES[arch]}", where=url,
                      hint=guess or newest)  # fmt: skip


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _NotThere(Exception):
    pass


class _Download:
    """One file, over as many connections as it takes."""

    def __init__(self, source: Source, url: str, part: Path, progress: Progress) -> None:
        self._source = source
        self._url = url
        self.part = part
        # What the server called this very content: only of the same one may the rest be asked.
        self.tag = part.with_suffix(".tag")
        self._progress = progress
        self.sent_bytes = 0
        self.resumed_at = 0

    def all(self) -> str:
        """The digest of the whole. Raises _NotThere, LackError, InputError."""
        task = None
        for trial in range(_TRIES):
            at = self.part.stat().st_size if self.part.exists() else 0
            tag = self.tag.read_text() if at and self.tag.exists() else ""
            headers = {"Range": f"bytes={at}-", "If-Range": tag} if tag else {}
            before = self.sent_bytes
            try:
                with _open(self._url, self._source, headers) as answer:
                    at = at if answer.status == 206 else 0
                    total = at + int(answer.headers.get("Content-Length") or 0)
                    if task is None:
                        self.resumed_at = at
                        task = self._progress.start(
                            self._url.rpartition("/")[2], total=total or None, unit="bytes"
                        )
                        task.advance(at)
                    self.tag.write_text(_tag(answer.headers))
                    with self.part.open("r+b" if at else "wb") as file:
                        file.seek(at)
                        whole = self._copy(answer, file, task.advance, total)
                if whole:
                    task.finish()
                    return _digest(self.part)
            except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
                if trial + 1 == _TRIES:
                    raise LackError(f"the download broke off: {error}", where=self._url) from error
            if self.sent_bytes == before and trial + 1 == _TRIES:
                break
        raise LackError(
            f"the download broke off {_TRIES} times",
            where=self._url,
            hint="run it again: it goes on where it stopped",
        )

    def _copy(
        self,
        answer: http.client.HTTPResponse,
        file: IO[bytes],
        advance: object,
        total: int,
    ) -> bool:
        while chunk := answer.read1(_CHUNK):
            file.write(chunk)
            self.sent_bytes += len(chunk)
            if file.tell() > _ARCHIVE_LIMIT_BYTES:
                raise InputError("the file is far too big for a Docker archive", where=self._url)
            assert callable(advance)
            advance(len(chunk))
        file.flush()
        os.fsync(file.fileno())
        return not total or file.tell() == total


def _tag(headers: Message | Mapping[str, str]) -> str:
    """A strong validator (RFC 9110, 13.1.5), or the date; empty where the server gives none."""
    etag = headers.get("ETag") or ""
    if etag and not etag.startswith("W/"):
        return str(etag)
    return str(headers.get("Last-Modified") or "")


class _SecureRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if urlsplit(req.full_url).scheme == "https" and urlsplit(newurl).scheme != "https":
            raise InputError("the mirror redirects from https to plain http", where=newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(url: str, source: Source, headers: dict[str, str]) -> http.client.HTTPResponse:
    del source
    opener = urllib.request.build_opener(_SecureRedirects)
    request = urllib.request.Request(url, headers={"User-Agent": "embedkit", **headers})
    try:
        answer = opener.open(request, timeout=_SECONDS)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 404:
                raise _NotThere from None
            if error.code == 416:
                raise ConnectionError("the server does not know the rest of it") from None
            raise LackError(f"the mirror answered {error.code} {error.reason}", where=url) from None
    except urllib.error.URLError as error:
        raise LackError(
            f"the mirror cannot be reached: {error.reason}", where=url,
            hint="fetch the archive elsewhere and give it as --bundle FILE",
        ) from error  # fmt: skip
    assert isinstance(answer, http.client.HTTPResponse)
    return answer
