"""Every form of kernel config source on real artefacts.

Debian's kernels are built without IKCONFIG, so the kernels here are Debian's own with their own
config embedded as kernel/configs.c does it; all wrapping is done by the programs that the
kernel's build uses (with its options), by mkimage, or within Debian's own images.
"""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import debian, linux_trees

from embedkit.errors import InputError
from embedkit.kernel.sources import load

# How scripts/Makefile.lib compresses, at levels that take less time.
PACKERS = {
    "gzip": ["gzip", "-n", "-1"],
    "bzip2": ["bzip2", "-9"],
    "lzma": ["xz", "--format=lzma", "-1"],
    "xz": ["xz", "--check=crc32", "--arm", "--lzma2=preset=1,dict=32MiB"],
    "lzo": ["lzop", "-9"],
    "lz4": ["lz4", "-l", "-9"],
    "zstd": ["zstd", "-q", "-3", "--long=27"],
}
PROGRAMS = [f"program:{packer[0]}" for packer in PACKERS.values()]

pytestmark = pytest.mark.needs("debian", *PROGRAMS, "program:mkimage", "program:dtc", "program:gcc")


@dataclass(frozen=True)
class Kernel:
    """A kernel out of a Debian package: the folder, its image and its config."""

    root: Path
    image: bytes
    config: bytes


def newest(flavour: str, arch: str) -> Kernel:
    """Debian's newest 6.1 kernel of ``flavour`` (packages of 20 to 27 MB)."""
    try:
        names = debian.search(rf"^linux-image-6\.1\.0-[0-9]+-{flavour}$", arch)
        if not names:
            raise debian.NotToBeHad(f"no linux-image of {flavour} for {arch}")
        root = debian.unpack(max(names, key=lambda name: int(name.split("-")[3])), arch)
    except debian.NotToBeHad as error:
        debian.give_up(str(error))
        raise
    (image,) = root.glob("boot/vmlinuz-*")
    (config,) = root.glob("boot/config-*")
    return Kernel(root, image.read_bytes(), config.read_bytes())


def piped(argv: list[str], data: bytes, *, check: bool = True) -> bytes:
    ended = subprocess.run(argv, input=data, capture_output=True, check=False)
    assert not check or ended.returncode == 0, ended.stderr
    return ended.stdout


def pack(name: str, data: bytes) -> bytes:
    """Compressed, with the size behind it where the kernel's build appends that."""
    size = b"" if name == "gzip" else len(data).to_bytes(4, "little")
    return piped(PACKERS[name], data) + size


def ikconfig(config: bytes) -> bytes:
    return b"IKCFG_ST" + piped(["gzip", "-n", "-9"], config) + b"IKCFG_ED"


def carrying(kernel: bytes, config: bytes) -> bytes:
    """``kernel`` with ``config`` two thirds in, about where .rodata is."""
    at = len(kernel) * 2 // 3 & ~4095
    return kernel[:at] + ikconfig(config) + kernel[at:]


@pytest.fixture(scope="module")
def arm() -> Kernel:
    return newest("rpi", "armel")


@pytest.fixture(scope="module")
def arm64() -> Kernel:
    return newest("cloud-arm64", "arm64")


@pytest.fixture(scope="module")
def x86() -> Kernel:
    return newest("cloud-amd64", "amd64")


@pytest.fixture(scope="module")
def arm_parts(arm: Kernel) -> tuple[bytes, bytes]:
    """The decompressor in front of Debian's zImage, and the kernel in it with its config."""
    at = arm.image.rindex(b"\xfd7zXZ\0")
    expanded = piped(["xz", "-dc", "--single-stream"], arm.image[at:], check=False)
    assert len(expanded) > 8 << 20
    return arm.image[:at], carrying(expanded, arm.config)


@pytest.fixture(scope="module")
def arm_packed(arm_parts: tuple[bytes, bytes]) -> Callable[[str], bytes]:
    """The kernel compressed as named, once."""
    return functools.cache(lambda name: pack(name, arm_parts[1]))


@pytest.fixture(scope="module")
def arm_zimage(arm_parts: tuple[bytes, bytes], arm_packed: Callable[[str], bytes]) -> bytes:
    return arm_parts[0] + arm_packed("xz")


def check(path: Path, content: bytes, kernel: Kernel, *way: str) -> None:
    """``content`` in a file of a misleading name leads to the kernel's config by ``way``."""
    path = path / "config.txt"
    path.write_bytes(content)
    config = load(str(path))
    assert config.to_bytes() == kernel.config
    told = config.origin.removeprefix(f"{path} (").removesuffix(")").split(" → ")
    assert [step.split(" at 0x")[0] for step in told] == list(way)


@pytest.mark.parametrize("name", PACKERS)
def test_compressed_configs(name: str, arm: Kernel, tmp_path: Path) -> None:
    check(tmp_path, piped(PACKERS[name], arm.config), arm, name)


def test_lz4_frames_of_a_config(arm: Kernel, tmp_path: Path) -> None:
    for options in (["-1"], ["-9", "-BD", "-B4"], ["-BX", "--content-size"]):
        check(tmp_path, piped(["lz4", *options], arm.config), arm, "lz4")


@pytest.mark.parametrize("name", PACKERS)
def test_zimage_and_compressed_images(
    name: str,
    arm: Kernel,
    arm_parts: tuple[bytes, bytes],
    arm_packed: Callable[[str], bytes],
    tmp_path: Path,
) -> None:
    head, _ = arm_parts
    packed = arm_packed(name)
    check(tmp_path, head + packed + bytes(512), arm, "zImage", name, "IKCONFIG")
    check(tmp_path, packed, arm, name, "IKCONFIG")


@pytest.fixture(scope="module")
def vmlinux(x86: Kernel, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The ELF file out of Debian's bzImage, with a section that holds its config."""
    folder = tmp_path_factory.mktemp("vmlinux")
    start, length = _payload(x86.image)
    packed = x86.image[start : start + length - 4]
    assert packed[:4] == b"\x02\x21\x4c\x18", "Debian's amd64 kernel is no longer LZ4"
    (folder / "bare").write_bytes(piped(["lz4", "-dc"], packed))
    (folder / "blob").write_bytes(ikconfig(x86.config))
    section = f".rodata.ikconfig={folder / 'blob'}"
    subprocess.run(
        ["objcopy", "--add-section", section, folder / "bare", folder / "vmlinux"], check=True
    )
    return (folder / "vmlinux").read_bytes()


def _payload(bzimage: bytes) -> tuple[int, int]:
    offset = int.from_bytes(bzimage[0x248:0x24C], "little")
    length = int.from_bytes(bzimage[0x24C:0x250], "little")
    return (bzimage[0x1F1] + 1) * 512 + offset, length


def test_vmlinux(vmlinux: bytes, x86: Kernel, tmp_path: Path) -> None:
    check(tmp_path, vmlinux, x86, "ELF file", "IKCONFIG")


@pytest.mark.parametrize("name", ["gzip", "lz4", "zstd"])
def test_bzimage(name: str, vmlinux: bytes, x86: Kernel, tmp_path: Path) -> None:
    """Debian's own bzImage with the payload exchanged (its header says how long it is)."""
    start, length = _payload(x86.image)
    fast = ["lz4", "-l", "-1"] if name == "lz4" else PACKERS[name]
    packed = piped(fast, vmlinux) + len(vmlinux).to_bytes(4, "little")
    image = bytearray(x86.image[:start] + packed + x86.image[start + length :])
    image[0x24C:0x250] = len(packed).to_bytes(4, "little")
    check(tmp_path, bytes(image), x86, "bzImage", name, "ELF file", "IKCONFIG")


def test_arm64_image(arm64: Kernel, tmp_path: Path) -> None:
    image = carrying(arm64.image, arm64.config)
    check(tmp_path, image, arm64, "arm64 Image", "IKCONFIG")
    packed = piped(["gzip", "-1"], image)
    check(tmp_path, packed, arm64, "gzip", "arm64 Image", "IKCONFIG")


@pytest.mark.parametrize(
    ("compression", "way"),
    [("none", ["zImage", "xz"]), ("gzip", ["gzip"]), ("lzo", ["lzo"]), ("bzip2", ["bzip2"])],
)
def test_uimage(
    compression: str,
    way: list[str],
    arm: Kernel,
    arm_packed: Callable[[str], bytes],
    arm_zimage: bytes,
    tmp_path: Path,
) -> None:
    content = arm_zimage if compression == "none" else arm_packed(compression)
    (tmp_path / "data").write_bytes(content)
    words = f"mkimage -A arm -O linux -T kernel -C {compression} -a 0x8000 -e 0x8000 -d data uImage"
    subprocess.run(words.split(), cwd=tmp_path, check=True, capture_output=True)
    check(tmp_path, (tmp_path / "uImage").read_bytes(), arm, "uImage", *way, "IKCONFIG")


ITS = """/dts-v1/;
/ {
    description = "a board";
    #address-cells = <1>;
    images {
        fdt-1 { description = "tree"; data = /incbin/("dtb"); type = "flat_dt"; arch = "arm";
            compression = "none"; hash-1 { algo = "sha256"; }; };
        kernel-rescue { description = "another"; data = /incbin/("rescue"); type = "kernel";
            arch = "arm"; os = "linux"; compression = "none"; load = <0x8000>; entry = <0x8000>; };
        kernel-1 { description = "Linux"; data = /incbin/("kernel"); type = "kernel";
            arch = "arm"; os = "linux"; compression = "gzip"; load = <0x8000>; entry = <0x8000>;
            hash-1 { algo = "sha256"; }; };
    };
    configurations {
        default = "conf-1";
        conf-rescue { kernel = "kernel-rescue"; fdt = "fdt-1"; };
        conf-1 { kernel = "kernel-1"; fdt = "fdt-1"; };
    };
};
"""


@pytest.mark.parametrize("options", [[], ["-E"], ["-E", "-p", "0x4000"]])
def test_fit(
    options: list[str], arm: Kernel, arm_packed: Callable[[str], bytes], tmp_path: Path
) -> None:
    (tmp_path / "a.its").write_text(ITS)
    (tmp_path / "dtb").write_bytes(bytes(3000))
    (tmp_path / "kernel").write_bytes(arm_packed("gzip"))
    (tmp_path / "rescue").write_bytes(bytes(9000) + ikconfig(b"CONFIG_RESCUE=y\n"))
    subprocess.run(
        ["mkimage", *options, "-f", "a.its", "a.itb"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    content = (tmp_path / "a.itb").read_bytes()
    check(tmp_path, content, arm, "FIT image 'kernel-1'", "gzip", "IKCONFIG")


@pytest.mark.parametrize("name", ["gzip", "xz", "zstd"])
def test_a_configs_module(name: str, arm: Kernel, tmp_path: Path) -> None:
    """CONFIG_IKCONFIG=m: an object file, made as kernel/configs.c makes it, and compressed."""
    (tmp_path / "config_data.gz").write_bytes(piped(["gzip", "-n", "-9"], arm.config))
    (tmp_path / "configs.s").write_text(
        '.section .rodata\n.ascii "IKCFG_ST"\n.incbin "config_data.gz"\n.ascii "IKCFG_ED"\n'
    )
    subprocess.run(["gcc", "-c", "configs.s", "-o", "configs.ko"], cwd=tmp_path, check=True)
    content = piped(PACKERS[name], (tmp_path / "configs.ko").read_bytes())
    check(tmp_path, content, arm, name, "ELF file", "IKCONFIG")


def test_debians_own_images_say_what_they_lack(arm: Kernel, arm64: Kernel, x86: Kernel) -> None:
    for kernel, form in ((arm, "zImage → xz at"), (arm64, "arm64 Image"), (x86, "bzImage → lz4")):
        (image,) = kernel.root.glob("boot/vmlinuz-*")
        with pytest.raises(InputError, match=f"no kernel config in this {form}") as raised:
            load(str(image))
        assert "CONFIG_IKCONFIG" in str(raised.value.hint)


def test_debians_boot_folders(arm: Kernel, arm64: Kernel, x86: Kernel) -> None:
    for kernel in (arm, arm64, x86):
        for folder in (kernel.root, kernel.root / "boot"):
            config = load(str(folder))
            assert config.to_bytes() == kernel.config
            assert config.release is not None
            assert config.release.startswith("6.1.")


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> linux_trees.KernelMake:
    """A build folder (O=) that the kernel's own make filled from exynos_defconfig."""
    try:
        tree = linux_trees.source("6.1")
    except debian.NotToBeHad as error:
        debian.give_up(str(error))
        raise
    folder = linux_trees.KernelMake(tree, "arm", tmp_path_factory.mktemp("build"))
    folder.make("exynos_defconfig")
    return folder


@pytest.mark.needs("program:make", "program:flex", "program:bison")
def test_build_source_and_buildroot_folders(build: linux_trees.KernelMake, tmp_path: Path) -> None:
    expected = (build.output / ".config").read_bytes()
    assert b"# Linux/arm 6.1." in expected
    assert load(str(build.output)).to_bytes() == expected
    with pytest.raises(InputError, match="config"):
        load(str(build.tree))
    configured = tmp_path / "linux"
    configured.mkdir()
    for entry in build.tree.iterdir():
        (configured / entry.name).symlink_to(entry)
    (configured / ".config").write_bytes(expected)
    assert load(str(configured)).to_bytes() == expected
    output = tmp_path / "buildroot" / "output"
    (output / "build").mkdir(parents=True)
    (output / "build" / "linux-6.1.192").symlink_to(configured)
    (output / "build" / "linux-headers-6.1.192").mkdir()
    (output / ".config").write_text("BR2_LINUX_KERNEL=y\nBR2_arm=y\n")
    for place in (output, output.parent):
        found = load(str(place))
        assert found.to_bytes() == expected
        assert "build/linux-6.1.192/.config" in found.origin


def test_a_truncated_image(arm: Kernel, tmp_path: Path) -> None:
    (tmp_path / "zImage").write_bytes(arm.image[: len(arm.image) // 2])
    with pytest.raises(InputError, match="the xz data is cut short, in zImage → xz at"):
        load(str(tmp_path / "zImage"))


def test_the_running_kernel() -> None:
    try:
        config = load(None)
    except InputError as error:
        assert not Path("/proc/config.gz").exists()
        assert "/proc/config.gz (not there)" in error.message
        return
    if Path("/proc/config.gz").exists():
        packed = Path("/proc/config.gz").read_bytes()
        assert config.to_bytes() == piped(["gzip", "-dc"], packed)
        assert config.origin == "/proc/config.gz (gzip)"
    assert config.is_full


def test_the_command_reads_all_of_it(arm: Kernel, arm_zimage: bytes, tmp_path: Path) -> None:
    (tmp_path / "zImage").write_bytes(arm_zimage)
    path = tmp_path / "zImage"
    command = [Path(sys.executable).with_name("embedkit"), "check-kernel", "--json"]
    by_path = subprocess.run([*command, path], capture_output=True)
    by_pipe = subprocess.run([*command, "-"], input=arm_zimage, capture_output=True)
    assert by_path.stderr == by_pipe.stderr == b""
    assert by_path.returncode == by_pipe.returncode
    assert by_path.returncode in (0, 1)
    assert by_path.stdout.replace(str(path).encode(), b"standard input") == by_pipe.stdout
