"""Kernels for QEMU's 32-bit ARM board, from Debian's source: one without anything for containers,
and the same one after ``embedkit patch-kernel``.

Built once; they lie in the tests' cache under the hash of their config and the source's version.
``scripts/build-kernels`` builds them beforehand.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from support import debian, linux_trees, locks

SERIES = "6.1"
CROSS = "arm-linux-gnueabihf-"
FRAGMENT = Path(__file__).parents[1] / "data" / "virt.config"
# Sources that no config here builds: two thirds of the tree. Their Kconfig files and makefiles are
# read all the same.
_LEFT_OUT = (
    *("Documentation", "LICENSES", "samples", "sound", "tools/perf", "tools/testing"),
    *("drivers/gpu", "drivers/infiniband", "drivers/iio", "drivers/media", "drivers/mtd"),
    *("drivers/net/ethernet", "drivers/net/wireless", "drivers/scsi", "drivers/staging"),
    *("drivers/usb", "drivers/crypto", "drivers/hwmon", "drivers/mfd", "drivers/video/fbdev"),
    *("arch/alpha", "arch/arc", "arch/arm64", "arch/csky", "arch/hexagon", "arch/ia64"),
    *("arch/loongarch", "arch/m68k", "arch/microblaze", "arch/mips", "arch/nios2"),
    *("arch/openrisc", "arch/parisc", "arch/powerpc", "arch/riscv", "arch/s390", "arch/sh"),
    *("arch/sparc", "arch/um", "arch/x86", "arch/xtensa"),
)


@dataclass(frozen=True)
class Kernel:
    """A kernel that was built: the zImage, its config, and the seconds that it took."""

    image: Path
    config: Path
    seconds: float


def release() -> str:
    """The version of Debian's source package. Raises debian.NotToBeHad."""
    return debian.version(f"linux-source-{SERIES}", "amd64")


def configs(folder: Path) -> dict[str, Path]:
    """Writes both configs: "plain", and "docker" as embedkit patches it.

    Kconfig files are enough for that. Raises debian.NotToBeHad.
    """
    tree = linux_trees.source(SERIES)
    return {"plain": plain(tree, folder), "docker": patched(tree, folder)}


def plain(tree: Path, folder: Path) -> Path:
    """The config of ``FRAGMENT`` and nothing else, worked out by the kernel's own tools."""
    output = folder / "plain"
    output.mkdir(parents=True)
    make(tree, output, f"KCONFIG_ALLCONFIG={FRAGMENT}", "allnoconfig")
    found = set((output / ".config").read_text().splitlines())
    lost = [line for line in FRAGMENT.read_text().splitlines() if "=" in line and line not in found]
    assert not lost, f"Kconfig drops {lost}"
    return output / ".config"


def patched(tree: Path, folder: Path) -> Path:
    """The plain config after ``embedkit patch-kernel``, with everything that it does unasked."""
    path = folder / "docker.config"
    embedkit(
        "patch-kernel", folder / "plain" / ".config", "--tree", tree, "--cross-compile", CROSS,
        "--config", path,
    )  # fmt: skip
    return path


def embedkit(*words: str | Path) -> str:
    """Runs embedkit's own command; returns what it printed."""
    argv = [sys.executable, "-m", "embedkit.cli", *words]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def make(tree: Path, output: Path, *words: str, jobs: int = 1) -> None:
    """The kernel's make, for ARM with Debian's cross compiler, into ``output``."""
    argv: list[str | Path] = ["make", "-s", f"-j{jobs}", "-C", tree, f"O={output}", "ARCH=arm"]
    argv += [f"CROSS_COMPILE={CROSS}", "KBUILD_BUILD_USER=embedkit", "KBUILD_BUILD_HOST=embedkit"]
    environment = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}
    # A group of its own, so that all of its children can be ended with it.
    running = subprocess.Popen(
        [*argv, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment,
        process_group=0,
    )  # fmt: skip
    try:
        said, _ = running.communicate()
    except BaseException:
        os.killpg(running.pid, signal.SIGTERM)
        running.wait()
        raise
    assert running.returncode == 0, said.decode("utf-8", "replace")[-3000:]


def unpack_source(folder: Path) -> None:
    """What building takes of Debian's source, into ``folder``. Raises debian.NotToBeHad."""
    deb = debian.download(f"linux-source-{SERIES}")
    left_out = [f"--exclude=*/{name}/*.[chS]" for name in _LEFT_OUT]
    left_out += [f"--exclude=*.{ending}" for ending in ("rst", "dts", "dtsi", "json", "yaml")]
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        subprocess.run(["dpkg-deb", "-x", deb, temporary], check=True)
        archive = next(Path(temporary).rglob("linux-source-*.tar.xz"))
        unpack: list[str | Path] = ["tar", *left_out, "-xf", archive, "-C", folder]
        subprocess.run([*unpack, "--strip-components=1"], check=True)


def build(tree: Path, config: Path, work: Path, jobs: int) -> Path:
    """Builds a zImage in ``work``, which may hold an earlier build; returns its path."""
    work.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(config, work / ".config")
    make(tree, work, "olddefconfig")
    make(tree, work, "zImage", jobs=jobs)
    return work / "arch/arm/boot/zImage"


def kernels(*, patience: float | None = None) -> dict[str, Kernel]:
    """Both kernels, from the cache or built now. Others that want them wait meanwhile.

    With ``patience`` another is building them, and is waited for so many seconds. Raises
    debian.NotToBeHad where the source cannot be fetched, TimeoutError where patience ends.
    """
    with tempfile.TemporaryDirectory(prefix="kernels-") as temporary:
        wanted = configs(Path(temporary))
        places = {name: _place(config) for name, config in wanted.items()}
        ends = None if patience is None else time.monotonic() + patience
        while not all(place.exists() for place in places.values()):
            if ends is None:
                with locks.held("kernels"):
                    _build_missing(wanted, places)
            elif time.monotonic() > ends:
                raise TimeoutError
            else:
                time.sleep(1)
    return {name: _read(place) for name, place in places.items()}


def _place(config: Path) -> Path:
    key = hashlib.sha256(f"{release()}\n{config.read_text()}".encode()).hexdigest()[:16]
    return debian.cache() / "kernels" / f"{SERIES}-{key}"


def _read(place: Path) -> Kernel:
    return Kernel(place / "zImage", place / "config", float((place / "seconds").read_text()))


def _build_missing(wanted: dict[str, Path], places: dict[str, Path]) -> None:
    missing = [name for name in wanted if not places[name].exists()]
    if not missing:
        return  # another was faster
    folder = debian.cache() / "kernels"
    folder.mkdir(exist_ok=True)
    for left in folder.glob(".part-*"):  # of a build that was ended; the lock is ours
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as temporary:
        tree = Path(temporary, "tree")
        tree.mkdir()
        unpack_source(tree)
        for name in missing:
            begun = time.monotonic()
            image = build(tree, wanted[name], Path(temporary, "build"), os.cpu_count() or 1)
            done = Path(temporary, name)
            done.mkdir()
            shutil.copyfile(image, done / "zImage")
            shutil.copyfile(wanted[name], done / "config")
            (done / "seconds").write_text(f"{time.monotonic() - begun:.1f}\n")
            done.rename(places[name])


def _on_term(number: int, frame: object) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _on_term)
    for label, kernel in kernels().items():
        print(f"{label}: {kernel.image.stat().st_size >> 10} KiB, built in {kernel.seconds:.0f} s")
