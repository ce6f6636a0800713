"""Input images: every packing gives the same bytes, and a cut or damaged one is noticed."""

from __future__ import annotations

import bz2
import functools
import gzip
import hashlib
import http.server
import io
import lzma
import random
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedkit.errors import InputError, TargetError
from embedkit.media import decode, xz, zstd_frames
from embedkit.media.ranges import Range
from embedkit.media.stream import Image, open_image, recognise
from embedkit.progress import NullProgress

_random = random.Random(7)
# Holes between noise, larger than the decoders' steps.
CONTENT = b"".join(_random.randbytes(70_000) + bytes(300_000) for _ in range(3)) + b"tail"


def _zip(content: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("readme.txt", "hello")
        archive.writestr("card.img", content)
    return file.getvalue()


def _multiblock_xz(content: bytes, block: int = 131_072) -> bytes:
    """Streams of one block each, padded: what pixz and cat make; read as many blocks."""
    parts = [lzma.compress(content[i : i + block]) for i in range(0, len(content), block)]
    return b"\0\0\0\0".join(parts)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "raw": lambda content: content,
    "gzip": lambda content: gzip.compress(content, 1),
    "gzip, two members": lambda c: gzip.compress(c[:99_999], 1) + gzip.compress(c[99_999:], 1),
    "gzip, padded": lambda content: gzip.compress(content, 1) + bytes(5000),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "xz, many blocks": _multiblock_xz,
    "xz, crc32": lambda content: lzma.compress(content, check=lzma.CHECK_CRC32),
    "zstd": lambda content: zstandard.ZstdCompressor(write_checksum=True).compress(content),
    "zstd, sizes unknown": lambda c: zstandard.ZstdCompressor(write_content_size=False).compress(c),
    "zstd, two frames": lambda c: zstandard.compress(c[:5]) + zstandard.compress(c[5:]),
    "zstd, skippable": lambda c: b"\x53\x2a\x4d\x18\3\0\0\0abc" + zstandard.compress(c),
    "zip": _zip,
    "zip, stored": lambda content: _zip(content, zipfile.ZIP_STORED),
    "zip, bzip2": lambda content: _zip(content, zipfile.ZIP_BZIP2),
}


@functools.cache
def pack(kind: str) -> bytes:
    return PACKERS[kind](CONTENT)


def everything(image: Image, step: int = 50_000, wanted: tuple[Range, ...] | None = None) -> bytes:
    reader = image.reader(wanted)
    try:
        found = b""
        buffer = bytearray(step)
        while count := reader.readinto(memoryview(buffer)):
            found += buffer[:count]
        reader.finish()
        return found
    finally:
        reader.close()


@pytest.fixture(params=PACKERS)
def packed(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    # The name says nothing: the content decides.
    path = tmp_path / "card.bin"
    path.write_bytes(pack(request.param))
    return path


def test_every_packing_gives_the_same_bytes(packed: Path) -> None:
    image = open_image(str(packed))
    assert everything(image) == CONTENT
    assert image.info.size in (None, len(CONTENT))


def test_seeking_gives_the_same_bytes(packed: Path) -> None:
    wanted = (Range(65_000, 10_000), Range(400_000, 4096), Range(len(CONTENT) - 4, 4))
    reader = open_image(str(packed)).reader(wanted)
    for item in wanted:
        buffer = bytearray(item.length)
        reader.seek(item.first_byte)
        assert reader.readinto(memoryview(buffer)) == item.length
        assert bytes(buffer) == CONTENT[item.first_byte : item.end]
    assert reader.drain(len(CONTENT)) == len(CONTENT)
    reader.close()


def test_a_longer_image_than_promised_is_noticed(packed: Path) -> None:
    reader = open_image(str(packed)).reader()
    with pytest.raises(InputError, match="longer than the 1000 bytes"):
        reader.drain(1000)
    reader.close()


def test_counting_stops_at_the_limit(packed: Path) -> None:
    with pytest.raises(InputError, match="more than the 500000 bytes"):
        open_image(str(packed)).count(500_000, NullProgress().start(""))


@pytest.mark.parametrize("kind", [name for name in PACKERS if name not in ("raw", "gzip, padded")])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.97])
def test_a_cut_image_is_noticed(kind: str, share: float, tmp_path: Path) -> None:
    content = pack(kind)
    path = tmp_path / "card"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match=r"in the middle of its|not complete|damaged"):
        image = open_image(str(path))
        everything(image)


@pytest.mark.parametrize("kind", ["xz", "xz, many blocks", "zstd", "zip", "zip, stored"])
def test_a_cut_container_is_noticed_without_decoding(kind: str, tmp_path: Path) -> None:
    content = pack(kind)
    path = tmp_path / "card"
    for share in (0.3, 0.9):
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(InputError):
            open_image(str(path))


@pytest.mark.parametrize(
    "kind", ["gzip", "bzip2", "xz", "xz, many blocks", "zstd", "zip", "zip, stored", "zip, bzip2"]
)
def test_a_flipped_bit_is_noticed(kind: str, tmp_path: Path) -> None:
    content = bytearray(pack(kind))
    content[len(content) // 2] ^= 4
    path = tmp_path / "card"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"damaged|does not hold"):
        everything(open_image(str(path)))


@pytest.mark.parametrize("kind", ["gzip", "zstd", "xz"])
def test_rubbish_after_the_end_is_noticed(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "card"
    path.write_bytes(pack(kind) + b"rubbish!")
    with pytest.raises(InputError):
        everything(open_image(str(path)))


def test_without_isal_gzip_works_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "isal", None)
    for kind in ("gzip", "gzip, two members", "zip"):
        path = tmp_path / "card"
        path.write_bytes(pack(kind))
        assert everything(open_image(str(path))) == CONTENT
        path.write_bytes(pack(kind)[:-70_000])
        with pytest.raises(InputError):
            everything(open_image(str(path)))


MAGICS = (b"", b"\x1f\x8b\x08", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"BZh91AY&SY")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(magic=st.sampled_from(MAGICS), rest=st.binary(max_size=300))
def test_rubbish_is_an_error_and_no_crash(tmp_path: Path, magic: bytes, rest: bytes) -> None:
    path = tmp_path / "rubbish"
    path.write_bytes(magic + rest)
    try:
        found = everything(open_image(str(path)))
    except InputError:
        return
    assert found == magic + rest or magic  # raw, or by chance a tiny archive


@settings(deadline=None, max_examples=40)
@given(cuts=st.lists(st.integers(1, 400), min_size=1, max_size=30))
def test_the_frame_walker_takes_pieces_of_any_size(cuts: list[int]) -> None:
    data = PACKERS["zstd, skippable"](CONTENT[:3000]) + PACKERS["zstd, two frames"](CONTENT[:999])
    walker = zstd_frames.FrameWalker()
    position = 0
    for cut in cuts * 40:
        walker.feed(data[position : position + cut])
        position += cut
        if position < len(data):
            assert not walker.complete or position >= 16
    walker.feed(data[position:])
    assert walker.complete
    assert walker.content_size == 3999


@settings(deadline=None, max_examples=60)
@given(place=st.integers(0, 10_000), value=st.integers(0, 255))
def test_a_damaged_xz_index_never_crashes(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int
) -> None:
    content = bytearray(_multiblock_xz(CONTENT[:9000], 3000))
    tail = len(content) - 1 - place % 60
    content[tail] = value
    path = tmp_path_factory.getbasetemp() / "xz-index"
    path.write_bytes(content)
    with path.open("rb") as file:
        try:
            blocks = xz.read_index(file.fileno())
        except InputError:
            return
    assert sum(block.length for block in blocks) == 9000


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (b"", "is empty"),
        (b"QFI\xfb" + bytes(9), "qcow2"),
        (b"\x3a\xff\x26\xed", "Android sparse"),
        (b"7z\xbc\xaf\x27\x1c", "7z archive"),
        (b"\x7fELF", "a program"),
        (b"\x27\x05\x19\x56", "uImage"),
        (b"<?xml version", "perhaps the .bmap"),
        (bytes(257) + b"ustar", "tar archive"),
    ],
)
def test_what_is_not_a_card_is_named(head: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        recognise(head, "x")


def test_zip_archives_with_no_or_many_images(tmp_path: Path) -> None:
    for names, message in (((), "holds no images"), (("a.img", "b.img"), "holds 2 images")):
        path = tmp_path / "x.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name in (*names, "a.txt", "b.txt"):
                archive.writestr(name, "x")
        with pytest.raises(InputError, match=message):
            open_image(str(path))


def test_expected_hashes(packed: Path) -> None:
    good = hashlib.sha256(packed.read_bytes()).hexdigest()
    assert everything(open_image(str(packed), sha256=good.upper())) == CONTENT
    with pytest.raises(InputError, match="not 0000"):
        everything(open_image(str(packed), sha256="0" * 64))
    with pytest.raises(InputError, match="64 hexadecimal"):
        open_image(str(packed), sha256="beef")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object, **more: object) -> None:
            super().__init__(*args, directory=str(tmp_path), **more)  # type: ignore[arg-type]

        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            if self.path.startswith("/cut"):
                data = (tmp_path / "card.gz").read_bytes()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data[: len(data) // 2])
                return
            super().do_GET()

    (tmp_path / "card.gz").write_bytes(gzip.compress(CONTENT, 1))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_an_image_from_the_network(server: str, tmp_path: Path) -> None:
    good = hashlib.sha256((tmp_path / "card.gz").read_bytes()).hexdigest()
    assert everything(open_image(f"{server}/card.gz", sha256=good)) == CONTENT
    with pytest.raises(InputError, match="needs its expected hash"):
        open_image(f"{server}/card.gz")
    with pytest.raises(TargetError, match="404"):
        open_image(f"{server}/none", sha256=good)
    with pytest.raises((InputError, TargetError)):
        everything(open_image(f"{server}/cut", sha256=good))
    with pytest.raises(InputError, match="by http or https, not by ftp"):
        open_image("ftp://x/y", sha256=good)


def test_an_xz_that_asks_for_too_much_memory() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 1 << 29}]
    # An encoder of that size is not needed: only the block header says it.
    content = bytearray(lzma.compress(b"x" * 100, format=lzma.FORMAT_XZ))
    del filters
    header = content[12:24]
    header[4] = 38  # dictionary size property: 2 GiB
    import zlib

    header[8:12] = zlib.crc32(bytes(header[:8])).to_bytes(4, "little")
    content[12:24] = header
    decoder = decode.xz_decoder(io.BytesIO(content))
    with pytest.raises(InputError, match=r"damaged|memory"):
        decoder.readinto(memoryview(bytearray(200)))


def test_a_zstd_window_beyond_reason() -> None:
    # Magic, descriptor without a size, window of 2 GiB, then a block.
    content = b"\x28\xb5\x2f\xfd" + bytes((0x00, 21 << 3)) + b"\x01\0\0"
    with pytest.raises(InputError, match="window of 2048 MiB"):
        zstd_frames.FrameWalker().feed(content)
