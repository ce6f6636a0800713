"""The terminal: bars on one (a pseudo terminal here), plain lines elsewhere."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import threading
import time

import pytest

from embedkit.errors import InputError
from embedkit.progress import Progress
from embedkit.ui import Ui, _LineTask, terminal_width, wants_color

_SHOW_CURSOR, _HIDE_CURSOR = "\x1b[?25h", "\x1b[?25l"
_ANY_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def _on_terminal(code: str, *, typed: str = "", **environment: str) -> tuple[int, str]:
    """Runs Python code with all its streams on a pseudo terminal; (exit code, what it showed)."""
    ours, theirs = pty.openpty()
    clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "CI")}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**clean, "TERM": "xterm-256color", **environment},
    )
    os.close(theirs)
    os.write(ours, typed.encode())
    shown = b""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if not select.select([ours], [], [], 0.2)[0]:
            continue
        try:
            data = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not data:
            break
        shown += data
    os.close(ours)
    try:
        return process.wait(10), shown.decode("utf-8", "replace")
    finally:
        if process.poll() is None:
            process.kill()


_WORK = """
from embedkit.ui import Ui
ui = Ui({options})
task = ui.start("Writing [bold]card[/bold] :smile:", total=4 << 20, unit="bytes")
for _ in range(4):
    task.advance(1 << 20)
ui.say("half [red]way[/red] :smile: \\x1b[2J")
task.finish()
ui.say("after")
"""


def test_a_bar_on_a_terminal() -> None:
    code, shown = _on_terminal(_WORK.format(options=""))
    plain = _ANY_ESCAPE.sub("", shown)
    assert code == 0
    assert "━" in shown
    assert "100%" in plain
    assert "/s" in plain
    # Text is shown as it is: no markup, no emoji, no escape of a board's.
    assert "Writing [bold]card[/bold] :smile:" in plain
    assert "half [red]way[/red] :smile: \\x1b[2J" in plain
    assert "\x1b[2J" not in shown
    assert plain.rstrip().endswith("after")
    assert shown.rindex(_SHOW_CURSOR) > shown.rindex(_HIDE_CURSOR)


@pytest.mark.parametrize(("options", "term"), [("verbosity=-1", "xterm"), ("", "dumb")])
def test_no_bar_where_it_is_not_wanted_or_cannot_be(options: str, term: str) -> None:
    _, shown = _on_terminal(_WORK.format(options=options), TERM=term)
    assert "\x1b" not in shown
    assert ("Writing" in shown) == (options == "")


def test_no_color_has_no_colour() -> None:
    _, shown = _on_terminal(_WORK.format(options="no_color=True"))
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", shown)
    _, shown = _on_terminal(_WORK.format(options=""), NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", shown)


def test_an_error_under_a_bar_gives_the_cursor_back() -> None:
    code = """
import sys, types
from embedkit import cli
module = types.ModuleType("embedkit.commands.try_it")
module.add_arguments = lambda parser: None
def run(args, ui):
    ui.start("working", total=10).advance(3)
    raise KeyboardInterrupt
module.run = run
sys.modules[module.__name__] = module
cli.COMMANDS = (cli.Command("try", "try_it", ""),)
sys.exit(cli.main(["try"]))
"""
    ended, shown = _on_terminal(code)
    assert ended == 130
    assert shown.rindex(_SHOW_CURSOR) > shown.rindex(_HIDE_CURSOR)
    assert shown.rstrip().endswith("interrupted")


_THREADS = """
import threading
from embedkit.ui import Ui
ui = Ui()
def work(number):
    for _ in range(5):
        task = ui.start(f"task {number}", total=20)
        for step in range(20):
            task.advance(1)
        ui.say(f"line of {number}")
        task.finish()
        task.finish()
threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
assert ui._live is None and ui._running == 0
ui.close()
"""


def test_many_threads_share_one_terminal() -> None:
    code, shown = _on_terminal(_THREADS)
    plain = _ANY_ESCAPE.sub("", shown)
    assert code == 0, plain[-2000:]
    assert "Traceback" not in plain
    assert all(plain.count(f"line of {n}") == 5 for n in range(8))


def test_many_threads_write_whole_lines(capsys: pytest.CaptureFixture[str]) -> None:
    ui = Ui()
    task = ui.start("copying", total=80000, unit="bytes")

    def work() -> None:
        for _ in range(1000):
            task.advance(10)
        ui.say("x" * 50)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    task.finish()
    task.finish()
    lines = capsys.readouterr().err.splitlines()
    assert lines[:8] == ["x" * 50] * 8
    assert len(lines) == 9
    assert lines[8].startswith("copying: 78.1 KiB, ")


def test_a_long_task_is_heard_of_in_a_log(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_LineTask, "_INTERVAL", 0.0)
    task = Ui().start("copying", total=4096, unit="bytes")
    task.advance(1024)
    task.advance(3072)
    task.finish()
    shown = capsys.readouterr().err.splitlines()
    assert shown[:2] == ["copying: 1.0 KiB so far, 25 %", "copying: 4.0 KiB so far, 100 %"]
    assert len(shown) == 3


@pytest.mark.parametrize(
    ("verbosity", "shown"),
    [(-1, "warning: c\n"), (0, "a\nwarning: c\n"), (1, "a\nb\nwarning: c\n")],
)
def test_verbosity(capsys: pytest.CaptureFixture[str], verbosity: int, shown: str) -> None:
    ui: Progress = (real := Ui(verbosity=verbosity))
    ui.say("a")
    real.detail("b")
    real.warn("c")
    out, err = capsys.readouterr()
    assert (out, err) == ("", shown)


_ASK = """
import sys
from embedkit.ui import Ui
ui = Ui()
bar = ui.start("before", total=3)
print("answer:", ui.confirm("Erase \\x1b[2J sdz?", "sdz"))
bar.finish()
"""


@pytest.mark.parametrize(("typed", "answer"), [("sdz\n", True), ("yes\n", False), ("\x04", False)])
def test_a_question_is_asked_on_a_terminal(typed: str, answer: bool) -> None:
    code, shown = _on_terminal(_ASK, typed=typed)
    assert code == 0
    assert "Erase \\x1b[2J sdz?" in shown
    assert "Type 'sdz' to go on: " in shown
    assert f"answer: {answer}" in shown


def test_no_question_without_a_terminal() -> None:
    with pytest.raises(InputError) as caught:
        Ui().confirm("Erase?", "sdz")
    assert "--yes" in str(caught.value.hint)
    assert Ui(yes=True).confirm("Erase?", "sdz")


def test_colour_and_width_of_what_is_no_terminal() -> None:
    with open(os.devnull, "w") as stream:  # noqa: PTH123 (a text stream is what is asked about)
        assert not wants_color(stream)
        assert terminal_width(stream) is None
    assert not wants_color(stream)


def test_colour_and_width_of_a_terminal() -> None:
    code = "import sys; from embedkit.ui import terminal_width as w, wants_color as c; "
    code += "print(w(sys.stdout), c(sys.stdout))"
    assert _on_terminal(code, COLUMNS="57")[1].strip() == "57 True"
    assert _on_terminal(code, TERM="dumb")[1].strip().endswith("False")


def test_a_result_is_wrapped_and_coloured_on_a_terminal_alone() -> None:
    code = """
import sys, types
from embedkit import cli
from embedkit.report.model import Report, Status
module = types.ModuleType("embedkit.commands.try_it")
module.add_arguments = lambda parser: None
module.run = lambda args, ui: Report("try", "t", "word " * 40, Status.FAIL, 1)
sys.modules[module.__name__] = module
cli.COMMANDS = (cli.Command("try", "try_it", ""),)
sys.exit(cli.main(["try"]))
"""
    ended, shown = _on_terminal(code, COLUMNS="52")
    assert ended == 1
    assert "\x1b[1;31m" in shown
    lengths = [len(line) for line in _ANY_ESCAPE.sub("", shown).splitlines()]
    assert max(lengths) in range(45, 53)
    piped = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert b"\x1b" not in piped.stdout
    assert len(piped.stdout.splitlines()[-1]) == 199
