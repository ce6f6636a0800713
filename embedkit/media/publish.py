"""Gives a composed image its final shape: compressed, with block map and manifest beside it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from embedkit import __version__
from embedkit.errors import InputError, LackError
from embedkit.files import current_umask, write_atomically
from embedkit.media import bmap
from embedkit.media.compose import Composed, inputs, materialise, source_epoch
from embedkit.media.layout import CardPlan, FileSource, FilesystemSource
from embedkit.media.ranges import total
from embedkit.media.sparse import chunks
from embedkit.progress import Progress

SUFFIXES = (".zst", ".xz", ".gz")


@dataclass(frozen=True)
class Published:
    """The files that were written, and what they hold."""

    image: Path
    block_map: Path
    manifest: Path
    size_bytes: int
    mapped_bytes: int
    file_bytes: int
    sha256: str


def publish(plan: CardPlan, target: Path, *, progress: Progress) -> Published:
    """Composes ``plan`` into ``target``; its name's end decides the compression.

    Image, block map (``NAME.img.bmap``) and manifest (``NAME.img.json``) get their names only
    when all three are whole, the image last. Raises InputError for a target that cannot be
    one, LackError where the folder cannot be written.
    """
    target = target.absolute()
    _check_target(target, plan)
    raw_name = target.name
    for suffix in SUFFIXES:
        raw_name = raw_name.removesuffix(suffix)
    try:
        with tempfile.TemporaryDirectory(prefix=".embedkit-", dir=target.parent) as work:
            composed = materialise(plan, Path(work) / raw_name, progress=progress)
            block_map = bmap.make(composed.path, composed.mapped, image_size=composed.size_bytes)
            finished = composed.path
            if target.suffix in SUFFIXES:
                finished = Path(work) / "compressed"
                _compress(composed, finished, target.suffix, progress)
            digest = _sha256(finished)
            file_bytes = finished.stat().st_size
            manifest = _manifest(plan, target, composed, file_bytes, digest)
            map_path = target.with_name(f"{raw_name}.bmap")
            manifest_path = target.with_name(f"{raw_name}.json")
            write_atomically(map_path, block_map)
            write_atomically(manifest_path, manifest)
            finished.chmod(0o666 & ~current_umask())
            finished.replace(target)
    except OSError as error:
        raise LackError(f"cannot write {target}: {error.strerror}") from error
    mapped = total(composed.mapped)
    return Published(
        target, map_path, manifest_path, composed.size_bytes, mapped, file_bytes, digest
    )


def _check_target(target: Path, plan: CardPlan) -> None:
    if target.exists() and not target.is_file():
        raise InputError(
            f"{target} is not a regular file",
            hint="to write a card, use: embedkit flash BOARD DEVICE",
        )
    if not target.parent.is_dir():
        raise InputError(f"the folder {target.parent} does not exist")
    if target.resolve() in {path.resolve() for path in inputs(plan)}:
        raise InputError(f"{target} is one of the inputs")


def _compress(composed: Composed, path: Path, suffix: str, progress: Progress) -> None:
    task = progress.start(f"compressing ({suffix[1:]})", total=composed.size_bytes, unit="bytes")
    try:
        with path.open("wb") as out:
            with contextlib.ExitStack() as stack:
                encoder = _encoder(suffix, out, stack)
                for piece in chunks(composed.path):
                    encoder.write(piece)
                    task.advance(len(piece))
            out.flush()
            os.fsync(out.fileno())
    finally:
        task.finish()


def _encoder(suffix: str, out: IO[bytes], stack: contextlib.ExitStack) -> IO[bytes]:
    """A compressor over ``out`` whose bytes depend on nothing but its input."""
    if suffix == ".zst":
        import zstandard

        compressor = zstandard.ZstdCompressor(level=9, threads=2, write_checksum=True)
        return cast(IO[bytes], stack.enter_context(compressor.stream_writer(out, closefd=False)))
    if suffix == ".gz":
        import gzip

        # No name and no time in the header: gzip's -n.
        plain = gzip.GzipFile(filename="", mode="wb", fileobj=out, mtime=0, compresslevel=6)
        return cast(IO[bytes], stack.enter_context(plain))
    return cast(IO[bytes], stack.enter_context(_Xz(out)))


class _Xz:
    """.xz in blocks of 16 MiB, so that readers can decode several, or only some, of them."""

    _BLOCK = 16 << 20

    def __init__(self, out: IO[bytes]) -> None:
        from embedkit import process

        self._program = process.start(
            ["xz", "--compress", "--stdout", "-T2", "-6", f"--block-size={self._BLOCK}"],
            stdin=process.PIPE,
            stdout=out.fileno(),
        )

    def write(self, data: memoryview) -> int:
        assert self._program.stdin is not None
        return self._program.stdin.write(data)

    def __enter__(self) -> _Xz:
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        program = self._program
        assert program.stdin is not None and program.stderr is not None
        if kind is not None:
            program.kill()
        with contextlib.suppress(BrokenPipeError):
            program.stdin.close()
        complaint = program.stderr.read().decode("utf-8", "replace").strip()
        program.stderr.close()
        if program.wait() != 0 and kind is None:
            raise LackError(f"xz failed: {complaint}")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    for piece in chunks(path):
        digest.update(piece)
    return digest.hexdigest()


def _manifest(
    plan: CardPlan, target: Path, composed: Composed, file_bytes: int, digest: str
) -> bytes:
    """What the card was made of, as JSON: sums, places, versions; no time and no host."""
    hashes = _remembering(_sha256)
    extents = []
    for extent in plan.extents:
        entry: dict[str, object] = {
            "name": extent.name,
            "first_byte": extent.first_byte,
            "length": extent.length,
        }
        source = extent.source
        if isinstance(source, FileSource):
            entry |= {"file": source.path.name, "skip": source.skip, "sha256": hashes(source.path)}
        elif isinstance(source, FilesystemSource):
            entry |= {"filesystem": source.filesystem, "uuid": source.uuid, "label": source.label}
            if source.content is not None:
                entry["content"] = source.content.name
                if source.content.is_file():
                    entry["sha256"] = hashes(source.content)
            if source.files:
                entry["files"] = {name: hashes(path) for path, name in source.files}
        extents.append(entry)
    table = plan.table
    value = {
        "schema": "embedkit.card/1",
        "embedkit": __version__,
        "board": plan.board,
        "layout": plan.layout,
        "source_date_epoch": source_epoch(plan),
        "image": {"name": target.name, "bytes": file_bytes, "sha256": digest},
        "card": {"bytes": composed.size_bytes, "mapped_bytes": total(composed.mapped)},
        "partition_table": None
        if table is None
        else {
            "kind": table.kind.value,
            "identity": table.identity,
            "partitions": [
                {
                    "number": entry.number,
                    "first_sector": entry.first_sector,
                    "sectors": entry.sectors,
                    "type": entry.type,
                    "name": entry.name,
                    "uuid": entry.uuid,
                }
                for entry in table.entries
            ],
        },
        "extents": extents,
    }
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _remembering(function: Callable[[Path], str]) -> Callable[[Path], str]:
    import functools

    return functools.cache(function)
