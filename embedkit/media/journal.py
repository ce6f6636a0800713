"""What is already safely on an unfinished card, so that an interrupted flash can go on.

While a card is written its first megabyte holds a *marker*: text that no machine takes for a
partition table or boot code, with the run's id. The journal, in the state folder, has the
same id and lists what was flushed to the card, with digests. Going on therefore needs no
trust: the marker proves that it is the same card and that nothing else was done to its head,
the digests prove that the image still has the same bytes, and read-back covers the rest.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path

from embedkit import data
from embedkit.errors import InputError
from embedkit.media.blockdev import Identity
from embedkit.media.content import HEAD_BYTES

_FORMAT = "embedkit.flash-journal/1"
_MARKER = re.compile(rb"embedkit: this card is unfinished; flash it again\. run ([0-9a-f]{32}) ")
_STALE_SECONDS = 60 * 24 * 3600

Key = tuple[int, int, str]


def new_run() -> str:
    return os.urandom(16).hex()


def marker(run: str) -> bytes:
    """A megabyte in which each sector says whose it is; no sector ends in 55 AA."""
    lines = []
    for sector in range(HEAD_BYTES // 512):
        text = f"embedkit: this card is unfinished; flash it again. run {run} sector {sector}\n"
        lines.append(text.encode().ljust(512, b"\0"))
    return b"".join(lines)


def run_of(first_sector: bytes) -> str | None:
    """The run's id in a card's first sector, None where the card is not an unfinished one."""
    match = _MARKER.match(first_sector)
    return match.group(1).decode() if match else None


class Journal:
    """Appends what is safe on the card. A line that cannot be written ends the journal only."""

    def __init__(self, path: Path, run: str) -> None:
        self.path = path
        self.run = run
        self.works = True

    def begin(self, image: str, identity: Identity) -> None:
        header = {
            "format": _FORMAT,
            "run": self.run,
            "image": image,
            "device": str(identity.path),
            "serial": identity.serial,
            "size_bytes": identity.size_bytes,
            "begun": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _drop_stale(self.path.parent)
        except OSError:
            self.works = False
        self._append(header)

    def add(self, keys: Iterable[Key]) -> None:
        """These are on the card, and flushed."""
        self._append({"done": list(keys)})

    def forget(self) -> None:
        """The card is finished, or not to be gone on with."""
        self.path.unlink(missing_ok=True)

    def _append(self, value: object) -> None:
        if not self.works:
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(value) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            self.works = False


def _folder() -> Path:
    return data.state_folder() / "flash"


def new(run: str) -> Journal:
    return Journal(_folder() / f"{run}.jsonl", run)


def resume(first_sector: bytes, where: Path) -> tuple[Journal, frozenset[Key]]:
    """The journal that belongs to an unfinished card, and what is already on it.

    Raises InputError where the card is not unfinished, or another machine began it.
    """
    run = run_of(first_sector)
    if run is None:
        raise InputError(
            "there is nothing to resume: the device holds no unfinished flash",
            where=str(where),
            hint="flash it without --resume",
        )
    journal = new(run)
    try:
        lines = journal.path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise InputError(
            "the device holds an unfinished flash, but its journal is not on this machine",
            where=str(where),
            hint="flash it without --resume",
        ) from None
    return journal, frozenset(_keys(lines))


def _keys(lines: list[str]) -> Iterable[Key]:
    for line in lines:
        try:
            value = json.loads(line)
            for offset, length, digest in value.get("done", ()):
                yield int(offset), int(length), str(digest)
        except (ValueError, TypeError, AttributeError):
            continue  # the line that was being written when the machine stopped


def _drop_stale(folder: Path) -> None:
    oldest = time.time() - _STALE_SECONDS
    for path in folder.glob("*.jsonl"):
        if path.stat().st_mtime < oldest:
            path.unlink(missing_ok=True)
