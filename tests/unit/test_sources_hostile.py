"""Hostile inputs end in one clear error, soon and in little memory: measured, in a process each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support import images

MAX_SECONDS = 2.0
MAX_MEMORY = 300 << 20

# VmHWM and not ru_maxrss, which a forked child inherits from its parent.
PROBE = """
import json, sys, time
from embedkit.errors import EmbedkitError
from embedkit.kernel.sources import load
try:
    load(sys.argv[1])
    told = ""
except EmbedkitError as error:
    told = str(error)
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([told, time.process_time(), int(peak.split()[1]) * 1024]))
"""


def bombs() -> dict[str, bytes]:
    gzip_bomb = images.gzip_bomb()
    zeros = bytes(16 << 20)
    return {
        "gzip": gzip_bomb,
        "zstd": images.zstd_bomb(),
        "lz4": images.lz4_bomb(),
        "lzo": images.lzop_bomb(),
        "xz": images.PACKERS["xz"](zeros) * 256,
        "bzip2": images.PACKERS["bzip2"](zeros) * 256,
        "in a bzImage": images.bzimage(gzip_bomb),
        "in a zImage": images.zimage(images.zstd_bomb()),
        "in a uImage": images.uimage(images.zimage(gzip_bomb)),
        "in a gzip": images.PACKERS["gzip"](images.zimage(gzip_bomb)),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("hostile")
    for name, content in bombs().items():
        (made / name).write_bytes(content)
    (made / "text").write_bytes(images.PACKERS["gzip"](b"# words\n" * (4 << 20)))
    (made / "magics").write_bytes(
        b"\0"
        + b"".join(
            packer(images.noise(200, seed))
            for seed in range(300)
            for packer in images.PACKERS.values()
        )
        * 4
    )
    (made / "markers").write_bytes(b"\0" + images.ikconfig()[:-9] * 5000)
    with (made / "sparse").open("wb") as file:
        file.truncate(20 << 30)
    (made / "empty").touch()
    (made / "loop").symlink_to("loop")
    (made / "folder").mkdir()
    (made / "folder" / "again").symlink_to(made / "folder")
    (made / "folder" / ".config").symlink_to(".config")
    return made


@pytest.mark.parametrize(
    ("name", "words"),
    [
        *((name, "no kernel does") for name in bombs()),
        ("text", "text of more than 16 MiB"),
        ("magics", "neither a kernel config nor a kernel image"),
        ("markers", "IKCFG_ST is in it"),
        ("sparse", "larger than"),
        ("empty", "it is empty"),
        ("loop", "symbolic links that lead in a circle"),
        ("folder", "no kernel config in this folder"),
        ("folder/again/again", "no kernel config in this folder"),
        ("folder/.config", "symbolic links that lead in a circle"),
    ],
)
def test_hostile(folder: Path, name: str, words: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROBE, folder / name], capture_output=True, text=True, timeout=60
    )
    assert ended.stderr == ""
    told, seconds, memory = json.loads(ended.stdout)
    assert words in told
    assert told.endswith(f"({folder / name})")
    assert seconds < MAX_SECONDS
    assert memory < MAX_MEMORY
