"""``embedkit oci pull REFERENCE OUT``."""

from __future__ import annotations

import argparse

from embedkit.commands import oci_copy
from embedkit.report.model import Report
from embedkit.ui import Ui


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", help="HOST/PATH:TAG or HOST/PATH@DIGEST")
    parser.add_argument("into", help="FILE.tar or a layout folder")
    oci_copy.add_options(parser)


def run(args: argparse.Namespace, ui: Ui) -> Report:
    source = "docker://" + args.reference.removeprefix("docker://")
    return oci_copy.copy("oci pull", source, args.into, args, ui)
