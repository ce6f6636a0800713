"""A broken connection is told from a file that cannot be read or written."""

from __future__ import annotations

from paramiko import SSHException

from embedkit.target.ways import connection_is_lost


class Alive:
    """A target whose transport has not noticed anything."""

    alive = True


class Gone:
    """A target whose transport knows."""

    alive = False


def wrapped() -> SSHException:
    """As paramiko's SFTP client reports the end of the stream."""
    try:
        try:
            raise EOFError
        except EOFError as error:
            raise SSHException(f"Server connection dropped: {error}")  # noqa: B904
    except SSHException as error:
        return error


def test_lost_or_not() -> None:
    assert connection_is_lost(Gone(), OSError("anything"))
    assert connection_is_lost(Alive(), EOFError())
    assert connection_is_lost(Alive(), ConnectionResetError())
    assert connection_is_lost(Alive(), wrapped())
    assert not connection_is_lost(Alive(), OSError("no space left on device"))
    assert not connection_is_lost(Alive(), SSHException("permission denied"))
