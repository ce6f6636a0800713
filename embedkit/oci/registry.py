"""A client of the OCI distribution protocol (distribution-spec v1.1), and Docker's logins.

Rules that keep secrets at home: an Authorization header goes to the registry's own origin
only, never along a redirect; a password goes to a token server only where that server is the
registry's (see auth.may_have_password); neither travels over plain HTTP except to this machine or
to a host that the user called insecure.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote, urlencode, urlsplit

from embedkit.errors import EmbedkitError, InputError, TargetError
from embedkit.oci import auth, mediatypes, reference
from embedkit.oci import http as web
from embedkit.oci.auth import Challenge, Credentials
from embedkit.oci.documents import load
from embedkit.oci.limits import DEFAULT

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

_MAX_REDIRECTS = 5
_MAX_PAGES = 1000
_LINK = re.compile(r'<([^>]+)>\s*;\s*rel="?next"?')


@dataclass(frozen=True)
class Access:
    """How a registry is talked to."""

    trust: web.Trust = field(default_factory=web.Trust)
    credentials: Credentials | None = None
    auth_host: str = ""


class NotFound(InputError):
    """The registry does not have what was asked for."""


class Client:
    """One registry. Safe for threads."""

    def __init__(self, host: str, access: Access, *, http: web.Http | None = None) -> None:
        self.host = host
        self.api_host = reference.Reference(host, "x").api_host
        self.access = access
        self.http = http or web.Http(access.trust)
        self._base = ""
        self._tokens: dict[str, tuple[str, float]] = {}
        self._challenge: Challenge | None = None
        self._credentials = access.credentials
        self._asked_for_credentials = access.credentials is not None
        self._lock = threading.RLock()

    @property
    def base(self) -> str:
        """``https://HOST``; plain HTTP only where :attr:`plain_allowed` and it is all there is."""
        with self._lock:
            if not self._base:
                self._base = self._find_scheme()
            return self._base

    @property
    def plain_allowed(self) -> bool:
        return self.access.trust.insecure or auth.is_loopback(self.api_host)

    def _find_scheme(self) -> str:
        if not self.plain_allowed:
            return f"https://{self.api_host}"
        schemes = ("https", "http") if self.access.trust.insecure else ("http", "https")
        failure: EmbedkitError | None = None
        for scheme in schemes:
            base = f"{scheme}://{self.api_host}"
            try:
                response = self.http.send("GET", f"{base}/v2/", {})
                response.close()
            except EmbedkitError as error:
                failure = failure or error
                continue
            # A TLS server answers plain HTTP with 400; one that speaks HTTP knows /v2/.
            if response.status != 400:
                return base
        if isinstance(failure, web.Temporary):
            raise TargetError(
                f"the registry cannot be reached: {failure.message}", where=self.host
            ) from failure
        raise failure or TargetError("the registry speaks neither HTTP nor HTTPS", where=self.host)

    def request(
        self,
        method: str,
        location: str,
        scope: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Callable[[], bytes | BinaryIO] | None = None,
        length: int | None = None,
        good: tuple[int, ...] = (200,),
        follow: bool = False,
        tries: bool = True,
    ) -> tuple[BaseHTTPResponse, str]:
        """One request with login, redirects (``follow``) and retries; answer and its URL.

        ``location`` is a path or a URL; ``scope`` is what a token is asked for
        ("repository:NAME:pull"). Answers whose status is not in ``good`` raise: NotFound for
        404, TargetError otherwise; the server's own words are in the message.
        """

        def attempt() -> tuple[BaseHTTPResponse, str]:
            return self._once(method, location, scope, headers or {}, body, length, good, follow)

        return self.http.retry(attempt) if tries else attempt()

    def _once(
        self,
        method: str,
        location: str,
        scope: str,
        headers: Mapping[str, str],
        body: Callable[[], bytes | BinaryIO] | None,
        length: int | None,
        good: tuple[int, ...],
        follow: bool,
    ) -> tuple[BaseHTTPResponse, str]:
        url = location if "://" in location else self.base + location
        refused = False
        for _ in range(_MAX_REDIRECTS + 2):
            at_home = web.origin(url) == web.origin(self.base)
            sent = dict(headers)
            if at_home and (held := self._authorization(scope)):
                sent["Authorization"] = held
            content = body() if body else None
            try:
                response = self.http.send(method, url, sent, content, length)
            finally:
                if content is not None and not isinstance(content, bytes):
                    content.close()
            if response.status in good:
                return response, url
            if response.status == 401 and at_home and not refused:
                refused = True
                header = response.headers.get("WWW-Authenticate", "")
                response.drain_conn()
                self._log_in(header, scope)
                continue
            if follow and response.status in (301, 302, 303, 307, 308):
                target = response.headers.get("Location", "")
                response.drain_conn()
                url = web.absolute(url, target)
                if urlsplit(url).scheme == "http" and not self._plain_target(url):
                    raise TargetError(f"redirected to plain HTTP: {url[:200]}", where=self.host)
                continue
            raise self._failure(response, url, method)
        raise TargetError(f"more than {_MAX_REDIRECTS} redirects", where=self.host)

    def _plain_target(self, url: str) -> bool:
        return self.access.trust.insecure or auth.is_loopback(urlsplit(url).netloc)

    def _authorization(self, scope: str) -> str:
        with self._lock:
            if self._challenge is None:
                return ""
            if self._challenge.scheme == "basic":
                return self._credentials.basic if self._credentials else ""
            token, until = self._tokens.get(scope, ("", 0.0))
            return f"Bearer {token}" if token and time.monotonic() < until else ""

    def _log_in(self, header: str, scope: str) -> None:
        """Gets what the challenge asks for. Raises TargetError where there is no way in."""
        challenge = auth.parse_challenge(header)
        if challenge is None:
            raise TargetError(
                "the registry refuses access and does not say how to log in", where=self.host
            )
        with self._lock:
            if not self._asked_for_credentials:
                self._credentials = auth.saved(self.host)
                self._asked_for_credentials = True
            self._challenge = challenge
            if challenge.scheme == "basic":
                if self._credentials is None or self._credentials.identity_token:
                    raise self._needs_login()
                self._check_transport(self.base)
                return
            self._tokens[scope] = self._fetch_token(challenge, scope)

    def _needs_login(self) -> TargetError:
        return TargetError(
            "the registry wants a login", where=self.host, hint=f"docker login {self.host}"
        )

    def _check_transport(self, url: str) -> None:
        if urlsplit(url).scheme != "https" and not self._plain_target(url):
            raise TargetError("a password is not sent over plain HTTP", where=url[:200])

    def _fetch_token(self, challenge: Challenge, scope: str) -> tuple[str, float]:
        realm = challenge.realm
        if web.origin(realm)[0] not in ("http", "https"):
            raise TargetError(f"the registry names '{realm[:100]}' for logins", where=self.host)
        if urlsplit(realm).scheme == "http" and not self._plain_target(realm):
            raise TargetError(f"the registry's login is plain HTTP: {realm[:200]}", where=self.host)
        known = self._credentials
        trusted = auth.may_have_password(self.api_host, realm, self.access.auth_host)
        if known is not None and not trusted:
            server = urlsplit(realm).netloc
            raise TargetError(
                f"the registry wants your password sent to another host, {server}",
                where=self.host,
                hint=f"if that is right: --auth-host {server}",
            )
        wanted = scope or challenge.scope
        if known is not None and known.identity_token:
            fields = {
                "grant_type": "refresh_token",
                "service": challenge.service,
                "client_id": "embedkit",
                "scope": wanted,
                "refresh_token": known.identity_token,
            }
            form = urlencode(fields).encode()
            sent = {"Content-Type": "application/x-www-form-urlencoded"}
            response = self.http.send("POST", realm, sent, form)
            url = realm
        else:
            query = [("service", challenge.service)] if challenge.service else []
            query += [("scope", part) for part in wanted.split(" ") if part]
            url = realm + ("&" if "?" in realm else "?") + urlencode(query)
            response = self.http.send("GET", url, {"Authorization": known.basic} if known else {})
        if response.status == 401 or (response.status == 403 and known is None):
            response.close()
            raise (
                self._needs_login()
                if known is None
                else TargetError(
                    "the registry refuses the saved login",
                    where=self.host,
                    hint=f"docker login {self.host}",
                )
            )
        if response.status != 200:
            raise self._failure(response, realm, "GET")
        values = load(web.read_small(response, realm, web.ERROR_BODY), f"token from {realm[:200]}")
        token = values.get("token") or values.get("access_token")
        if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]{1,60000}", token):
            raise TargetError("the login server gave no token", where=realm[:200])
        lasts = values.get("expires_in")
        seconds = lasts if isinstance(lasts, int) and 0 < lasts < 10**6 else 60
        return token, time.monotonic() + max(seconds - 10, 5)

    def _failure(self, response: BaseHTTPResponse, url: str, method: str) -> EmbedkitError:
        """The error for an answer that was not wanted, with the server's words."""
        status = response.status
        try:
            words = _error_words(web.read_small(response, url, web.ERROR_BODY))
        except EmbedkitError:
            words = ""
        said = f": {words}" if words else ""
        place = f"{method} {url[:200]}"
        if status in web.TEMPORARY:
            after = response.headers.get("Retry-After", "")
            wait = float(after) if after.isdigit() and len(after) < 6 else 0.0
            return web.Temporary(f"the registry answers {status}{said}", where=place, wait=wait)
        if status == 404:
            return NotFound(f"the registry does not have it{said}", where=place)
        if status in (401, 403):
            return TargetError(
                f"the registry denies access ({status}){said}",
                where=place,
                hint=f"docker login {self.host}",
            )
        return TargetError(f"the registry answers {status}{said}", where=place)

    def tags(self, path: str) -> list[str]:
        """All tags of a repository, in the registry's order."""
        found: list[str] = []
        for values in self._pages(f"/v2/{path}/tags/list?n=1000", f"repository:{path}:pull"):
            tags = values.get("tags") or []
            if not isinstance(tags, list):
                raise TargetError("the registry's list of tags is none", where=self.host)
            found += [tag for tag in tags if isinstance(tag, str) and reference.is_tag(tag)]
        return list(dict.fromkeys(found))

    def repositories(self) -> list[str]:
        """All repositories that the registry tells of (many tell none)."""
        found: list[str] = []
        for values in self._pages("/v2/_catalog?n=1000", "registry:catalog:*"):
            names = values.get("repositories") or []
            if isinstance(names, list):
                found += [name for name in names if isinstance(name, str)]
        return list(dict.fromkeys(found))

    def _pages(self, location: str, scope: str) -> Iterator[dict[str, object]]:
        url = location
        for _ in range(_MAX_PAGES):
            response, at = self.request("GET", url, scope)
            following = _LINK.search(response.headers.get("Link", ""))
            yield load(web.read_small(response, at, DEFAULT.document), at)
            if following is None:
                return
            url = web.absolute(at, following.group(1))
            if web.origin(url) != web.origin(self.base):
                raise TargetError("the next page lies on another host", where=self.host)
        raise TargetError(f"more than {_MAX_PAGES} pages", where=self.host)

    def manifest(self, path: str, selector: str) -> tuple[bytes, str, str]:
        """A manifest's or an index's bytes, Content-Type, and Docker-Content-Digest ("")."""
        response, url = self.request(
            "GET",
            f"/v2/{path}/manifests/{quote(selector, safe=':')}",
            f"repository:{path}:pull",
            headers={"Accept": mediatypes.ACCEPT},
            follow=True,
        )
        media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
        stated = response.headers.get("Docker-Content-Digest", "")
        content = self.http.retry(lambda: self._small_again(response, url, path))
        return content, media_type, stated

    def _small_again(self, response: BaseHTTPResponse, url: str, path: str) -> bytes:
        """The body; asked for anew where it broke off."""
        if response.closed:
            response, url = self.request(
                "GET",
                url,
                f"repository:{path}:pull",
                headers={"Accept": mediatypes.ACCEPT},
                follow=True,
            )
        return web.read_small(response, url, DEFAULT.document)

    def delete_manifest(self, path: str, digest: str) -> None:
        """Removes a manifest, and with it all tags that point to it."""
        try:
            response, _ = self.request(
                "DELETE", f"/v2/{path}/manifests/{digest}", f"repository:{path}:delete",
                good=(200, 202, 204),
            )  # fmt: skip
        except TargetError as error:
            if "answers 405" in error.message:
                raise TargetError(
                    "this registry does not allow deletion",
                    where=self.host,
                    hint="Debian's docker-registry wants storage.delete.enabled: true",
                ) from error
            raise
        response.drain_conn()

    def close(self) -> None:
        self.http.close()


def _error_words(body: bytes) -> str:
    """The messages of the distribution-spec's error document, or the beginning of the text."""
    try:
        values = json.loads(body)
        errors = values["errors"] if isinstance(values, dict) else []
        words = [f"{item.get('code', '')} {item.get('message', '')}".strip() for item in errors[:3]]
        return "; ".join(words)[:300]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return " ".join(body.decode("utf-8", "replace").split())[:120]
