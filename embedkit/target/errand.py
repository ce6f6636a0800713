"""What moving a file either way has in common: it goes on over as many connections as it takes."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod

from embedkit.errors import InputError
from embedkit.progress import NullProgress, Progress, Task
from embedkit.target.base import ConnectionLost, Equipped, Transfer

# Cuts in a row without a byte of progress after which a transfer gives up.
_FRUITLESS_CUTS = 6
RECONNECT_SECONDS = 60.0
# How long the target may take for the digest of a large file.
HASH_SECONDS = 1800.0


class Errand(ABC):
    """One file to be moved to or from ``path`` on ``target``."""

    def __init__(
        self, target: Equipped, path: str, way: str | None, progress: Progress | None
    ) -> None:
        self.target = target
        self.path = path
        self.way = way
        self.progress = progress or NullProgress()
        self.moved_bytes = 0  # over the wire, all tries together
        self.reached = 0  # how far the last try got in the file
        self._cuts = 0
        self._begun = time.monotonic()
        self._task: Task | None = None
        self._first_offset = 0

    @abstractmethod
    def once(self) -> Transfer:
        """One try, over one connection. Raises ConnectionLost where that breaks."""

    def run(self, reconnect_seconds: float) -> Transfer:
        """Tries until it ends without another cut; fruitless cuts are not borne for ever."""
        fruitless, best = 0, -1
        try:
            while True:
                try:
                    if self._cuts:
                        self.target.reconnect(deadline_seconds=reconnect_seconds)
                    return self.once()
                except ConnectionLost:
                    self._cuts += 1
                    fruitless = fruitless + 1 if self.reached <= best else 0
                    best = max(best, self.reached)
                    if fruitless >= _FRUITLESS_CUTS:
                        raise
        finally:
            if self._task is not None:
                self._task.finish()

    @property
    def moving(self) -> bool:
        """Whether bytes were sent for, in this try or an earlier one."""
        return self._task is not None

    def started(self, size: int, offset: int) -> Task:
        """The errand's one task, begun with the first try."""
        if self._task is None:
            title = f"{self.target.name}: {self.path}"
            self._task = self.progress.start(title, total=size, unit="bytes")
            self._task.advance(offset)
            self._first_offset = offset
        self.reached = offset
        return self._task

    def done(
        self, path: str, size: int, digest: str, way: str, *, skipped: bool = False
    ) -> Transfer:
        """What is reported of the errand, now."""
        return Transfer(
            path,
            size,
            self.moved_bytes,
            time.monotonic() - self._begun,
            way,
            digest,
            skipped=skipped,
            resumed_at_bytes=self._first_offset,
            interruptions=self._cuts,
        )


def check_way(way: str | None, known: tuple[str, ...]) -> None:
    """Raises InputError for a way that does not exist."""
    if way is not None and way not in known:
        raise InputError(f"there is no way called '{way}'", hint=f"known: {', '.join(known)}")
