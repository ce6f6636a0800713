"""Runs ``embedkit bringup`` in a process of its own that kills itself where ``KILL`` says.

``KILL=before:STAGE`` is as the stage begins, ``after:STAGE`` when its end is in the state.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from embedkit import cli
from embedkit.bringup.stages import Result, Stage
from embedkit.commands import bringup
from support.stages import kill_at


class _Killing(bringup.Telling):
    def started(self, stage: Stage) -> None:
        kill_at(f"before:{stage.name}")
        super().started(stage)

    def ended(self, result: Result) -> None:
        kill_at(f"after:{result.stage}")
        super().ended(result)


if __name__ == "__main__":
    bringup.Telling = _Killing  # type: ignore[misc]
    sys.exit(cli.main(["bringup", *sys.argv[1:]]))
