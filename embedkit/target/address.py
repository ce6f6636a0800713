"""Target URLs: what they may say, and nothing secret in them.

``ssh://[user@]host[:port]``, ``serial:///dev/ttyUSB0?baud=115200``, ``serial+tcp://host:port``,
``serial+rfc2217://host:port``, ``serial+unix:///path``, ``local:``; with ``uboot`` in place of
``serial`` the board is expected at its U-Boot prompt. ``qemu:NAME`` is a board that embedkit
emulates. A bare ``[user@]host`` means SSH.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from embedkit.errors import InputError, did_you_mean
from embedkit.target.base import short_name

SERIAL_KINDS = ("device", "tcp", "rfc2217", "unix")
_SCHEMES = (
    "ssh",
    "local",
    "qemu",
    *(
        f"{shell}{way}"
        for shell in ("serial", "uboot")
        for way in ("", "+tcp", "+rfc2217", "+unix")
    ),
)
_HINT = "for example ssh://root@board, serial:///dev/ttyUSB0?baud=115200, qemu:NAME or local:"
# A host name ends up in ProxyCommand lines, which a shell reads, so only what a name, an
# address or an alias in ssh_config can be is let in (OpenSSH 9.6 does the same).
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*|[0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?")
_USER = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.@+-]*\$?")
# A folder is called so: no separators, nothing hidden, short enough for a host name.
QEMU_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
QEMU_WAYS = ("ssh", "serial")
# The speeds of Linux's termios; others exist, but a typing error is far more likely.
BAUDS = (
    1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400, 460800, 500000, 576000, 921600,
    1000000, 1152000, 1500000, 2000000, 2500000, 3000000, 3500000, 4000000,
)  # fmt: skip


@dataclass(frozen=True)
class SshAddress:
    """``ssh://``: what is not given is left to ssh_config."""

    host: str
    user: str | None = None
    port: int | None = None
    legacy: bool = False

    @property
    def url(self) -> str:
        user = f"{quote(self.user, safe='@')}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port is not None else ""
        return f"ssh://{user}{host}{port}{'?legacy=1' if self.legacy else ''}"

    @property
    def name(self) -> str:
        return short_name(self.host if self.port in (None, 22) else f"{self.host}_{self.port}")


@dataclass(frozen=True)
class SerialAddress:
    """A serial line. ``kind`` is one of SERIAL_KINDS; ``path`` for device and unix, ``host`` and
    ``port`` for the others. ``baud`` is also the base of time estimates; None where a network
    line does not say. ``uboot``: a U-Boot prompt is expected and not a shell."""

    kind: str
    path: str = ""
    host: str = ""
    port: int = 0
    baud: int | None = None
    user: str | None = None
    uboot: bool = False

    @property
    def url(self) -> str:
        scheme = "uboot" if self.uboot else "serial"
        if self.kind != "device":
            scheme += f"+{self.kind}"
        user = f"{quote(self.user)}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        place = quote(self.path) if self.path else f"{host}:{self.port}"
        return f"{scheme}://{user}{place}{f'?baud={self.baud}' if self.baud else ''}"

    @property
    def name(self) -> str:
        return short_name(self.path.removeprefix("/dev/") or f"{self.host}_{self.port}")


@dataclass(frozen=True)
class LocalAddress:
    """``local:``: this machine."""

    url: str = "local:"
    name: str = "local"


@dataclass(frozen=True)
class QemuAddress:
    """``qemu:NAME``: an emulated board of this user. ``via`` is one of QEMU_WAYS; "" leaves the
    way to what its boot showed."""

    name: str
    via: str = ""

    @property
    def url(self) -> str:
        return f"qemu:{self.name}{f'?via={self.via}' if self.via else ''}"


Address = SshAddress | SerialAddress | LocalAddress | QemuAddress


def parse_address(text: str) -> Address:
    """Reads a target URL. Raises InputError; its message never repeats a password."""
    if text in ("local:", "local"):
        return LocalAddress()
    if text.startswith("qemu:"):
        return _qemu(text.removeprefix("qemu:"))
    if "://" not in text:
        if re.match(r"[a-z0-9+]+:(?!\d*$)", text):
            _no_such_scheme(text.partition(":")[0], text)
        text = f"ssh://{text}"
    scheme, _, _ = text.partition("://")
    if scheme not in _SCHEMES or scheme in ("local", "qemu"):
        _no_such_scheme(scheme, text)
    try:
        parts = urlsplit(text)
        port = parts.port
        host = parts.hostname or ""
    except ValueError as error:
        raise InputError(f"the target is not a URL: {error}", hint=_HINT) from error
    if parts.password is not None:
        raise InputError(
            "a password does not belong into a URL: every user of this machine can read it there",
            hint="leave it out and be asked for it, or set EMBEDKIT_PASSWORD",
        )
    # urlsplit lowers the host's case, but an alias in ssh_config may have capitals.
    place = parts.netloc.rpartition("@")[2]
    if host and "%" not in host:
        host = next((m for m in re.findall(re.escape(host), place, re.IGNORECASE)), host)
    user = unquote(parts.username) if parts.username else None
    if user is not None and not _USER.fullmatch(user):
        raise InputError("the user name holds characters that no user name has")
    if parts.fragment:
        raise InputError("a target URL has no '#' part", hint=_HINT)
    options = _options(parts.query)
    if scheme == "ssh":
        return _ssh(host, user, port, parts.path, options)
    return _serial(scheme, host, user, port, unquote(parts.path), options)


def _no_such_scheme(scheme: str, text: str) -> None:
    shown = scheme if re.fullmatch(r"[\w+.-]{1,20}", scheme) else "…"
    raise InputError(
        f"there is no kind of target called '{shown}:'", hint=did_you_mean(shown, _SCHEMES) or _HINT
    )


def _options(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as error:
        raise InputError(f"the options of the target URL are not NAME=VALUE: {error}") from error
    return dict(pairs)


def _only(options: dict[str, str], known: tuple[str, ...]) -> None:
    for name in options:
        if name not in known:
            raise InputError(
                f"a target of this kind has no option '{name}'",
                hint=did_you_mean(name, known) or f"known: {', '.join(known)}",
            )


def _host(host: str) -> str:
    if not _HOST.fullmatch(host):
        raise InputError(
            "the target URL has no host name" if not host else "the host is not a host name",
            hint=_HINT,
        )
    return host


def _qemu(text: str) -> QemuAddress:
    name, _, query = text.partition("?")
    options = _options(query)
    _only(options, ("via",))
    via = options.get("via", "")
    if via not in ("", *QEMU_WAYS):
        raise InputError(f"via is {' or '.join(QEMU_WAYS)}, not '{via}'")
    if not QEMU_NAME.fullmatch(name):
        raise InputError(
            "an emulated board's name is letters, digits, '.', '_' and '-'",
            hint="write qemu:NAME; 'embedkit emulate list' shows the names",
        )
    return QemuAddress(name, via)


def _ssh(
    host: str, user: str | None, port: int | None, path: str, options: dict[str, str]
) -> SshAddress:
    _only(options, ("legacy",))
    if path not in ("", "/"):
        raise InputError("an ssh target has no path", hint="write ssh://[user@]host[:port]")
    legacy = options.get("legacy", "0")
    if legacy not in ("0", "1"):
        raise InputError(f"legacy is 0 or 1, not '{legacy}'")
    if port == 0:
        raise InputError("port 0 cannot be connected to")
    return SshAddress(_host(host), user, port, legacy == "1")


def _serial(
    scheme: str, host: str, user: str | None, port: int | None, path: str, options: dict[str, str]
) -> SerialAddress:
    _only(options, ("baud",))
    shell, _, way = scheme.partition("+")
    kind = way or "device"
    baud: int | None = None
    if "baud" in options:
        if not options["baud"].isascii() or not options["baud"].isdigit():
            raise InputError(f"the baud rate '{options['baud']}' is not a number")
        asked = baud = int(options["baud"][:12])
        if baud not in BAUDS:
            raise InputError(
                f"{baud} is not a baud rate",
                hint=f"the nearest is {min(BAUDS, key=lambda known: abs(known - asked))}",
            )
    if kind in ("device", "unix"):
        if host or port is not None:
            raise InputError(
                "the path of a serial line needs three slashes",
                hint="write serial:///dev/ttyUSB0",
            )
        if not path.startswith("/") or path == "/" or "\0" in path:
            raise InputError("the serial line has no path", hint="write serial:///dev/ttyUSB0")
        if kind == "device" and baud is None:
            baud = 115200
        return SerialAddress(kind, path=path, baud=baud, user=user, uboot=shell == "uboot")
    if not port:
        raise InputError(
            "a serial line over the network needs a port", hint=f"{scheme}://host:port"
        )
    if path not in ("", "/"):
        raise InputError("a serial line over the network has no path")
    return SerialAddress(
        kind, host=_host(host), port=port, baud=baud, user=user, uboot=shell == "uboot"
    )
