"""Fetching archives from a local mirror: resumed, compared, pinned, and over TLS unless told."""

from __future__ import annotations

import http.server
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from embedkit import cli
from embedkit.docker import fetch as fetching
from embedkit.docker import proofelf
from embedkit.docker.bundle import NEEDED
from embedkit.docker.fetch import Source, fetch, versions
from embedkit.errors import InputError, LackError

CONTENT = bytes(range(256)) * 8192


def archive(arch: str) -> bytes:
    """A complete bundle of the smallest programs."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name in NEEDED:
            content = proofelf.program(arch, name.encode(), 0)
            info = tarfile.TarInfo(f"docker/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return made.getvalue()


class Mirror(http.server.ThreadingHTTPServer):
    """Docker's layout: an index page, and archives that may be cut off, changed or moved."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.etag = '"one"'
        self.cuts: list[int] = []
        self.ranges: list[str | None] = []
        self.redirect = ""

    @property
    def source(self) -> Source:
        return Source(f"http://127.0.0.1:{self.server_address[1]}/stable", insecure=True)


class Handler(http.server.BaseHTTPRequestHandler):
    server: Mirror

    def log_message(self, *words: Any) -> None:
        pass

    def do_GET(self) -> None:
        mirror = self.server
        if mirror.redirect:
            self.send_response(302)
            self.send_header("Location", mirror.redirect)
            self.end_headers()
        elif self.path == "/stable/armhf/":
            page = b"".join(
                b'<a href="docker-%s.tgz">x</a>' % v
                for v in (b"27.0.0", b"28.5.1", b"28.10.0", b"29.0.0-rc.1")
            )
            self._send(page, 200, len(page))
        elif self.path.startswith("/stable/armhf/docker-28."):
            asked = self.headers.get("Range")
            mirror.ranges.append(asked)
            start = 0
            if asked and self.headers.get("If-Range") == mirror.etag:
                start = int(asked.removeprefix("bytes=").rstrip("-"))
            rest = mirror.content[start:]
            cut = mirror.cuts.pop(0) if mirror.cuts else len(rest)
            self._send(rest[:cut], 206 if start else 200, len(rest))
        else:
            self.send_error(404)

    def _send(self, data: bytes, code: int, length: int) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(length))
        self.send_header("ETag", self.server.etag)
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with Mirror() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_fetched_once_and_then_cached(mirror: Mirror, tmp_path: Path) -> None:
    first = fetch(mirror.source, "armhf", "28.5.1", tmp_path)
    assert first.path.read_bytes() == CONTENT
    assert (first.cached, first.first, first.sent_bytes) == (False, True, len(CONTENT))
    again = fetch(mirror.source, "armv7", "28.5.1", tmp_path)
    assert (again.cached, again.sent_bytes, again.path) == (True, 0, first.path)
    assert len(mirror.ranges) == 1


def test_versions_are_ordered_by_number_and_the_newest_release_is_taken(
    mirror: Mirror, tmp_path: Path
) -> None:
    assert versions(mirror.source, "armhf") == ("29.0.0-rc.1", "28.10.0", "28.5.1", "27.0.0")
    assert fetch(mirror.source, "armhf", None, tmp_path).path.name == "docker-28.10.0.tgz"


def test_goes_on_where_it_was_cut_off(mirror: Mirror, tmp_path: Path) -> None:
    mirror.cuts = [100_000, 300_000]
    got = fetch(mirror.source, "armhf", "28.5.1", tmp_path)
    assert got.path.read_bytes() == CONTENT
    assert got.sent_bytes == len(CONTENT)
    assert mirror.ranges == [None, "bytes=100000-", "bytes=400000-"]


def test_goes_on_in_another_run(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_TRIES", 1)
    mirror.cuts = [100_000]
    with pytest.raises(LackError, match="broke off"):
        fetch(mirror.source, "armhf", "28.5.1", tmp_path)
    assert not list(tmp_path.rglob("*.tgz"))
    got = fetch(mirror.source, "armhf", "28.5.1", tmp_path)
    assert (got.resumed_at_bytes, got.path.read_bytes()) == (100_000, CONTENT)


def test_begins_anew_where_the_file_changed_meanwhile(mirror: Mirror, tmp_path: Path) -> None:
    mirror.cuts = [100_000]

    def change(*_: object) -> None:
        mirror.content, mirror.etag = CONTENT[::-1], '"two"'

    class Progress:
        def start(self, *words: object, **more: object) -> Any:
            return self

        def advance(self, amount: int) -> None:
            change()

        def finish(self) -> None:
            pass

        def say(self, message: str) -> None:
            pass

    got = fetch(mirror.source, "armhf", "28.5.1", tmp_path, progress=Progress())
    assert got.path.read_bytes() == CONTENT[::-1]


def test_another_digest_than_the_given_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not the one given"):
        fetch(mirror.source, "armhf", "28.5.1", tmp_path, sha256="0" * 64)
    assert not list(tmp_path.rglob("*.tgz")) and not list(tmp_path.rglob("*.part"))


def test_a_file_that_changed_since_the_first_time_is_refused(
    mirror: Mirror, tmp_path: Path
) -> None:
    fetch(mirror.source, "armhf", "28.5.1", tmp_path).path.unlink()
    mirror.content = b"something else"
    with pytest.raises(InputError, match="the first time"):
        fetch(mirror.source, "armhf", "28.5.1", tmp_path)


def test_a_damaged_cache_is_fetched_again(mirror: Mirror, tmp_path: Path) -> None:
    path = fetch(mirror.source, "armhf", "28.5.1", tmp_path).path
    path.write_bytes(b"damaged")
    assert fetch(mirror.source, "armhf", "28.5.1", tmp_path).path.read_bytes() == CONTENT


def test_plain_http_only_when_told(mirror: Mirror, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="plain http"):
        fetch(Source(mirror.source.mirror), "armhf", "28.5.1", tmp_path)
    assert mirror.ranges == []


def test_https_is_not_redirected_to_http() -> None:
    import urllib.request
    from email.message import Message

    handler = fetching._SecureRedirects()
    request = urllib.request.Request("https://mirror.example/x")
    with pytest.raises(InputError, match="redirects"):
        handler.redirect_request(request, None, 302, "", Message(), "http://mirror.example/y")  # type: ignore[arg-type]


@pytest.mark.parametrize("version", ["../../x", "1/2", "", "a", "1" * 60])
def test_versions_that_are_none_are_refused(version: str, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        fetch(Source("https://mirror.example"), "armhf", version, tmp_path)


def test_unknown_version_and_architecture_name_the_likely_one(
    mirror: Mirror, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"no Docker 27\.0\.1") as told:
        fetch(mirror.source, "armhf", "27.0.1", tmp_path)
    assert told.value.hint and "27.0.0" in told.value.hint
    with pytest.raises(InputError) as told:
        fetch(mirror.source, "armfh", "27.0.0", tmp_path)
    assert told.value.hint and "armhf" in told.value.hint


def test_a_mirror_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LackError, match="cannot be reached"):
        fetch(Source("http://127.0.0.1:9/", insecure=True), "armhf", "28.5.1", tmp_path)


def test_the_command_tells_where_it_is_and_what_it_is(
    mirror: Mirror,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    mirror.content = archive("arm")
    words = ["bundle", "fetch", "--arch", "armhf", "--version", "28.5.1", "--mirror"]
    words += [mirror.source.mirror, "--insecure-http", "--json"]
    assert cli.main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["data"]["arch"] == "arm" and told["data"]["version"] == "28.5.1"
