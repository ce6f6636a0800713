"""skopeo and umoci, as tests call them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any


def run(*words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs a program; its output goes into the failure."""
    argv = [str(word) for word in words]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    if check and ended.returncode != 0:
        raise AssertionError(f"{' '.join(argv)}:\n{ended.stdout}{ended.stderr}")
    return ended


class Skopeo:
    """Debian's skopeo with a policy and an empty login file of its own."""

    def __init__(self, folder: Path) -> None:
        self.auth = folder / "auth.json"
        self.auth.write_text("{}")

    def __call__(self, verb: str, *words: str | Path, check: bool = True, **over: str) -> str:
        options = [f"--override-{key}={value}" for key, value in over.items()]
        tls = {"copy": ("--src-tls-verify=false", "--dest-tls-verify=false")}
        flags = tls.get(verb, ("--tls-verify=false",))
        ended = run(
            "skopeo",
            "--insecure-policy",
            *options,
            verb,
            *flags,
            *words,
            check=check,
        )
        return ended.stdout if check else ended.stdout + ended.stderr

    def config(self, image: str, **over: str) -> dict[str, Any]:
        """The config of the image that skopeo chooses."""
        found = json.loads(self("inspect", "--config", image, **over))
        assert isinstance(found, dict)
        return found
