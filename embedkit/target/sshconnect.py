"""Making an SSH connection: socket, jumps, host key, authentication."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paramiko
from paramiko.ssh_exception import IncompatiblePeer, SSHException

from embedkit import process
from embedkit.errors import EmbedkitError, TargetError
from embedkit.target import hostkeys
from embedkit.target.address import SshAddress
from embedkit.target.base import AskSecret, AuthenticationFailed, ConnectionLost
from embedkit.target.sshalgorithms import (
    LegacyTransport,
    ModernTransport,
    for_legacy,
    host_key_types,
)
from embedkit.target.sshconfig import HostConfig, read_host

CONNECT_SECONDS = 15.0
_KEEPALIVE_SECONDS = 10
# A board that lost its power is noticed after this, and not after TCP's quarter of an hour.
_DEAD_PEER_MS = 30_000
_JUMP_DEPTH = 8
_PASSWORD_TRIES = 3
# OpenSSH's MaxAuthTries is 6 by default, and "none" counts.
_AGENT_KEYS = 4

# paramiko logs tracebacks of every broken connection to standard error where nobody set up
# logging; what went wrong comes back as an exception.
logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").propagate = False


@dataclass
class Connection:
    """An authenticated connection, and what it stands on."""

    transport: paramiko.Transport
    config: HostConfig
    below: list[Callable[[], None]] = field(default_factory=list)

    def close(self) -> None:
        self.transport.close()
        for undo in reversed(self.below):
            with contextlib.suppress(OSError, EOFError, SSHException):
                undo()
        self.below.clear()


@dataclass(frozen=True)
class Connector:
    """Connects with one set of permissions. ``say`` hears of a host key that was stored;
    ``config`` stands in place of what ssh_config says."""

    ask: AskSecret | None = None
    accept_new_host_key: bool = False
    legacy: bool = False
    say: Callable[[str], None] | None = None
    config: HostConfig | None = None

    def connect(self, address: SshAddress, deadline_seconds: float | None) -> Connection:
        """A connection to ``address``; with a deadline, tried until it is reached.

        Raises ConnectionLost where it cannot be reached, AuthenticationFailed, HostKeyRefused,
        InputError for an unusable ssh_config, TargetError where no algorithm is common.
        """
        config = self.config or read_host(address)
        ends = None if deadline_seconds is None else time.monotonic() + deadline_seconds
        wait = 0.25
        while True:
            try:
                return self._once(config, 0)
            except ConnectionLost:
                if ends is None or time.monotonic() + wait >= ends:
                    raise
            time.sleep(wait)
            wait = min(wait * 1.5, 3.0)

    def _once(self, config: HostConfig, depth: int) -> Connection:
        below: list[Callable[[], None]] = []
        try:
            transport = self._transport(config, self._socket(config, below, depth))
            below.append(transport.close)
            self._check_host_key(config, transport)
            self._authenticate(config, transport)
        except BaseException:
            for undo in reversed(below):
                with contextlib.suppress(Exception):
                    undo()
            raise
        transport.set_keepalive(_KEEPALIVE_SECONDS)
        return Connection(transport, config, below)

    def _socket(self, config: HostConfig, below: list[Callable[[], None]], depth: int) -> Any:
        if depth > _JUMP_DEPTH:
            raise TargetError("the jump hosts lead in a circle", where=config.host)
        if config.jumps:
            return self._through_jumps(config, below, depth)
        if config.proxy_command is not None:
            return _through_command(config.proxy_command, below)
        try:
            plain = socket.create_connection((config.host, config.port), timeout=CONNECT_SECONDS)
        except OSError as error:
            raise ConnectionLost(
                f"cannot connect to {config.host} port {config.port}: {error.strerror or error}",
                hint="is the board up, and the address right?",
            ) from error
        # paramiko does not set it; unpipelined writes are 40 to 100 times slower without.
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_PEER_MS)
        plain.settimeout(None)
        below.append(plain.close)
        return plain

    def _through_jumps(
        self, config: HostConfig, below: list[Callable[[], None]], depth: int
    ) -> Any:
        sock: Any = None
        hops = [read_host(hop) for hop in config.jumps]
        for index, hop in enumerate(hops):
            if sock is None:
                connection = self._once(hop, depth + 1)
                transport = connection.transport
                below.append(connection.close)
            else:
                transport = self._transport(hop, sock)
                below.append(transport.close)
                self._check_host_key(hop, transport)
                self._authenticate(hop, transport)
            onward = hops[index + 1] if index + 1 < len(hops) else config
            try:
                sock = transport.open_channel(
                    "direct-tcpip", (onward.host, onward.port), ("127.0.0.1", 0), timeout=30
                )
            except (SSHException, OSError, EOFError) as error:
                raise ConnectionLost(
                    f"{hop.host} cannot connect to {onward.host} port {onward.port}: {error}"
                ) from error
        return sock

    def _transport(self, config: HostConfig, sock: Any) -> paramiko.Transport:
        kind = LegacyTransport if self.legacy else ModernTransport
        label = hostkeys.host_label(config.label_host, config.port)
        transport = kind(sock)
        transport.banner_timeout = CONNECT_SECONDS
        transport.auth_timeout = 30
        types = [key.type for key in self._known(config, label) if not key.revoked]
        transport.get_security_options().key_types = host_key_types(transport, types)
        try:
            transport.start_client(timeout=CONNECT_SECONDS)
        except IncompatiblePeer as error:
            transport.close()
            raise self._incompatible(config, str(error)) from error
        except (SSHException, OSError, EOFError) as error:
            transport.close()
            if "no acceptable" in str(error).lower():
                raise self._incompatible(config, str(error)) from error
            raise ConnectionLost(
                f"{config.host} port {config.port} does not complete an SSH handshake: "
                f"{error or 'it closed the connection'}"
            ) from error
        return transport

    def _incompatible(self, config: HostConfig, what: str) -> EmbedkitError:
        if self.legacy:
            return TargetError(f"the SSH server has no algorithm in common with us: {what}")
        return TargetError(
            f"the SSH server of {config.host} only speaks what is no longer safe: {what}",
            hint="if it is an old board on a network that you trust, add --legacy-ssh "
            "(or '?legacy=1' to its URL)",
        )

    def _known(self, config: HostConfig, label: str) -> list[hostkeys.KnownKey]:
        files = (*config.known_hosts, config.accepted)
        return hostkeys.known_keys(label, files)

    def _check_host_key(self, config: HostConfig, transport: paramiko.Transport) -> None:
        label = hostkeys.host_label(config.label_host, config.port)
        try:
            key = transport.get_remote_server_key()
        except SSHException as error:  # a board that goes down just then
            raise ConnectionLost(f"{config.host} closed the connection: {error}") from error
        new = hostkeys.check(
            label,
            config.accepted,
            key.get_name(),
            key.asbytes(),
            self._known(config, label),
            accept=self.accept_new_host_key or config.accept_new,
        )
        if new:
            hostkeys.store(label, config.accepted, key.get_name(), key.asbytes())
            if self.say is not None:
                shown = f"{key.get_name()} {hostkeys.fingerprint(key.asbytes())}"
                self.say(f"stored the host key of {label}, {shown}, in {config.accepted}")

    def _authenticate(self, config: HostConfig, transport: paramiko.Transport) -> None:
        try:
            _Login(config, transport, self.ask, self.legacy).log_in()
        except (OSError, EOFError, SSHException) as error:
            # Not an answer to a key or password: those are handled where they are tried.
            if transport.is_active():
                raise AuthenticationFailed(f"{config.host}: {error}") from error
            raise ConnectionLost(
                f"{config.host} closed the connection during the login: {error or 'end of file'}"
            ) from error


def _through_command(command: str, below: list[Callable[[], None]]) -> socket.socket:
    """ProxyCommand: the user's own line for their own shell, its tokens put in by ssh_config's
    reader; host names that a shell could misread were refused when the URL was read."""
    ours, theirs = socket.socketpair()
    with theirs:
        running = process.start(
            ["/bin/sh", "-c", f"exec {command}"],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=process.DEVNULL,
            new_session=True,
        )

    def stop() -> None:
        ours.close()
        running.terminate()
        process.wait_or_kill(running, 2)

    below.append(stop)
    return ours


class _Login:
    """Tries what may open the door, in OpenSSH's order: nothing, agent, key files, password."""

    def __init__(
        self,
        config: HostConfig,
        transport: paramiko.Transport,
        ask: AskSecret | None,
        legacy: bool,
    ) -> None:
        self._config = config
        self._transport = transport
        self._ask = ask
        self._legacy = legacy
        self._tried: list[str] = []
        self._notes: list[str] = []

    def log_in(self) -> None:
        allowed = self._none()
        if allowed is None:
            return
        if "publickey" in allowed and self._keys():
            return
        if {"password", "keyboard-interactive"} & set(allowed) and self._password():
            return
        user, host = self._config.user, self._config.host
        tried = ", ".join(self._tried) or "nothing that it accepts"
        hint = "; ".join(self._notes)
        if not hint and "password" in allowed:
            hint = "give the password when asked (on a terminal), or set EMBEDKIT_PASSWORD"
        raise AuthenticationFailed(
            f"{host} does not let {user} in; it takes {', '.join(allowed)}, tried: {tried}",
            hint=hint or "is the user right, and the key in its authorized_keys?",
        )

    def _none(self) -> list[str] | None:
        """Boards often have a root without any password. None: that was enough."""
        try:
            self._transport.auth_none(self._config.user)
        except paramiko.BadAuthenticationType as refused:
            return list(refused.allowed_types)
        return None

    def _keys(self) -> bool:
        agent, pairs = None, []
        wanted = {blob for file in self._config.identity_files if (blob := _public_blob(file))}
        with contextlib.suppress(SSHException, OSError):
            agent = paramiko.Agent()
            keys = [(key, "agent key") for key in agent.get_keys()]
            if self._config.identities_only:
                keys = [pair for pair in keys if pair[0].asbytes() in wanted]
            # Those that are configured first: a server counts every try.
            keys.sort(key=lambda pair: pair[0].asbytes() not in wanted)
            pairs = keys[:_AGENT_KEYS]
        try:
            for key, what in pairs:
                if self._try_key(key, what):
                    return True
            seen = {key.asbytes() for key, _ in pairs}
            for file in self._config.identity_files:
                loaded = self._load(file, seen)
                if loaded is not None and self._try_key(loaded, str(file)):
                    return True
        finally:
            if agent is not None:
                agent.close()
        return False

    def _load(self, file: Path, seen: set[bytes]) -> paramiko.PKey | None:
        if not file.is_file() or _public_blob(file) in seen:
            return None
        try:
            try:
                key = _read_key(file, None)
            except paramiko.PasswordRequiredException:
                phrase = self._ask(f"passphrase of {file}") if self._ask is not None else None
                if phrase is None:
                    self._notes.append(f"{file} needs a passphrase (EMBEDKIT_PASSPHRASE)")
                    return None
                key = _read_key(file, phrase)
        except (SSHException, OSError, ValueError, TypeError):
            # What a library says of a wrong passphrase must not be repeated word for word.
            self._notes.append(f"{file} cannot be read, or its passphrase is not right")
            return None
        return for_legacy(key) if self._legacy else key

    def _try_key(self, key: paramiko.PKey, what: str) -> bool:
        self._tried.append(what)
        try:
            further = self._transport.auth_publickey(self._config.user, key)
        except paramiko.AuthenticationException:
            return False
        except SSHException as error:
            if not self._transport.is_active():
                raise
            self._notes.append(f"{what}: {error}")
            return False
        if further:
            self._notes.append("the key was accepted, but the server wants more than that")
        return not further

    def _password(self) -> bool:
        if self._ask is None:
            return False
        last: str | None = None
        for _ in range(_PASSWORD_TRIES):
            secret = self._ask(f"password for {self._config.user}@{self._config.host}")
            if secret is None or secret == last:
                break  # no terminal to ask on, or the environment's answer once more
            last = secret
            self._tried.append("password")
            try:
                further = self._transport.auth_password(self._config.user, secret)
                return not further
            except paramiko.AuthenticationException:
                if not self._transport.is_active():
                    break
        if last is not None:
            self._notes.append("the password was not accepted")
        return False


def _read_key(file: Path, phrase: str | None) -> paramiko.PKey:
    """The key in ``file``, with the certificate beside it where there is one.

    Kind by kind: paramiko 5.1's PKey.from_path cannot read encrypted keys.
    """
    problem: Exception = SSHException("not a private key")
    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        try:
            key: paramiko.PKey = kind.from_private_key_file(str(file), phrase)
        except paramiko.PasswordRequiredException:
            raise
        except (SSHException, ValueError, IndexError) as error:
            problem = error
            continue
        certificate = file.with_name(f"{file.name}-cert.pub")
        if certificate.is_file():
            key.load_certificate(str(certificate))
        return key
    raise problem


def _public_blob(file: Path) -> bytes | None:
    """The key in the ``.pub`` beside a key file, without touching the private one."""
    import base64

    try:
        words = file.with_name(f"{file.name}.pub").read_text("utf-8", "replace").split()
        return base64.b64decode(words[1])
    except (OSError, IndexError, ValueError):
        return None
