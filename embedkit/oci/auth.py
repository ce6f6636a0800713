"""Who we are to a registry: Docker's saved logins, credential helpers, and bearer tokens.

The token protocol is Docker's (distribution, "Token Authentication Specification"). A
registry names the server that gives tokens; a password goes there only where that server
belongs to the registry, because any registry could name any server.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from embedkit import process
from embedkit.errors import EmbedkitError, InputError
from embedkit.oci.reference import HUB

_HELPER = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_PARAMETER = re.compile(r'([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_MAX_CONFIG = 4 << 20


@dataclass(frozen=True)
class Credentials:
    """A user's name and password, or an identity token to exchange."""

    user: str = ""
    secret: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        raw = f"{self.user}:{self.secret}".encode()
        return "Basic " + base64.b64encode(raw).decode("ascii")


@dataclass(frozen=True)
class Challenge:
    """What a registry wants, from its WWW-Authenticate header."""

    scheme: str
    realm: str
    service: str
    scope: str


def parse_challenge(header: str) -> Challenge | None:
    """The Bearer or Basic challenge of ``header``, Bearer where both are offered."""
    found: dict[str, Challenge] = {}
    for match in re.finditer(r"\b(Bearer|Basic)\b\s*", header[:8192], re.IGNORECASE):
        rest = header[match.end() : 8192]
        following = re.search(r",\s*(?:Bearer|Basic)\s", rest, re.IGNORECASE)
        rest = rest[: following.start()] if following else rest
        values = {
            key.lower(): re.sub(r"\\(.)", r"\1", quoted) or plain
            for key, quoted, plain in _PARAMETER.findall(rest)
        }
        scheme = match.group(1).lower()
        found.setdefault(
            scheme,
            Challenge(
                scheme, values.get("realm", ""), values.get("service", ""), values.get("scope", "")
            ),
        )
    return found.get("bearer") or found.get("basic")


def is_loopback(host: str) -> bool:
    """Whether ``host`` (with or without a port) is this machine itself."""
    name = _hostname(f"//{host}")
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def may_have_password(registry: str, realm: str, allowed: str = "") -> bool:
    """Whether the token server ``realm`` (a URL) may be sent the registry's password.

    It may where it is the registry's own host, the host that the user allowed, or a
    neighbour in the registry's own domain (auth.example.com beside registry.example.com).
    """
    host, own = _hostname(realm), _hostname(f"//{registry}")
    if not host:
        return False
    if host == own or (allowed and host == _hostname(f"//{allowed}")):
        return True
    if is_loopback(own) or is_loopback(host) or _is_address(own) or _is_address(host):
        return is_loopback(own) and is_loopback(host)
    return _domain(host) == _domain(own)


def _hostname(url: str) -> str:
    """The host of a URL in lower case; "" where it has none."""
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _domain(host: str) -> str:
    """The part of a name that one owner holds, as well as that can be told without a list:
    two labels, or three below what looks like a public suffix (co.uk, com.au)."""
    labels = host.split(".")
    public = len(labels) >= 2 and len(labels[-1]) == 2 and len(labels[-2]) <= 3
    return ".".join(labels[-3:] if public else labels[-2:])


def saved(host: str) -> Credentials | None:
    """The login for ``host`` that docker, podman or skopeo saved; None where there is none.

    Raises InputError where a file is damaged, EmbedkitError where a credential helper fails.
    """
    for path in _files():
        if path.is_file():
            found = _from_file(path, host)
            if found is not None:
                return found
    return None


def _files() -> list[Path]:
    found = []
    if explicit := os.environ.get("REGISTRY_AUTH_FILE"):
        found.append(Path(explicit))
    folder = os.environ.get("DOCKER_CONFIG")
    found.append((Path(folder) if folder else Path.home() / ".docker") / "config.json")
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        found.append(Path(runtime) / "containers" / "auth.json")
    return found


def _keys(host: str) -> list[str]:
    """The names under which a login for ``host`` may be saved."""
    names = [host]
    if host == HUB:
        names = [f"https://index.{HUB}/v1/", HUB, f"index.{HUB}"]
    return [*names, *(f"https://{n}" for n in names), *(f"https://{n}/v1/" for n in names)]


def _from_file(path: Path, host: str) -> Credentials | None:
    try:
        with path.open("rb") as file:
            values = json.loads(file.read(_MAX_CONFIG))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"not a JSON document: {error}", where=str(path)) from error
    if not isinstance(values, dict):
        raise InputError("not a JSON object", where=str(path))
    helpers, auths = values.get("credHelpers"), values.get("auths")
    for key in _keys(host):
        if isinstance(helpers, dict) and isinstance(helpers.get(key), str):
            return _from_helper(helpers[key], key, path)
    for key in _keys(host):
        entry = auths.get(key) if isinstance(auths, dict) else None
        if isinstance(entry, dict) and (found := _from_entry(entry, path, key)):
            return found
    store = values.get("credsStore")
    if isinstance(store, str) and store:
        for key in _keys(host)[:1]:
            if found := _from_helper(store, key, path):
                return found
    return None


def _from_entry(entry: Mapping[str, Any], path: Path, key: str) -> Credentials | None:
    token = entry.get("identitytoken")
    if isinstance(token, str) and token:
        return Credentials(identity_token=token)
    encoded = entry.get("auth")
    if isinstance(encoded, str) and encoded:
        try:
            user, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
        except ValueError as error:
            raise InputError(f"the login for {key} is damaged", where=str(path)) from error
        return Credentials(user, secret.rstrip("\0"))
    name, password = entry.get("username"), entry.get("password")
    if isinstance(name, str) and isinstance(password, str) and name:
        return Credentials(name, password)
    return None


def _from_helper(name: str, host: str, path: Path) -> Credentials | None:
    """Asks a docker credential helper (docker-credential-NAME get)."""
    if not _HELPER.fullmatch(name):
        raise InputError(f"'{name[:40]}' is not the name of a credential helper", where=str(path))
    ended = process.run(
        [f"docker-credential-{name}", "get"], input=host.encode(), timeout=60, check=False
    )
    if ended.returncode != 0:
        if "credentials not found" in ended.text:
            return None
        raise EmbedkitError(f"docker-credential-{name} failed: {ended.complaint}", where=str(path))
    try:
        values = json.loads(ended.stdout)
        user, secret = str(values["Username"]), str(values["Secret"])
    except (ValueError, KeyError, TypeError) as error:
        raise EmbedkitError(f"docker-credential-{name} answered nonsense") from error
    if user == "<token>":
        return Credentials(identity_token=secret)
    return Credentials(user, secret)
