"""Ready configuration that makes web servers serve a static registry as clients need it.

Each is written from the list of manifests. What a kind of server cannot do is said in its
file and in :data:`CANNOT`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from embedkit.files import write_atomically
from embedkit.oci.static import Document

CANNOT = (
    ("nginx", "everything works"),
    ("Caddy", "everything works"),
    ("Apache", "everything works where AllowOverride permits FileInfo and Indexes (.htaccess)"),
    (
        "_headers hosts",
        "not tried; must read _headers and serve names without an ending as they are",
    ),
    ("S3-like stores", "not tried; no Docker-Content-Digest: oras cannot pull, all others can"),
    ("python -m http.server", "no Content-Type for manifests: no client can pull; use serve.py"),
)


def write(folder: Path, documents: Sequence[Document]) -> tuple[str, ...]:
    """Writes every server's file into ``folder``; their names, relative to it."""
    made = {
        "server/nginx.conf": nginx(folder, documents),
        "server/Caddyfile": caddy(folder, documents),
        "server/s3-upload.sh": s3(documents),
        "server/serve.py": _SERVE_PY,
        ".htaccess": apache(documents),
        "_headers": headers_file(documents),
    }
    (folder / "server").mkdir(exist_ok=True)
    for name, content in made.items():
        mode = 0o755 if content.startswith("#!") else 0o644
        write_atomically(folder / name, content.encode(), mode=mode)
    return tuple(made)


def nginx(folder: Path, documents: Sequence[Document]) -> str:
    """A server block: one exact location a manifest."""
    lines = [
        "# Include this in nginx's http block. For plain HTTP, clients must allow it for the host.",
        "server {",
        "    listen 5000;",
        f'    root "{_quoted(str(folder.resolve()))}";',
        "    # Docker looks at the answer to a TLS hello before it tries plain HTTP.",
        "    location = /v2/ { default_type application/json; return 200 '{}'; }",
        "    location /v2/ { limit_except GET HEAD { deny all; }",
        "        default_type application/octet-stream; types { } }",
    ]
    for item in documents:
        lines.append(
            f"    location = {item.url_path} {{ types {{ }} default_type {item.media_type};"
            f" add_header Docker-Content-Digest {item.digest}; }}"
        )
    for repository in _repositories(documents):
        lines.append(
            f"    location = /v2/{repository}/tags/list "
            "{ types { } default_type application/json; }"
        )
    return "\n".join([*lines, "}"]) + "\n"


def caddy(folder: Path, documents: Sequence[Document]) -> str:
    """A Caddyfile."""
    lines = [":5000 {", f'\troot * "{_quoted(str(folder.resolve()))}"']
    lines += ["\trespond /v2/ `{}` 200"]
    for item in documents:
        lines += [
            f"\theader {item.url_path} Content-Type {item.media_type}",
            f"\theader {item.url_path} Docker-Content-Digest {item.digest}",
        ]
    return "\n".join([*lines, "\tfile_server", "}"]) + "\n"


def apache(documents: Sequence[Document]) -> str:
    """.htaccess for the document root."""
    lines = [
        "# Needs AllowOverride FileInfo Indexes, and the modules dir and headers.",
        "DirectoryIndex index.json",
    ]
    for item in documents:
        lines += [
            f"<If \"%{{REQUEST_URI}} == '{item.url_path}'\">",
            f"  ForceType {item.media_type}",
            f"  Header set Docker-Content-Digest {item.digest}",
            "</If>",
        ]
    return "\n".join(lines) + "\n"


def headers_file(documents: Sequence[Document]) -> str:
    """The _headers file that several static hosts read."""
    lines = []
    for item in documents:
        lines += [
            item.url_path,
            f"  Content-Type: {item.media_type}",
            f"  Docker-Content-Digest: {item.digest}",
        ]
    return "\n".join(lines) + "\n"


def s3(documents: Sequence[Document]) -> str:
    """A script that uploads with the aws program, each manifest with its own type."""
    lines = [
        "#!/bin/sh",
        "# usage: s3-upload.sh s3://BUCKET [options of 'aws', such as --endpoint-url URL]",
        "# An S3 store cannot send Docker-Content-Digest: oras will not pull, all others do.",
        "set -eu",
        'bucket=${1%/}; shift; cd "$(dirname "$0")/.."',
        'aws s3 cp --recursive v2 "$bucket/v2" --exclude "*/manifests/*" "$@"',
        "# The answer to the clients' first question, /v2/, is an object of that very name.",
        'aws s3api put-object --bucket "${bucket#s3://}" --key v2/ \\',
        '    --body v2/index.json --content-type application/json "$@"',
    ]
    for item in documents:
        lines.append(
            f"aws s3 cp '{item.url_path[1:]}' \"$bucket{item.url_path}\" "
            f'--content-type {item.media_type} "$@"'
        )
    return "\n".join(lines) + "\n"


def _repositories(documents: Sequence[Document]) -> list[str]:
    names = {item.url_path.removeprefix("/v2/").rsplit("/manifests/", 1)[0] for item in documents}
    return sorted(names)


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


_SERVE_PY = '''\
#!/usr/bin/env python3
"""Serves this static registry with Python's own web server: serve.py [PORT] [ADDRESS]."""

import hashlib
import http.server
import json
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, *args):
        super().__init__(*args, directory=ROOT)

    def handle_one_request(self):
        # Docker sends a TLS hello first and wants an HTTP answer before it tries plain HTTP.
        if self.rfile.peek(1)[:1] == b"\\x16":
            self.wfile.write(b"HTTP/1.1 400 Bad Request\\r\\nContent-Length: 0\\r\\n\\r\\n")
            self.close_connection = True
            return
        super().handle_one_request()

    def send_head(self):
        if self.path == "/v2/":
            self.path = "/v2/index.json"
        return super().send_head()

    def end_headers(self):
        if "/manifests/" in self.path:
            try:
                with open(self.translate_path(self.path), "rb") as file:
                    digest = hashlib.sha256(file.read()).hexdigest()
                self.send_header("Docker-Content-Digest", "sha256:" + digest)
            except OSError:
                pass
        super().end_headers()

    def guess_type(self, path):
        if os.path.basename(os.path.dirname(path)) == "manifests":
            with open(path, "rb") as file:
                values = json.load(file)
            kind = "index" if "manifests" in values else "manifest"
            return values.get("mediaType") or f"application/vnd.oci.image.{kind}.v1+json"
        plain = not path.endswith((".json", "list"))
        return "application/octet-stream" if plain else "application/json"


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    address = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1"
    http.server.ThreadingHTTPServer((address, port), Handler).serve_forever()
'''
