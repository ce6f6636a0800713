"""``embedkit oci push SOURCE REFERENCE``."""

from __future__ import annotations

import argparse

from embedkit.commands import oci_common as common
from embedkit.commands import oci_copy
from embedkit.report.model import Report
from embedkit.ui import Ui


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help=common.SOURCE_HELP)
    parser.add_argument("reference", help="HOST/PATH:TAG")
    oci_copy.add_options(parser)


def run(args: argparse.Namespace, ui: Ui) -> Report:
    target = "docker://" + args.reference.removeprefix("docker://")
    return oci_copy.copy("oci push", args.source, target, args, ui)
