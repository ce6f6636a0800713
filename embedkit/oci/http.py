"""HTTP for registries: one request at a time, streamed, with patience that ends.

urllib3 carries it: measured against httpx it takes a tenth of the processor time for a
download of the same size, it brings no other package, and its pool may be used by threads.
Redirects, retries and logins are ours, because a registry's rules are not a browser's.
"""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar
from urllib.parse import urljoin, urlsplit

from embedkit.errors import LackError, TargetError
from embedkit.oci.streams import Pulled

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

T = TypeVar("T")

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 60.0
ANSWER_SECONDS = 300.0
"""A registry that hashes a large upload before it answers needs its time, but not for ever."""
SLOWEST = 1024
"""Bytes a second, over PACE_SECONDS, below which a download counts as dead."""
PACE_SECONDS = 30.0
ERROR_BODY = 64 << 10
TEMPORARY = (408, 429, 500, 502, 503, 504)


class Temporary(TargetError):
    """A failure that a second try may not have. ``wait`` is what the server asked for."""

    def __init__(self, message: str, *, where: str | None = None, wait: float = 0.0) -> None:
        super().__init__(message, where=where)
        self.wait = wait


@dataclass(frozen=True)
class Trust:
    """How far TLS is taken: a CA's file in place of the system's, or no check at all."""

    ca_file: Path | None = None
    insecure: bool = False


@dataclass
class Http:
    """A pool of connections. Safe for threads."""

    trust: Trust = Trust()
    tries: int = 5
    sleep: Callable[[float], None] = time.sleep
    silence_seconds: float = SILENCE_SECONDS
    _pool: Any = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | BinaryIO | None = None,
        length: int | None = None,
    ) -> BaseHTTPResponse:
        """One request; the answer's body is yet to be read, and the answer to be released.

        ``body`` as a stream needs its ``length`` in bytes. Raises Temporary where the
        network failed, TargetError where TLS did.
        """
        import urllib3

        sent = {"User-Agent": "embedkit", "Accept-Encoding": "identity", **headers}
        if body is not None and length is not None:
            sent["Content-Length"] = str(length)
        try:
            response: BaseHTTPResponse = self._connections().request(
                method,
                url,
                headers=sent,
                body=body,
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
            )
            return response
        except urllib3.exceptions.SSLError as error:
            raise TargetError(
                f"TLS failed: {_reason(error)}",
                where=_origin_text(url),
                hint="--ca-file names a private CA; --insecure does without any check",
            ) from error
        except (urllib3.exceptions.LocationParseError, UnicodeError) as error:
            raise TargetError(f"not a usable address: {url[:200]}") from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Temporary(_reason(error), where=_origin_text(url)) from error

    def _connections(self) -> Any:
        with self._lock:
            if self._pool is None:
                self._pool = _new_pool(self.trust, self.silence_seconds)
            return self._pool

    def retry(self, attempt: Callable[[], T]) -> T:
        """What ``attempt`` returns, tried again after Temporary failures, ever later."""
        for number in range(1, self.tries + 1):
            try:
                return attempt()
            except Temporary as error:
                if number == self.tries:
                    raise TargetError(
                        f"{error.message} ({number} tries)", where=error.where
                    ) from error
                pause = min(0.25 * 2**number, 8.0) * random.uniform(0.75, 1.25)
                self.sleep(max(pause, min(error.wait, 30.0)))
        raise AssertionError("unreachable")

    def close(self) -> None:
        with self._lock:
            if self._pool is not None:
                self._pool.clear()
                self._pool = None


def _new_pool(trust: Trust, silence_seconds: float) -> Any:
    try:
        import urllib3
        from urllib3.connection import HTTPConnection, HTTPSConnection
        from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
    except ImportError as error:
        raise LackError(
            "registries need the Python package urllib3",
            hint="pip install 'embedkit-board[oci]'",
        ) from error
    import os

    class Plain(_Deadline, HTTPConnection):
        pass

    class Tls(_Deadline, HTTPSConnection):
        pass

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class TlsPool(HTTPSConnectionPool):
        ConnectionCls = Tls

    settings: dict[str, Any] = {
        "timeout": urllib3.Timeout(connect=CONNECT_SECONDS, read=silence_seconds),
        "maxsize": 8,
        "blocksize": 256 << 10,
        "cert_reqs": "CERT_NONE" if trust.insecure else "CERT_REQUIRED",
    }
    if trust.ca_file is not None:
        settings["ca_certs"] = str(trust.ca_file)
    if trust.insecure:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")
    pool: Any = _proxied(proxy, settings) if proxy else urllib3.PoolManager(**settings)
    pool.pool_classes_by_scheme = {"http": PlainPool, "https": TlsPool}
    return pool


class _ByHost:
    """Sends requests through the proxy, except to hosts in NO_PROXY and plain HTTP."""

    def __init__(self, proxied: Any, direct: Any) -> None:
        self._proxied = proxied
        self._direct = direct
        self._classes: Any = None

    @property
    def pool_classes_by_scheme(self) -> Any:
        return self._classes

    @pool_classes_by_scheme.setter
    def pool_classes_by_scheme(self, value: Any) -> None:
        self._classes = value
        self._direct.pool_classes_by_scheme = value

    def request(self, method: str, url: str, **rest: Any) -> Any:
        from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

        parts = urlsplit(url)
        direct = parts.scheme == "http" or proxy_bypass_environment(parts.netloc)
        return (self._direct if direct else self._proxied).request(method, url, **rest)

    def clear(self) -> None:
        self._proxied.clear()
        self._direct.clear()


def _proxied(proxy: str, settings: Mapping[str, Any]) -> _ByHost:
    import urllib3

    address = proxy if "://" in proxy else f"http://{proxy}"
    return _ByHost(urllib3.ProxyManager(address, **settings), urllib3.PoolManager(**settings))


class _Deadline:
    """A connection whose answer's headers come within ANSWER_SECONDS, or it is cut.

    The socket's own timeout bounds the silence between two bytes only: a server that sends a
    header's byte a minute would hold us for days.
    """

    sock: socket.socket | None
    late = False

    def getresponse(self) -> Any:
        timer = threading.Timer(ANSWER_SECONDS, self._cut)
        timer.daemon = True
        timer.start()
        try:
            response = super().getresponse()  # type: ignore[misc]
        finally:
            timer.cancel()
        if self.late:
            # What was cut looks like an answer that ended.
            raise TimeoutError(f"no answer within {ANSWER_SECONDS:g} s")
        return response

    def _cut(self) -> None:
        self.late = True
        if self.sock is not None:
            try:
                self.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class Body(Pulled):
    """An answer's body as a stream with a least pace. Raises Temporary where it breaks off."""

    def __init__(self, response: BaseHTTPResponse, url: str) -> None:
        super().__init__()
        self._response = response
        self._url = url
        self._window = time.monotonic()
        self._got = 0
        length = response.headers.get("Content-Length", "")
        self._left = int(length) if length.isdigit() and len(length) < 19 else None

    def read(self, size: int = -1, /) -> bytes:
        import urllib3

        try:
            content = self._response.read1(size if size >= 0 else 1 << 20)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise Temporary(
                f"the download broke off: {_reason(error)}", where=_origin_text(self._url)
            ) from error
        self._got += len(content)
        if self._left is not None:
            self._left -= len(content)
            if not content and self._left > 0:
                raise Temporary("the download broke off", where=_origin_text(self._url))
        self._check_pace()
        return content

    def _check_pace(self) -> None:
        now = time.monotonic()
        if now - self._window >= PACE_SECONDS:
            if self._got < SLOWEST * (now - self._window):
                raise Temporary(
                    f"the server sends less than {SLOWEST} bytes a second",
                    where=_origin_text(self._url),
                )
            self._window, self._got = now, 0

    def close(self) -> None:
        if not self.closed:
            # A connection with an unread rest cannot serve again.
            if self._left == 0:
                self._response.release_conn()
            else:
                self._response.close()
        super().close()


def read_small(response: BaseHTTPResponse, url: str, limit: int) -> bytes:
    """All of a small body. Raises TargetError where it exceeds ``limit`` bytes."""
    with Body(response, url) as body:
        pieces: list[bytes] = []
        size = 0
        while piece := body.read(min(64 << 10, limit + 1 - size)):
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                raise TargetError(f"an answer of more than {limit} bytes", where=_origin_text(url))
    return b"".join(pieces)


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: what decides where secrets may go."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise TargetError(f"not a usable address: {url[:200]}") from error
    default = 443 if parts.scheme == "https" else 80
    return parts.scheme, (parts.hostname or "").lower(), port or default


def absolute(url: str, location: str) -> str:
    """``location`` as ``url``'s server meant it. Raises TargetError unless it is HTTP."""
    try:
        found = urljoin(url, location)
    except ValueError as error:
        raise TargetError(
            f"the server points at '{location[:100]}'", where=_origin_text(url)
        ) from error
    scheme, host, _ = origin(found)
    if scheme not in ("http", "https") or not host or len(found) > 16_384:
        raise TargetError(f"the server points at '{location[:100]}'", where=_origin_text(url))
    if origin(url)[0] == "https" and scheme == "http":
        raise TargetError("the server redirects from HTTPS to plain HTTP", where=_origin_text(url))
    return found


def _origin_text(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"[:300]


def _reason(error: BaseException) -> str:
    """The innermost cause, in few words."""
    seen: BaseException = error
    for _ in range(8):
        inner = getattr(seen, "reason", None) or seen.__cause__ or seen.__context__
        if not isinstance(inner, BaseException):
            break
        seen = inner
    if isinstance(seen, OSError) and seen.strerror:
        return seen.strerror
    return str(seen)[:300] or type(seen).__name__
