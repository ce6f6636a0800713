"""Files, folders, standard input, the running kernel and targets as places of a config."""

from __future__ import annotations

import gzip
import io
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support import images
from support.images import CONFIG

from embedkit.errors import InputError, LackError, TargetError
from embedkit.kernel.decompress import CODECS
from embedkit.kernel.sources import LocalFiles, _is_plain, load, load_running

IMAGE = images.zimage(images.PACKERS["xz"](images.kernel(size=50_000)))


def put(path: Path, content: bytes = CONFIG) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def refused(source: str | Path | None, root: Path = Path("/")) -> InputError:
    with pytest.raises(InputError) as raised:
        load(None if source is None else str(source), root=root)
    return raised.value


# Files


@pytest.mark.parametrize(
    "content",
    [
        CONFIG,
        CONFIG.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + CONFIG,
        b"CONFIG_A=y",
        b"# CONFIG_A is not set\n",
        b'CONFIG_LOCALVERSION="\xe9\xff"\n',
        b"#" * 70_000 + b"\nCONFIG_A=y\n",
        CONFIG * 100,
    ],
)
def test_a_plain_file_is_read_to_the_byte(tmp_path: Path, content: bytes) -> None:
    path = put(tmp_path / "any name.gz", content)
    config = load(str(path))
    assert config.to_bytes() == content
    assert config.origin == str(path)


def test_the_origin_tells_the_way(tmp_path: Path) -> None:
    path = put(tmp_path / "config.txt", IMAGE)
    assert load(str(path)).origin == f"{path} (zImage → xz at 0x4a10 → IKCONFIG)"


def test_a_plain_file_needs_no_decoder(tmp_path: Path) -> None:
    path = put(tmp_path / "config")
    code = (
        "import sys; from embedkit.kernel.sources import load; load(sys.argv[1]);"
        "print(sorted(m for m in ('zlib', 'lzma', 'bz2', 'zstandard', 'embedkit.kernel.content')"
        " if m in sys.modules))"
    )
    bare = [sys.executable, "-c", code, path]
    ended = subprocess.run(bare, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_no_compression_is_taken_for_plain_text() -> None:
    for codec in CODECS:
        assert not _is_plain(codec.magic + b"\nCONFIG_A=y\n")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"<html><body>Not found</body></html>", "a web page"),
        (b'config DOCKER\n\tbool "Docker"\n', "a Kconfig file"),
        (b"#define CONFIG_ARM 1\n", "the C header"),
        (b"BR2_arm=y\n# BR2_aarch64 is not set\n", "Buildroot's own configuration"),
        (b"#\n# U-Boot 2024.01 Configuration\n#\nCONFIG_ARM=y\n", "U-Boot's configuration"),
        (b"#\n# Busybox version: 1.36.1\n#\nCONFIG_ARM=y\n", "BusyBox's configuration"),
        ("CONFIG_ARM=y\n".encode("utf-16"), "UTF-16"),
        (b"  CONFIG_ARM=y\n", "do not begin where the line begins"),
        (b"hello\n", "no CONFIG_ lines"),
        (CONFIG * 10 + b"\0", "binary data"),
        (b"CONFIG_A=y\n" * (2 << 20), "more than 16 MiB"),
    ],
)
def test_what_is_no_kernel_config(tmp_path: Path, content: bytes, words: str) -> None:
    path = put(tmp_path / "file", content)
    error = refused(path)
    assert words in error.message
    assert error.where == str(path)
    assert error.hint


def test_a_comment_does_not_make_a_stranger() -> None:
    content = b"# U-Boot needs this\n" + CONFIG
    assert load("-", stdin=io.BytesIO(content)).to_bytes() == content


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("nothing")
    (tmp_path / "circle").symlink_to("circle")
    put(tmp_path / "file")
    assert refused(tmp_path / "nothing").message == "no such file or folder"
    assert refused(tmp_path / "file" / "below").message == "no such file or folder"
    assert refused(tmp_path / "dangling").message == "a symbolic link to nothing"
    assert "in a circle" in refused(tmp_path / "circle").message
    assert "cannot be read" in refused(tmp_path / ("x" * 300)).message
    assert "not a valid path" in refused("a\0b").message
    assert "empty" in refused("").message


def test_special_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    for path, what in (
        (tmp_path / "fifo", "a named pipe"),
        (tmp_path / "socket", "a socket"),
        (Path("/dev/zero"), "a character device"),
    ):
        error = refused(path)
        assert what in error.message
        assert "'-'" in str(error.hint)


@pytest.mark.parametrize("name", ["file", "folder"])
def test_what_may_not_be_read(tmp_path: Path, name: str) -> None:
    put(tmp_path / "file")
    (tmp_path / "folder").mkdir()
    (tmp_path / name).chmod(0)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.chdir(tmp_path)
            if os.geteuid() == 0:  # who may read everything
                os.setuid(65534)
            load(name)
        except LackError as error:
            status = 0 if str(error) == f"it may not be read ({name})" else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# Standard input


@pytest.mark.parametrize("content", [CONFIG, gzip.compress(CONFIG), IMAGE])
def test_standard_input(content: bytes) -> None:
    config = load("-", stdin=io.BytesIO(content))
    assert config.to_bytes() == CONFIG
    assert config.origin.startswith("standard input")


def test_standard_input_of_more_than_is_held() -> None:
    whole = images.elf(images.noise(1 << 20) * 70 + images.ikconfig())
    config = load("-", stdin=io.BytesIO(whole))
    assert config.to_bytes() == CONFIG
    assert config.origin == "standard input (ELF file → IKCONFIG)"


class Endless(io.RawIOBase):
    """Input that never ends, of one byte."""

    def __init__(self, byte: bytes) -> None:
        self._byte = byte

    def read(self, size: int = -1) -> bytes:
        return self._byte * size


@pytest.mark.parametrize(("byte", "words"), [(b"\0", "more than"), (b"a", "more than 16 MiB")])
def test_endless_input(byte: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load("-", stdin=Endless(byte))  # type: ignore[arg-type]


def test_empty_input() -> None:
    with pytest.raises(InputError, match=r"it is empty \(standard input\)"):
        load("-", stdin=io.BytesIO())


def test_a_shells_process_substitution_is_read() -> None:
    reading, writing = os.pipe()
    try:
        os.write(writing, CONFIG[:30_000])  # less than a pipe holds
        os.close(writing)
        assert load(f"/dev/fd/{reading}").to_bytes() == CONFIG[:30_000]
    finally:
        os.close(reading)


# Folders


@pytest.mark.parametrize(
    "place",
    [
        ".config",
        "build/linux-6.1.55/.config",
        "build/linux-custom/.config",
        "output/build/linux-6.1.55/.config",
        "config-6.1.0-armmp",
        "boot/config-6.1.0-armmp",
        "config",
        "build/.config",
        "lib/modules/6.1.55/config",
        "usr/lib/modules/6.1.55/config",
    ],
)
def test_folders(tmp_path: Path, place: str) -> None:
    path = put(tmp_path / place)
    config = load(str(tmp_path))
    assert config.to_bytes() == CONFIG
    assert config.origin == str(path)


def test_buildroot_skips_what_is_not_the_kernel(tmp_path: Path) -> None:
    """Buildroot's own .config lies beside, and other packages are named like the kernel."""
    put(tmp_path / ".config", b"BR2_arm=y\n")
    path = put(tmp_path / "output" / "build" / "linux-6.1.55" / ".config")
    for other in ("linux-headers-6.1.55", "linux-firmware-20230210", "linux-tools"):
        put(tmp_path / "output" / "build" / other / ".config", b"CONFIG_X=y\n")
    put(tmp_path / "output" / "build" / "linux-something-1" / ".config", b"CPTCFG_X=y\n")
    assert load(str(tmp_path)).origin == str(path)


def test_buildroot_without_a_kernel_says_so(tmp_path: Path) -> None:
    put(tmp_path / ".config", b"BR2_arm=y\n")
    assert "Buildroot's own configuration" in refused(tmp_path).message
    (tmp_path / ".config").unlink()
    for name in ("Config.in", "Makefile"):
        put(tmp_path / name, b"\n")
    for name in ("package", "linux"):
        (tmp_path / name).mkdir()
    assert "make linux-configure" in str(refused(tmp_path).hint)


def test_several_configs_are_the_users_choice(tmp_path: Path) -> None:
    for number in range(9):
        put(tmp_path / "boot" / f"config-6.1.{number}")
    error = refused(tmp_path)
    assert error.message.startswith("this root filesystem has several kernel configs: boot/config-")
    assert error.message.endswith("and 3 more")
    assert error.hint == "give one of them"
    for number in range(1, 9):
        (tmp_path / "boot" / f"config-6.1.{number}").unlink()
    (tmp_path / "boot" / "config-link").symlink_to("config-6.1.0")
    assert load(str(tmp_path)).to_bytes() == CONFIG


@pytest.mark.parametrize(
    "place", ["zImage", "boot/vmlinuz-6.1", "images/uImage", "output/images/a.itb"]
)
def test_a_folder_with_only_an_image(tmp_path: Path, place: str) -> None:
    put(tmp_path / "vmlinux", images.elf(images.noise(3000)))
    put(tmp_path / place, IMAGE)
    assert load(str(tmp_path)).origin.startswith(str(tmp_path / place))


def test_folders_without_a_config(tmp_path: Path) -> None:
    error = refused(tmp_path)
    assert "output/build/linux-*/.config" in error.message
    assert error.where == str(tmp_path)
    put(tmp_path / "zImage", images.zimage(images.PACKERS["xz"](images.kernel(None))))
    assert "without a config in them: zImage" in refused(tmp_path).message


def test_a_source_tree_without_a_config(tmp_path: Path) -> None:
    for name in ("Kconfig", "Makefile"):
        put(tmp_path / name, b"\n")
    for name in ("arch", "kernel"):
        (tmp_path / name).mkdir()
    error = refused(tmp_path)
    assert error.message == "a kernel source tree without a .config"
    assert "defconfig" in str(error.hint)


# The running kernel, and targets

RELEASE = "6.1.55-v7"


@pytest.mark.parametrize(
    ("place", "content"),
    [
        ("proc/config.gz", gzip.compress(CONFIG)),
        (f"boot/config-{RELEASE}", CONFIG),
        (f"lib/modules/{RELEASE}/config", CONFIG),
        (f"lib/modules/{RELEASE}/build/.config", CONFIG),
        (
            f"lib/modules/{RELEASE}/kernel/kernel/configs.ko.xz",
            images.PACKERS["xz"](images.elf(images.ikconfig())),
        ),
        (f"boot/vmlinuz-{RELEASE}", IMAGE),
    ],
)
def test_the_running_kernel(tmp_path: Path, place: str, content: bytes) -> None:
    put(tmp_path / "proc/sys/kernel/osrelease", RELEASE.encode() + b"\n")
    put(tmp_path / "boot/config-5.0", b"CONFIG_WRONG=y\n")
    put(tmp_path / place, content)
    assert load(None, root=tmp_path).to_bytes() == CONFIG


def test_the_first_usable_place_wins(tmp_path: Path) -> None:
    put(tmp_path / "proc/sys/kernel/osrelease", RELEASE.encode())
    put(tmp_path / "proc/config.gz", gzip.compress(CONFIG)[:50])
    put(tmp_path / f"boot/config-{RELEASE}")
    put(tmp_path / f"lib/modules/{RELEASE}/config", b"CONFIG_LATER=y\n")
    config = load(None, root=tmp_path)
    assert config.to_bytes() == CONFIG
    assert config.origin.endswith(f"/boot/config-{RELEASE}")


def test_no_running_config_lists_all_that_was_tried(tmp_path: Path) -> None:
    put(tmp_path / "proc/sys/kernel/osrelease", RELEASE.encode())
    put(tmp_path / "proc/config.gz", b"\x1f\x8b\x08\0")
    (tmp_path / f"boot/config-{RELEASE}").mkdir(parents=True)
    error = refused(None, tmp_path)
    for part in (
        f"kernel {RELEASE}",
        "/proc/config.gz (the gzip data is cut short)",
        f"/boot/config-{RELEASE} (not a regular file)",
        f"/lib/modules/{RELEASE}/build/.config (not there)",
    ):
        assert part in error.message
    assert "modprobe configs" in str(error.hint)
    assert "/proc/config.gz (not there)" in refused(None, tmp_path / "none").message


class Board:
    """A target whose files are a folder's; it fails when asked for ``broken``."""

    name = "ssh://board"

    def __init__(self, files: LocalFiles, broken: str = "") -> None:
        self._files = files
        self._broken = broken

    def read_file(self, path: str, limit: int) -> bytes:
        if path == self._broken:
            raise TargetError("the connection broke")
        return self._files.read_file(path, limit)


def test_a_target(tmp_path: Path) -> None:
    put(tmp_path / "proc/config.gz", gzip.compress(CONFIG))
    asked = []

    def opened(url: str) -> Board:
        asked.append(url)
        return Board(LocalFiles(tmp_path))

    config = load("ssh://board", target=opened)
    assert asked == ["ssh://board"]
    assert config.to_bytes() == CONFIG
    assert config.origin == "ssh://board: /proc/config.gz (gzip)"
    with pytest.raises(TargetError):
        load_running(Board(LocalFiles(tmp_path), "/proc/config.gz"))


@pytest.mark.parametrize("source", ["ssh://pi@board", "serial:///dev/ttyUSB0", "local:"])
def test_targets_are_not_supported_yet(source: str) -> None:
    error = refused(source)
    assert "not supported yet" in error.message
    assert error.where == source


def test_urls_are_refused() -> None:
    assert "downloads no configs" in refused("https://example.org/.config").message
