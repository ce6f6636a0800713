"""Flashes slowly in a process of its own, so that a test can kill it at any moment.

Prints ``ready`` before the first byte is written, and ``STATE RESUMED_BYTES`` at the end.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from embedkit.media.outcome import Options
from support import guard
from support.flash_cards import flash


def main(image: str, device: str, pause: str) -> None:
    guard.install()
    options = Options(checkpoint_seconds=0.0, on_write=lambda offset: time.sleep(float(pause)))
    print("ready", flush=True)
    (outcome,) = flash(Path(image), Path(device), options=options)
    print(outcome.state, outcome.resumed_bytes, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
