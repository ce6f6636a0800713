"""Bringing an image to a board's store: only what it lacks, read back, named at the end.

Here and not in a room: the images are the oci room's, the board's store is the docker room's.
"""

from __future__ import annotations

import re
import secrets
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from embedkit.commands.oci_board import Board
from embedkit.docker.engine import EngineError
from embedkit.docker.store import Image
from embedkit.errors import TargetError
from embedkit.oci import loadable, reference
from embedkit.oci.loadable import Chosen, Packed
from embedkit.progress import Progress
from embedkit.target.base import ConnectionLost
from embedkit.target.pipe import Piped
from embedkit.units import format_size

_TRIES = 3
_RECONNECT_SECONDS = 60.0
# What a store says that was not sent a layer which it should have, and has not after all.
_LACKS = re.compile(r"docker-import-\d+.*no such file|content digest .*not found")


@dataclass(frozen=True)
class Errand:
    """What is to be brought where. ``there`` are the numbers of the layers that the board has;
    ``unpacked`` the bytes of each layer unpacked, empty where the layers were not read."""

    board: Board
    chosen: Chosen
    name: str
    there: frozenset[int]
    present: bool
    unpacked: tuple[int, ...] = ()

    @property
    def id(self) -> str:
        """What the board's store calls the image."""
        return self.chosen.digest if self.board.daemon.contents else self.chosen.image_id

    @property
    def shown(self) -> str:
        """The name as a person would write it, else the beginning of the ID."""
        return reference.parse(self.name).short if self.name else self.id[:19]

    @property
    def missing(self) -> tuple[int, ...]:
        return tuple(n for n in range(len(self.chosen.manifest.layers)) if n not in self.there)


@dataclass(frozen=True)
class Loaded:
    """An image that is on the board. ``packed`` and ``sent`` are None where it was there."""

    image: Image
    packed: Packed | None = None
    sent: Piped | None = None
    cuts: int = 0
    again: bool = False


def errand(board: Board, chosen: Chosen, name: str, unpacked: tuple[int, ...] = ()) -> Errand:
    """What the board has of the image, asked in one question more."""
    daemon = board.daemon
    if daemon.contents:
        there = loadable.blobs_there(chosen, daemon.blobs or ())
    else:
        there = loadable.layers_there(chosen, daemon.layers)
    made = Errand(board, chosen, name, there, False, unpacked)
    if daemon.program != "Docker":
        return made
    found = board.images.find(made.id)
    present = found is not None and found.layers == chosen.config.diff_ids
    return Errand(board, chosen, name, there, present, unpacked)


def check_room(wanted: Errand) -> None:
    """Raises TargetError where the store's filesystem cannot hold what is to come.

    Docker's own store keeps the archive's members on the disk while it unpacks them.
    """
    daemon, layers = wanted.board.daemon, wanted.chosen.manifest.layers
    there = wanted.board.facts.filesystem_of(daemon.root) if daemon.root else None
    if wanted.present or there is None or there.available_bytes is None:
        return
    unpacked = sum(wanted.unpacked[n] for n in wanted.missing) if wanted.unpacked else 0
    sent = sum(layers[n].size for n in wanted.missing)
    needed = max(sent, unpacked) + (sent if daemon.contents else max(sent, unpacked))
    if needed > there.available_bytes:
        raise TargetError(
            f"the image needs about {format_size(needed)} in {daemon.root} while it is loaded, and "
            f"{format_size(there.available_bytes)} are free there",
            where=wanted.board.target.name,
            hint="make room: docker image prune, docker system df",
        )


def bring(wanted: Errand, progress: Progress) -> Loaded:
    """Sends, reads back, names. A broken connection is made again and the rest sent anew.

    Raises TargetError where the board refuses the image or holds another one in the end; its
    images are as they were then.
    """
    board = wanted.board
    if wanted.present:
        return _named(wanted, wanted.id, Loaded(_checked(wanted, wanted.id)))
    cuts = 0
    there: Collection[int] = wanted.there
    again = False
    while True:
        try:
            found = _send(wanted, there, progress)
            return Loaded(found.image, found.packed, found.sent, cuts, again)
        except ConnectionLost:
            cuts += 1
            if cuts >= _TRIES:
                raise
            progress.say(f"{board.target.name}: the connection broke; trying again")
            board.target.reconnect(deadline_seconds=_RECONNECT_SECONDS)
            # It may have been the answer alone that was lost.
            if board.daemon.program == "Docker" and board.images.find(wanted.id) is not None:
                return _named(wanted, wanted.id, Loaded(_checked(wanted, wanted.id), cuts=cuts))
        except EngineError as error:
            if not there or not _LACKS.search(error.message):
                raise
            progress.say(
                f"{board.target.name}: it lacks a layer that it seemed to have; sending all"
            )
            there, again = frozenset(), True


def _send(wanted: Errand, there: Collection[int], progress: Progress) -> Loaded:
    board, chosen = wanted.board, wanted.chosen
    daemon = board.daemon
    # containerd knows no image without a name: one of our own until it was read back.
    own = "" if daemon.program == "Docker" else f"embedkit.invalid/load:{secrets.token_hex(8)}"
    with tempfile.TemporaryDirectory(prefix="embedkit-load-") as folder:
        path = Path(folder) / "image.tar"
        if daemon.contents:
            packed = loadable.pack_blobs(chosen, path, own, there, progress=progress)
        else:
            packed = loadable.pack_layers(chosen, path, there, progress=progress)
        title = f"send to {board.target.name}"
        try:
            sent = board.images.load(path, major=daemon.major, progress=progress, title=title)
            id = own or wanted.id
            done = Loaded(_checked(wanted, id), packed, sent)
        except EngineError:
            if own:
                board.images.remove(own)
            raise
    done = _named(wanted, id, done)
    if own:
        board.images.remove(own)
    return done


def _checked(wanted: Errand, id: str) -> Image:
    """The image as the board has it. Raises TargetError where it is not the one that was sent."""
    found = wanted.board.images.find(id)
    config = wanted.chosen.config
    if (
        found is None
        or found.id != wanted.id
        or found.layers != config.diff_ids
        or (found.os, found.arch) != (config.platform.os, config.platform.architecture)
    ):
        raise TargetError(
            "what the board has after loading is not the image that was sent: "
            + (f"{found.id} for {found.os}/{found.arch}" if found else f"no {wanted.id}"),
            where=wanted.board.target.name,
            hint="nothing was named; 'docker image ls' on the board tells what is there",
        )
    return found


def _named(wanted: Errand, id: str, done: Loaded) -> Loaded:
    if wanted.name:
        wanted.board.images.tag(id, wanted.name)
    return done
