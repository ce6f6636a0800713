"""Images for tests, made by embedkit from tiny programs."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from embedkit import cli
from support import elf

PLATFORMS = {
    "linux/amd64": ("amd64", ""),
    "linux/arm64": ("arm64", ""),
    "linux/arm/v7": ("arm", "v7"),
    "linux/arm/v6": ("arm", "v6"),
    "linux/386": ("386", ""),
}


# What skopeo's --override-… say for each of them.
OVERRIDES = {
    "linux/amd64": {"arch": "amd64"},
    "linux/arm64": {"arch": "arm64"},
    "linux/arm/v7": {"arch": "arm", "variant": "v7"},
    "linux/arm/v6": {"arch": "arm", "variant": "v6"},
    "linux/386": {"arch": "386"},
}


def embedkit(*words: str | Path, code: int = 0) -> dict[str, Any]:
    """Runs a command in this process; the JSON envelope that it prints."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        found = cli.main([*(str(word) for word in words), "--json"])
    assert found == code, f"exit {found}: {out.getvalue()}{err.getvalue()}"
    envelope = json.loads(out.getvalue())
    assert isinstance(envelope, dict)
    return envelope


def programs(folder: Path) -> dict[str, Path]:
    """One static program a platform, each printing its platform's name."""
    made = {}
    for platform, (architecture, variant) in PLATFORMS.items():
        path = folder / platform.replace("/", "-") / "hello"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(elf.program(architecture, variant, f"hello from {platform}"))
        path.chmod(0o755)
        made[platform] = path
    return made
