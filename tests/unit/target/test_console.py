"""Console scripts and logs."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedkit import cli
from embedkit.errors import InputError
from embedkit.target.base import ConnectionLost
from embedkit.target.console import Log, Player, read_script


class Fake:
    """A board that answers each line that is sent with what is next in ``answers``."""

    def __init__(self, answers: list[bytes]) -> None:
        self.answers = answers
        self.sent: list[bytes] = []
        self.waiting = [answers.pop(0)] if answers else []

    def read(self, timeout: float) -> bytes:
        return self.waiting.pop(0) if self.waiting else b""

    def write(self, data: bytes) -> None:
        self.sent.append(data)
        if self.answers:
            self.waiting.append(self.answers.pop(0))

    def resize(self, columns: int, rows: int) -> None: ...

    def send_break(self) -> None: ...

    def close(self) -> None: ...


def play(tmp_path: Path, script: str, answers: list[bytes]) -> tuple[list[bool], Fake, str]:
    file = tmp_path / "script"
    file.write_text(script)
    board = Fake(answers)
    done = Player(board, lambda data: None, lambda what: "pass word").play(read_script(file))
    return [played.ok for played in done], board, done[-1].detail


def test_a_login_by_script(tmp_path: Path) -> None:
    ok, board, _ = play(
        tmp_path,
        "# comment\ntimeout 1\nexpect login:\nsendline root\nexpect Password:\nsecret\n"
        "expect [#$] $\nsend a\\tb\\x03\n",
        [b"\x1b[1mboard login:\x1b[0m ", b"Password: ", b"\r\nWelcome\r\n# "],
    )
    assert all(ok) and len(ok) == 7
    assert board.sent == [b"root\r", b"pass word\r", b"a\tb\x03"]


def test_each_expect_goes_on_after_the_one_before(tmp_path: Path) -> None:
    ok, _, detail = play(tmp_path, "timeout 0.1\nexpect one\nexpect one\n", [b"one two"])
    assert ok == [True, True, False]
    assert "two" in detail


def test_what_must_not_come_ends_it(tmp_path: Path) -> None:
    ok, _, detail = play(
        tmp_path, "fail Kernel panic.*\nexpect login:\n", [b"Kernel panic - not syncing\nlogin: "]
    )
    assert ok == [True, False] and "Kernel panic - not syncing" in detail


def test_the_end_of_the_line_is_a_failure(tmp_path: Path) -> None:
    class Ending(Fake):
        def read(self, timeout: float) -> bytes:
            raise ConnectionLost("the console was closed")

    file = tmp_path / "script"
    file.write_text("expect x\n")
    done = Player(Ending([]), lambda data: None, None).play(read_script(file))
    assert not done[0].ok and "closed" in done[0].detail


def test_all_mistakes_of_a_script_are_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "script"
    file.write_text("expect (\nsend\nsleep long\nshout x\nsend \\q\nsecret x\nsend ok\n")
    with pytest.raises(InputError) as refused:
        read_script(file)
    for number in range(1, 7):
        assert f"line {number}:" in str(refused.value)
    assert "line 7" not in str(refused.value)


@given(st.text(max_size=80))
def test_any_script_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.mktemp("script") / "script"
    file.write_text(text, errors="replace")
    try:
        read_script(file)
    except InputError:
        pass


def test_a_log_has_times_and_no_control_codes(tmp_path: Path) -> None:
    times = iter(datetime.datetime(2026, 1, 2, 3, 4, second) for second in range(10))
    with Log(tmp_path / "log", lambda: next(times)) as log:
        log.write(b"\x1b[31mfirst\x1b[0m li")
        log.write(b"ne\r\nsecond\x07\r\npart")
    assert (tmp_path / "log").read_text().splitlines() == [
        "2026-01-02 03:04:00.000  first line",
        "2026-01-02 03:04:01.000  second",
        "2026-01-02 03:04:02.000  part",
    ]


def test_from_the_command_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHELL", "/bin/sh")  # without anybody's start-up files
    script = tmp_path / "script"
    script.write_text("timeout 10\nsendline echo a''b\nexpect (^|[#$] )ab$\nsendline exit\n")
    assert cli.main(["console", "local:", "--script", str(script), "--json"]) == 0
    script.write_text("timeout 0.2\nexpect never\n")
    assert cli.main(["console", "local:", "--script", str(script), "-q"]) == 1
    assert f"{script}:2" in capfd.readouterr().out
    assert cli.main(["console", "local:"]) == 2, "there is no terminal to type on"
