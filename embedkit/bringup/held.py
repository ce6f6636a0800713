"""The board that a run holds on to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedkit.target.base import Target

if TYPE_CHECKING:
    from embedkit.emulate.machine import Machine


class Board:
    """The board that answers, and the machine where it is one that this run started."""

    def __init__(self, target: Target, machine: Machine | None = None) -> None:
        self.target = target
        self.machine = machine

    def close(self, *, keep: bool) -> None:
        """Ends the connection; a machine of ours goes on only with ``keep``."""
        try:
            self.target.close()
        finally:
            if self.machine is not None:
                if keep:
                    self.machine.release()
                else:
                    # Its card's overlay goes with it, so there is nothing to write back.
                    self.machine.close()
