"""Facts and verdicts of boards that have little: over SSH, over serial, with nothing but sh."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from support.console import Badness, Bridge, getty
from support.reaching import reach
from support.sshservers import Server

from embedkit import cli
from embedkit.process import require
from embedkit.target.base import Target
from embedkit.target.local import LocalTarget
from embedkit.target.opening import open_target
from embedkit.target.preflight import Weight, judge

pytestmark = pytest.mark.needs("root", "program:dropbear", "program:busybox", "program:unshare")


def looks_right(target: Target) -> None:
    facts = target.facts()
    here = LocalTarget().facts()
    assert facts.kernel_release == here.kernel_release
    assert facts.platform.arch == here.platform.arch
    assert facts.memory_bytes == here.memory_bytes
    assert facts.clock_offset_seconds is not None and abs(facts.clock_offset_seconds) < 30
    weights = {concern.id: concern.weight for concern in judge(facts)}
    assert weights["iptables"] is Weight.FAIL
    assert weights["ca"] is Weight.WARN
    assert weights["user"] is Weight.OK


def test_a_busybox_board_over_ssh(board: Server) -> None:
    with reach(board) as target:
        looks_right(target)
        facts = target.facts()
        assert facts.hostname == "tinyboard"
        assert facts.platform.elf is not None and facts.platform.elf.path == "/bin/busybox"
        assert target.facts() is facts
        assert target.facts(refresh=True) is not facts


def test_a_busybox_board_over_a_noisy_serial_line(tmp_path: Path) -> None:
    with getty(tmp_path / "root") as master:
        bridge = Bridge(master, Badness(noise=0.15, seed=6))
        try:
            with open_target(bridge.url) as target:
                looks_right(target)
        finally:
            bridge.close()


def test_nothing_but_a_shell(tmp_path: Path) -> None:
    """dash and its libraries alone: every answer comes from what the shell itself can do."""
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "proc").mkdir()
    dash = require("dash")
    shutil.copy(dash, root / "bin/sh")
    listed = subprocess.run(["ldd", dash], capture_output=True, text=True, check=True).stdout
    for word in listed.split():
        if word.startswith("/"):
            (root / word.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(word, root / word.lstrip("/"))
    enter = 'mount -t proc proc "$0/proc" && exec chroot "$0" /bin/sh -c "$1"'
    target = LocalTarget(("unshare", "--mount", "sh", "-c", enter, str(root)))
    assert target.run("command -v cat; :").text == ""
    facts = target.facts()
    here = LocalTarget().facts()
    assert facts.tools <= {"sh"}
    assert facts.kernel_release == here.kernel_release
    assert facts.memory_bytes == here.memory_bytes
    assert facts.user_id == 0
    assert facts.kernel_filesystems == here.kernel_filesystems
    assert facts.kernel_config == here.kernel_config or not here.kernel_config.startswith("/proc")
    assert facts.clock_seconds is None
    assert {c.id for c in judge(facts) if c.weight is Weight.UNKNOWN} >= {"platform", "clock"}


def test_the_commands(board: Server, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with reach(board) as target:
        target.connect()  # so that its host key is known
        has_config = bool(target.facts().kernel_config)
    url = board.url
    assert cli.main(["probe", url]) == 1
    shown = capsys.readouterr().out
    assert "iptables: missing" in shown and "Docker will not run here as it is" in shown
    assert cli.main(["probe", url, "--json"]) == 1
    data = json.loads(capsys.readouterr().out)["data"]
    assert data["facts"]["hostname"] == "tinyboard"
    assert (data["kernel"] is not None) == has_config
    if has_config:
        assert cli.main(["check-kernel", url, "--json"]) in (0, 1)
        origin = json.loads(capsys.readouterr().out)["data"]["config"]["origin"]
        assert url in origin and "/proc/config.gz" in origin
    assert cli.main(["run", url, "--", "hostname; exit 42"]) == 42
    assert "tinyboard" in capsys.readouterr().out
    (tmp_path / "file").write_text("content")
    assert cli.main(["put", url, str(tmp_path / "file"), "/tmp/"]) == 0
    assert cli.main(["get", url, "/tmp/file", str(tmp_path / "back")]) == 0
    assert (tmp_path / "back").read_text() == "content"
    script = tmp_path / "script"
    script.write_text("timeout 10\nexpect #\nsendline echo $((6*7))\nexpect ^42\n")
    assert cli.main(["console", url, "--script", str(script)]) == 0


def test_an_error_leaks_nothing(
    board: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDKIT_PASSWORD", "hunter2-secret")
    monkeypatch.setenv("HOME", "/nonexistent")
    for more in ([], ["--json"], ["--debug"]):
        code = cli.main(["probe", board.url, "--accept-new-host-key", *more])
        told = capsys.readouterr()
        assert code == 2
        assert "hunter2" not in told.out + told.err
