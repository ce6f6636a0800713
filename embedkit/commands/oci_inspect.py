"""``embedkit oci inspect IMAGE``."""

from __future__ import annotations

import argparse
import shlex
from typing import Any

from embedkit.commands import oci_common as common
from embedkit.commands import targeting
from embedkit.commands.oci_board import add_store_arguments
from embedkit.errors import EXIT_NO, InputError
from embedkit.oci import platform as platforms
from embedkit.oci import treemap
from embedkit.oci.inspect import Inspection, inspect
from embedkit.oci.locate import Opener
from embedkit.report.model import Finding, Report, Section, Status, Table
from embedkit.ui import Ui
from embedkit.units import format_size, parse_size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", help=common.SOURCE_HELP)
    common.add_platform_argument(parser)
    parser.add_argument(
        "--fail-under",
        type=_share,
        metavar="SHARE",
        help="exit 1 where the efficiency is below SHARE: 0.95 or 95%%",
    )
    parser.add_argument(
        "--fits", type=common.platform_argument, metavar="P", help="does a machine of P run it?"
    )
    parser.add_argument(
        "--free", type=_size, metavar="SIZE", help="does it fit in SIZE of free space, unpacked?"
    )
    parser.add_argument(
        "--target",
        metavar="TARGET",
        help="does it fit this board: its platform, its room, its memory pages, its Docker? "
        f"({targeting.TARGET_HELP})",
    )
    parser.add_argument("--top", type=int, default=10, metavar="N", help="wasted files to show")
    add_store_arguments(parser)
    targeting.add_access_arguments(parser)
    common.add_access_arguments(parser)


def _share(text: str) -> float:
    try:
        value = float(text.rstrip("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a share between 0 and 1")
    return value


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(error.message) from error


def run(args: argparse.Namespace, ui: Ui) -> Report:
    with Opener(common.access(args)) as opener:
        tree = common.only_platforms(opener.tree(args.image), args.platform)
        images = [inspect(entry, progress=ui) for entry in tree.images]
    if not images:
        raise InputError(f"{args.image} holds no image that a machine could run")
    sections = []
    failed: list[str] = []
    for image in images:
        checks = _checks(image, args) + _oddities(image)
        failed += [f"{image.platform}: {c.label} {c.state}" for c in checks if _fails(c)]
        sections.append(_section(image, checks, args.top))
    fitting = [
        image for image in images if args.fits and platforms.accepts(args.fits, image.platform)
    ]
    if args.fits and not fitting:
        names = ", ".join(str(image.platform) for image in images)
        failed.append(f"nothing in it for {args.fits}; it has: {names}")
    if args.target:
        from embedkit.commands.oci_fit import fit_section

        section = fit_section(images, args, ui)
        failed += [f"{c.label}: {c.state}" for c in section.findings if _fails(c)]
        sections.insert(0, section)
    lowest = min(image.efficiency for image in images)
    verdict = f"{len(images)} platforms" if len(images) > 1 else str(images[0].platform)
    verdict += f", efficiency {lowest:.1%}, {format_size(sum(i.size for i in images))} to transfer"
    return Report(
        command="oci inspect",
        title=args.image,
        verdict=failed[0] if failed else verdict,
        status=Status.FAIL if failed else Status.OK,
        exit_code=EXIT_NO if failed else 0,
        facts=(("name", tree.name or "(none)"),),
        sections=tuple(sections),
        data={"images": [_data(image) for image in images], "failed": failed},
    )


def _fails(check: Finding) -> bool:
    return check.status is Status.FAIL


def _checks(image: Inspection, args: argparse.Namespace) -> list[Finding]:
    found = []
    if args.fail_under is not None:
        good = image.efficiency >= args.fail_under
        found.append(
            Finding(
                "efficiency",
                Status.OK if good else Status.FAIL,
                "efficiency",
                f"{image.efficiency:.1%}, wanted {args.fail_under:.1%}",
            )
        )
    if args.free is not None:
        # While a layer is unpacked, the compressed one lies on the disk too.
        need = image.stored_bytes + max((layer.size for layer in image.layers), default=0)
        good = need <= args.free
        found.append(
            Finding(
                "space",
                Status.OK if good else Status.FAIL,
                "space",
                f"needs {format_size(need)}, {format_size(args.free)} are free",
            )
        )
    return found


def _oddities(image: Inspection) -> list[Finding]:
    found = []
    if image.mislabelled:
        found.append(Finding("label", Status.FAIL, "label", image.mislabelled))
    for loader in image.missing_loaders:
        found.append(
            Finding(
                "loader", Status.WARN, "loader", f"{loader}, which the image lacks",
                detail="the kernel says 'no such file or directory' when it is started",
            )
        )  # fmt: skip
    if image.programs.others:
        names = ", ".join(
            f"/{item.path} ({item.platform.architecture})" for item in image.programs.others[:3]
        )
        found.append(Finding("mixed", Status.WARN, "programs for other architectures", names))
    for problem in image.problems[:20]:
        found.append(Finding("problem", Status.WARN, "odd", problem))
    return found


def _section(image: Inspection, checks: list[Finding], top: int) -> Section:
    rows = tuple(
        (
            str(number + 1),
            format_size(layer.size),
            layer.compression,
            format_size(layer.unpacked),
            str(layer.files),
            format_size(layer.wasted),
            " ".join(layer.command.split())[:60],
        )
        for number, layer in enumerate(image.layers)
    )
    columns = ("layer", "size", "packed", "unpacked", "files", "undoes", "made by")
    parts = [Section("Layers", table=Table(columns, rows))]
    wasted = tuple(
        (format_size(w.size), w.how, f"{w.stored_in + 1} → {w.undone_in + 1}", f"/{w.path}")
        for w in image.wasted[:top]
    )
    if wasted:
        parts.append(
            Section(
                f"Waste: {format_size(image.wasted_bytes)}",
                table=Table(("size", "how", "layers", "file"), wasted),
            )
        )
    twins = tuple(
        (format_size(d.size), str(d.count), ", ".join(f"/{path}" for path in d.paths[:3]))
        for d in image.duplicates[:top]
    )
    if twins:
        parts.append(Section("Equal files", table=Table(("size", "times", "where"), twins)))
    drawing = treemap.svg(image.rootfs.root)
    if drawing:
        parts.append(Section("Size map", text=_largest(image), svg=drawing))
    return Section(
        f"{image.platform}  {image.digest[:19]}",
        text=_summary(image),
        findings=tuple(checks),
        sections=tuple(parts),
    )


def _summary(image: Inspection) -> str:
    run = image.config.run
    visible, stored = format_size(image.visible_bytes), format_size(image.stored_bytes)
    lines = [
        f"image ID:   {image.config_digest}",
        f"size:       {format_size(image.size)} to transfer",
        f"unpacked:   {visible} visible of {stored} stored",
        f"efficiency: {image.efficiency:.1%}",
    ]
    program = image.programs.decisive
    if program is not None:
        how = "static" if program.elf.static else f"dynamic ({program.elf.interpreter})"
        abi = f", {program.elf.float_abi} float" if program.elf.float_abi else ""
        lines.append(f"programs:   {image.programs.platform}{abi}; /{program.path} is {how}")
    for title, key in (("entrypoint", "Entrypoint"), ("command", "Cmd")):
        words = run.get(key)
        if isinstance(words, list) and words:
            lines.append(f"{title + ':':<11} {shlex.join(str(word) for word in words)}")
    for title, key in (("user", "User"), ("folder", "WorkingDir")):
        if run.get(key):
            lines.append(f"{title + ':':<11} {run[key]}")
    return "\n".join(lines)


def _largest(image: Inspection) -> str:
    """The largest files, for where the drawing cannot be shown."""
    largest = sorted(image.rootfs.files(), key=lambda item: -item[1].size)[:10]
    return "\n".join(
        f"{format_size(node.size):>10}  /{path}" for path, node in largest if node.size
    )


def _data(image: Inspection) -> dict[str, Any]:
    return {
        "platform": str(image.platform),
        "digest": image.digest,
        "config_digest": image.config_digest,
        "config": dict(image.config.values),
        "size": image.size,
        "stored_bytes": image.stored_bytes,
        "visible_bytes": image.visible_bytes,
        "wasted_bytes": image.wasted_bytes,
        "efficiency": round(image.efficiency, 6),
        "layers": [
            {
                "digest": layer.digest,
                "diff_id": layer.diff_id,
                "compression": layer.compression,
                "size": layer.size,
                "unpacked": layer.unpacked,
                "files": layer.files,
                "wasted": layer.wasted,
                "command": layer.command,
            }
            for layer in image.layers
        ],
        "waste": [
            {"path": w.path, "size": w.size, "how": w.how, "layers": [w.stored_in, w.undone_in]}
            for w in image.wasted[:1000]
        ],
        "duplicates": [
            {"size": d.size, "count": d.count, "paths": list(d.paths)} for d in image.duplicates
        ],
        "programs": str(image.programs.platform) if image.programs.platform else None,
        "mislabelled": image.mislabelled,
        "missing_loaders": list(image.missing_loaders),
        "problems": list(image.problems),
    }
