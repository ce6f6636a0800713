"""``embedkit flash``: an image or a board's card onto one or several devices."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from embedkit.errors import EXIT_NO, EXIT_TARGET, InputError, exit_code
from embedkit.media import devices
from embedkit.media.devices import DeviceInfo
from embedkit.media.outcome import Options, Outcome, State
from embedkit.media.ranges import total
from embedkit.media.ready import question, refuse_own_backing, unmounted
from embedkit.media.subject import Request, Subject, card_plan, check_options, opened
from embedkit.media.verdicts import judge, require_writable
from embedkit.media.write import write_image
from embedkit.report.model import Finding, Report, Section, Status, Step
from embedkit.ui import Ui
from embedkit.units import SECTOR, format_seconds, format_size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source_arguments(parser)
    parser.add_argument(
        "device", nargs="+", help="whole block device (/dev/sdX); several are written at once"
    )
    parser.add_argument("--no-verify", action="store_true", help="do not read the card back")
    parser.add_argument(
        "--no-discard", action="store_true", help="leave old content where nothing is written"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with a flash that was interrupted"
    )
    parser.add_argument(
        "--grow",
        action="store_true",
        help="grow the image's last partition and its file system (ext) to the card's end",
    )
    parser.add_argument(
        "--exact",
        action="store_true",
        help="leave the image's partition table as it is, on a larger card too",
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would be done")
    parser.add_argument("--unmount", action="store_true", help="unmount what is mounted from it")
    parser.add_argument(
        "--accept-suspicious",
        action="store_true",
        help="write a device that 'embedkit devices' calls suspicious",
    )


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """What is to be on the card; ``flash`` and ``verify`` take the same."""
    parser.add_argument(
        "source",
        metavar="IMAGE|BOARD",
        help="image (raw, .gz, .xz, .zst, .bz2, .zip), '-', an http(s) URL, or a board's name",
    )
    parser.add_argument("--artifacts", type=Path, metavar="DIR", help="a board's files")
    parser.add_argument(
        "--blob", action="append", default=[], metavar="NAME=FILE", help="one of a board's files"
    )
    parser.add_argument("--layout", metavar="NAME", help="a board's layout, if it has several")
    parser.add_argument("--bmap", type=Path, metavar="FILE", help="the image's block map")
    parser.add_argument("--no-bmap", action="store_true", help="ignore a .bmap beside the image")
    parser.add_argument("--sha256", metavar="HEX", help="the hash that the image file must have")


def request_of(args: argparse.Namespace) -> Request:
    """The Request in the arguments. Raises InputError for options that do not fit together."""
    chosen = {}
    for word in args.blob:
        name, equals, file = word.partition("=")
        if not equals or not name or not file:
            raise InputError(f"--blob takes NAME=FILE, not '{word}'")
        chosen[name] = Path(file)
    if args.bmap is not None and args.no_bmap:
        raise InputError("--bmap and --no-bmap contradict each other")
    request = Request(
        args.source, args.artifacts, chosen, args.layout, args.bmap, not args.no_bmap, args.sha256
    )
    check_options(request)
    return request


def run(args: argparse.Namespace, ui: Ui) -> Report:
    request = request_of(args)
    if args.resume and args.dry_run:
        raise InputError("--resume and --dry-run contradict each other")
    if args.grow and args.exact:
        raise InputError("--grow and --exact contradict each other")
    if args.grow and request.is_board:
        raise InputError("--grow belongs to an image: a board's layout says itself what grows")
    found = _targets(args, request)
    if args.dry_run:
        return _dry_run(request, found, args, ui)
    outcomes: list[Outcome] = []
    title = args.source
    # A board's card ends where the device ends: devices of one size share a card.
    groups = [list(group) for _, group in groupby(found, lambda device: device.size_bytes)]
    for index, group in enumerate(groups if request.is_board else [found]):
        smallest = min(device.size_bytes for device in group)
        with opened(request, smallest, ui) as subject:
            title = subject.title
            refuse_own_backing(group, subject)
            if index == 0:
                _confirm(found, title, ui)
            released = unmounted(group, ui.say, accept_suspicious=args.accept_suspicious)
            outcomes += _write(subject, released, args, ui)
    return _report(title, outcomes)


def _targets(args: argparse.Namespace, request: Request) -> list[DeviceInfo]:
    """The devices, every one fit to be written. Raises InputError with the reason."""
    found: list[DeviceInfo] = []
    for target in args.device:
        device = devices.find(target)
        if any(device.number == other.number for other in found):
            raise InputError("the same device is given twice", where=target)
        verdict = judge(device)
        require_writable(
            device, verdict, unmount=args.unmount, accept_suspicious=args.accept_suspicious
        )
        if request.is_board and device.sector_bytes != SECTOR:
            raise InputError(
                f"the device has sectors of {device.sector_bytes} bytes; boards' layouts count "
                f"sectors of {SECTOR}, and the board would not find its boot loader",
                where=target,
            )
        found.append(device)
    if len(found) > 1 and request.source == "-" and request.is_board:
        raise InputError("a board's card cannot come from standard input")
    return sorted(found, key=lambda device: device.size_bytes)


def _confirm(found: Sequence[DeviceInfo], title: str, ui: Ui) -> None:
    expected = " ".join(str(device.path) for device in found)
    if not ui.confirm(question(found, title), expected):
        raise InputError("not confirmed; nothing was written")


def _write(
    subject: Subject, found: Sequence[DeviceInfo], args: argparse.Namespace, ui: Ui
) -> tuple[Outcome, ...]:
    options = Options(
        verify=not args.no_verify,
        discard=not args.no_discard,
        resume=args.resume,
        fit_table=not args.exact,
        grow=args.grow,
    )
    identities = [device.identity for device in found]
    try:
        return write_image(subject.image, subject.content, identities, options, ui)
    except KeyboardInterrupt:
        names = " ".join(str(device.path) for device in found)
        ui.warn(
            f"interrupted: {names} is unfinished and has no partition table; "
            f"the same command with --resume goes on"
        )
        raise


def _dry_run(
    request: Request, found: Sequence[DeviceInfo], args: argparse.Namespace, ui: Ui
) -> Report:
    smallest = min(device.size_bytes for device in found)
    if request.is_board:
        plan = card_plan(request, smallest)
        what = f"{plan.board} ({plan.layout})"
        size, mapped, warnings = plan.size_bytes, None, plan.warnings
    else:
        with opened(request, smallest, ui) as subject:
            refuse_own_backing(found, subject)
            what, warnings = subject.title, ()
            size = subject.content.size or 0
            parts = subject.content.mapped
            mapped = total(parts) if parts is not None else None
    return Report(
        command="flash",
        title=f"What flashing {what} would do",
        verdict="nothing was written (--dry-run)",
        status=Status.INFO,
        sections=tuple(
            Section(
                f"{device.path}: {device.title}, {format_size(device.size_bytes)}",
                steps=tuple(_steps(device, size, mapped, args)),
            )
            for device in found
        ),
        notes=tuple(warnings),
        data={
            "dry_run": True,
            "image": what,
            "size_bytes": size,
            "mapped_bytes": mapped,
            "devices": [str(device.path) for device in found],
        },
    )


def _steps(
    device: DeviceInfo, size: int, mapped: int | None, args: argparse.Namespace
) -> list[Step]:
    path = str(device.path)
    steps = [Step(f"unmount {use.by}", use.part, "mount it again") for use in device.mounts]
    steps.append(Step("mark the card as unfinished: no partition table from here on", "first MiB"))
    if not args.no_discard:
        steps.append(Step("discard old content where nothing will be written, if it can", path))
    amount = (
        f"{format_size(mapped)} of {format_size(size)}"
        if mapped is not None
        else (format_size(size) if size else "all")
    )
    steps.append(Step(f"write {amount} behind the first MiB, and flush", path))
    if not args.no_verify:
        steps.append(Step("read everything back from the device and compare", path))
    if args.grow:
        steps.append(Step("grow the last partition and its file system to the card's end", path))
    elif size and size < device.size_bytes and not args.exact:
        steps.append(Step("move a GPT's second copy, if there is one, to the card's end", path))
    steps.append(Step("write the first MiB, its first sectors last", "first MiB"))
    steps.append(Step("let the kernel read the new partition table", path))
    return steps


def _report(title: str, outcomes: Sequence[Outcome]) -> Report:
    if len(outcomes) == 1 and outcomes[0].error is not None:
        error = outcomes[0].error
        error.hint = error.hint or outcomes[0].warnings[0]
        if error.hint != outcomes[0].warnings[0]:
            error.message += f"; {outcomes[0].warnings[0]}"
        raise error
    good = sum(1 for outcome in outcomes if outcome.good)
    return Report(
        command="flash",
        title=f"Flash {title}",
        verdict=_verdict(outcomes, good),
        status=Status.OK if good == len(outcomes) else Status.FAIL,
        exit_code=_exit_code(outcomes),
        sections=(Section("Devices", findings=tuple(finding_of(each) for each in outcomes)),),
        data={"image": title, "devices": [_data(outcome) for outcome in outcomes]},
    )


def _exit_code(outcomes: Sequence[Outcome]) -> int:
    if any(outcome.error is not None for outcome in outcomes):
        codes = [exit_code(outcome.error) for outcome in outcomes if outcome.error is not None]
        return codes[0] if len(set(codes)) == 1 else EXIT_TARGET
    return 0 if all(outcome.good for outcome in outcomes) else EXIT_NO


def _verdict(outcomes: Sequence[Outcome], good: int) -> str:
    if len(outcomes) > 1:
        return f"{good} of {len(outcomes)} devices are done"
    outcome = outcomes[0]
    if outcome.state is State.VERIFIED:
        return f"{outcome.identity.path} holds the image: written, read back and compared"
    if outcome.state is State.WRITTEN:
        return f"{outcome.identity.path} is written (not verified)"
    return f"{outcome.identity.path} does not hold what was written; it has no partition table"


def finding_of(outcome: Outcome) -> Finding:
    """One device and how it went."""
    path = str(outcome.identity.path)
    if outcome.error is not None:
        return Finding(
            path, Status.FAIL, path, "failed", str(outcome.error),
            outcome.error.hint or outcome.warnings[0],
        )  # fmt: skip
    if outcome.mismatch is not None:
        return Finding(
            path,
            Status.FAIL,
            path,
            "differs",
            outcome.mismatch.text,
            "try another reader; if it differs again, the card is broken or counterfeit",
        )
    rate = outcome.written_bytes / max(outcome.write_seconds, 1e-3)
    state = (
        f"{format_size(outcome.written_bytes)} written in {format_seconds(outcome.write_seconds)} "
        f"({format_size(int(rate))}/s)"
    )
    if outcome.resumed_bytes:
        state += f", of which {format_size(outcome.resumed_bytes)} was there already"
    if outcome.state is State.VERIFIED:
        state += f"; read back in {format_seconds(outcome.verify_seconds)}"
    if outcome.grown is not None:
        state += f"; the last partition was grown to {format_size(outcome.grown.length)}"
    elif outcome.table_moved:
        state += "; the GPT's second copy is at the card's end"
    return Finding(path, Status.OK, path, state)


def _data(outcome: Outcome) -> dict[str, Any]:
    mismatch = outcome.mismatch
    return {
        "device": str(outcome.identity.path),
        "model": outcome.identity.model,
        "serial": outcome.identity.serial,
        "state": outcome.state.value,
        "written_bytes": outcome.written_bytes,
        "verified_bytes": outcome.verified_bytes,
        "resumed_bytes": outcome.resumed_bytes,
        "write_seconds": round(outcome.write_seconds, 3),
        "verify_seconds": round(outcome.verify_seconds, 3),
        "discarded": outcome.discarded,
        "partition_table_reread": outcome.table_reread,
        "gpt_copy_moved": outcome.table_moved,
        "grown_to_bytes": outcome.grown.length if outcome.grown is not None else None,
        "error": str(outcome.error) if outcome.error is not None else None,
        "mismatch": None
        if mismatch is None
        else {
            "first_byte": mismatch.first_byte,
            "sector": mismatch.first_byte // 512,
            "exact": mismatch.exact,
            "region": mismatch.region,
            "what": mismatch.what,
        },
        "warnings": list(outcome.warnings),
    }
