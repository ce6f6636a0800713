"""Opening test servers as targets."""

from __future__ import annotations

from embedkit.target.opening import Access, open_target
from embedkit.target.shell import ShellTarget
from support.sshservers import Server


def reach(server: Server, port: int | None = None) -> ShellTarget:
    """The server, through a proxy's port where given; an unknown key is accepted."""
    target = open_target(
        f"ssh://root@127.0.0.1:{port or server.port}", Access(accept_new_host_key=True)
    )
    assert isinstance(target, ShellTarget)
    return target
