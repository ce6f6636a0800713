"""A board reached by SSH, with paramiko: OpenSSH and dropbear servers, new and old."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import paramiko
from paramiko.message import Message
from paramiko.ssh_exception import SSHException

from embedkit.target.address import SshAddress
from embedkit.target.base import (
    AskSecret,
    Channel,
    Command,
    CommandTimeout,
    ConnectionLost,
    Output,
    quote,
    script,
)
from embedkit.target.shell import ShellTarget
from embedkit.target.sshconfig import HostConfig
from embedkit.target.sshconnect import Connection, Connector

_READ_BYTES = 256 << 10
_OPEN_SECONDS = 30.0
_POLL_SECONDS = 0.5
# RFC 4254 has no room for a bare "killed" in what paramiko tells, see _exit_code().
_UNKNOWN_EXIT = 255


class SshTarget(ShellTarget):
    """``ssh://``. ``say`` hears of things worth a line (a host key that was stored).

    ``config`` stands in place of what ssh_config says; ``url`` and ``name`` are what the target
    is called where that is not its address.
    """

    def __init__(
        self,
        address: SshAddress,
        *,
        ask: AskSecret | None = None,
        accept_new_host_key: bool = False,
        legacy: bool = False,
        say: Callable[[str], None] | None = None,
        config: HostConfig | None = None,
        url: str = "",
        name: str = "",
    ) -> None:
        super().__init__(url or address.url, name or address.name)
        self._ssh = address
        self._connector = Connector(ask, accept_new_host_key, legacy, say, config)
        self._connection: Connection | None = None

    def connect(self, *, deadline_seconds: float | None = None) -> None:
        if not self.alive:
            self.close()
            self._connection = self._connector.connect(self._ssh, deadline_seconds)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def alive(self) -> bool:
        """Whether the connection is there, as far as is known."""
        return self._connection is not None and self._connection.transport.is_active()

    def open_sftp(self) -> Any:
        """A new SFTP session: a paramiko SFTPClient. Raises SSHException where the server has
        none; the connection stays good."""
        channel = self._session()
        try:
            channel.invoke_subsystem("sftp")
            return paramiko.SFTPClient(channel)
        except BaseException:
            channel.close()
            raise

    def open_shell(self, columns: int, rows: int, term: str) -> paramiko.Channel:
        """An interactive shell on a terminal of its own, for the console."""
        channel = self._session()
        channel.get_pty(term, columns, rows)
        channel.invoke_shell()
        return channel

    def stream(
        self,
        command: Command,
        *,
        input: Iterable[bytes] | None = None,
        output: Output | None = None,
        timeout: float | None = None,
    ) -> int:
        channel = self._session()
        exchange = _Exchange(channel, output)
        try:
            # By sh, whatever the login shell is; "exit" keeps a shell around that turns a
            # signal into 128 + N, which paramiko would not tell.
            channel.exec_command(f"sh -c 'eval \"$1\"\nexit $?' sh {quote(script(command))}")
            exchange.feed(input)
            exchange.pump(timeout, self.name)
            return self._exit_code(channel, timeout)
        except (SSHException, EOFError, ConnectionError) as error:
            raise self._lost(error) from error
        except BaseException:
            _terminate(channel)
            raise
        finally:
            # paramiko says goodbye even to who is gone.
            with contextlib.suppress(OSError, EOFError, SSHException):
                channel.close()
            exchange.join()

    def _session(self) -> paramiko.Channel:
        try:
            return self._transport().open_session(timeout=_OPEN_SECONDS)
        except (SSHException, OSError, EOFError) as error:
            raise self._lost(error) from error

    def _transport(self) -> paramiko.Transport:
        if self._connection is None:
            self.connect()
        assert self._connection is not None
        return self._connection.transport

    def _exit_code(self, channel: paramiko.Channel, timeout: float | None) -> int:
        # Some servers send the end of the output well before the exit code.
        channel.status_event.wait(_OPEN_SECONDS if timeout is None else max(timeout, 1.0))
        code = channel.exit_status
        if code >= 0:
            return code
        transport = channel.get_transport()
        # A dying connection closes its channels before it is marked as inactive.
        transport.join(_POLL_SECONDS)
        if not transport.is_active() or not transport.is_alive():
            raise self._lost(None)
        return _UNKNOWN_EXIT

    def _lost(self, error: Exception | None) -> ConnectionLost:
        reason = str(error) if error is not None and str(error) else "it was closed"
        return ConnectionLost(f"the connection broke: {reason}", where=self.name)


class _Exchange:
    """One command's three streams: input and standard error have threads of their own, since
    the SSH window is shared and whoever is not served stops the others."""

    def __init__(self, channel: paramiko.Channel, output: Output | None) -> None:
        self._channel = channel
        self._output = output
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._errors = threading.Thread(target=self._read_errors, daemon=True)
        self._feeder: threading.Thread | None = None

    def feed(self, chunks: Iterable[bytes] | None) -> None:
        if chunks is None:
            self._channel.shutdown_write()
        else:
            self._feeder = threading.Thread(target=self._write, args=(chunks,), daemon=True)
            self._feeder.start()
        self._errors.start()

    def pump(self, timeout: float | None, name: str) -> None:
        """Hands out standard output until its end, then waits for the other streams."""
        ends = None if timeout is None else time.monotonic() + timeout
        while True:
            left = _POLL_SECONDS if ends is None else ends - time.monotonic()
            if left <= 0:
                raise CommandTimeout(f"the command did not end within {timeout:g} s", where=name)
            self._channel.settimeout(min(left, _POLL_SECONDS))
            try:
                data = self._channel.recv(_READ_BYTES)
            except TimeoutError:
                if self._error is not None:
                    raise self._error from None
                continue
            if not data:
                break
            self._hand_out(Channel.STDOUT, data)
        self._errors.join()
        if self._error is not None:
            raise self._error

    def join(self) -> None:
        if self._errors.ident is not None:
            self._errors.join()
        if self._feeder is not None:
            self._feeder.join()

    def _hand_out(self, channel: Channel, data: bytes) -> None:
        if self._output is not None:
            with self._lock:
                self._output(channel, data)

    def _read_errors(self) -> None:
        try:
            while True:
                try:
                    data = self._channel.recv_stderr(_READ_BYTES)
                except TimeoutError:
                    continue
                if not data:
                    return
                self._hand_out(Channel.STDERR, data)
        except BaseException as error:
            self._error = self._error or error

    def _write(self, chunks: Iterable[bytes]) -> None:
        try:
            for chunk in chunks:
                self._send(chunk)
        except (OSError, EOFError):
            # The command ended without reading all of it, and its exit code tells; or the
            # connection broke, which the reader sees.
            pass
        except BaseException as error:
            self._error = error
        finally:
            with contextlib.suppress(OSError, EOFError, SSHException):
                self._channel.shutdown_write()

    def _send(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        while view:
            try:
                sent = self._channel.send(view)  # type: ignore[arg-type]
            except TimeoutError:
                continue  # the reader's time-out; the window is full
            if sent == 0:
                raise OSError("closed")
            view = view[sent:]


def _terminate(channel: paramiko.Channel) -> None:
    """Asks the server to stop the command (RFC 4254, section 6.9).

    Only OpenSSH is asked: dropbear 2022.83 dies of the request about every fourth time, and the
    connection with it. There the command ends when it next reads or writes.
    """
    transport: Any = channel.get_transport()
    if "OpenSSH" not in transport.remote_version:
        return
    with contextlib.suppress(Exception):
        message = Message()
        message.add_byte(b"\x62")  # SSH_MSG_CHANNEL_REQUEST
        message.add_int(channel.remote_chanid)
        message.add_string("signal")
        message.add_boolean(False)
        message.add_string("TERM")
        transport._send_user_message(message)
