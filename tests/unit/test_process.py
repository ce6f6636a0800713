"""Starting programs: argument lists, captured output, and errors that say what to install."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from embedkit import process
from embedkit.errors import LackError, TargetError

_PYTHON = sys.executable


def test_output_is_captured_and_arguments_are_not_a_shell_line() -> None:
    ended = process.run([_PYTHON, "-c", "import sys; print(sys.argv[1:])", "a b", "$(id)", "*"])
    assert ended.text == "['a b', '$(id)', '*']\n"
    assert ended.returncode == 0
    assert ended.argv[0] == _PYTHON


def test_standard_input_is_given_or_empty() -> None:
    code = [_PYTHON, "-c", "import sys; print(sys.stdin.read())"]
    assert process.run(code, input=b"given").text == "given\n"
    assert process.run(code).text == "\n"


def test_environment_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", "1")
    code = "import os; print(os.environ['KEPT'], os.environ['ADDED'], os.getcwd())"
    ended = process.run([_PYTHON, "-c", code], env={"ADDED": "2"}, cwd=tmp_path)
    assert ended.text == f"1 2 {tmp_path.resolve()}\n"


def test_a_failure_says_the_last_line_and_the_command() -> None:
    code = "import sys; print('chatter'); print('first\\nlast  ', file=sys.stderr); sys.exit(7)"
    with pytest.raises(TargetError) as caught:
        process.run([_PYTHON, "-c", code])
    assert "failed with exit code 7: last" in caught.value.message
    assert str(caught.value.where).startswith(_PYTHON)
    ended = process.run([_PYTHON, "-c", code], check=False)
    assert (ended.returncode, ended.complaint) == (7, "last")


@pytest.mark.parametrize(
    ("out", "err", "complaint"),
    [(b"out\n", b"", "out"), (b"", b"", "exit code 3"), (b"o", b"\xff\n\n", "\ufffd")],
)
def test_what_a_program_complains_of(out: bytes, err: bytes, complaint: str) -> None:
    assert process.Completed(("x",), 3, out, err).complaint == complaint


def test_a_missing_program_says_which_package_has_it() -> None:
    with pytest.raises(LackError) as caught:
        process.run(["mkimage-that-is-not-there"])
    assert caught.value.hint == "on Debian: apt-get install mkimage-that-is-not-there"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "find", lambda program: None)
        with pytest.raises(LackError) as caught:
            process.require("mkimage", purpose="make an image")
    assert caught.value.hint == "on Debian: apt-get install u-boot-tools"
    assert "it is needed to make an image" in caught.value.message


def test_programs_of_the_system_are_found_without_sbin_on_the_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert process.find("ldconfig") is not None
    assert process.find("no-such-program") is None


def test_what_cannot_be_started(tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_text("#!/nonexistent/interpreter\n")
    for mode in (0o644, 0o755):
        path.chmod(mode)
        with pytest.raises(LackError, match="could not be started"):
            process.run([path])
        with pytest.raises(LackError, match="could not be started"):
            process.start([path])


def test_a_program_that_does_not_end_is_ended() -> None:
    begun = time.monotonic()
    with pytest.raises(TargetError, match=r"did not end within 0\.2 s"):
        process.run([_PYTHON, "-c", "import time; time.sleep(60)"], timeout=0.2)
    assert time.monotonic() - begun < 20


def test_one_that_goes_on_beside() -> None:
    with process.start([_PYTHON, "-c", "print(input())"], stdin=-1, new_session=True) as started:
        assert os.getsid(started.pid) == started.pid
        out, _ = started.communicate(b"hello\n", timeout=20)
    assert (out, started.returncode) == (b"hello\n", 0)


def test_nothing_waits_for_our_terminal() -> None:
    with process.start([_PYTHON, "-c", "import sys; print(repr(sys.stdin.read()))"]) as started:
        out, _ = started.communicate(timeout=20)
    assert out == b"''\n"


@pytest.mark.parametrize(
    ("code", "expected"),
    [("pass", 0), ("sys.exit(7)", 7), ("os.kill(os.getpid(), 15)", 143)],
)
def test_an_attached_program_says_its_exit_code(code: str, expected: int) -> None:
    assert process.attach([_PYTHON, "-c", f"import os, sys; {code}"]) == expected


def test_an_attached_program_has_our_streams_and_the_given_environment(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEPT", "1")
    code = "import os, sys; print(os.getppid(), os.environ.get('KEPT'), os.environ['X'])"
    process.attach([_PYTHON, "-c", code], env={"X": "y"})
    assert capfd.readouterr().out == f"{os.getpid()} None y\n"
    process.attach([_PYTHON, "-c", code], env={"X": "y"}, stdout=2)
    assert capfd.readouterr() == ("", f"{os.getpid()} None y\n")


def test_keys_are_left_to_an_attached_program() -> None:
    """Both get Ctrl-C of the terminal; only the program is ended by it."""
    before = signal.getsignal(signal.SIGINT)

    def press(pid: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(pid, signal.SIGINT)

    # Not Python: while it starts, Ctrl-C ends it in other ways.
    assert process.attach(["sleep", "20"], started=press) == 130
    assert signal.getsignal(signal.SIGINT) == before


def test_an_attached_program_ends_where_its_beginning_fails() -> None:
    pids: list[int] = []

    def fail(pid: int) -> None:
        pids.append(pid)
        raise LackError("no")

    with pytest.raises(LackError):
        process.attach([_PYTHON, "-c", "import time; time.sleep(20)"], started=fail)
    assert not Path(f"/proc/{pids[0]}").exists()


def test_a_started_program_can_have_an_environment_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KEPT", "1")
    code = "import os; print(os.environ.get('KEPT'), os.environ['X'])"
    for given, expected in (({"only_env": {"X": "y"}}, "None y"), ({"env": {"X": "y"}}, "1 y")):
        with process.start([_PYTHON, "-c", code], **given) as started:  # type: ignore[arg-type]
            assert started.communicate()[0].decode().strip() == expected


def test_what_does_not_end_in_time_is_killed() -> None:
    ends = process.start(["true"])
    process.wait_or_kill(ends, 20)
    assert ends.returncode == 0
    stays = process.start(["sleep", "20"])
    process.wait_or_kill(stays, 0.05)
    assert stays.returncode == -signal.SIGKILL
