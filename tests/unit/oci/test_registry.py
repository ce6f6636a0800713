"""The registry client against a registry that misbehaves in every way that we could think of."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from support.oci_images import embedkit, programs

from embedkit.errors import EmbedkitError, TargetError
from embedkit.oci import auth, reference, registry
from embedkit.oci import http as web
from embedkit.oci.auth import Credentials
from embedkit.oci.content import open_blob, read_document, read_to_end
from embedkit.oci.documents import Descriptor
from embedkit.oci.registry import Access, Client
from embedkit.oci.remote import RepositoryStore, open_repository

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
Behave = Callable[["Handler"], bool]


class Registry(http.server.ThreadingHTTPServer):
    """Keeps blobs and manifests in memory; ``behave`` sees every request first."""

    daemon_threads = True

    def __init__(self, behave: Behave | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behave = behave
        self.content: dict[str, bytes] = {}
        self.types: dict[str, str] = {}
        self.uploads: dict[str, bytes] = {}
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def add(self, content: bytes) -> Descriptor:
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        self.content[f"/v2/x/blobs/{digest}"] = content
        return Descriptor("application/octet-stream", digest, len(content))

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    server: Registry
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        self.server.seen.append((self.command, self.path, dict(self.headers)))
        if self.server.behave and self.server.behave(self):
            return
        path = urlsplit(self.path).path
        if path == "/v2/":
            self.answer(200, b"{}")
        elif path in self.server.content:
            kind = self.server.types.get(path, "application/octet-stream")
            self.answer(200, self.server.content[path], Content_Type=kind)
        elif path in self.server.uploads:
            have = max(len(self.server.uploads[path]) - 1, 0)
            self.answer(204, Location=path, Range=f"0-{have}")
        else:
            self.answer(404, b'{"errors":[{"code":"NOPE","message":"not here"}]}')

    do_HEAD = do_GET
    do_DELETE = do_GET

    def do_POST(self) -> None:
        self.server.seen.append((self.command, self.path, dict(self.headers)))
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.server.behave and self.server.behave(self):
            return
        path = f"/upload/{len(self.server.uploads)}"
        self.server.uploads[path] = b""
        self.answer(202, Location=f"{path}?state=1")

    def do_PATCH(self) -> None:
        self.server.seen.append((self.command, self.path, dict(self.headers)))
        if self.server.behave and self.server.behave(self):
            return
        path = urlsplit(self.path).path
        self.server.uploads[path] += self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(202, Location=f"{path}?state=2")

    def do_PUT(self) -> None:
        self.server.seen.append((self.command, self.path, dict(self.headers)))
        if self.server.behave and self.server.behave(self):
            return
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if "/manifests/" in parts.path:
            self.server.content[parts.path] = body
            self.server.types[parts.path] = self.headers["Content-Type"]
        else:
            whole = self.server.uploads[parts.path] + body
            digest = parse_qs(parts.query)["digest"][0]
            if "sha256:" + hashlib.sha256(whole).hexdigest() != digest:
                self.answer(400, b'{"errors":[{"code":"DIGEST_INVALID","message":"no"}]}')
                return
            self.server.content[f"/v2/x/blobs/{digest}"] = whole
        self.answer(201)


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    monkeypatch.setattr(web.time, "sleep", lambda seconds: None)


@pytest.fixture
def make() -> Iterator[Callable[..., Registry]]:
    made: list[Registry] = []

    def start(behave: Behave | None = None) -> Registry:
        made.append(Registry(behave))
        return made[-1]

    yield start
    for server in made:
        server.shutdown()
        server.server_close()


def _client(server: Registry, credentials: Credentials | None = None, **more: Any) -> Client:
    http = web.Http(sleep=lambda seconds: None, **more)
    return Client(server.host, Access(credentials=credentials), http=http)


def _read(server: Registry, descriptor: Descriptor, **more: Any) -> bytes:
    with open_blob(RepositoryStore(_client(server, **more), "x"), descriptor) as stream:
        return read_to_end(stream)


def test_a_download_that_breaks_is_taken_up_where_it_broke(make: Any) -> None:
    content = bytes(range(256)) * 4000
    begins: list[int] = []

    def behave(handler: Handler) -> bool:
        if "/blobs/" not in handler.path:
            return False
        wanted = handler.headers.get("Range", "bytes=0-")
        begin = int(wanted.removeprefix("bytes=").rstrip("-"))
        begins.append(begin)
        handler.send_response(206 if begin else 200)
        handler.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        handler.send_header("Content-Length", str(len(content) - begin))
        handler.end_headers()
        handler.wfile.write(content[begin : begin + 300_000])
        handler.close_connection = True
        return True

    server = make(behave)
    assert _read(server, server.add(content)) == content
    assert begins[0] == 0 and begins == sorted(begins) and len(begins) >= 4


def test_a_server_without_ranges_is_read_from_the_start(make: Any) -> None:
    content = b"0123456789" * 50_000
    tries: list[int] = []

    def behave(handler: Handler) -> bool:
        if "/blobs/" not in handler.path or tries:
            return False
        tries.append(1)
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[:123_457])
        handler.close_connection = True
        return True

    server = make(behave)
    assert _read(server, server.add(content)) == content


def test_a_server_that_always_breaks_is_given_up(make: Any) -> None:
    def behave(handler: Handler) -> bool:
        if "/blobs/" in handler.path:
            handler.send_response(200)
            handler.send_header("Content-Length", "1000")
            handler.end_headers()
            handler.close_connection = True
            return True
        return False

    server = make(behave)
    with pytest.raises(TargetError):
        _read(server, server.add(bytes(1000)))


@pytest.mark.parametrize("extra", [b"", b"more"])
def test_false_content_is_refused(make: Any, extra: bytes) -> None:
    server = make()
    descriptor = server.add(b"right")
    server.content[f"/v2/x/blobs/{descriptor.digest}"] = b"wrong"[: 5 - len(extra)] + extra
    with pytest.raises(EmbedkitError):
        _read(server, descriptor)


def test_an_endless_manifest_is_cut_off(make: Any) -> None:
    def behave(handler: Handler) -> bool:
        if "/manifests/" not in handler.path:
            return False
        handler.send_response(200)
        handler.send_header("Content-Type", MANIFEST)
        handler.end_headers()
        try:
            for _ in range(100):
                handler.wfile.write(b"[" * (1 << 20))
        except OSError:
            pass
        handler.close_connection = True
        return True

    server = make(behave)
    with pytest.raises(TargetError, match="more than"):
        open_repository(_client(server), reference.parse(f"{server.host}/x:1"))


def test_a_silent_server_is_given_up(make: Any) -> None:
    def behave(handler: Handler) -> bool:
        if "/blobs/" in handler.path:
            time.sleep(1.5)
            return True
        return False

    server = make(behave)
    begun = time.monotonic()
    with pytest.raises(TargetError, match="tries"):
        _read(server, server.add(b"x"), silence_seconds=0.2, tries=2)
    assert time.monotonic() - begun < 10


def _drip(handler: Handler) -> None:
    """A byte every 50 ms for 30 s, or until the client has enough."""
    try:
        for _ in range(600):
            handler.wfile.write(b"x")
            handler.wfile.flush()
            threading.Event().wait(0.05)
    except OSError:
        pass
    handler.close_connection = True


def test_a_server_that_drips_is_given_up(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "PACE_SECONDS", 0.2)

    def behave(handler: Handler) -> bool:
        if "/blobs/" not in handler.path:
            return False
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        _drip(handler)
        return True

    server = make(behave)
    with pytest.raises(TargetError, match="bytes a second"):
        _read(server, server.add(bytes(100_000)), tries=1)


def test_headers_that_never_end_are_cut(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "ANSWER_SECONDS", 0.3)

    def behave(handler: Handler) -> bool:
        if "/blobs/" not in handler.path:
            return False
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        _drip(handler)
        return True

    server = make(behave)
    begun = time.monotonic()
    with pytest.raises(TargetError):
        _read(server, server.add(b"x"), tries=1)
    assert time.monotonic() - begun < 20


def test_temporary_failures_are_tried_again_and_others_not(make: Any) -> None:
    counts: dict[int, int] = {}

    def behave(handler: Handler) -> bool:
        if "/blobs/" not in handler.path:
            return False
        status = 503 if not counts.get(503) else 403
        if counts.get(503) and len(counts) == 1 and counts[503] < 2:
            status = 503
        counts[status] = counts.get(status, 0) + 1
        handler.answer(status, b'{"errors":[{"code":"DENIED","message":"go\\u001baway"}]}')
        return True

    server = make(behave)
    with pytest.raises(TargetError, match="DENIED"):
        _read(server, server.add(b"x"))
    assert counts == {503: 2, 403: 1}


def test_a_redirect_takes_no_secret_to_another_host(make: Any) -> None:
    other = make()
    descriptor = other.add(b"content")

    def behave(handler: Handler) -> bool:
        if "/blobs/" not in handler.path:
            return False
        if "Authorization" not in handler.headers:
            handler.answer(401, WWW_Authenticate='Basic realm="x"')
            return True
        handler.answer(307, Location=f"http://{other.host}/v2/x/blobs/{descriptor.digest}")
        return True

    server = make(behave)
    store = RepositoryStore(_client(server, Credentials("me", "secret")), "x")
    with open_blob(store, descriptor) as stream:
        assert read_to_end(stream) == b"content"
    assert any("Authorization" in headers for _, _, headers in server.seen)
    assert other.seen and not any("Authorization" in headers for _, _, headers in other.seen)


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "gopher://x/", "http://203.0.113.7/x", "//", "http://[", ""]
)
def test_redirects_to_strange_places(make: Any, target: str) -> None:
    def behave(handler: Handler) -> bool:
        if "/blobs/" in handler.path:
            handler.answer(302, Location=target)
            return True
        return False

    server = make(behave)
    with pytest.raises(EmbedkitError):
        _read(server, server.add(b"x"), tries=1)


def test_redirects_in_a_circle(make: Any) -> None:
    def behave(handler: Handler) -> bool:
        if "/blobs/" in handler.path:
            handler.answer(302, Location=handler.path)
            return True
        return False

    server = make(behave)
    with pytest.raises(TargetError, match="redirects"):
        _read(server, server.add(b"x"))
    assert len(server.seen) < 12


def _with_tokens(realm: Callable[[Handler], str]) -> Behave:
    def behave(handler: Handler) -> bool:
        if handler.path.startswith("/token"):
            body = json.dumps({"token": "t0ken", "expires_in": 300}).encode()
            handler.answer(200, body)
            return True
        if "/blobs/" in handler.path and handler.headers.get("Authorization") != "Bearer t0ken":
            handler.answer(401, WWW_Authenticate=f'Bearer realm="{realm(handler)}",service="s"')
            return True
        return False

    return behave


def test_a_token_is_fetched_with_the_password_and_used(make: Any) -> None:
    server = make(_with_tokens(lambda handler: f"http://{handler.headers['Host']}/token"))
    descriptor = server.add(b"x")
    store = RepositoryStore(_client(server, Credentials("me", "secret")), "x")
    for _ in range(2):
        with open_blob(store, descriptor) as stream:
            assert read_to_end(stream) == b"x"
    tokens = [(path, headers) for _, path, headers in server.seen if path.startswith("/token")]
    assert len(tokens) == 1
    assert "scope=repository%3Ax%3Apull" in tokens[0][0]
    basic = "Basic " + base64.b64encode(b"me:secret").decode()
    assert tokens[0][1]["Authorization"] == basic


def test_the_password_goes_to_no_other_host_s_login(make: Any, monkeypatch: Any) -> None:
    thief = make(_with_tokens(lambda handler: ""))
    server = make(_with_tokens(lambda handler: f"http://{thief.host}/token"))
    # Loopback stands for the registry's own host; make the two differ as hosts do.
    monkeypatch.setattr(registry.auth, "may_have_password", lambda *args: False)
    store = RepositoryStore(_client(server, Credentials("me", "secret")), "x")
    with pytest.raises(TargetError, match="password sent to another host"):
        read_document(store, server.add(b"x"))
    assert thief.seen == []


@pytest.mark.parametrize(
    ("host", "realm", "allowed", "may"),
    [
        ("registry.example.com", "https://registry.example.com/token", "", True),
        ("registry.example.com", "https://auth.example.com/token", "", True),
        ("registry-1.docker.io", "https://auth.docker.io/token", "", True),
        ("registry.example.com", "https://evil.com/token", "", False),
        ("registry.example.com", "https://example.com.evil.com/", "", False),
        ("registry.example.com", "https://evilexample.com/", "", False),
        ("a.co.uk", "https://b.co.uk/", "", False),
        ("x.a.co.uk", "https://y.a.co.uk/", "", True),
        ("10.0.0.1:5000", "https://10.0.0.2/", "", False),
        ("10.0.0.1:5000", "https://10.0.0.1/", "", True),
        ("localhost:5000", "http://127.0.0.1:5001/token", "", True),
        ("localhost:5000", "https://evil.com/", "", False),
        ("registry.example.com", "http://localhost/", "", False),
        ("registry.example.com", "https://sso.other.org/", "sso.other.org", True),
        ("registry.example.com", "https://registry.example.com@evil.com/", "", False),
        ("registry.example.com", "not a url", "", False),
    ],
)
def test_who_may_have_the_password(host: str, realm: str, allowed: str, may: bool) -> None:
    assert auth.may_have_password(host, realm, allowed) is may


@pytest.mark.parametrize(
    "token", ['{"token": "a\\r\\nX-Evil: 1"}', '{"token": 5}', "{}", "[]", "nonsense"]
)
def test_strange_tokens(make: Any, token: str) -> None:
    def behave(handler: Handler) -> bool:
        if handler.path.startswith("/token"):
            handler.answer(200, token.encode())
            return True
        if "/blobs/" in handler.path:
            realm = f"http://{handler.headers['Host']}/token"
            handler.answer(401, WWW_Authenticate=f'Bearer realm="{realm}"')
            return True
        return False

    server = make(behave)
    with pytest.raises(EmbedkitError):
        _read(server, server.add(b"x"))
    assert not any("X-Evil" in headers for _, _, headers in server.seen)


def test_plain_http_is_for_loopback_only() -> None:
    client = Client("registry.example.com", Access())
    assert client.base == "https://registry.example.com"
    assert not client.plain_allowed
    assert Client("localhost:5000", Access()).plain_allowed
    assert not Client("127.0.0.1.evil.com", Access()).plain_allowed


def test_a_false_content_type_is_told(make: Any) -> None:
    server = make()
    content = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "layers": [], "config": {}})
    server.content["/v2/x/manifests/1"] = content.encode()
    with pytest.raises(EmbedkitError, match="octet-stream") as caught:
        open_repository(_client(server), reference.parse(f"{server.host}/x:1"))
    assert "Content-Type" in (caught.value.hint or "")


def test_a_false_digest_header_is_refused(make: Any) -> None:
    def behave(handler: Handler) -> bool:
        if "/manifests/" not in handler.path:
            return False
        body = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "layers": []}).encode()
        handler.answer(200, body, Content_Type=MANIFEST, Docker_Content_Digest="sha256:" + "0" * 64)
        return True

    server = make(behave)
    with pytest.raises(EmbedkitError, match="another digest"):
        open_repository(_client(server), reference.parse(f"{server.host}/x:1"))


def test_tags_over_many_pages_and_never_on_another_host(make: Any) -> None:
    other = make()

    def behave(handler: Handler) -> bool:
        if "tags/list" not in handler.path:
            return False
        last = parse_qs(urlsplit(handler.path).query).get("last", [""])[0]
        tags = {"": ["a", "b"], "b": ["c", "../x", "b"]}.get(last, [])
        link = {"": '</v2/x/tags/list?last=b>; rel="next"', "b": ""}[last]
        if "evil" in handler.path:
            link = f'<http://{other.host}/v2/x/tags/list>; rel="next"'
        handler.answer(200, json.dumps({"tags": tags}).encode(), Link=link)
        return True

    server = make(behave)
    assert _client(server).tags("x") == ["a", "b", "c"]
    with pytest.raises(TargetError, match="another host"):
        _client(server).tags("evil")
    assert other.seen == []


def test_an_upload_that_breaks_goes_on_where_it_was(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import random

    from embedkit.oci import remote

    monkeypatch.setattr(remote, "UPLOAD_PIECE", 100_000)
    broken: list[str] = []

    def behave(handler: Handler) -> bool:
        if (
            handler.command == "PATCH"
            and len(broken) < 2
            and "200000-" in str(handler.headers.get("Content-Range"))
        ):
            broken.append(handler.path)
            # It took half of the piece, and then the connection was gone.
            path = urlsplit(handler.path).path
            if len(broken) == 1:
                handler.server.uploads[path] += handler.rfile.read(50_000)
            handler.close_connection = True
            handler.connection.close()
            return True
        return False

    server = make(behave)
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / "noise").write_bytes(random.Random(3).randbytes(450_000))
    part = f"amd64={folder}"
    built = embedkit("oci", "build", part, "-t", f"{server.host}/x:1", "--push")
    assert broken
    back = embedkit("oci", "pull", f"{server.host}/x:1", tmp_path / "back")
    assert back["data"]["digest"] == built["data"]["digest"]


def test_what_is_there_is_not_sent_again(make: Any, tmp_path: Path) -> None:
    server = make()
    part = programs(tmp_path)["linux/amd64"]
    embedkit("oci", "build", part, "-o", tmp_path / "a.tar")
    embedkit("oci", "push", tmp_path / "a.tar", f"{server.host}/x:1")
    uploads = len(server.uploads)
    embedkit("oci", "push", tmp_path / "a.tar", f"{server.host}/x:2")
    assert len(server.uploads) == uploads == 2


def test_an_upload_location_on_another_host_gets_no_secret(make: Any, tmp_path: Path) -> None:
    other = make()
    other.uploads["/elsewhere"] = b""

    def behave(handler: Handler) -> bool:
        if "Authorization" not in handler.headers and handler.path != "/v2/":
            handler.answer(401, WWW_Authenticate='Basic realm="x"')
            return True
        if handler.command == "POST":
            handler.answer(202, Location=f"http://{other.host}/elsewhere")
            return True
        return False

    server = make(behave)
    (tmp_path / "config.json").write_text(
        json.dumps({"auths": {server.host: {"auth": base64.b64encode(b"me:pw").decode()}}})
    )
    part = programs(tmp_path)["linux/amd64"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_CONFIG", str(tmp_path))
        embedkit("oci", "build", part, "-t", f"{server.host}/x:1", "--push")
    assert other.seen
    assert not any("Authorization" in headers for _, _, headers in other.seen)


def test_saved_logins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    helper = tmp_path / "docker-credential-test"
    helper.write_text(
        "#!/bin/sh\nread host\n"
        '[ "$host" = "helped.example" ] || { echo "credentials not found"; exit 1; }\n'
        'echo "{\\"Username\\":\\"<token>\\",\\"Secret\\":\\"idt\\"}"\n'
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    hub = "https://index.docker.io/v1/"
    values = {
        "auths": {
            "plain.example": {"auth": base64.b64encode(b"u:p:q").decode()},
            hub: {"username": "hub", "password": "pw"},
        },
        "credHelpers": {"helped.example": "test", "odd.example": "../../evil"},
    }
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert auth.saved("plain.example") == Credentials("u", "p:q")
    assert auth.saved("docker.io") == Credentials("hub", "pw")
    assert auth.saved("helped.example") == Credentials(identity_token="idt")
    assert auth.saved("other.example") is None
    with pytest.raises(EmbedkitError, match="not the name"):
        auth.saved("odd.example")
    assert "secret" not in repr(Credentials("u", "secret"))


def test_challenges() -> None:
    both = (
        'Basic realm="r", Bearer realm="https://a/t",service="s s",scope="repository:x:pull,push"'
    )
    found = auth.parse_challenge(both)
    assert found is not None
    assert (found.scheme, found.realm, found.service) == ("bearer", "https://a/t", "s s")
    assert found.scope == "repository:x:pull,push"
    assert auth.parse_challenge("Negotiate") is None
    basic = auth.parse_challenge("basic REALM=x")
    assert basic is not None and basic.scheme == "basic"
