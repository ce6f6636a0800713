"""The command line: errors to exit codes, messages, formats, and what is refused in time."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jsonschema
import pytest
from support.commands import Cli, report

from embedkit import __version__, cli
from embedkit.errors import EmbedkitError, InputError, LackError, TargetError
from embedkit.report.model import Status


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    made = Cli(monkeypatch, capsys)
    made.install()
    return made


def test_help_names_every_command(line: Cli) -> None:
    answer = line("--help")
    assert answer.code == 0
    for command in cli.COMMANDS:
        assert f"  {command.name} " in answer.out
        assert command.summary in answer.out


def test_no_words_is_a_mistake_that_gets_help(line: Cli) -> None:
    answer = line()
    assert answer.code == 2
    assert "usage: embedkit" in answer.out


def test_version(line: Cli) -> None:
    assert line("--version").out == f"embedkit {__version__}\n"


def test_a_wrong_command_gets_a_guess(line: Cli) -> None:
    answer = line("chek-kernel")
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith(
        "error: there is no command 'chek-kernel'\nhint: did you mean 'check-kernel'"
    )


def test_groups(line: Cli) -> None:
    line.install("toys list")
    line.install("toys show")
    assert line("toys", "list").code == 0
    answer = line("toys", "lst")
    assert (answer.code, answer.err.splitlines()[1]) == (2, "hint: did you mean 'list'?")
    assert "takes one of: list, show" in answer.err
    assert line("toys").code == 2
    helped = line("toys", "--help")
    assert helped.code == 0
    assert "toys show" in helped.out
    assert "check-kernel" not in helped.out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--sise", "3"], "unrecognized arguments: --sise 3"),
        (["--size", "big"], "argument --size: invalid int value: 'big'"),
        (["--siz", "3"], "unrecognized arguments: --siz 3"),
    ],
)
def test_wrong_options(line: Cli, words: list[str], complaint: str) -> None:
    answer = line("try", *words)
    assert answer.code == 2
    assert answer.err == f"error: {complaint}\nhint: embedkit try --help\n"
    assert line.calls == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("bad"), 2),
        (LackError("bad"), 3),
        (TargetError("bad"), 4),
        (EmbedkitError("bad"), 2),
    ],
)
def test_errors_end_in_their_exit_code_and_a_message(
    line: Cli, error: EmbedkitError, code: int
) -> None:
    error.where = "a.toml:3"
    error.hint = "mend it"
    line.answer = error
    answer = line("try")
    assert answer.code == code
    assert answer.out == ""
    assert answer.err == "error: bad (a.toml:3)\nhint: mend it\n"


def test_a_message_cannot_steer_the_terminal(line: Cli) -> None:
    line.answer = TargetError("the board said \x1b[2J\udcff", hint="\x07")
    answer = line("try")
    assert answer.err == "error: the board said \\x1b[2J\\xff\nhint: \\x07\n"


def test_a_bug_is_told_from_an_answer(line: Cli) -> None:
    line.answer = ZeroDivisionError("by zero")
    answer = line("try")
    assert answer.code == 70
    assert answer.err.startswith("error: a bug in embedkit: ZeroDivisionError: by zero\n")
    assert "--debug" in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), InputError("x")])
def test_debug_shows_the_traceback(line: Cli, error: Exception) -> None:
    line.answer = error
    assert "Traceback" in line("try", "--debug").err


def test_interrupted(line: Cli) -> None:
    line.answer = KeyboardInterrupt()
    answer = line("try")
    assert (answer.code, answer.err) == (130, "interrupted\n")


@pytest.mark.parametrize("asked", [["--json"], ["--format", "json"], ["--format=json"]])
@pytest.mark.parametrize(
    ("error", "code"),
    [(InputError("bad", hint="mend"), 2), (ZeroDivisionError("x"), 70), (KeyboardInterrupt(), 130)],
)
def test_errors_as_json(line: Cli, asked: list[str], error: BaseException, code: int) -> None:
    line.answer = error
    answer = line("try", *asked)
    assert answer.code == code
    assert answer.err == ""
    document = json.loads(answer.out)
    assert (document["exit_code"], document["command"]) == (code, "try")
    assert document["error"]["kind"] == type(error).__name__


@pytest.mark.parametrize("words", [["chek", "--json"], ["try", "--sise", "--json"]])
def test_errors_before_the_command_runs_as_json(line: Cli, words: list[str]) -> None:
    document = json.loads(line(*words).out)
    assert document["exit_code"] == 2


@pytest.mark.parametrize("words", [["--format", "jsonx"], ["--json", "--format", "text"]])
def test_only_json_is_json(line: Cli, words: list[str]) -> None:
    line.answer = InputError("bad")
    assert line("try", *words).out == ""


@pytest.mark.parametrize("code", [0, 1])
def test_the_exit_code_is_the_reports_own(line: Cli, code: int) -> None:
    line.answer = report(exit_code=code, status=Status.FAIL if code else Status.OK)
    for format in ("text", "json", "html", "markdown", "junit", "sarif"):
        answer = line("try", "--format", format)
        assert answer.code == code
        assert answer.out


def test_a_wrong_format_is_refused_before_any_work(line: Cli) -> None:
    answer = line("try", "--format", "htm")
    assert answer.code == 2
    assert answer.err.endswith("hint: did you mean 'html'?\n")
    assert line.calls == []


def test_a_command_may_have_formats_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = Cli(monkeypatch, capsys)
    line.install(FORMATS=("checkconfig",))
    line.answer = report(renderings={"checkconfig": lambda: "- CONFIG_A: enabled\n"}, exit_code=1)
    answer = line("try", "--format", "checkconfig")
    assert (answer.code, answer.out) == (1, "- CONFIG_A: enabled\n")
    assert "did you mean 'checkconfig'?" in line("try", "--format", "chekconfig").err
    assert "sarif, checkconfig" in " ".join(line("try", "--help").out.split())


def test_output_goes_to_the_file_whole(line: Cli, tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    path.write_text("old")
    answer = line("try", "--format", "html", "--output", str(path))
    assert answer.code == 0
    assert answer.out == ""
    assert answer.err == f"wrote {path}\n"
    assert path.read_text("utf-8").startswith("<!DOCTYPE html>")
    assert list(tmp_path.iterdir()) == [path]


def test_an_output_that_cannot_be_is_refused_before_any_work(line: Cli, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none" / "r.html"):
        answer = line("try", "--output", str(path))
        assert answer.code == 2
        assert "--output" in answer.err
    assert line.calls == []


def test_a_rendering_with_stray_bytes_can_be_written(line: Cli, tmp_path: Path) -> None:
    line.answer = report(verdict="byte \udcff", exit_code=1, data={"raw": "\udcff"})
    for format in ("text", "json", "html", "markdown", "junit", "sarif"):
        path = tmp_path / format
        assert line("try", "--format", format, "--output", str(path)).code == 1
        assert "\\xff" in path.read_text("utf-8")


def test_documented_errors_keep_to_the_schema(line: Cli) -> None:
    schema = Path(cli.__file__).parent / "report" / "schema" / "report-1.json"
    jsonschema.validate(json.loads(line("nope", "--json").out), json.loads(schema.read_text()))


def test_no_prompt_without_a_terminal(line: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(args: object, ui: object) -> object:
        from embedkit.ui import Ui

        assert isinstance(ui, Ui)
        return report(verdict=str(ui.confirm("Erase it?", "sdz")))

    line.install("ask", run=run)
    with open(os.devnull) as nothing:  # noqa: PTH123 (sys.stdin wants a stream)
        monkeypatch.setattr("sys.stdin", nothing)
        refused = line("ask")
        assert refused.code == 2
        assert "--yes" in refused.err
        assert line("ask", "--yes").out.endswith("True\n")
