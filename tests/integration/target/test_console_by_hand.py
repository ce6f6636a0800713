"""Somebody at the keys: ``embedkit console`` on a terminal, driven by pexpect."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest
from support.console import Bridge, getty
from support.sshservers import Server

pytestmark = pytest.mark.needs("root", "program:busybox", "program:unshare")


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    with getty(tmp_path_factory.mktemp("console") / "root") as master:
        made = Bridge(master)
        yield made
        made.close()


def console(*words: str) -> pexpect.spawn[bytes]:
    argv = ["-m", "embedkit.cli", "console", *words]
    return pexpect.spawn(
        sys.executable, argv, timeout=20, dimensions=(31, 97), env={**os.environ, "NO_COLOR": "1"}
    )


def ends(child: pexpect.spawn[bytes]) -> int | None:
    child.expect(pexpect.EOF)
    child.wait()
    return child.exitstatus


def test_keys_go_to_the_board_and_its_words_to_the_log(bridge: Bridge, tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    child = console(bridge.url, "--log", str(log))
    child.expect_exact("connected; ^] then q quits")
    child.send("\r")
    child.expect("login:")
    child.send("root\r")
    child.expect_exact("# ")
    # ^C is the board's, not ours; so are tabs and other control keys.
    child.send("sleep 1000\r")
    child.expect_exact("sleep 1000")
    child.send("\x03")
    child.expect_exact("# ")
    child.send("printf 'a\\033[2Jb'; echo $((6*7))\r")
    child.expect_exact("a\x1b[2Jb42")
    # The escape key and something else is help; twice is the key itself.
    child.send("\x1d?")
    child.expect_exact("q quit, b send a break")
    child.send("exit\r")
    child.expect("login:")
    child.send("\x1dq")
    assert ends(child) == 0
    lines = log.read_text().splitlines()
    assert any(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}  ab42", one) for one in lines)
    assert "\x1b" not in log.read_text()


def test_another_escape_key(bridge: Bridge) -> None:
    child = console(bridge.url, "--escape", "^A")
    child.expect_exact("connected; ^A then q quits")
    child.send("\r")
    child.expect("login:")
    child.send("root\r")
    child.expect_exact("# ")
    child.send("stty -echo; cat -v; stty echo\r")
    child.expect_exact("\r\n")
    # ^] is an ordinary key now; the escape key twice is the key itself.
    child.send("<\x1d\x01\x01>\r")
    child.expect_exact("<^]^A>")
    child.send("\x04exit\r")
    child.expect("login:")
    child.send("\x01q")
    assert ends(child) == 0


def test_a_shell_over_ssh_knows_the_terminals_size(board: Server) -> None:
    child = console(board.url, "--accept-new-host-key")
    child.expect_exact("connected; ^] then q quits")
    child.send("echo size $(stty size)\r")
    child.expect_exact("size 31 97")
    child.setwinsize(40, 120)
    child.send("echo size $(stty size)\r")
    child.expect_exact("size 40 120")
    child.send("exit\r")
    assert ends(child) == 0, "the end of the shell ends the console"


def test_a_refusal_and_a_broken_line_leave_the_terminal_usable(bridge: Bridge) -> None:
    child = pexpect.spawn("/bin/sh", timeout=20, env={**os.environ, "PS1": "HERE> "})
    child.expect_exact("HERE> ")
    child.sendline(f"{sys.executable} -m embedkit.cli console {bridge.url}")
    child.expect_exact("connected;")
    bridge.cut()
    child.expect_exact("HERE> ")
    child.sendline("stty -a | grep -c ' -icanon\\|-echo '; echo done=$?")
    child.expect_exact("0\r\ndone=1")
    child.sendline("exit")
    child.close()
