"""The command line as a process: pipes, signals, encodings, and what it imports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# One more command in the table, in a process of its own.
_START = """
import sys, types
from embedkit import cli
from embedkit.report.model import Finding, Report, Section, Status
module = types.ModuleType("embedkit.commands.try_it")
module.add_arguments = lambda parser: None
def run(args, ui):
{body}
module.run = run
sys.modules[module.__name__] = module
cli.COMMANDS = (*cli.COMMANDS, cli.Command("try", "try_it", "a test's"))
sys.exit(cli.main())
"""
_LONG = """
    found = tuple(Finding(f"A{n}", Status.FAIL, f"A{n}", "missing") for n in range(20000))
    section = Section("s", findings=found)
    return Report("try", "t", "no", Status.FAIL, 1, sections=(section,))
"""
# Escaped, for the test's own command line goes through the locale, too.
_SHORT = """
    verdict = "no \\u2192 it does not, Ger\\xe4t \\udcff"
    return Report("try", "t", verdict, Status.FAIL, 1)
"""
_SLEEP = """
    import time
    task = ui.start("working", total=100, unit="bytes")
    task.advance(10)
    print("ready", flush=True)
    time.sleep(30)
"""


def _start(body: str, *words: str, **options: object) -> subprocess.Popen[bytes]:
    code = _START.format(body=body)
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    argv = [sys.executable, "-c", code, "try", *words]
    return subprocess.Popen(argv, **(streams | options))  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("format", ["text", "json", "html"])
def test_a_reader_that_goes_away_changes_no_answer(format: str) -> None:
    """`embedkit … | head -1` under pipefail: still 1, and not a word on standard error."""
    with _start(_LONG, "--format", format) as started:
        assert started.stdout is not None
        assert started.stderr is not None
        assert started.stdout.read(10)
        started.stdout.close()
        complaint = started.stderr.read()
        assert (started.wait(30), complaint) == (1, b"")


def test_a_full_disk_is_an_error_and_no_bug() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("there is no /dev/full")
    with full.open("wb") as stream, _start(_SHORT, stdout=stream) as started:
        assert started.stderr is not None
        complaint = started.stderr.read()
        assert started.wait(30) == 3
    assert complaint == b"error: cannot write to standard output: No space left on device\n"


def test_closed_output_is_no_bug() -> None:
    argv = [
        "sh",
        "-c",
        'exec "$@" >&-',
        "sh",
        sys.executable,
        "-c",
        _START.format(body=_SHORT),
        "try",
    ]
    ended = subprocess.run(argv, capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (1, b"")


@pytest.mark.parametrize(
    "locale",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "utf-8"},
    ],
)
@pytest.mark.parametrize("format", ["text", "json", "html", "markdown", "junit", "sarif"])
def test_any_locale_gets_an_answer(locale: dict[str, str], format: str) -> None:
    environment = {**os.environ, **locale}
    with _start(_SHORT, "--format", format, env=environment) as started:
        out, err = started.communicate(timeout=30)
    assert (started.returncode, err) == (1, b"")
    text = out.decode("latin-1" if format == "text" and "latin" in str(locale) else "utf-8")
    assert "it does not" in text
    assert "\\xff" in text
    if format != "text":
        assert "Gerät" in text
        assert "→" in text
    elif locale != {"PYTHONIOENCODING": "utf-8"}:
        assert "no -> it does not" in text


def test_control_c_ends_it_with_130() -> None:
    with _start(_SLEEP) as started:
        assert started.stdout is not None
        assert started.stderr is not None
        assert started.stdout.readline() == b"ready\n"
        time.sleep(0.05)
        started.send_signal(signal.SIGINT)
        assert started.wait(10) == 130
        assert started.stderr.read() == b"interrupted\n"


_HEAVY = ("paramiko", "rich", "kconfiglib", "pyudev", "pexpect", "serial", "zstandard", "httpx")


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["nope"], []])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    code = (
        f"import sys; from embedkit import cli; cli.main({words!r}); "
        f"sys.exit(','.join(m for m in {_HEAVY!r} if m in sys.modules))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    # sys.exit of a text prints it last.
    assert ended.stderr.strip().splitlines()[-1:] in (
        [],
        ["hint: embedkit --help lists the commands"],
    )
    assert not any(module in ended.stderr.split(",") for module in _HEAVY)


def test_that_check_sees_an_import() -> None:
    code = "import sys, pexpect; sys.exit('pexpect' if 'pexpect' in sys.modules else '')"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert ended.stderr.strip() == "pexpect"


def test_help_imports_no_command_and_no_renderer() -> None:
    code = (
        "import sys; from embedkit import cli; cli.main(['--help']); "
        "rooms = ('embedkit.commands.', 'embedkit.report.'); "
        "print([m for m in sys.modules if m.startswith(rooms)])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"
