"""Commands made for tests, put into the command line's own table."""

from __future__ import annotations

import argparse
import importlib
import sys
import types
from collections.abc import Callable

import pytest

from embedkit import cli
from embedkit.report.model import Report, Status
from embedkit.ui import Ui

Run = Callable[[argparse.Namespace, Ui], Report]


class Answer:
    """What came of one run of the command line."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err


def report(**fields: object) -> Report:
    """A small report: ``fields`` over one that is well."""
    given = {"command": "try", "title": "a title", "verdict": "all is well", "status": Status.OK}
    return Report(**(given | fields))  # type: ignore[arg-type]


class Cli:
    """The command line with one more command, ``try``, that does what the test gives it."""

    def __init__(self, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self._patch = patch
        self._capture = capture
        self.calls: list[argparse.Namespace] = []
        self.answer: Report | BaseException = report()

    def install(self, name: str = "try", **attributes: object) -> None:
        """Puts the command into the table; ``attributes`` are set on its module."""
        module = types.ModuleType(f"embedkit.commands.{name.replace(' ', '_')}")

        def add_arguments(parser: argparse.ArgumentParser) -> None:
            parser.add_argument("--size", type=int, help="a number")

        def run(args: argparse.Namespace, ui: Ui) -> Report:
            self.calls.append(args)
            if isinstance(self.answer, BaseException):
                raise self.answer
            return self.answer

        for key, value in {"add_arguments": add_arguments, "run": run, **attributes}.items():
            setattr(module, key, value)
        self._patch.setitem(sys.modules, module.__name__, module)
        command = cli.Command(name, module.__name__.rpartition(".")[2], "does what a test asks for")
        self._patch.setattr(cli, "COMMANDS", (*cli.COMMANDS, command))
        assert importlib.import_module(module.__name__) is module

    def __call__(self, *words: str) -> Answer:
        try:
            code = cli.main(list(words))
        except SystemExit as ended:  # argparse, for --help
            code = int(ended.code or 0)
        out, err = self._capture.readouterr()
        return Answer(code, out, err)
