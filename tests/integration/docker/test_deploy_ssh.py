"""Two boards at once by the command, over real SSH: each has an OpenSSH server whose sessions
are put onto the board. Docker's programs are stand-ins (support.standin)."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from support import standin
from support.dockerboard import reached
from support.sshservers import keygen

from embedkit import cli

pytestmark = pytest.mark.needs(
    "root", "program:busybox", "program:unshare", "program:gcc", "program:sshd"
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "home"
    (path / ".ssh").mkdir(parents=True, mode=0o700)
    keygen(path / ".ssh/id_ed25519")
    monkeypatch.setenv("HOME", str(path))
    monkeypatch.setenv("XDG_STATE_HOME", str(path / "state"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return path


def test_two_boards_at_once_over_ssh(boards: Any, home: Path, tmp_path: Path, capsys: Any) -> None:
    fleet = [boards(init=init, firewall=False, cgroups=False) for init in ("busybox", "none")]
    before = [board.tree() for board in fleet]
    public = (home / ".ssh/id_ed25519.pub").read_text()
    with contextlib.ExitStack() as stack:
        urls = []
        for index, board in enumerate(fleet):
            board.start()
            server = stack.enter_context(reached(board, public, tmp_path / f"ssh{index}"))
            urls.append(server.url)
        options = ["--json", "-q", "--accept-new-host-key", "--proof", "none"]

        def told(*words: str, code: int = 0) -> list[dict[str, Any]]:
            assert cli.main(["deploy", *words, *options]) == code
            found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["data"]["targets"]
            return found

        bundle = ["--bundle", str(standin.bundle("1.0.0"))]
        assert [one["status"] for one in told(*urls, *bundle)] == ["ok", "ok"]
        assert [one["changed"] for one in told(*urls, *bundle)] == [False, False]
        # One that cannot be reached does not keep the other from what it was asked.
        newer = ["--bundle", str(standin.bundle("1.1.0"))]
        mixed = told(urls[0], "ssh://root@127.0.0.1:9", *newer, code=4)
        assert [one["status"] for one in mixed] == ["ok", "fail"]
        with fleet[0].target as target:
            answer = target.run("/opt/embedkit/docker/current/docker version").text
        assert answer == "stand-in 1.1.0\n"
        assert [one["status"] for one in told(*urls, "--uninstall")] == ["ok", "ok"]
    assert [board.tree() for board in fleet] == before
