"""A deployment over nothing but a serial console: a shell on a pty of a BusyBox board, with kernel
messages in between. Docker's programs are stand-ins (support.standin)."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from support import standin
from support.console import Badness, Bridge
from support.dockerboard import Board
from support.sshservers import stop

from embedkit import cli

pytestmark = pytest.mark.needs("root", "program:busybox", "program:unshare", "program:gcc")


@contextlib.contextmanager
def console(board: Board) -> Iterator[Bridge]:
    """The board's serial console, with a shell on it, as BusyBox's init starts one."""
    master, slave = pty.openpty()
    words = [*board.enter, "exec setsid -c sh"]
    running = subprocess.Popen(
        words, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    bridge = Bridge(master, Badness(noise=0.05, seed=6))
    try:
        yield bridge
    finally:
        bridge.close()
        stop(running)
        os.close(slave)
        os.close(master)


def test_installed_again_and_uninstalled_over_a_serial_line(boards: Any, capsys: Any) -> None:
    board = boards(firewall=False, cgroups=False)
    before = board.tree()
    board.start()
    with console(board) as bridge:

        def told(*words: str) -> dict[str, Any]:
            options = ["--json", "-q", "--proof", "none"]
            assert cli.main(["deploy", bridge.url, *words, *options]) == 0, capsys.readouterr()
            found: dict[str, Any] = json.loads(capsys.readouterr().out)["data"]["targets"][0]
            return found

        bundle = ["--bundle", str(standin.bundle("1.0.0"))]
        assert told(*bundle)["changed"]
        assert cli.main(["run", bridge.url, "--", "docker", "version"]) == 0
        assert capsys.readouterr().out == "stand-in 1.0.0\n"
        assert not told(*bundle)["changed"]
        told("--uninstall")
        assert bridge.injected > 20, "the line was not as bad as it should be"
    assert board.tree() == before
