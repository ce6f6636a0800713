"""embedkit check-kernel against Docker's check-config.sh: the same config, whole processes."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from support import checkconfig, kernels

from benchmarks.timing import medians
from embedkit.kernel.config import KernelConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", nargs="?", type=Path, help="default: Debian's armmp config")
    parser.add_argument("--runs", type=int, default=7)
    args = parser.parse_args()
    config = args.config
    if config is None:
        found = kernels.debian_configs()
        config = next(path for name, path in found.items() if "armhf_none_armmp" in name)
    release = KernelConfig.from_bytes(config.read_bytes()).release or "6.1"
    embedkit = Path(sys.executable).parent / "embedkit"
    with tempfile.TemporaryDirectory() as scratch:
        env = checkconfig.shim(Path(scratch), release)
        audits = medians(
            {
                "check-config.sh": ["bash", checkconfig.script(), config],
                "embedkit check-kernel": [embedkit, "check-kernel", config],
                "embedkit, as checkconfig": [
                    embedkit,
                    "check-kernel",
                    config,
                    "--profile",
                    "docker-20.10",
                    "--format",
                    "checkconfig",
                ],
            },
            runs=args.runs,
            env=env,
        )
        starts = medians(
            {
                "python -c pass": [sys.executable, "-c", "pass"],
                "embedkit --help": [embedkit, "--help"],
            },
            runs=args.runs * 3,
        )
    symbols = len(KernelConfig.from_bytes(config.read_bytes()).values)
    print(f"{config} ({symbols} symbols, Linux {release}), medians of {args.runs}")
    script = audits["check-config.sh"]
    for name, taken in audits.items():
        print(f"  {name:<26} {taken * 1000:8.1f} ms   {script / taken:6.1f} x as fast")
    bare = starts["python -c pass"]
    for name, taken in starts.items():
        print(f"  {name:<26} {taken * 1000:8.1f} ms   {taken / bare:6.2f} x a bare start")


if __name__ == "__main__":
    main()
