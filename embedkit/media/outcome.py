"""How a flash is to be done, and how it ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from embedkit.errors import EmbedkitError
from embedkit.media.blockdev import Identity
from embedkit.media.ranges import Range
from embedkit.media.readback import Mismatch


@dataclass(frozen=True)
class Options:
    """How to write. ``direct`` and ``on_write`` (called before each write with its offset)
    are for tests; ``checkpoint_seconds`` is how much work an interruption may cost.
    ``fit_table``: a GPT's second copy moves to the end of a larger device; ``grow``: the
    last partition and its file system, too."""

    verify: bool = True
    discard: bool = True
    fit_table: bool = True
    grow: bool = False
    resume: bool = False
    checkpoint_seconds: float = 3.0
    direct: bool = True
    on_write: Callable[[int], None] | None = None


class State(StrEnum):
    """How the work on one device ended."""

    WRITTEN = "written"
    VERIFIED = "verified"
    DIFFERS = "differs"
    FAILED = "failed"


@dataclass(frozen=True)
class Outcome:
    """The result for one device. Sizes are bytes.

    ``grown`` is where the last partition is now; ``table_moved``: the GPT's second copy is at
    the card's end and not where the image had it.
    """

    identity: Identity
    state: State
    written_bytes: int = 0
    verified_bytes: int = 0
    resumed_bytes: int = 0
    zeroed_bytes: int = 0
    discarded: bool = False
    table_reread: bool = False
    write_seconds: float = 0.0
    verify_seconds: float = 0.0
    mismatch: Mismatch | None = None
    grown: Range | None = None
    table_moved: bool = False
    error: EmbedkitError | None = None
    warnings: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        return self.state in (State.WRITTEN, State.VERIFIED)
