"""What a test may need of the machine, and whether it is there."""

from __future__ import annotations

import functools
import importlib.util
import os
import subprocess
from pathlib import Path

from embedkit import process


@functools.cache
def missing(what: str) -> str | None:
    """Why ``what`` cannot be had here, or None where it can."""
    kind, _, name = what.partition(":")
    if kind == "program":
        return None if process.find(name) else f"the program {name} is not installed"
    if kind == "module":
        return None if importlib.util.find_spec(name) else f"the Python module {name} is missing"
    if kind == "file":
        return None if Path(name).exists() else f"there is no {name}"
    if kind == "root":
        return None if os.geteuid() == 0 else "needs root"
    if kind == "loop":
        return _loop()
    if kind == "debian":
        return None if process.find("apt-get") else "needs Debian's apt-get"
    raise ValueError(f"unknown need: {what}")


def _loop() -> str | None:
    if os.geteuid() != 0:
        return "loop devices need root"
    try:
        subprocess.run(["losetup", "--find"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return "loop devices cannot be used here"
    return None
