"""How a flash is to be done, and how it ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from embedkit.errors import EmbedkitError
from embedkit.media.blockdev import Identity
from embedkit.media.readback import Mismatch


@dataclass(frozen=True)
class Options:
    """How to write. ``direct`` and ``on_write`` (called before each write with its offset)
    are for tests; ``checkpoint_seconds`` is how much work an interruption may cost."""

    verify: bool = True
    discard: bool = True
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
    """The result for one device. Sizes are bytes."""

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
    error: EmbedkitError | None = None
    warnings: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        return self.state in (State.WRITTEN, State.VERIFIED)
