"""Times whole commands, turn and turn about, and compares their medians."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


def seconds(argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None) -> float:
    """The wall time of one run. Its output is dropped, its exit code not looked at."""
    # As on a user's machine: Python keeps the bytecode of what it imported.
    env = {**(env or os.environ)}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    begun = time.perf_counter()
    subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=env,
    )
    return time.perf_counter() - begun


def medians(
    contestants: Mapping[str, Sequence[str | Path]],
    *,
    runs: int,
    env: Mapping[str, str] | None = None,
) -> dict[str, float]:
    """Median seconds by name. The runs alternate, so that a noisy minute hits all alike."""
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for argv in contestants.values():
        seconds(argv, env=env)  # warm caches for all
    for _ in range(runs):
        for name, argv in contestants.items():
            taken[name].append(seconds(argv, env=env))
    return {name: statistics.median(times) for name, times in taken.items()}
