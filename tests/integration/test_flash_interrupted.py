"""Flash killed and interrupted: the card is as it was, or visibly unfinished, or done."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import flash_driver, guard
from support.flash_cards import MIB, Card, differs, flash, has_table, make_card
from support.loops import loop

from embedkit import cli
from embedkit.errors import InputError
from embedkit.media.outcome import Options, State

pytestmark = pytest.mark.needs("root", "loop")

SIZE = 36 * MIB
KILLS = 20
# Longer than the slowed flash takes, so that some kills come too late.
LATEST = 0.6
PAUSE = "0.03"
# For a signal that must come before the end, on a busy machine too.
LONG_PAUSE = "0.3"


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Card:
    guard.install()
    ranges = tuple((start * MIB, 2 * MIB) for start in range(2, 32, 3))
    return make_card(tmp_path_factory.mktemp("card") / "card.img", size=34 * MIB, ranges=ranges)


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A backing file with an older card, that has a partition table."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path = tmp_path / "disk"
    old = bytearray(b"\x5a" * SIZE)
    old[510:512] = b"\x55\xaa"
    path.write_bytes(old)
    return path


def slowly(card: Card, device: Path, seconds: float | None, how: signal.Signals) -> str:
    """Starts a slow flash, sends the signal after so many seconds; what it said last.

    With None, as soon as its journal says that something is safe on the card.
    """
    pause = LONG_PAUSE if seconds is None else PAUSE
    running = subprocess.Popen(
        [sys.executable, flash_driver.__file__, card.path, device, pause],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    if seconds is None:
        while running.poll() is None and not _something_is_safe():
            time.sleep(0.005)
    else:
        time.sleep(seconds)
    running.send_signal(how)
    said = running.stdout.read()
    running.wait(60)
    return said.strip()


def _something_is_safe() -> bool:
    journals = Path(os.environ["XDG_STATE_HOME"]).rglob("*.jsonl")
    return any('{"done": [[' in journal.read_text() for journal in journals)


def test_kill_at_random_moments(card: Card, target: Path) -> None:
    seed = int(os.environ.get("EMBEDKIT_TEST_SEED", "0")) or random.randrange(1 << 30)
    moments = random.Random(seed)
    ends: dict[str, int] = {}
    old = target.read_bytes()
    for _ in range(KILLS):
        target.write_bytes(old)
        after = moments.uniform(0, LATEST)
        with loop(target) as device:
            said = slowly(card, device, after, signal.SIGKILL)
            what = f"seed {seed}, killed after {after:.3f} s, it said {said!r}"
            untouched = target.read_bytes() == old
            finished = has_table(target) and not untouched
            if finished:
                # Sealed: then everything behind the seal is there, whether it said so or not.
                assert differs(card, target) == [], what
                ends["finished"] = ends.get("finished", 0) + 1
                continue
            assert not said, what
            if untouched:
                ends["untouched"] = ends.get("untouched", 0) + 1
                with pytest.raises(InputError, match="nothing to resume"):
                    flash(card, device, options=Options(resume=True))
                continue
            (outcome,) = flash(card, device, options=Options(resume=True))
            assert outcome.state is State.VERIFIED, what
            assert differs(card, target) == [], what
            end = "resumed" if outcome.resumed_bytes else "begun again"
            ends[end] = ends.get(end, 0) + 1
    assert ends.get("resumed"), f"no kill came while there was something to resume: {ends}"


def test_interrupt_leaves_a_card_that_can_be_resumed(
    card: Card, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with loop(target) as device:
        slowly(card, device, None, signal.SIGINT)
        assert not has_table(target)
        assert cli.main(["verify", str(card.path), str(device), "--json"]) == 1
        found = json.loads(capsys.readouterr().out)
        assert found["data"]["unfinished"] is True
        assert cli.main(["flash", str(card.path), str(device), "--yes", "--resume", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["data"]["devices"][0]["resumed_bytes"] > 0
    assert differs(card, target) == []


def test_the_command_says_how_to_go_on(card: Card, target: Path, tmp_path: Path) -> None:
    """Ctrl-C at the real command: the image comes from a pipe that never ends."""
    with loop(target) as device:
        running = subprocess.Popen(
            [sys.executable, "-m", "embedkit.cli", "flash", "-", device, "--yes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert running.stdin is not None
        with card.path.open("rb") as image:
            running.stdin.buffer.write(image.read(20 * MIB))
        running.stdin.flush()
        deadline = time.monotonic() + 60
        while has_table(target) and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.2)
        running.send_signal(signal.SIGINT)
        running.wait(60)
        assert running.stderr is not None
        said = running.stderr.read()
        running.stdin.close()
        assert running.returncode == 130
        assert "is unfinished and has no partition table" in said
        assert "--resume goes on" in said
        assert not has_table(target)


def test_resume_writes_what_changed_in_the_image(card: Card, target: Path, tmp_path: Path) -> None:
    """The journal is believed only where the image still has the same bytes."""
    with loop(target) as device:
        slowly(card, device, None, signal.SIGKILL)
        other = make_card(
            tmp_path / "card.img",
            size=card.size,
            ranges=tuple((r.first_byte, r.length) for r in card.mapped[1:]),
            seed=2,
        )
        (outcome,) = flash(other, device, options=Options(resume=True))
        assert outcome.state is State.VERIFIED
        assert outcome.resumed_bytes == 0
    assert differs(other, target) == []


def test_resume_refuses_what_it_cannot_know(card: Card, target: Path) -> None:
    with loop(target) as device:
        with pytest.raises(InputError, match="no unfinished flash"):
            flash(card, device, options=Options(resume=True))
        slowly(card, device, None, signal.SIGKILL)
        state = Path(os.environ["XDG_STATE_HOME"])
        for journal in state.rglob("*.jsonl"):
            journal.unlink()
        before = target.read_bytes()
        with pytest.raises(InputError, match="not on this machine"):
            flash(card, device, options=Options(resume=True))
        assert target.read_bytes() == before
