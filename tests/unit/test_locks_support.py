"""What processes that test side by side share is made once, and appears when it is whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support import locks

_MAKE = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from support import locks
locks.CACHE = Path(sys.argv[2])
def fill(folder):
    (folder / "first").touch()
    with (locks.CACHE / "calls").open("a") as file:
        file.write("x")
    time.sleep(0.1)
    (folder / "last").touch()
made = locks.made_once(locks.CACHE / "made", fill)
assert (made / "last").exists()
"""


def test_made_once_by_processes_that_begin_together(tmp_path: Path) -> None:
    tests = str(Path(__file__).resolve().parents[1])
    argv = [sys.executable, "-c", _MAKE, tests, tmp_path]
    started = [subprocess.Popen(argv) for _ in range(3)]
    assert [process.wait() for process in started] == [0, 0, 0]
    assert (tmp_path / "calls").read_text() == "x"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["calls", "locks", "made"]


def test_what_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "CACHE", tmp_path)

    def fill(folder: Path) -> None:
        (folder / "first").touch()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        locks.made_once(tmp_path / "made", fill)
    assert [path.name for path in tmp_path.iterdir()] == ["locks"]
    assert locks.made_once(tmp_path / "made", lambda folder: None).is_dir()


@pytest.mark.needs("program:flock")
def test_a_lock_is_shared_by_those_who_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "CACHE", tmp_path)
    ask = ["flock", "--nonblock", tmp_path / "locks/name", "true"]
    with locks.held("name", shared=True):
        assert subprocess.run(ask, check=False).returncode == 1
        assert subprocess.run([*ask[:1], "--shared", *ask[1:]], check=False).returncode == 0
    with locks.held("name"), locks.held("name"):
        assert subprocess.run([*ask[:1], "--shared", *ask[1:]], check=False).returncode == 1
    assert subprocess.run(ask, check=False).returncode == 0
