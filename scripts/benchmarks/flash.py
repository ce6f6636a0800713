"""embedkit flash against dd and bmaptool: the same image onto the same loop device.

Needs root and makes its own files and loop devices; nothing else is written. The second part
throttles the device to the speed of a card (blkio, cgroup v1) and compares with the time that
the mapped bytes alone take at that speed.

The loop device's file is in memory unless it is to be on the disk: there, dd and discards are
as slow as the file system below happens to be.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from support.loops import loop

MIB = 1 << 20
KINDS = ("raw", "gz", "zst", "xz")
_UNPACK = {"gz": "gzip -dc", "zst": "zstd -dcq", "xz": "xz -dcq"}
_PACK = {
    "gz": ["gzip", "-k", "-6"],
    "zst": ["zstd", "-qk", "-T2"],
    # Blocks, as Debian's and Raspberry Pi's builders write them since xz 5.4.
    "xz": ["xz", "-k", "-3", "-T2", "--block-size=8MiB"],
}


@dataclass(frozen=True)
class Images:
    """The card in every packing; ``mapped_bytes`` is what has to be written."""

    folder: Path
    mapped_bytes: int

    def path(self, kind: str) -> Path:
        return self.folder / ("card.img" if kind == "raw" else f"card.img.{kind}")


def make_images(folder: Path, size: int, share: float, kinds: tuple[str, ...]) -> Images:
    """A card like a real one: extents of 4 KiB to 16 MiB, half of it programs, half noise.

    Images that an earlier run left in ``folder`` are taken as they are.
    """
    from embedkit.media import bmap

    folder.mkdir(parents=True, exist_ok=True)
    card = folder / "card.img"
    block_map = folder / "card.img.bmap"
    if not block_map.exists():
        _make_card(card, size, share)
        made = subprocess.run(["bmaptool", "create", card], check=True, capture_output=True)
        block_map.write_bytes(made.stdout)
    images = Images(folder, bmap.read(block_map).mapped_bytes)
    for kind in kinds:
        if not images.path(kind).exists():
            subprocess.run([*_PACK[kind], card], check=True)
    return images


def _make_card(card: Path, size: int, share: float) -> None:
    source = random.Random(1)
    programs = _programs(64 * MIB)
    mapped, position = 0, MIB
    with card.open("wb") as file:
        file.truncate(size)
        file.write(source.randbytes(64 << 10))
        while mapped < size * share and position < size - 17 * MIB:
            length = source.choice([4096, 8192, 65536, MIB, 4 * MIB, 16 * MIB])
            for offset in range(0, length, 256 << 10):
                step = min(256 << 10, length - offset)
                start = source.randrange(len(programs) - step)
                part = source.randbytes(step)
                if source.random() < 0.5:
                    part = programs[start : start + step]
                os.pwrite(file.fileno(), part, position + offset)
            mapped += length
            free = (size - position) * (1 - share) / max(1, size * share - mapped) * length
            position += length + int(source.uniform(0.3, 1.1) * free) // 4096 * 4096
        os.fsync(file.fileno())


def _programs(length: int) -> bytes:
    """Programs of this machine, one after the other."""
    found = b""
    for path in sorted(Path("/usr/bin").iterdir()):
        if path.is_file() and len(found) < length:
            found += path.read_bytes()[: length - len(found)]
    return found


def contestants(
    images: Images, kind: str, device: Path, *, dd: bool
) -> dict[str, list[str | Path]]:
    image = images.path(kind)
    embedkit = Path(sys.executable).parent / "embedkit"
    flash = [embedkit, "flash", image, device, "--yes", "-q", "--accept-suspicious"]
    found: dict[str, list[str | Path]] = {}
    if dd and kind == "raw":
        found["dd bs=4M conv=fsync"] = ["dd", f"if={image}", f"of={device}", "bs=4M", "conv=fsync"]
    elif dd:
        pipe = f"{_UNPACK[kind]} {image} | dd of={device} bs=4M iflag=fullblock conv=fsync"
        found["dd bs=4M conv=fsync"] = ["sh", "-c", pipe]
    found["bmaptool copy"] = ["bmaptool", "-q", "copy", image, device]
    found["embedkit flash, neither verify nor discard"] = [*flash, "--no-verify", "--no-discard"]
    found["embedkit flash --no-verify"] = [*flash, "--no-verify"]
    found["embedkit flash"] = flash
    return found


def fill(target: Path) -> None:
    """Writes what of the file is not there yet, or was discarded: no contestant pays for the
    allocation of what another one gave away."""
    with target.open("r+b") as file:
        size, position = os.fstat(file.fileno()).st_size, 0
        while position < size:
            hole = os.lseek(file.fileno(), position, os.SEEK_HOLE)
            position = hole
            if hole < size:
                try:
                    position = os.lseek(file.fileno(), hole, os.SEEK_DATA)
                except OSError:  # the hole goes on to the end
                    position = size
                for offset in range(hole, position, MIB):
                    os.pwrite(file.fileno(), b"\xa5" * min(MIB, position - offset), offset)
        os.fsync(file.fileno())


def run(argv: list[str | Path], prepare: Callable[[], None]) -> tuple[float, int]:
    """Seconds and the largest resident size in bytes of one run."""
    env = {**os.environ}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    prepare()
    begun = time.perf_counter()
    running = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env
    )
    assert running.stderr is not None
    said = running.stderr.read()
    _, status, usage = os.wait4(running.pid, 0)
    taken = time.perf_counter() - begun
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"{' '.join(map(str, argv))} failed: {said.decode()}")
    return taken, usage.ru_maxrss * 1024


def compare(found: dict[str, list[str | Path]], runs: int, prepare: Callable[[], None]) -> dict:
    """Medians by name; the runs alternate, so that a noisy minute hits all alike."""
    taken: dict[str, list[tuple[float, int]]] = {name: [] for name in found}
    for _ in range(runs):
        for name, argv in found.items():
            taken[name].append(run(argv, prepare))
    return {
        name: (statistics.median(t for t, _ in results), max(memory for _, memory in results))
        for name, results in taken.items()
    }


def show(title: str, results: dict[str, tuple[float, int]], floor: float | None = None) -> None:
    print(f"\n{title}")
    bmaptool = results.get("bmaptool copy", (0.0, 0))[0]
    dd = results.get("dd bs=4M conv=fsync", (0.0, 0))[0]
    for name, (taken, memory) in results.items():
        line = f"  {name:<28} {taken:7.2f} s  {memory / MIB:5.0f} MiB"
        if floor is not None:
            line += f"  {taken / floor:5.3f} of the floor"
        if bmaptool:
            line += f"  {taken / bmaptool:5.2f} of bmaptool ({bmaptool / taken:4.1f} x as fast)"
        if dd:
            line += f"  {dd / taken:5.1f} x as fast as dd"
        print(line, flush=True)


@contextlib.contextmanager
def throttle(device: Path, bytes_per_second: int) -> Iterator[None]:
    """This process and its children write to ``device`` no faster than that (cgroup v1)."""
    root = Path("/sys/fs/cgroup/blkio")
    if not (root / "tasks").exists():
        raise SystemExit("no blkio controller (cgroup v1) here: the throttled part cannot run")
    group = root / f"embedkit-bench-{os.getpid()}"
    group.mkdir()
    number = device.stat().st_rdev
    rule = f"{os.major(number)}:{os.minor(number)} {bytes_per_second}"
    try:
        (group / "blkio.throttle.write_bps_device").write_text(rule)
        (group / "tasks").write_text(str(os.getpid()))
        yield
    finally:
        (root / "tasks").write_text(str(os.getpid()))
        time.sleep(0.2)
        group.rmdir()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=2048, metavar="MIB", help="of the image")
    parser.add_argument("--share", type=float, default=0.15, help="of it that is data")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--speed", type=int, default=40, metavar="MB/S", help="of the slow device")
    parser.add_argument("--part", choices=("fast", "slow", "both"), default="both")
    parser.add_argument("--no-dd", action="store_true", help="leave the slowest out")
    parser.add_argument("--target", choices=("memory", "disk"), default="memory")
    parser.add_argument("--folder", type=Path, help="where the files are made (default: a new one)")
    args = parser.parse_args()
    kinds = tuple(args.kinds)
    with contextlib.ExitStack() as stack:
        folder = args.folder
        if folder is None:
            folder = Path(tempfile.mkdtemp(prefix="embedkit-bench-", dir="/var/tmp"))
            stack.callback(shutil.rmtree, folder)
        # In another process: what this one ever used would count as its children's memory.
        with ProcessPoolExecutor(1) as pool:
            images = pool.submit(make_images, folder, args.size * MIB, args.share, kinds).result()
        target = folder / "target"
        if args.target == "memory":
            memory = Path(tempfile.mkdtemp(prefix="embedkit-bench-", dir="/dev/shm"))
            stack.callback(shutil.rmtree, memory)
            if shutil.disk_usage(memory).free < (args.size + 64) * MIB:
                raise SystemExit("/dev/shm has no room for the loop device's file: --target disk")
            target = memory / "target"
        target.touch()
        os.truncate(target, (args.size + 8) * MIB)
        fill(target)
        device = stack.enter_context(loop(target))

        def prepare() -> None:
            fill(target)
            subprocess.run(["blockdev", "--flushbufs", device], check=True)

        print(
            f"{args.size} MiB, {images.mapped_bytes / MIB:.0f} MiB of data, medians of {args.runs}"
        )
        if args.part in ("fast", "both"):
            for kind in kinds:
                found = contestants(images, kind, device, dd=not args.no_dd)
                show(f"loop device, {kind}", compare(found, args.runs, prepare))
        if args.part in ("slow", "both"):
            floor = images.mapped_bytes / (args.speed * 1e6)
            print(f"\nfloor at {args.speed} MB/s: {floor:.2f} s")
            for kind in kinds:
                found = contestants(images, kind, device, dd=False)
                del found["embedkit flash"]  # reading is not throttled: it would tell nothing
                with throttle(device, args.speed * 10**6):
                    results = compare(found, -(-args.runs // 2), prepare)
                show(f"{args.speed} MB/s, {kind}", results, floor)
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / MIB
    print(f"\nlargest process: {largest:.0f} MiB")


if __name__ == "__main__":
    main()
