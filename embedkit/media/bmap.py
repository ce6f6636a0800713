"""Block maps (bmap 2.0): which blocks of an image hold data, with a hash for each range.

The format is bmaptool's (github.com/yoctoproject/bmaptool, the comment in every .bmap file):
XML with ImageSize, BlockSize, BlocksCount, MappedBlocksCount, ChecksumType, BmapFileChecksum
and a BlockMap of Range elements, ``"first-last"`` or ``"block"``, each with a ``chksum``.
A .bmap comes from strangers: there is no DTD, so no entity is ever expanded, and everything
that the file claims is checked against the rest of it before it is believed.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from xml.parsers import expat

from embedkit.errors import InputError
from embedkit.media.ranges import Range, Span, merge, total

# A 2 TB card with every second 4 KiB block mapped needs less; nobody's real map is near it.
MAX_FILE_BYTES = 256 << 20
# The largest size that a signed 64-bit file offset can name.
_MAX_IMAGE = (1 << 63) - 1
_HASHES = ("sha256", "sha1")
_NUMBER = re.compile(r"\d{1,20}")
_BLOCKS = re.compile(r"(\d{1,20})(?:\s*-\s*(\d{1,20}))?")


@dataclass(frozen=True)
class MappedRange(Span):
    """One range of mapped bytes; ``digest`` is the hex hash of its content, or None."""

    first_byte: int
    length: int
    digest: str | None = None


@dataclass(frozen=True)
class Bmap:
    """A block map. Sizes are bytes; ``ranges`` ascend and do not overlap."""

    image_size: int
    block_size: int
    ranges: tuple[MappedRange, ...]
    hash_name: str = "sha256"

    @property
    def mapped_bytes(self) -> int:
        return total(item.range for item in self.ranges)

    def mapped(self) -> tuple[Range, ...]:
        """The mapped bytes as few ranges."""
        return merge(item.range for item in self.ranges)


def read(path: Path) -> Bmap:
    """The block map in ``path``. Raises InputError for anything that is not a sound one."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read the block map: {error.strerror}", where=str(path)) from error
    return parse(content, str(path))


def parse(content: bytes, name: str = "bmap") -> Bmap:
    """A block map from the bytes of its file; ``name`` says in errors what was read."""
    try:
        return _parse(content)
    except InputError as error:
        if error.where is None:
            error.where = name
        raise


def beside(image: Path) -> Path | None:
    """The .bmap that belongs to ``image``, where bmaptool would look for it.

    ``card.img.xz`` finds ``card.img.xz.bmap``, ``card.img.bmap`` and ``card.bmap``.
    """
    stem = image.name
    while stem:
        candidate = image.with_name(f"{stem}.bmap")
        if candidate.is_file() and candidate != image:
            return candidate
        shorter, dot, _ = stem.rpartition(".")
        stem = shorter if dot else ""
    return None


def make(
    image: Path, ranges: Iterable[Range], *, image_size: int | None = None, block_size: int = 4096
) -> bytes:
    """The bytes of a bmap 2.0 file for a raw ``image`` in which ``ranges`` are mapped.

    Ranges begin and end at whole blocks, save the last one, which may end with the image.
    Raises InputError where they do not, or reach beyond the image.
    """
    size = image.stat().st_size if image_size is None else image_size
    hashed = []
    with image.open("rb", buffering=0) as file:
        for item in merge(ranges):
            if item.first_byte % block_size or (item.end % block_size and item.end != size):
                raise InputError("a mapped range does not lie on whole blocks", where=str(item))
            if item.end > size:
                raise InputError("a mapped range reaches beyond the image", where=str(item))
            digest = hash_range(file.fileno(), item, "sha256")
            hashed.append(MappedRange(item.first_byte, item.length, digest))
    return render(Bmap(size, block_size, tuple(hashed)))


def hash_range(descriptor: int, item: Range, hash_name: str) -> str:
    """The hex hash of a range of an open file; a file that ends early hashes to what it has."""
    digest = hashlib.new(hash_name)
    buffer = bytearray(min(item.length, 1 << 20))
    view = memoryview(buffer)
    offset = item.first_byte
    while offset < item.end:
        count = os.preadv(descriptor, [view[: min(len(buffer), item.end - offset)]], offset)
        if count == 0:
            break
        digest.update(view[:count])
        offset += count
    return digest.hexdigest()


def render(bmap: Bmap) -> bytes:
    """``bmap`` as the bytes of a file, its own checksum filled in. Always in version 2.0."""
    block = bmap.block_size
    count = -(-bmap.image_size // block)
    blocks = []
    for item in bmap.ranges:
        first, last = item.first_byte // block, (item.end - 1) // block
        text = str(first) if first == last else f"{first}-{last}"
        attribute = f' chksum="{item.digest}"' if item.digest else ""
        blocks.append((first, last, f"        <Range{attribute}> {text} </Range>\n"))
    mapped = sum(last - first + 1 for first, last, _ in blocks)
    zeros = "0" * hashlib.new(bmap.hash_name).digest_size * 2
    text = (
        '<?xml version="1.0" ?>\n'
        "<!-- A block map, format 2.0: only the blocks listed here hold data. Flash the image\n"
        "     with 'embedkit flash' or 'bmaptool copy', which write these and no others. -->\n"
        '<bmap version="2.0">\n'
        f"    <ImageSize> {bmap.image_size} </ImageSize>\n"
        f"    <BlockSize> {block} </BlockSize>\n"
        f"    <BlocksCount> {count} </BlocksCount>\n"
        f"    <MappedBlocksCount> {mapped} </MappedBlocksCount>\n"
        f"    <ChecksumType> {bmap.hash_name} </ChecksumType>\n"
        f"    <BmapFileChecksum> {zeros} </BmapFileChecksum>\n"
        "    <BlockMap>\n" + "".join(line for _, _, line in blocks) + "    </BlockMap>\n</bmap>\n"
    )
    checksum = hashlib.new(bmap.hash_name, text.encode()).hexdigest()
    return text.replace(f"> {zeros} <", f"> {checksum} <").encode()


class _Reader:
    """Gathers the few elements that a block map has; anything else is ignored."""

    def __init__(self) -> None:
        self.version: str | None = None
        self.texts: dict[str, str] = {}
        self.ranges: list[tuple[str, str | None]] = []
        self._path: list[str] = []
        self._digest: str | None = None
        self._text: list[str] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if not self._path:
            if name != "bmap":
                raise InputError(f"the root element is <{name[:40]}>, not <bmap>")
            self.version = attributes.get("version", "")
        self._path.append(name)
        if len(self._path) > 16:
            raise InputError("the elements nest deeper than any block map's")
        self._text = []
        self._digest = attributes.get("chksum")

    def data(self, text: str) -> None:
        self._text.append(text)

    def end(self, name: str) -> None:
        text = "".join(self._text).strip()
        if self._path == ["bmap", "BlockMap", "Range"]:
            self.ranges.append((text, self._digest))
        elif len(self._path) == 2:
            if name in self.texts:
                raise InputError(f"<{name[:40]}> is there twice")
            self.texts[name] = text
        self._path.pop()
        self._text = []

    @staticmethod
    def refuse_doctype(*_: object) -> None:
        raise InputError("it has a document type declaration, which no block map needs")


def _parse(content: bytes) -> Bmap:
    if len(content) > MAX_FILE_BYTES:
        raise InputError(f"it is larger than {MAX_FILE_BYTES >> 20} MiB")
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.data
    parser.StartDoctypeDeclHandler = reader.refuse_doctype
    parser.EntityDeclHandler = reader.refuse_doctype
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise InputError(f"it is not well-formed XML: {error}") from error
    except (ValueError, LookupError) as error:  # an encoding that Python does not know
        raise InputError(f"it is not readable XML: {error}") from error
    _check_version(reader.version)
    hash_name = reader.texts.get("ChecksumType", "sha256")
    if hash_name not in _HASHES:
        raise InputError(f"its checksums are '{hash_name[:40]}'; known: {', '.join(_HASHES)}")
    _check_own_sum(content, reader.texts, hash_name)
    image_size = _number(reader.texts, "ImageSize")
    block_size = _number(reader.texts, "BlockSize")
    if image_size == 0 or image_size > _MAX_IMAGE:
        raise InputError(f"an image of {image_size} bytes cannot be")
    if block_size < 512 or block_size > 1 << 30 or block_size & (block_size - 1):
        raise InputError(f"a block size of {block_size} bytes is not a power of two from 512 on")
    count = -(-image_size // block_size)
    claimed = _number(reader.texts, "BlocksCount")
    if claimed != count:
        raise InputError(f"it counts {claimed} blocks where {image_size} bytes make {count}")
    ranges = _ranges(reader.ranges, count, block_size, image_size, hash_name)
    mapped = sum(-(-item.length // block_size) for item in ranges)
    claimed = _number(reader.texts, "MappedBlocksCount")
    if claimed != mapped:
        raise InputError(f"it counts {claimed} mapped blocks but lists {mapped}")
    return Bmap(image_size, block_size, ranges, hash_name)


def _check_version(version: str | None) -> None:
    if version is None or not re.fullmatch(r"\d{1,4}\.\d{1,4}", version):
        raise InputError("it does not say its version")
    major, minor = (int(part) for part in version.split("."))
    if major == 1 and minor < 4:
        raise InputError(
            f"format {version} is too old", hint="make it again with 'bmaptool create'"
        )
    if major not in (1, 2):
        raise InputError(f"format {version} is not known; known: 1.4 and 2.x")


def _number(texts: dict[str, str], name: str) -> int:
    text = texts.get(name)
    if text is None:
        raise InputError(f"<{name}> is missing")
    if not _NUMBER.fullmatch(text):
        raise InputError(f"<{name}> is not a number: '{text[:40]}'")
    return int(text)


def _check_own_sum(content: bytes, texts: dict[str, str], hash_name: str) -> None:
    """The file's checksum is taken with the checksum itself written as zeros."""
    digits = hashlib.new(hash_name).digest_size * 2
    claimed = texts.get("BmapFileChecksum")
    if claimed is None:
        raise InputError("<BmapFileChecksum> is missing")
    if not re.fullmatch(f"[0-9a-fA-F]{{{digits}}}", claimed):
        raise InputError(f"<BmapFileChecksum> is not a {hash_name} sum")
    blanked = content.replace(claimed.encode(), b"0" * digits, 1)
    if hashlib.new(hash_name, blanked).hexdigest() != claimed.lower():
        raise InputError(
            "its own checksum is wrong: the block map was changed or damaged",
            hint="fetch it again, or flash without it (--no-bmap)",
        )


def _ranges(
    items: list[tuple[str, str | None]], count: int, block: int, size: int, hash_name: str
) -> tuple[MappedRange, ...]:
    digits = hashlib.new(hash_name).digest_size * 2
    ranges: list[MappedRange] = []
    next_free = 0
    for text, digest in items:
        match = _BLOCKS.fullmatch(text)
        if match is None:
            raise InputError(f"'{text[:40]}' is not a range of blocks")
        first = int(match.group(1))
        last = first if match.group(2) is None else int(match.group(2))
        if last < first:
            raise InputError(f"the range {text} ends before it begins")
        if last >= count:
            raise InputError(f"the range {text} lies outside the image's {count} blocks")
        if first < next_free:
            raise InputError(f"the range {text} overlaps the one before it, or is out of order")
        if digest is not None and not re.fullmatch(f"[0-9a-fA-F]{{{digits}}}", digest):
            raise InputError(f"the checksum of the range {text} is not a {hash_name} sum")
        end = min((last + 1) * block, size)
        ranges.append(
            MappedRange(first * block, end - first * block, digest.lower() if digest else None)
        )
        next_free = last + 1
    return tuple(ranges)
