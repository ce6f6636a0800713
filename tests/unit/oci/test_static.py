"""The read-only server and the files of a static registry; names of images."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.oci_images import embedkit, programs

from embedkit.errors import InputError
from embedkit.oci import reference, static, static_config
from embedkit.oci.serve import Server


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    parts = programs(tmp_path / "p")
    embedkit("oci", "build", *parts.values(), "-t", "lab/hello:1", "-o", tmp_path / "x.tar")
    embedkit("oci", "static", "export", tmp_path / "out", tmp_path / "x.tar")
    (tmp_path / "secret").write_text("secret")
    return tmp_path / "out"


@pytest.fixture
def server(exported: Path) -> Iterator[Server]:
    made = Server(exported, "127.0.0.1", 0)
    threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def _ask(
    server: Server, path: str, method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    found = response.status, dict(response.headers), response.read()
    connection.close()
    return found


def test_every_document_is_served_as_what_it_is(server: Server, exported: Path) -> None:
    listed = static.documents(exported)
    assert len(listed) == 7
    for item in listed:
        status, headers, body = _ask(server, item.url_path)
        assert (status, len(body)) == (200, item.size)
        assert headers["Content-Type"] == item.media_type
        assert headers["Docker-Content-Digest"] == item.digest
        assert _ask(server, item.url_path, "HEAD")[2] == b""
    assert _ask(server, "/v2/")[0] == 200


def test_blobs_in_whole_and_in_part(server: Server, exported: Path) -> None:
    blob = next((exported / "v2/lab/hello/blobs").iterdir())
    content = blob.read_bytes()
    path = f"/v2/lab/hello/blobs/{blob.name}"
    assert _ask(server, path)[2] == content
    assert _ask(server, path.replace("sha256:", "sha256%3A"))[2] == content
    status, headers, body = _ask(server, path, Range="bytes=10-")
    assert (status, body) == (206, content[10:])
    assert headers["Content-Range"] == f"bytes 10-{len(content) - 1}/{len(content)}"
    assert _ask(server, path, Range="bytes=5-9")[2] == content[5:10]
    assert _ask(server, path, Range="bytes=999999-")[0] == 416


@pytest.mark.parametrize(
    "path",
    [
        "/../secret",
        "/v2/../../secret",
        "/v2/lab/hello/blobs/../../../../../secret",
        "/v2/..%2f..%2fsecret",
        "/v2/lab/hello/manifests/..",
        "/v2/lab/../lab/hello/manifests/1",
        "/v2//lab/hello/manifests/1",
        "/v2/lab/hello/blobs/sha256:zz",
        "/v2/lab/hello/uploads/",
        "/etc/passwd",
        "/",
    ],
)
def test_nothing_else_is_served(server: Server, path: str) -> None:
    status, _, body = _ask(server, path)
    assert status == 404
    assert b"secret" not in body


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH"])
def test_it_is_read_only(server: Server, method: str) -> None:
    assert _ask(server, "/v2/lab/hello/manifests/1", method)[0] == 501


def test_a_tls_hello_gets_an_answer_in_http(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64))
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")


def test_a_second_export_adds_to_the_first(exported: Path, tmp_path: Path) -> None:
    embedkit("oci", "static", "export", exported, tmp_path / "x.tar", "-t", "lab/hello:2")
    tags = json.loads((exported / "v2/lab/hello/tags/list").read_text())
    assert tags == {"name": "lab/hello", "tags": ["1", "2"]}
    assert "/v2/lab/hello/manifests/2" in (exported / "_headers").read_text()


def test_every_server_s_file_names_every_document(exported: Path) -> None:
    listed = static.documents(exported)
    for make in (static_config.apache, static_config.headers_file, static_config.s3):
        text = make(listed)
        assert all(item.url_path in text and item.media_type in text for item in listed)
    for make_in in (static_config.nginx, static_config.caddy):
        text = make_in(exported, listed)
        assert all(item.url_path in text and item.digest in text for item in listed)


def test_a_changed_manifest_is_noticed(exported: Path) -> None:
    manifests = exported / "v2/lab/hello/manifests"
    victim = next(path for path in manifests.iterdir() if path.name.startswith("sha256:"))
    victim.write_bytes(victim.read_bytes().replace(b"}", b"} ", 1))
    with pytest.raises(InputError, match="another digest"):
        static.documents(exported)


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("app", "docker.io/library/app:latest"),
        ("me/app:1", "docker.io/me/app:1"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/a/b:c", "localhost:5000/a/b:c"),
        ("registry.example.com/app", "registry.example.com/app:latest"),
        ("[::1]:5000/app:1", "[::1]:5000/app:1"),
        ("app@sha256:" + "0" * 64, "docker.io/library/app@sha256:" + "0" * 64),
    ],
)
def test_references(text: str, full: str) -> None:
    assert str(reference.parse(text)) == full
    assert str(reference.parse(full)) == full


@pytest.mark.parametrize(
    "text", ["", ":", "/", "a//b", "App:1", "a:b:c", "x:" + "t" * 129, "a@sha256:0", "a/../b", "-a"]
)
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(InputError):
        reference.parse(text)


@given(st.text(max_size=60))
def test_no_text_makes_it_fail(text: str) -> None:
    try:
        found = reference.parse(text)
    except InputError:
        return
    assert reference.parse(str(found)) == found
