"""Docker's own check-config.sh, as Debian's docker.io package ships it, run on any config."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from embedkit.process import require
from support import debian

_LINE = re.compile(r"- CONFIG_(\w+): (.*)")


def script() -> Path:
    """The script of Docker 20.10. Raises debian.NotToBeHad."""
    return next(debian.unpack("docker.io").rglob("check-config.sh"))


def shim(folder: Path, release: str) -> dict[str, str]:
    """An environment in which ``uname -r`` answers ``release``: the script asks only the host.

    Configs are plain here, so grep does what zgrep, a slow shell script, is called for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    uname = folder / "uname"
    uname.write_text(f'#!/bin/sh\n[ "$1" = -r ] && echo "{release}" || exec /bin/uname "$@"\n')
    uname.chmod(0o755)
    zgrep = folder / "zgrep"
    if not zgrep.exists():
        zgrep.symlink_to(require("grep"))
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "NO_COLOR": "1"}


def run(config: Path, release: str, scratch: Path) -> str:
    """The script's whole output for ``config``, without colours."""
    ended = subprocess.run(
        ["bash", script(), config],
        env=shim(scratch / "shim", release),
        capture_output=True,
        text=True,
        check=False,
    )
    return re.sub(r"\x1b\[[0-9;]*m", "", ended.stdout)


def symbol_lines(output: str) -> list[tuple[str, str]]:
    """``(symbol, state)`` of every line about a symbol, in order, duplicates included."""
    return [match.groups() for line in output.splitlines() if (match := _LINE.search(line))]  # type: ignore[misc]
