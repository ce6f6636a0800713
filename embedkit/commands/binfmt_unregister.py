"""``embedkit binfmt unregister``: stop this machine running foreign programs."""

from __future__ import annotations

import argparse

from embedkit.commands.binfmt_report import add_plan_arguments, asked, do
from embedkit.emulate import binfmt
from embedkit.emulate.register import plan_unregister
from embedkit.report.model import Report
from embedkit.ui import Ui


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_plan_arguments(parser)


def run(args: argparse.Namespace, ui: Ui) -> Report:
    """Unregisters, whoever registered it, and reads it back."""
    architectures = asked(args)
    plan = plan_unregister(binfmt.status(), architectures, instance=binfmt.Instance())
    names = ", ".join(each.name for each in architectures)
    return do("binfmt unregister", plan, args, ui, lambda: f"programs for {names} no longer run")
