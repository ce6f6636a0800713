"""What files are, by their content; damaged ones are seen before they are on a card."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.founding import device_tree, noise, uimage

from embedkit.errors import InputError
from embedkit.media.artifacts import Artifact, check, look, recognise

KINDS = ("uimage", "zimage", "arm64-image", "dtb", "fit", "elf", "ext4", "squashfs")


def zimage(size: int = 4096, promised: int | None = None) -> bytes:
    head = bytearray(size)
    struct.pack_into("<III", head, 0x24, 0x016F2818, 0x8000, 0x8000 + (promised or size))
    return bytes(head)


def save(folder: Path, content: bytes) -> Artifact:
    path = folder / "file"
    path.write_bytes(content)
    return look(path)


def test_good_files_pass(tmp_path: Path) -> None:
    check(save(tmp_path, uimage(noise("k", 3000))), "uimage", "arm")
    check(save(tmp_path, zimage()), "zimage", "arm")
    check(save(tmp_path, zimage(promised=3000)), "zimage", "arm")  # with an appended tree
    check(save(tmp_path, device_tree(300)), "dtb", "arm")
    check(save(tmp_path, noise("anything", 10)), "raw", "arm")


def damaged(content: bytes, at: int) -> bytes:
    changed = bytearray(content)
    changed[at] ^= 1
    return bytes(changed)


@pytest.mark.parametrize(
    ("content", "kind", "arch", "complaint"),
    [
        (damaged(uimage(b"k" * 99), 40), "uimage", "arm", "checksum of the uImage header"),
        (damaged(uimage(b"k" * 99), 100), "uimage", "arm", "checksum of the uImage's data"),
        (uimage(b"k" * 99)[:-1], "uimage", "arm", "cut short"),
        (uimage(b"k" * 99, arch=22), "uimage", "arm", "is for arm64, the board is arm"),
        (uimage(b"k" * 99, arch=99), "uimage", "arm", "is for architecture 99"),
        (zimage(promised=5000), "zimage", "arm", "cut short"),
        (zimage(), "zimage", "arm64", "a zImage is for arm"),
        (zimage(), "uimage", "arm", "it looks like an ARM zImage"),
        (device_tree(300)[:200], "dtb", "arm", "cut short"),
        (device_tree(300), "fit", "arm", "not a FIT image"),
        (b"\x7fELF\1\1" + bytes(100), "elf", "arm", "is for machine 0"),
        (b"hsqs" + bytes(36) + b"\xff" * 8, "squashfs", "arm", "cut short"),
        (b"\x1f\x8bgzip", "uimage", "arm", "it looks like gzip"),
        (bytes(600), "ext4", "arm", "something unknown"),
    ],
)
def test_bad_files_are_told(
    tmp_path: Path, content: bytes, kind: str, arch: str, complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        check(save(tmp_path, content), kind, arch)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is empty"):
        save(tmp_path, b"")
    with pytest.raises(InputError, match="not a regular file"):
        look(tmp_path)
    with pytest.raises(InputError, match="not a regular file"):
        look(Path("/dev/zero"))


@given(st.binary(min_size=1, max_size=200), st.sampled_from(KINDS), st.sampled_from(["", "magic"]))
def test_no_content_crashes_a_check(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, kind: str, magic: str
) -> None:
    magics = {
        "uimage": (0, b"\x27\x05\x19\x56"),
        "zimage": (0x24, b"\x18\x28\x6f\x01"),
        "dtb": (0, b"\xd0\x0d\xfe\xed"),
        "fit": (0, b"\xd0\x0d\xfe\xed"),
        "elf": (0, b"\x7fELF"),
        "ext4": (1080, b"\x53\xef"),
        "squashfs": (0, b"hsqs"),
        "arm64-image": (0x38, b"ARM\x64"),
    }
    data = bytearray(content)
    if magic:
        at, value = magics[kind]
        data = data.ljust(at + 4, b"\0")
        data[at : at + len(value)] = value
    artifact = save(tmp_path_factory.mktemp("kind"), bytes(data))
    recognise(artifact)
    try:
        check(artifact, kind, "arm")
    except InputError:
        pass
