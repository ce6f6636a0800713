"""What embedkit remembers on a board of what it installed there: one JSON file, written whole.

A *generation* is one complete installation: a folder of programs and every file and link around
it, with their contents, so that any generation can be put back without the machine that made
it. *Originals* are what was at those places before embedkit first came.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from embedkit.docker.service import Placed, Service
from embedkit.errors import TargetError

ROOT = "/opt/embedkit/docker"
FORMAT = 1


@dataclass(frozen=True)
class Generation:
    """``folder`` is the programs' folder under the root, ``ours`` what of daemon.json is from
    embedkit; ``service`` holds all that is placed and the commands."""

    folder: str
    version: str
    digest: str
    init: str
    data_root: str
    single_binary: bool
    ours: Mapping[str, Any]
    service: Service

    @property
    def placed(self) -> tuple[Placed, ...]:
        return self.service.placed

    def placed_at(self, path: str) -> Placed | None:
        return next((item for item in self.placed if item.path == path), None)


@dataclass(frozen=True)
class Thing:
    """What is at a path: ``kind`` is absent, file, link or other (a folder, a device, a file
    too big to be a setting). ``content`` is a file's; ``link_to`` a link's."""

    path: str
    kind: str
    mode: int = 0o644
    content: bytes = b""
    link_to: str = ""

    def is_as(self, wanted: Placed) -> bool:
        """Whether it is already what ``wanted`` asks for."""
        if wanted.link_to is not None:
            return self.kind == "link" and self.link_to == wanted.link_to
        return (
            self.kind == "file"
            and self.content == wanted.content.encode()
            and self.mode == wanted.mode
        )


@dataclass(frozen=True)
class State:
    """``pending`` is a generation whose installation began and did not end: until it does,
    ``current`` is still the one before. ``folders`` were made by embedkit, outermost first."""

    current: Generation | None = None
    previous: Generation | None = None
    pending: Generation | None = None
    originals: tuple[Thing, ...] = ()
    folders: tuple[str, ...] = ()
    group_made: bool = False

    def original(self, path: str) -> Thing | None:
        return next((thing for thing in self.originals if thing.path == path), None)

    def begun(self, pending: Generation | None) -> State:
        return replace(self, pending=pending)

    def ended(self, generation: Generation | None) -> State:
        """``generation`` is in place now; what was before it can be gone back to."""
        if generation == self.current:
            return replace(self, pending=None)
        previous = self.current if generation is not None else None
        if previous is None and generation is not None:
            previous = self.previous
        return replace(self, current=generation, previous=previous, pending=None)


def to_json(state: State) -> bytes:
    """The state file's content."""

    def generation(item: Generation | None) -> dict[str, Any] | None:
        if item is None:
            return None
        return {
            "folder": item.folder,
            "version": item.version,
            "digest": item.digest,
            "init": item.init,
            "data_root": item.data_root,
            "single_binary": item.single_binary,
            "ours": dict(item.ours),
            "start": item.service.start,
            "stop": item.service.stop,
            "reload": item.service.reload,
            "log": item.service.log,
            "placed": [
                {
                    "path": placed.path,
                    "content": placed.content,
                    "mode": placed.mode,
                    "link_to": placed.link_to,
                }
                for placed in item.placed
            ],
        }

    document = {
        "format": FORMAT,
        "about": "what embedkit installed here; do not edit",
        "current": generation(state.current),
        "previous": generation(state.previous),
        "pending": generation(state.pending),
        "originals": [
            {
                "path": thing.path,
                "kind": thing.kind,
                "mode": thing.mode,
                "content": base64.b64encode(thing.content).decode(),
                "link_to": thing.link_to,
            }
            for thing in state.originals
        ],
        "folders": list(state.folders),
        "group_made": state.group_made,
    }
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def from_json(data: bytes, where: str) -> State:
    """Reads a state file; an empty one is the state before any installation.

    Raises TargetError where it is damaged or was written by a newer embedkit: nothing is
    changed on a board whose history is not understood.
    """
    if not data.strip():
        return State()
    try:
        document = json.loads(data)
        if document["format"] != FORMAT:
            raise TargetError(
                f"its installation was made by another embedkit (format {document['format']!r})",
                where=where,
                hint="use the newest embedkit",
            )
        return State(
            current=_optional(document["current"], _generation),
            previous=_optional(document["previous"], _generation),
            pending=_optional(document["pending"], _generation),
            originals=tuple(_thing(item) for item in document["originals"]),
            folders=tuple(_path(item) for item in document["folders"]),
            group_made=bool(document["group_made"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error) as bad:
        raise TargetError(
            f"its record of what was installed is damaged: {type(bad).__name__}",
            where=where,
            hint="move it away to start anew; what was there before embedkit cannot be put "
            "back then",
        ) from bad


def _optional(value: Any, make: Callable[[Any], Generation]) -> Generation | None:
    return None if value is None else make(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError("not a text")
    return value


def _path(value: Any) -> str:
    """A path that steps may touch: whoever can write the state file is root there already, but
    a damaged one must not send ``rm`` anywhere else."""
    text = _text(value)
    if not text.startswith("/") or ".." in text.split("/") or "\n" in text:
        raise ValueError("not a path")
    return text


def _folder(value: Any) -> str:
    text = _text(value)
    if not text or "/" in text or text.startswith("."):
        raise ValueError("not a folder's name")
    return text


def _generation(value: Any) -> Generation:
    if not isinstance(value["ours"], dict):
        raise ValueError("ours")
    placed = tuple(
        Placed(
            _path(item["path"]),
            _text(item["content"]),
            int(item["mode"]) & 0o7777,
            None if item["link_to"] is None else _text(item["link_to"]),
        )
        for item in value["placed"]
    )
    service = Service(
        placed,
        _text(value["start"]),
        _text(value["stop"]),
        _text(value["reload"]),
        _text(value["log"]),
    )
    return Generation(
        folder=_folder(value["folder"]),
        version=_text(value["version"]),
        digest=_text(value["digest"]),
        init=_text(value["init"]),
        data_root=_path(value["data_root"]),
        single_binary=bool(value["single_binary"]),
        ours=MappingProxyType(value["ours"]),
        service=service,
    )


def _thing(value: Any) -> Thing:
    if value["kind"] not in ("absent", "file", "link", "other"):
        raise ValueError("kind")
    return Thing(
        _path(value["path"]),
        value["kind"],
        int(value["mode"]) & 0o7777,
        base64.b64decode(value["content"]),
        _text(value["link_to"]),
    )
