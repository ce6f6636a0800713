"""What a bringup remembers from run to run: for each stage a hash of its inputs and its outputs.

Written after every stage, whole or not at all, so that an interruption at any moment leaves
either the stage done or the stage to be done.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from embedkit.errors import LackError
from embedkit.files import alone, write_atomically

FILE_NAME = "state.json"
_FORMAT = "embedkit.bringup/1"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Record:
    """A stage that was done. ``inputs`` is a hash of all that it depends on, ``outputs`` maps
    files to theirs; ``carry`` is what later stages need of it, ``shown`` what a report says of it
    (both plain data); ``finished`` is seconds since 1970."""

    inputs: str
    outputs: Mapping[str, str]
    status: str
    verdict: str
    seconds: float
    finished: float
    carry: Mapping[str, Any] = field(default_factory=dict)
    shown: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class State:
    """The records by stage. ``running`` is the stage that was begun and not ended, "" for none;
    ``digests`` are hashes of files by path, with the stamp that they hold for."""

    records: Mapping[str, Record] = field(default_factory=dict)
    running: str = ""
    digests: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def begun(self, stage: str) -> State:
        """Without what is remembered of ``stage``, which runs now."""
        kept = {name: record for name, record in self.records.items() if name != stage}
        return replace(self, records=kept, running=stage)

    def ended(self, stage: str, record: Record) -> State:
        return replace(self, records={**self.records, stage: record}, running="")

    def failed(self) -> State:
        """The stage that ran ended without a result to remember."""
        return replace(self, running="")


def load(folder: Path) -> State:
    """The state in ``folder``; an empty one where there is none, or one that cannot be read."""
    try:
        plain = json.loads((folder / FILE_NAME).read_bytes())
        if plain["format"] != _FORMAT:
            return State()
        records = {str(name): Record(**value) for name, value in plain["records"].items()}
        digests = {str(path): (str(a), str(b)) for path, (a, b) in plain["digests"].items()}
        return State(records, str(plain["running"]), digests)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return State()


def save(state: State, folder: Path) -> None:
    """Writes it. Raises LackError where the folder cannot be written."""
    plain = {
        "format": _FORMAT,
        "running": state.running,
        "records": {name: asdict(record) for name, record in state.records.items()},
        "digests": state.digests,
    }
    write_atomically(folder / FILE_NAME, json.dumps(plain, indent=1).encode())


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Makes the work folder and holds it for this process; the lock goes with the process.

    Raises LackError where it cannot be made, or another bringup works there.
    """

    def refuse() -> None:
        raise LackError(
            "another bringup works with this folder",
            where=str(folder),
            hint="wait for its end, or give this one a folder of its own (work = …)",
        )

    with alone(folder / ".lock", refuse):
        yield


class Digests:
    """Hashes of files and folders; a file is read again only when its stamp changed."""

    def __init__(self, known: Mapping[str, tuple[str, str]]) -> None:
        self._known = dict(known)

    @property
    def known(self) -> Mapping[str, tuple[str, str]]:
        """For the state."""
        return self._known

    def of(self, path: Path) -> str:
        """A hash of what is at ``path``: content of a file, names and stamps within a folder,
        ``"absent"`` where there is nothing. Raises LackError where it cannot be read."""
        try:
            if path.is_dir():
                return _hashed(_entries(path))
            if not path.exists():
                return "absent"
            stamp = _stamp(path.stat())
            before = self._known.get(str(path))
            if before is not None and before[0] == stamp:
                return before[1]
            digest = content_digest(path)
            self._known[str(path)] = (stamp, digest)
            return digest
        except OSError as error:
            raise LackError(f"cannot read {path}: {error.strerror}") from error


def content_digest(path: Path) -> str:
    """sha256 of a file's content. Raises OSError."""
    hasher = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_CHUNK):
            hasher.update(piece)
    return hasher.hexdigest()


def hash_of(inputs: object) -> str:
    """One hash for plain data of any depth."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()


def _hashed(lines: Iterable[str]) -> str:
    hasher = hashlib.sha256()
    for line in lines:
        hasher.update(line.encode("utf-8", "surrogateescape") + b"\0")
    return hasher.hexdigest()


def _entries(folder: Path) -> Iterator[str]:
    """Every entry below ``folder`` with its stamp: a root file system has too much to read."""
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted([*folders, *files]):
            path = Path(place, name)
            status = path.lstat()
            target = str(path.readlink()) if stat.S_ISLNK(status.st_mode) else ""
            # A folder's own time changes with its entries, which are listed anyway.
            stamp = "" if stat.S_ISDIR(status.st_mode) else _stamp(status)
            yield f"{path.relative_to(folder)} {status.st_mode:o} {stamp} {target}"


def _stamp(status: os.stat_result) -> str:
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ino}"
