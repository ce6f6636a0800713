"""Every form of kernel image, and what only looks like one."""

from __future__ import annotations

import gzip
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import images
from support.images import CONFIG, PACKERS

from embedkit.errors import EmbedkitError, InputError
from embedkit.kernel.content import Limits, find
from embedkit.kernel.ikconfig import scan
from embedkit.kernel.sources import load
from embedkit.kernel.stream import MemoryBlob

KERNEL = images.kernel()
BARE = images.kernel(None)


def found(content: bytes) -> tuple[bytes, str]:
    result = find(MemoryBlob(content), "it")
    return result.content, " → ".join(result.way)


def problem(content: bytes, limits: Limits | None = None) -> InputError:
    with pytest.raises(InputError) as raised:
        find(MemoryBlob(content), "it", limits)
    assert raised.value.where == "it"
    assert raised.value.hint
    return raised.value


@pytest.mark.parametrize("name", PACKERS)
def test_compressed_configs(name: str) -> None:
    assert found(PACKERS[name](CONFIG)) == (CONFIG, name)


@pytest.mark.parametrize("name", PACKERS)
def test_bzimage_of_every_compression(name: str) -> None:
    packed = PACKERS[name](images.elf(KERNEL))
    way = f"bzImage → {name} at {2048 + 700:#x} → ELF file → IKCONFIG"
    assert found(images.bzimage(packed)) == (CONFIG, way)
    # Before protocol 2.08 the header does not tell where the payload is.
    assert found(images.bzimage(packed, protocol=0x207))[0] == CONFIG


@pytest.mark.parametrize("name", PACKERS)
def test_zimage_of_every_compression(name: str) -> None:
    image = images.zimage(PACKERS[name](KERNEL))
    config, way = found(image)
    assert config == CONFIG
    # What does not compress is stored as it is by these: then it can be seen from outside.
    outside = name in ("zstd", "lz4", "lzo") and way == "zImage → IKCONFIG"
    assert outside or way == f"zImage → {name} at 0x4a10 → IKCONFIG"


@pytest.mark.parametrize(
    ("image", "way"),
    [
        (KERNEL, "IKCONFIG"),
        (images.elf(KERNEL), "ELF file → IKCONFIG"),
        (images.arm64_image(KERNEL), "arm64 Image → IKCONFIG"),
        (bytes(0x38) + b"RSC\x05" + bytes(4) + KERNEL, "RISC-V Image → IKCONFIG"),
        (gzip.compress(images.arm64_image(KERNEL)), "gzip → arm64 Image → IKCONFIG"),
        (images.zboot(PACKERS["zstd"](KERNEL)), "EFI zboot image → zstd at 0x1000 → IKCONFIG"),
        (images.uimage(KERNEL), "uImage → IKCONFIG"),
        (images.uimage(PACKERS["lzma"](KERNEL), 3), "uImage → lzma at 0x40 → IKCONFIG"),
        (
            images.uimage(images.zimage(PACKERS["bzip2"](KERNEL))),
            "uImage → zImage → bzip2 at 0x4a50 → IKCONFIG",
        ),
        (
            images.uimage(
                b"".join(len(part).to_bytes(4, "big") for part in (KERNEL, b"initrd.."))
                + bytes(4)
                + KERNEL
                + b"initrd..",
                kind=4,
            ),
            "uImage → IKCONFIG",
        ),
        (
            gzip.compress(images.uimage(images.zimage(PACKERS["xz"](KERNEL)))),
            "gzip → uImage → zImage → xz at 0x4a50 → IKCONFIG",
        ),
        (
            b"ANDROID!" + bytes(2040) + images.zimage(PACKERS["gzip"](KERNEL)) + bytes(4096),
            "Android boot image → gzip at 0x5210 → IKCONFIG",
        ),
        # A self-expanding ELF (MIPS, PowerPC), and a partition that begins with anything.
        (images.elf(images.noise(9000) + PACKERS["bzip2"](KERNEL)), None),
        (images.noise(9000) + PACKERS["zstd"](KERNEL) + images.noise(9000), None),
    ],
)
def test_forms(image: bytes, way: str | None) -> None:
    config, told = found(image)
    assert config == CONFIG
    if way is not None:
        assert told == way


@pytest.mark.parametrize("external", [False, True])
def test_fit_prefers_the_default_configurations_kernel(external: bool) -> None:
    other = images.kernel(CONFIG + b"CONFIG_RESCUE=y\n")
    parts = {
        "fdt-1": ("flat_dt", images.noise(5000)),
        "kernel-rescue": ("kernel", gzip.compress(other)),
        "kernel-1": ("kernel", gzip.compress(KERNEL)),
    }
    config, way = found(images.fit(parts, "kernel-1", external=external))
    assert config == CONFIG
    assert way.startswith("FIT image 'kernel-1' → gzip at 0x")
    config, way = found(images.fit(parts, "kernel-rescue", external=external))
    assert b"RESCUE" in config


def test_a_config_with_a_stray_control_character_is_still_text() -> None:
    content = CONFIG + b'CONFIG_CMDLINE="\x01"\n'
    assert found(content) == (content, "")


@pytest.mark.parametrize("piece", [1, 7, 100, 4096, 1 << 20])
def test_markers_across_pieces(piece: int) -> None:
    content = b"x" * 50 + b"IKCFG_ST but no config" + b"IKCFG_ST\x1f\x8b\x08rubbish"
    content += images.ikconfig() + b"more"
    pieces = (content[at : at + piece] for at in range(0, len(content), piece))
    result = scan(pieces)
    assert result.config == CONFIG
    assert result.markers == 2
    assert result.scanned <= len(content)


def test_false_magics_before_the_payload_do_not_hide_it() -> None:
    decoys = b"".join(packer(b"decoy" * 40)[:60] for packer in PACKERS.values())
    image = images.zimage(decoys * 20 + PACKERS["xz"](KERNEL))
    assert found(image)[0] == CONFIG


# What must be refused, with words of the message.


@pytest.mark.parametrize("name", PACKERS)
def test_images_without_a_config(name: str) -> None:
    packed = PACKERS[name](images.elf(BARE))
    error = problem(images.bzimage(packed))
    assert error.message.startswith(f"no kernel config in this bzImage → {name} at 0x")
    assert "CONFIG_IKCONFIG" in str(error.hint)
    error = problem(images.zimage(packed))
    assert f"zImage → {name} at 0x4a10" in error.message


@pytest.mark.parametrize("name", sorted(PACKERS))
def test_truncated(name: str) -> None:
    packed = PACKERS[name](CONFIG + images.noise(20_000).hex().encode())
    assert f"the {name} data is cut short" in problem(packed[: len(packed) * 2 // 3]).message
    image = images.bzimage(PACKERS[name](images.elf(BARE))[:300_000], tail=b"")
    assert "cut short" in problem(image).message


def test_a_truncated_image_whose_config_is_whole_is_read() -> None:
    packed = PACKERS["gzip"](images.elf(images.kernel(size=100_000)))
    assert found(images.bzimage(packed[:-20_000], tail=b""))[0] == CONFIG


def test_markers_without_a_config() -> None:
    for content in (
        b"\0IKCFG_ST" + images.noise(500),
        b"\0IKCFG_ST" + gzip.compress(b"no config at all") + b"IKCFG_ED",
        b"\0IKCFG_ST\x1f\x8b\x08" * 5000,
        b"\0" + images.ikconfig()[:-500],
    ):
        assert "IKCFG_ST is in it, but no kernel config" in problem(content).message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "neither"),
        (b"\0" * 5000, "neither"),
        (images.noise(5000), "neither"),
        (gzip.compress(b""), "nothing but empty data"),
        (gzip.compress(images.noise(5000)), "no kernel config in this gzip"),
        (images.elf(images.noise(5000)), "no kernel config in this ELF file"),
        (images.fit({}, "none"), "no kernel config in this FIT image"),
        (images.fit({"kernel-1": ("kernel", b"")}, "none")[:90], "no kernel config in this FIT"),
        (images.bzimage(b""), "no kernel config in this bzImage"),
        (images.uimage(b""), "no kernel config in this uImage"),
        (b"text of nothing\n" * 100, "no CONFIG_ lines"),
        (gzip.compress(b"<!DOCTYPE html><html>"), "a web page"),
        (b"CONFIG_A=y\n" * (2 << 20), "text of more than 16 MiB"),
    ],
)
def test_refused(content: bytes, words: str) -> None:
    assert words in problem(content).message


def test_nesting_ends() -> None:
    content = CONFIG
    for _ in range(6):
        content = gzip.compress(content)
    assert found(content)[0] == CONFIG
    for _ in range(6):
        content = gzip.compress(content)
    assert "nested too deeply" in problem(content).message


def test_bounds() -> None:
    packed = gzip.compress(images.noise(400_000) + KERNEL)
    assert "more than 300.0 KiB of data" in problem(packed, Limits(work=300 << 10)).message
    wrapped = gzip.compress(images.uimage(KERNEL))
    assert "larger than 100.0 KiB" in problem(wrapped, Limits(held=100 << 10)).message


@settings(deadline=2000)
@given(st.binary(max_size=3000), st.integers(0, 3000), st.sampled_from(sorted(PACKERS)))
def test_any_bytes_end_in_a_config_or_an_embedkit_error(content: bytes, at: int, name: str) -> None:
    whole = images.bzimage(PACKERS[name](images.elf(images.ikconfig(CONFIG[:500]))), tail=b"")
    for damaged in (content, whole[:at] + content + whole[at + len(content) :]):
        try:
            load("-", stdin=io.BytesIO(damaged))
        except EmbedkitError as error:
            assert error.message
