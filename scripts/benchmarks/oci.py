"""Four docker save archives to one multi-platform image in a registry: embedkit by skopeo and jq.

Needs skopeo, jq and docker-registry (Debian packages). Every round uses a new repository, so
that nothing is there already; the two tools take turns.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support import elf, recipe, services  # noqa: E402

PLATFORMS = (("amd64", ""), ("arm64", ""), ("arm", "v7"), ("arm", "v6"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=100, metavar="MB", help="of each image")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary one)")
    args = parser.parse_args()
    for program in ("skopeo", "jq", "docker-registry"):
        if shutil.which(program) is None:
            print(f"{program} is not installed", file=sys.stderr)
            return 3
    with tempfile.TemporaryDirectory(dir=args.folder, prefix="bench-") as name:
        work = Path(name)
        archives = make_archives(work, args.size * 10**6)
        with services.docker_registry(work / "registry") as registry:
            compare(work, registry, archives, args.rounds)
    return 0


def make_archives(work: Path, size: int) -> list[Path]:
    """One archive a platform, as docker save writes them: plain layers of ordinary files."""
    files = ordinary_files()
    archives = []
    for architecture, variant in PLATFORMS:
        rootfs = work / f"rootfs-{architecture}{variant}"
        (rootfs / "data").mkdir(parents=True)
        (rootfs / "app").write_bytes(elf.program(architecture, variant))
        filled = 0
        while filled < size:
            # Bundled, so that the foreign programs among them say nothing of the platform.
            bundle = b"bundle\n"
            while len(bundle) < 1 << 20:
                bundle += next(files)
            (rootfs / "data" / f"{filled:012}").write_bytes(bundle[: size - filled + 7])
            filled += len(bundle)
        archive = work / f"image-{architecture}{variant}.tar"
        embedkit("oci", "build", str(rootfs), "-t", "app:1", "-o", str(work / "made.tar"),
                 "--compress", "none", "--entrypoint", "/app")  # fmt: skip
        subprocess.run(
            ["skopeo", "--insecure-policy", "copy", "-q", f"docker-archive:{work}/made.tar",
             f"docker-archive:{archive}:app:1"], check=True,
        )  # fmt: skip
        shutil.rmtree(rootfs)
        archives.append(archive)
    return archives


def ordinary_files() -> Iterator[bytes]:
    """The contents of this machine's files under /usr, again and again, never empty."""
    while True:
        for folder, folders, names in os.walk("/usr"):
            folders.sort()
            for name in sorted(names):
                path = Path(folder, name)
                try:
                    if path.is_file() and not path.is_symlink():
                        yield path.read_bytes()
                except OSError:
                    continue


def embedkit(*words: str) -> None:
    argv = [sys.executable, "-m", "embedkit.cli", *words, "--quiet"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(argv, check=True, env=env, stdout=subprocess.DEVNULL)


def compare(work: Path, registry: str, archives: list[Path], rounds: int) -> None:
    def by_recipe(number: int, folder: Path) -> None:
        recipe.run(folder, f"{registry}/recipe/app:{number}", archives)

    def by_embedkit(number: int, folder: Path) -> None:
        images = [str(path) for path in archives]
        embedkit("oci", "merge", *images, "-t", f"{registry}/merge{number}/app:1", "--push")

    def by_embedkit_plain(number: int, folder: Path) -> None:
        images = [str(path) for path in archives]
        embedkit("oci", "merge", *images, "-t", f"{registry}/plain{number}/app:1", "--push",
                 "--compress", "none")  # fmt: skip

    ways: dict[str, Callable[[int, Path], None]] = {
        "skopeo + jq + skopeo": by_recipe,
        "embedkit oci merge --push": by_embedkit,
        "embedkit oci merge --push --compress none": by_embedkit_plain,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    data = work / "registry" / "data"
    for number in range(rounds):
        for name, way in ways.items():
            # An empty store each time: a registry links a blob that it has anywhere.
            shutil.rmtree(data, ignore_errors=True)
            folder = work / "round"
            folder.mkdir()
            begun = time.monotonic()
            way(number, folder)
            seconds[name].append(time.monotonic() - begun)
            shutil.rmtree(folder)
    total = sum(path.stat().st_size for path in archives)
    print(f"{len(archives)} platforms, {total / 1e6:.0f} MB of archives, {rounds} rounds, medians")
    base = statistics.median(seconds["skopeo + jq + skopeo"])
    for name, taken in seconds.items():
        median = statistics.median(taken)
        spread = f"{min(taken):.2f}–{max(taken):.2f}"
        print(f"  {name:<44} {median:6.2f} s ({spread})  {base / median:4.1f} x")


if __name__ == "__main__":
    sys.exit(main())
