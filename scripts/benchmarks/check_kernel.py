"""embedkit check-kernel against Docker's check-config.sh: the same config, whole processes."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from support import checkconfig, kernels

from benchmarks.timing import medians
from embedkit.kernel import profile_file
from embedkit.kernel.config import KernelConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", nargs="?", type=Path, help="default: Debian's armmp config")
    parser.add_argument("--runs", type=int, default=7)
    args = parser.parse_args()
    embedkit = Path(sys.executable).parent / "embedkit"
    with tempfile.TemporaryDirectory() as scratch:
        for config in [args.config] if args.config else _configs(Path(scratch)):
            _audit(config, embedkit, args.runs, Path(scratch))
    starts = medians(
        {
            "python -c pass": [sys.executable, "-c", "pass"],
            "embedkit --help": [embedkit, "--help"],
        },
        runs=args.runs * 3,
    )
    bare = starts["python -c pass"]
    print("start-up")
    for name, taken in starts.items():
        print(f"  {name:<26} {taken * 1000:8.1f} ms   {taken / bare:6.2f} x a bare start")


def _configs(scratch: Path) -> list[Path]:
    """A full config that Docker runs on, and the same kernel before anybody made it so."""
    found = kernels.debian_configs()
    ready = next(path for name, path in found.items() if "armhf_none_armmp" in name)
    config = KernelConfig.from_bytes(ready.read_bytes())
    profile = profile_file.load("docker-20.10")
    asked = {s for section in profile.sections for group in section.groups for s in group.symbols}
    off = dict.fromkeys(sorted(asked & set(config.values)), "n")
    not_ready = scratch / "armmp-without-docker"
    not_ready.write_bytes(config.with_values(off).to_bytes())
    return [ready, not_ready]


def _audit(config: Path, embedkit: Path, runs: int, scratch: Path) -> None:
    parsed = KernelConfig.from_bytes(config.read_bytes())
    release = parsed.release or "6.1"
    as_script = ["--profile", "docker-20.10", "--format", "checkconfig"]
    taken = medians(
        {
            "check-config.sh": ["bash", checkconfig.script(), config],
            "embedkit check-kernel": [embedkit, "check-kernel", config],
            "embedkit, as checkconfig": [embedkit, "check-kernel", config, *as_script],
        },
        runs=runs,
        env=checkconfig.shim(scratch, release),
    )
    print(f"{config.name} ({len(parsed.values)} symbols, Linux {release}), medians of {runs}")
    script = taken["check-config.sh"]
    for name, seconds in taken.items():
        print(f"  {name:<26} {seconds * 1000:8.1f} ms   {script / seconds:6.1f} x as fast")


if __name__ == "__main__":
    main()
