"""``embedkit read``: a card's content as a sparse image with a block map."""

from __future__ import annotations

import argparse
from pathlib import Path

from embedkit.media import devices
from embedkit.media.backup import read_device
from embedkit.report.model import Report, Status
from embedkit.ui import Ui
from embedkit.units import format_size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("device", help="whole block device (/dev/sdX)")
    parser.add_argument(
        "-o", dest="image", type=Path, required=True, metavar="IMAGE", help="the image to write"
    )


def run(args: argparse.Namespace, ui: Ui) -> Report:
    device = devices.find(args.device)
    for use in device.mounts:
        ui.warn(f"{use.part} is mounted at {use.by}: the image may not be consistent")
    backup = read_device(device.identity, args.image, ui)
    return Report(
        command="read",
        title=f"Read {device.path}",
        verdict=f"{backup.image} holds {device.path}",
        status=Status.OK,
        facts=(
            ("device", f"{device.title}, {format_size(device.size_bytes)}"),
            ("image", f"{backup.image} ({format_size(backup.mapped_bytes)} of data)"),
            ("block map", str(backup.block_map)),
        ),
        data={
            "device": str(device.path),
            "image": str(backup.image),
            "block_map": str(backup.block_map),
            "size_bytes": backup.size_bytes,
            "mapped_bytes": backup.mapped_bytes,
        },
    )
