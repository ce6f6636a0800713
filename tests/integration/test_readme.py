"""What the README says: every command is run, in a fresh copy, and prints what is shown."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support import debian, linux_trees
from support.readme import commands, explain_mismatch

ROOT = Path(__file__).resolve().parents[2]
# The tests themselves: .ci/run runs it, so the README's second command is what CI runs.
TEST_COMMAND = "scripts/test"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout as a fresh clone would be, with what the README takes to be at hand."""
    folder = tmp_path_factory.mktemp("readme") / "embedkit"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        source = ROOT / name
        if source.is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, folder / name)
    try:
        (folder / "linux").symlink_to(linux_trees.source("6.1"))
    except debian.NotToBeHad as error:
        debian.give_up(str(error))
    return folder


def test_the_readme_has_both_commands_and_ci_runs_the_second() -> None:
    words = [command.words for command in commands(ROOT / "README.md")]
    assert words[:2] == ["scripts/quickstart", TEST_COMMAND]
    assert f"/../{TEST_COMMAND}" in (ROOT / ".ci/run").read_text()


@pytest.mark.needs("debian", "program:git", "program:qemu-system-arm", "program:qemu-img")
def test_every_command_of_the_readme_does_what_it_shows(copy: Path) -> None:
    environment = {
        **os.environ,
        "PATH": f"{copy}/.venv/bin:{os.environ['PATH']}",
        "COLUMNS": "100",
        "NO_COLOR": "1",
    }
    ran = 0
    for command in commands(ROOT / "README.md"):
        if command.words == TEST_COMMAND:
            continue
        ended = subprocess.run(
            ["bash", "-c", command.words],
            cwd=copy,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        place = f"README.md:{command.line}: {command.words}"
        assert ended.returncode in (0, 1), f"{place}\n{ended.stdout}"
        assert "Traceback" not in ended.stdout, place
        problem = explain_mismatch(command.expected, ended.stdout)
        assert problem is None, f"{place}\n{problem}\n{ended.stdout}"
        ran += 1
    assert ran >= 3
