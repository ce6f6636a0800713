"""``embedkit oci merge IMAGE… -t NAME -o OUT``."""

from __future__ import annotations

import argparse

from embedkit.commands import oci_common as common
from embedkit.oci.index import Part, Placed, merge
from embedkit.oci.locate import Opener
from embedkit.report.model import Finding, Report, Section, Status
from embedkit.ui import Ui


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help=f"{common.SOURCE_HELP}. PLATFORM=IMAGE says what it is for",
    )
    common.add_target_arguments(parser)
    parser.add_argument(
        "--annotation",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an annotation of the index (OCI only)",
    )
    parser.add_argument(
        "--trust-labels",
        action="store_true",
        help="believe the configs: do not read the layers to look at the programs",
    )
    common.add_shape_arguments(parser)
    common.add_access_arguments(parser)


def run(args: argparse.Namespace, ui: Ui) -> Report:
    targets = common.targets(args)
    annotations = common.key_values(args.annotation, "annotation")
    with Opener(common.access(args)) as opener:
        parts = []
        for text in args.images:
            platform, source = common.split_platform(text)
            parts.append(Part(source, opener.tree(source), platform))
        merged = merge(
            parts,
            common.full_name(args.tag),
            family=args.type or "oci",
            annotations=annotations,
            check=not args.trust_labels,
            progress=ui,
        )
        sent = []
        for target in targets:
            sink, written = common.send([merged.tree], opener, target, args, ui)
            sent.append((sink, written[0]))
    section = Section("Sources", findings=tuple(_finding(item) for item in merged.placed))
    return common.written_report(
        "oci merge", f"Merged {len(args.images)} images", sent, notes=merged.notes,
        sections=[section],
    )  # fmt: skip


def _finding(item: Placed) -> Finding:
    return Finding(
        id=str(item.platform),
        status=Status.WARN if item.note else Status.OK,
        label=item.source,
        state=str(item.platform),
        detail=item.note,
    )
