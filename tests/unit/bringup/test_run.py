"""The chain: what is done again and what is not, and how it goes on after a failure."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import stages as made
from support.stages import NAMES, begin, go, standings

from embedkit.bringup import state
from embedkit.bringup.run import Choice
from embedkit.bringup.stages import Standing
from embedkit.errors import InputError, LackError

DONE = dict.fromkeys(NAMES, "done")
KEPT = dict.fromkeys(NAMES, "unchanged")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    begin(tmp_path)
    return tmp_path


def test_what_is_done_is_not_done_again(folder: Path) -> None:
    assert standings(go(folder)) == DONE
    again = go(folder)
    assert standings(again) == KEPT
    # What was found then is told now, too.
    assert again.results[2].shown == {"text": "three\ntwo\none\n"}
    assert again.results[2].verdict == "wrote 14 bytes"
    assert again.exit_code == 0


def test_a_changed_input_makes_it_and_what_follows_anew(folder: Path) -> None:
    go(folder)
    (folder / "two.in").write_text("other\n")
    assert standings(go(folder)) == {"one": "unchanged", "two": "done", "three": "done"}


def test_the_same_content_written_again_is_no_change(folder: Path) -> None:
    go(folder)
    (folder / "two.in").write_text("two\n")
    os.utime(folder / "two.in", (1, 1))
    assert standings(go(folder)) == KEPT


def test_an_output_that_was_touched_is_made_anew(folder: Path) -> None:
    go(folder)
    (folder / "two.out").write_text("somebody's\n")
    assert standings(go(folder)) == {"one": "unchanged", "two": "done", "three": "unchanged"}
    assert (folder / "two.out").read_text() == "two\none\n"
    (folder / "three.out").unlink()
    assert standings(go(folder)) == {"one": "unchanged", "two": "unchanged", "three": "done"}


def test_a_failure_ends_the_chain_and_the_next_run_goes_on(folder: Path) -> None:
    (folder / "two.in").write_text("broken\n")
    ended = go(folder)
    assert standings(ended) == {"one": "done", "two": "failed", "three": "not reached"}
    assert ended.exit_code == 4
    assert ended.failed is not None
    assert ended.failed.verdict == "it broke (two)"
    assert ended.failed.hint == "mend it"
    (folder / "two.in").write_text("two\n")
    assert standings(go(folder)) == {"one": "unchanged", "two": "done", "three": "done"}


def test_a_no_is_exit_1_and_is_asked_again(folder: Path) -> None:
    (folder / "three.in").write_text("no\n")
    for _ in range(2):
        ended = go(folder)
        assert ended.results[2].standing is Standing.FAILED
        assert ended.results[2].shown
        assert ended.exit_code == 1


def test_absent_stages_are_no_failure(folder: Path) -> None:
    (folder / "three.absent").touch()
    ended = go(folder)
    assert standings(ended)["three"] == "not asked for"
    assert ended.exit_code == 0


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (Choice(skip=("two",)), ("done", "skipped", "failed")),
        (Choice(only=("one",)), ("done", "skipped", "skipped")),
        (Choice(begin="three"), ("skipped", "skipped", "failed")),
        (Choice(begin="one", skip=("three",)), ("done", "done", "skipped")),
    ],
)
def test_the_choice_of_stages(folder: Path, choice: Choice, expected: tuple[str, ...]) -> None:
    # Without what stage two writes, stage three cannot be done.
    assert tuple(standings(go(folder, choice)).values()) == expected


def test_a_stage_that_is_none(folder: Path) -> None:
    with pytest.raises(InputError) as caught:
        go(folder, Choice(skip=("thre",)))
    assert caught.value.hint == "did you mean 'three'?"
    assert not (folder / state.FILE_NAME).exists()


def test_again_does_all(folder: Path) -> None:
    go(folder)
    assert standings(go(folder, Choice(again=True))) == DONE


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    begin(folder)
    before = sorted(path.name for path in folder.iterdir())
    ended = go(folder, Choice(dry_run=True))
    assert standings(ended) == dict.fromkeys(NAMES, "planned")
    assert [todo.title for todo in ended.results[0].todos] == ["write one.out"]
    assert sorted(path.name for path in folder.iterdir()) == before
    go(folder)
    assert standings(go(folder, Choice(dry_run=True))) == KEPT


def test_a_dry_run_makes_no_work_folder(tmp_path: Path) -> None:
    go(tmp_path / "none", Choice(dry_run=True))
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "place", [f"{when}:{name}" for name in NAMES for when in ("before", "within", "after")]
)
def test_a_kill_at_any_boundary_costs_no_more_than_a_stage(folder: Path, place: str) -> None:
    killed = _driver(folder, place)
    assert killed.returncode == -9
    when, _, name = place.partition(":")
    done = NAMES[: NAMES.index(name) + (when == "after")]
    ended = go(folder)
    assert standings(ended) == {stage: "unchanged" if stage in done else "done" for stage in NAMES}
    assert (folder / "three.out").read_text() == "three\ntwo\none\n"


def _driver(folder: Path, place: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, made.__file__, folder],
        env={**os.environ, "KILL": place},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_interruption_is_told_by_the_next_run(folder: Path) -> None:
    _driver(folder, "within:two")
    assert state.load(folder).running == "two"
    assert go(folder).interrupted == "two"
    assert go(folder).interrupted == ""


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "other/1"}', '{"format": 1}'])
def test_a_state_that_is_none_is_begun_anew(folder: Path, content: str) -> None:
    (folder / state.FILE_NAME).write_text(content)
    assert standings(go(folder)) == DONE


def test_two_at_once_do_not_share_a_folder(folder: Path) -> None:
    with (folder / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(LackError, match="another bringup"):
            go(folder)
    assert standings(go(folder)) == DONE


def test_folders_are_told_apart_by_what_is_in_them(tmp_path: Path) -> None:
    digests = state.Digests({})
    (tmp_path / "a").mkdir()
    (tmp_path / "a/file").write_text("x")
    (tmp_path / "a/link").symlink_to("file")
    before = digests.of(tmp_path / "a")
    assert digests.of(tmp_path / "a") == before
    (tmp_path / "a/link").unlink()
    (tmp_path / "a/link").symlink_to("other")
    assert digests.of(tmp_path / "a") != before
    (tmp_path / "a/file").chmod(0o755)
    with_mode = digests.of(tmp_path / "a")
    (tmp_path / "a/sub").mkdir()
    assert digests.of(tmp_path / "a") != with_mode
    assert digests.of(tmp_path / "none") == "absent"
