"""Opening test servers as targets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from embedkit.target.opening import Access, open_target
from embedkit.target.shell import ShellTarget
from support.sshservers import Server


@dataclass(frozen=True)
class Home:
    """A user's home: with one SSH key, and nothing known."""

    path: Path

    @property
    def public_key(self) -> str:
        return (self.path / ".ssh/id_ed25519.pub").read_text()


def reach(server: Server, port: int | None = None) -> ShellTarget:
    """The server, through a proxy's port where given; an unknown key is accepted."""
    target = open_target(
        f"ssh://root@127.0.0.1:{port or server.port}", Access(accept_new_host_key=True)
    )
    assert isinstance(target, ShellTarget)
    return target
