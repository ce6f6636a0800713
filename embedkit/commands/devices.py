"""``embedkit devices``: every block device, and whether it may be written."""

from __future__ import annotations

import argparse
from typing import Any

from embedkit.media import devices
from embedkit.media.verdicts import Judgement, Verdict, judge
from embedkit.report.model import Report, Section, Status, Table
from embedkit.ui import Ui
from embedkit.units import format_size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cards", action="store_true", help="only the devices that flash would write"
    )


def run(args: argparse.Namespace, ui: Ui) -> Report:
    judged = [(device, judge(device)) for device in devices.scan()]
    if args.cards:
        judged = [(d, v) for d, v in judged if v.judgement is Judgement.CARD]
    cards = sum(1 for _, verdict in judged if verdict.judgement is Judgement.CARD)
    rows = tuple(
        (
            str(device.path),
            format_size(device.size_bytes) if device.size_bytes else "-",
            device.bus,
            "yes" if device.removable else "no",
            device.title,
            _mounts(device),
            verdict.text,
        )
        for device, verdict in judged
    )
    columns = ("device", "size", "bus", "removable", "model", "mounted", "verdict")
    sections = [Section("Block devices", table=Table(columns, rows))] if rows else []
    plural = "device" if cards == 1 else "devices"
    return Report(
        command="devices",
        title="Devices of this machine",
        verdict=f"{cards} {plural} to flash" if cards else "no card found",
        status=Status.OK if cards else Status.INFO,
        sections=tuple(sections),
        data={"devices": [_data(device, verdict) for device, verdict in judged]},
    )


def _mounts(device: devices.DeviceInfo) -> str:
    return ", ".join(dict.fromkeys(use.by for use in device.mounts)) or "-"


def _data(device: devices.DeviceInfo, verdict: Verdict) -> dict[str, Any]:
    return {
        "path": str(device.path),
        "size_bytes": device.size_bytes,
        "sector_bytes": device.sector_bytes,
        "bus": device.bus,
        "kind": device.kind,
        "vendor": device.vendor,
        "model": device.model,
        "serial": device.serial,
        "removable": device.removable,
        "read_only": device.read_only,
        "partitions": [
            {
                "name": partition.name,
                "first_byte": partition.first_byte,
                "length": partition.length,
                "filesystem": partition.filesystem,
                "label": partition.label,
            }
            for partition in device.partitions
        ],
        "uses": [{"kind": use.kind, "part": use.part, "by": use.by} for use in device.uses],
        "verdict": verdict.judgement.value,
        "reasons": list(verdict.reasons),
    }
