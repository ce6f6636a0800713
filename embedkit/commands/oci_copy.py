"""``embedkit oci copy SOURCE TARGET``."""

from __future__ import annotations

import argparse

from embedkit.commands import oci_common as common
from embedkit.oci.locate import Opener
from embedkit.report.model import Report
from embedkit.ui import Ui


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help=common.SOURCE_HELP)
    parser.add_argument(
        "target", help="FILE.tar, a layout folder, or docker://REFERENCE for a registry"
    )
    add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What copy, push and pull have in common."""
    parser.add_argument("-t", "--tag", metavar="NAME", help="give the copy this name")
    common.add_platform_argument(parser)
    common.add_shape_arguments(parser)
    common.add_access_arguments(parser)


def run(args: argparse.Namespace, ui: Ui) -> Report:
    return copy("oci copy", args.source, args.target, args, ui)


def copy(command: str, source: str, target: str, args: argparse.Namespace, ui: Ui) -> Report:
    """Copies one image with all its platforms, or those asked for."""
    with Opener(common.access(args)) as opener:
        tree = common.only_platforms(opener.tree(source), args.platform)
        sink, written = common.send(
            [tree], opener, target, args, ui, name=common.full_name(args.tag)
        )
    return common.written_report(command, f"Copied {source}", [(sink, written[0])])
