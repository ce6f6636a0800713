"""``embedkit boards show``: one board, its card's map and where each number comes from."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from embedkit import board
from embedkit.board.model import Board, Layout
from embedkit.media import cardmap
from embedkit.report.model import Report, Section, Status, Table
from embedkit.ui import Ui
from embedkit.units import SECTOR, format_size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The board, and one of its layouts."""
    parser.add_argument("board", metavar="BOARD", help="a board's name, or a board.toml")
    parser.add_argument("--layout", metavar="NAME", help="show only this layout")


def run(args: argparse.Namespace, ui: Ui) -> Report:
    """Facts, a map for each layout, the sources."""
    found = board.load(args.board)
    layouts = [board.find_layout(found, args.layout)] if args.layout else list(found.layouts)
    sections = [_layout_section(found, layout) for layout in layouts]
    sections.append(Section("sources", table=Table(("NAME", "WHAT"), found.sources)))
    return Report(
        command="boards show",
        title=found.title,
        verdict=f"{found.name}: '{found.default_layout.name}' is the default of "
        f"{len(found.layouts)} layout{'s' if len(found.layouts) > 1 else ''}",
        status=Status.OK,
        facts=tuple(_facts(found)),
        sections=tuple(sections),
        data=_data(found),
    )


def _facts(found: Board) -> list[tuple[str, str]]:
    console, boot, emulation = found.console, found.boot, found.emulation
    facts = [
        ("SoC", f"{found.soc} ({found.arch})"),
        ("device tree", boot.device_tree or "given by the firmware"),
        ("console", f"{console.device}, {console.baud} baud ({console.source})"),
        ("kernel", f"{boot.kernel}, {boot.arguments}"),
    ]
    if emulation is not None:
        what = "the same machine" if not emulation.substitute else "a stand-in"
        facts.append(
            (
                "in QEMU",
                (
                    f"{emulation.program} -M {emulation.machine} ({what}"
                    f"{', boots the card' if emulation.card_boot else ''}; {emulation.source})"
                ),
            )
        )
    facts.append(("file", str(found.path)))
    return facts


def _layout_section(found: Board, layout: Layout) -> Section:
    card = cardmap.of_layout(layout)
    star = " (default)" if layout is found.default_layout else ""
    rows = [
        (blob.name, " or ".join(blob.images), str(blob.offset // SECTOR), blob.source)
        for blob in layout.blobs
    ]
    rows += [
        (item.name, "kept" if item.keep else "zeroed", str(item.offset // SECTOR), item.source)
        for item in layout.reserved
    ]
    for partition in layout.partitions:
        content = " or ".join(partition.images or partition.files) or "empty"
        if len(content) > 48:
            content = content[:47] + "…"
        first = "" if partition.offset is None else str(partition.offset // SECTOR)
        rows.append((partition.name, content, first, partition.source or layout.source))
    notes = [layout.title, f"{layout.table.upper()}; {layout.source}"]
    if layout.zero_head:
        notes.append(f"the first {format_size(layout.zero_head)} are zeroed before all else")
    if layout.note:
        notes.append(layout.note)
    return Section(
        f"layout {layout.name}{star}",
        text="\n".join(notes),
        sections=(
            Section("map", text=cardmap.text(card), svg=cardmap.svg(card)),
            Section("parts", table=Table(("NAME", "CONTENT", "SECTOR", "SOURCE"), tuple(rows))),
        ),
    )


def _data(found: Board) -> dict[str, Any]:
    data = asdict(found)
    data["path"] = str(found.path)
    data["default_layout"] = found.default_layout.name
    return data
