"""Names of images in registries: ``[HOST[:PORT]/]PATH[:TAG][@DIGEST]``.

The grammar is the distribution-spec's ("Pulling manifests"), the short forms are Docker's:
a first part without a dot, a colon or the word localhost belongs to Docker Hub, and a single
word lies in its "library".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from embedkit.errors import InputError
from embedkit.oci import digest as digests

HUB = "docker.io"
_HUB_API = "registry-1.docker.io"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::\d{1,5})?")


@dataclass(frozen=True)
class Reference:
    """Host (with its port), path and tag or digest; exactly one of the last two is filled,
    unless both were given, and then the digest decides."""

    host: str
    path: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        text = f"{self.host}/{self.path}"
        if self.tag:
            text += f":{self.tag}"
        return f"{text}@{self.digest}" if self.digest else text

    @property
    def selector(self) -> str:
        """What goes behind ``/manifests/``."""
        return self.digest or self.tag

    @property
    def api_host(self) -> str:
        """The host that answers the registry's protocol."""
        return _HUB_API if self.host == HUB else self.host

    @property
    def short(self) -> str:
        """As a person would write it for Docker."""
        text = str(self)
        if self.host == HUB:
            text = text.removeprefix(f"{HUB}/").removeprefix("library/")
        return text


def parse(text: str, *, default_tag: str = "latest") -> Reference:
    """Raises InputError where ``text`` is no reference, with what is wrong in it."""
    rest, at, stated = text.partition("@")
    digest = digests.parse(stated, f"reference '{text}'") if at else ""
    first, slash, remainder = rest.partition("/")
    if slash and (any(c in first for c in ".:") or first == "localhost" or first != first.lower()):
        host, rest = first, remainder
    else:
        host = HUB
    head, colon, tag = rest.rpartition(":")
    path, tag = (head, tag) if colon else (rest, "")
    if host in (HUB, "index.docker.io", _HUB_API):
        host = HUB
        path = path if "/" in path else f"library/{path}"
    if not _HOST.fullmatch(host):
        raise InputError(f"'{host}' in '{text}' is not a registry's host")
    if not _PATH.fullmatch(path) or len(host) + len(path) + 1 > 255:
        hint = "repository names are in lower case" if path != path.lower() else None
        raise InputError(f"'{path}' in '{text}' is not a repository's name", hint=hint)
    if colon and not _TAG.fullmatch(tag):
        raise InputError(f"'{tag}' in '{text}' is not a tag")
    if not tag and not digest:
        tag = default_tag
    return Reference(host, path, tag, digest)


def is_tag(text: str) -> bool:
    """Whether ``text`` is a tag by the specification's grammar."""
    return _TAG.fullmatch(text) is not None


def is_path(text: str) -> bool:
    """Whether ``text`` is a repository's name by the specification's grammar."""
    return _PATH.fullmatch(text) is not None and len(text) <= 255
