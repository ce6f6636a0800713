"""``embedkit verify``: whether a card holds an image or a board's card."""

from __future__ import annotations

import argparse

from embedkit.commands.flash import add_source_arguments, request_of
from embedkit.errors import EXIT_NO
from embedkit.media import devices
from embedkit.media.compare import Comparison, compare
from embedkit.media.subject import opened
from embedkit.report.model import Finding, Report, Section, Status
from embedkit.ui import Ui
from embedkit.units import format_size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source_arguments(parser)
    parser.add_argument("device", help="whole block device (/dev/sdX)")


def run(args: argparse.Namespace, ui: Ui) -> Report:
    request = request_of(args)
    device = devices.find(args.device)
    notes = [
        f"{use.part} is mounted at {use.by}: what the system writes there shows as a difference"
        for use in device.mounts
    ]
    with opened(request, device.size_bytes, ui) as subject:
        result = compare(subject.image, subject.content, device.identity, ui)
        title = subject.title
    same = result.mismatch is None
    path = str(device.path)
    finding = Finding(
        path,
        Status.OK if same else Status.FAIL,
        path,
        f"{format_size(result.compared_bytes)} compared, all the same" if same else "differs",
        "" if result.mismatch is None else result.mismatch.text,
        _hint(result),
    )
    return Report(
        command="verify",
        title=f"Compare {path} with {title}",
        verdict=f"{path} holds the image" if same else f"{path} differs from the image",
        status=finding.status,
        exit_code=0 if same else EXIT_NO,
        sections=(Section("Device", findings=(finding,)),),
        notes=(*notes, *result.warnings),
        data={
            "image": title,
            "device": path,
            "same": same,
            "compared_bytes": result.compared_bytes,
            "unfinished": result.unfinished,
            "mismatch": None
            if result.mismatch is None
            else {
                "first_byte": result.mismatch.first_byte,
                "sector": result.mismatch.first_byte // 512,
                "region": result.mismatch.region,
                "what": result.mismatch.what,
            },
        },
    )


def _hint(result: Comparison) -> str:
    if result.unfinished:
        return "a flash of this card was interrupted: 'embedkit flash --resume' goes on"
    if result.grown and result.mismatch is not None:
        return "its last partition was grown: that file system is no longer the image's"
    return ""
