"""Folders that service scripts, unit files and PATH could not carry are refused before anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedkit import cli


@pytest.mark.parametrize("option", ["--root", "--data-root", "--bin-folder"])
@pytest.mark.parametrize(
    "value",
    ["/my data/x", "/it's", '/"x"', "/a:b", "/$HOME", "/a%b", "/a\nb", "/../etc", "/a/./b",
     "relative", "/", "", "/a/", "/a//b", "/ä", "/-x;reboot"],
)  # fmt: skip
def test_what_no_script_could_carry_is_refused(
    option: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dockerd").write_bytes(b"")
    words = ["deploy", "local:", "--dry-run", "--bundle", str(tmp_path), f"{option}={value}"]
    assert cli.main(words) == 2
    told = capsys.readouterr().err
    assert f"{option} takes an absolute path" in told
