"""``embedkit bringup`` of a board that is there: over real SSH, with stand-ins for Docker."""

from __future__ import annotations

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


def test_a_board_that_answers_gets_docker_once(
    boards: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    keygen(home / ".ssh/id_ed25519")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    board = boards(init="busybox", firewall=False, cgroups=False)
    board.start()
    public = (home / ".ssh/id_ed25519.pub").read_text()
    file = tmp_path / "there.toml"

    def run(*words: str) -> tuple[int, dict[str, Any]]:
        code = cli.main(["bringup", str(file), "--json", "-q", *words])
        told = json.loads(capsys.readouterr().out)["data"]
        return code, {stage["stage"]: stage for stage in told["stages"]}

    with reached(board, public, tmp_path / "ssh") as server:
        file.write_text(
            f"""
            target = "{server.url}"
            [boot]
            accept-new-host-key = true
            [docker]
            bundle = "{standin.bundle("1.0.0")}"
            proof = "none"
            force = true
            """
        )
        code, stages = run()
        assert code == 0, stages
        assert [stages[name]["standing"] for name in ("boot", "probe", "deploy")] == ["done"] * 3
        assert stages["compose"]["standing"] == "not asked for"
        assert stages["proof"]["standing"] == "not asked for"
        assert stages["deploy"]["details"] == {
            "version": "1.0.0",
            "changed": True,
            "blocked": False,
        }
        # The same boot goes on; what is there already is left alone.
        code, stages = run()
        assert code == 0
        assert stages["boot"]["standing"] == "unchanged"
        assert stages["deploy"]["details"]["changed"] is False
        assert "is there already" in stages["deploy"]["verdict"]
    # It is switched off: said within the deadline, with the report.
    text = file.read_text()
    file.write_text(text.replace("[boot]", "[boot]\ndeadline = 2"))
    code, stages = run()
    assert code == 4
    assert stages["boot"]["standing"] == "failed"
    assert "serial console" in stages["boot"]["hint"]
    assert stages["deploy"]["standing"] == "not reached"
    assert (tmp_path / "there.bringup/report.html").is_file()
