"""``embedkit compose``: a card image from a board and its artifacts, without root."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from embedkit import board
from embedkit.errors import InputError, did_you_mean
from embedkit.media import cardmap
from embedkit.media.layout import (
    BytesSource,
    CardPlan,
    ContentKind,
    Extent,
    FileSource,
    FilesystemSource,
)
from embedkit.media.planner import plan
from embedkit.media.publish import Published, publish
from embedkit.report.model import Report, Section, Status, Step
from embedkit.ui import Ui
from embedkit.units import SECTOR, format_size, parse_size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to compose, from what, to where."""
    add_card_arguments(parser)
    parser.add_argument("-o", dest="image", type=Path, metavar="IMAGE",
                        help="the image: card.img, or card.img.zst, .xz, .gz")  # fmt: skip
    parser.add_argument("--size", metavar="SIZE",
                        help="the card's size (8GB, 512MiB), or power-of-two for QEMU")  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="show the plan, write nothing")


def add_card_arguments(parser: argparse.ArgumentParser) -> None:
    """What describes a card; also for commands that write one to a device."""
    parser.add_argument("board", metavar="BOARD", help="a board's name, or a board.toml")
    parser.add_argument("--layout", metavar="NAME", help="a layout other than the default")
    parser.add_argument("--artifacts", type=Path, metavar="DIR",
                        help="folder with boot loader, kernel, rootfs")  # fmt: skip
    parser.add_argument("--blob", action="append", default=[], metavar="NAME=PATH",
                        help="the file, folder or tar for one blob or partition")  # fmt: skip
    parser.add_argument("--seed", default="", metavar="TEXT",
                        help="makes UUIDs differ from those of other cards")  # fmt: skip


def chosen_files(words: list[str]) -> dict[str, Path]:
    """--blob's NAME=PATH pairs. Raises InputError."""
    chosen = {}
    for word in words:
        name, equals, path = word.partition("=")
        if not (name and equals and path):
            raise InputError(f"--blob {word}: must be NAME=PATH")
        chosen[name] = Path(path)
    return chosen


def card_plan(
    args: argparse.Namespace, *, size_bytes: int | None = None, power_of_two: bool = False
) -> CardPlan:
    """The plan that the card arguments describe. Raises InputError."""
    return plan(
        board.load(args.board),
        layout=args.layout,
        artifacts=args.artifacts,
        chosen=chosen_files(args.blob),
        size_bytes=size_bytes,
        power_of_two=power_of_two,
        seed=args.seed,
    )


def run(args: argparse.Namespace, ui: Ui) -> Report:
    """Plans, and unless ``--dry-run`` was given, writes."""
    if args.image is None and not args.dry_run:
        raise InputError("where to? -o IMAGE is missing", hint="or --dry-run to see the plan")
    size = None
    power_of_two = args.size == "power-of-two"
    if args.size and not power_of_two:
        if args.size.isdigit() or did_you_mean(args.size, ["power-of-two"]):
            raise InputError(f"--size {args.size}: write '8GB', '512MiB' or 'power-of-two'")
        size = parse_size(args.size)
        if size % 4096:
            raise InputError(f"--size {args.size} is not a multiple of 4 KiB")
    card = card_plan(args, size_bytes=size, power_of_two=power_of_two)
    if args.dry_run:
        return _report(card, "nothing was written: this is the plan", None)
    done = publish(card, args.image, progress=ui)
    return _report(card, f"{done.image} is a card for {card.board}", done)


def published_facts(done: Published) -> tuple[tuple[str, str], ...]:
    """The files that were written, for people."""
    return (
        ("image", f"{done.image} ({format_size(done.file_bytes)})"),
        ("sha256", done.sha256),
        ("block map", str(done.block_map)),
        ("manifest", str(done.manifest)),
        ("to be written", f"{format_size(done.mapped_bytes)} of {format_size(done.size_bytes)}"),
    )


def _image_data(done: Published) -> dict[str, Any]:
    return {
        "path": str(done.image),
        "bytes": done.file_bytes,
        "sha256": done.sha256,
        "block_map": str(done.block_map),
        "manifest": str(done.manifest),
        "mapped_bytes": done.mapped_bytes,
    }


def _report(card: CardPlan, verdict: str, done: Published | None) -> Report:
    drawing = cardmap.of_plan(card)
    return Report(
        command="compose",
        title=f"{card.board}, layout {card.layout}",
        verdict=verdict,
        status=Status.OK,
        facts=(
            ("card", f"{card.size_bytes // SECTOR} sectors ({format_size(card.size_bytes)})"),
            *(published_facts(done) if done else ()),
        ),
        sections=(
            Section("map", text=cardmap.text(drawing), svg=cardmap.svg(drawing)),
            Section("steps", steps=steps(card)),
        ),
        notes=card.warnings,
        data={
            "board": card.board,
            "layout": card.layout,
            "size_bytes": card.size_bytes,
            "warnings": list(card.warnings),
            "regions": [
                {
                    "name": region.name,
                    "kind": region.kind.value,
                    "first_byte": region.first_byte,
                    "length": region.length,
                }
                for region in card.regions
            ],
            "extents": [
                {"name": extent.name, "first_byte": extent.first_byte, "length": extent.length}
                for extent in card.extents
            ],
            "image": _image_data(done) if done else None,
        },
    )


def steps(card: CardPlan) -> tuple[Step, ...]:
    """One step an extent, in the card's order."""
    return tuple(Step(_sentence(extent), touches=_place(extent)) for extent in card.extents)


def _place(extent: Extent) -> str:
    return f"sectors {extent.first_byte // SECTOR} to {(extent.end - 1) // SECTOR}"


def _sentence(extent: Extent) -> str:
    source = extent.source
    if isinstance(source, FileSource):
        part = f" from byte {source.skip} on" if source.skip else ""
        return f"{extent.name}: {source.path.name}{part}, {extent.length} bytes"
    if isinstance(source, BytesSource):
        return f"{extent.name}: written new"
    assert isinstance(source, FilesystemSource)
    label = f" '{source.label}'" if source.label else ""
    name = source.content.name if source.content else ""
    return (
        f"{extent.name}: {source.filesystem}{label}, "
        + {
            ContentKind.EMPTY: "empty",
            ContentKind.FOLDER: f"filled from the folder {name}",
            ContentKind.TAR: f"filled from {name}",
            ContentKind.IMAGE: f"the image {name}"
            + (", grown to the partition" if source.grow else ""),
            ContentKind.FILES: f"filled with {len(source.files)} files",
        }[source.kind]
    )
