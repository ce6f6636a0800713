"""What a board keeps container images in: Docker, or containerd without one."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from embedkit.docker.engine import EngineError
from embedkit.errors import TargetError
from embedkit.progress import Progress
from embedkit.target.base import ConnectionLost, Equipped, Output, quote
from embedkit.target.pipe import Piped
from embedkit.target.squeeze import Squeeze
from embedkit.units import format_size

_PLACES = ("/var/tmp", "/tmp")
_TIDY_SECONDS = 15.0


@dataclass(frozen=True)
class Daemon:
    """What a store says of itself before anything is sent.

    ``arch`` is Docker's word for the daemon's own programs; ``root`` the folder of its data, ""
    where unknown. ``contents`` tells the two kinds of stores apart: False for Docker's own,
    which knows layers (``layers``: each image's diff_ids), True for containerd's, which knows
    blobs (``blobs``; None where they cannot be listed). ``security`` are its confinements.
    """

    program: str
    version: str
    arch: str
    root: str
    contents: bool
    way: str
    layers: tuple[tuple[str, ...], ...] = ()
    blobs: frozenset[str] | None = None
    security: tuple[str, ...] = ()
    storage: str = ""

    @property
    def major(self) -> int:
        """The version's first number, 0 where it tells none."""
        match = re.match(r"v?(\d{1,6})", self.version)
        return int(match.group(1)) if match else 0


@dataclass(frozen=True)
class Image:
    """An image that the store has. ``variant`` is empty where it tells none."""

    id: str
    os: str
    arch: str
    variant: str
    layers: tuple[str, ...]


class Images(Protocol):
    """A board's store of images. All methods raise EngineError for what it refuses."""

    def daemon(self) -> Daemon: ...

    def load(self, archive: Path, *, major: int, progress: Progress, title: str) -> Piped:
        """Sends the archive and has it loaded."""

    def find(self, name: str) -> Image | None: ...

    def tag(self, id: str, name: str) -> None: ...

    def remove(self, name: str) -> None:
        """Takes the name away, and the image with its last name; no error where it is absent."""

    def run(self, image: str, command: Sequence[str], output: Output) -> int:
        """Runs a container, hands out its output as it comes, and removes it."""


def checked(done: Piped, target: Equipped) -> Piped:
    """``done`` where it ended well. Raises EngineError with what it said otherwise."""
    if done.exit_code != 0:
        text = (done.stderr or done.stdout).decode("utf-8", "replace").strip()
        said = " ".join(text.splitlines()[-3:]) or f"exit code {done.exit_code}"
        raise EngineError(said.removeprefix("Error response from daemon: "), where=target.name)
    return done


def load_file(target: Equipped, command: str, archive: Path, progress: Progress) -> Piped:
    """For a serial line: a file that is resumed and compared, then read by ``command``, then
    removed. Raises TargetError where there is no room for it."""
    folder = f"{_place(target, archive.stat().st_size)}/.embedkit-{secrets.token_hex(6)}"
    target.run(f"umask 077; mkdir {quote(folder)}")
    try:
        sent = target.put(archive, f"{folder}/image.tar", mode=0o600, progress=progress)
        result = target.run(f"{command} <{quote(folder)}/image.tar", timeout=None, check=False)
    finally:
        after_all(target, lambda: target.run(f"rm -rf {quote(folder)}", check=False))
    done = Piped(result.exit_code, result.stdout, result.stderr, sent.sent_bytes, Squeeze.GZIP)
    return checked(done, target)


def _place(target: Equipped, size: int) -> str:
    facts = target.facts()
    most = 0
    for place in _PLACES:
        there = facts.filesystem_of(place)
        if there is None or there.available_bytes is None or there.available_bytes > size:
            return place
        most = max(most, there.available_bytes)
    raise TargetError(
        f"the image needs {format_size(size)} in {' or '.join(_PLACES)}, which have "
        f"{format_size(most)} free",
        where=target.name,
        hint="make room, or use SSH: nothing is kept on the way then",
    )


def after_all(target: Equipped, tidy: Callable[[], object]) -> None:
    """Tidies up at the end, over a new connection where the old one broke; what cannot be
    reached any more stays as it is."""
    with contextlib.suppress(TargetError):
        try:
            tidy()
        except ConnectionLost:
            target.reconnect(deadline_seconds=_TIDY_SECONDS)
            tidy()
