"""What flash asks before it writes, and whether it still is the device that was asked about."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from support import guard, locks
from support.flash_cards import MIB, Card, make_card
from support.loops import LOOPS, loop

from embedkit import cli
from embedkit.errors import InputError
from embedkit.media import devices
from embedkit.media.blockdev import open_device

pytestmark = pytest.mark.needs("root", "loop")

SIZE = 64 * MIB


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Card:
    guard.install()
    return make_card(tmp_path_factory.mktemp("card") / "card.img", ranges=((MIB, MIB),))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


class TestAnotherDevice:
    """Names move between devices: what was looked at must be what is opened."""

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"diskseq": 999_999}, "disk sequence"),
            ({"size_bytes": SIZE - 512}, "size"),
            ({"number": (7, 1234)}, "number"),
        ],
    )
    def test_it_changed_since(self, tmp_path: Path, stack, change, message) -> None:
        device = stack.enter_context(loop(tmp_path / "disk", size=SIZE))
        identity = devices.find(str(device)).identity
        if identity.diskseq is None and "diskseq" in change:
            pytest.skip("a kernel before 5.15")
        with pytest.raises(InputError, match=message):
            open_device(replace(identity, **change), write=True)

    def test_a_new_disk_under_the_old_name(self, tmp_path: Path, stack) -> None:
        with locks.held(LOOPS):
            with loop(tmp_path / "one", size=SIZE) as first:
                identity = devices.find(str(first)).identity
            second = stack.enter_context(loop(tmp_path / "two", size=SIZE))
        if second != first:
            pytest.skip("the kernel gave it another name")
        with pytest.raises(InputError, match="another device took this name"):
            open_device(identity, write=True)


class TestQuestions:
    def test_no_terminal_and_no_yes(self, card: Card, tmp_path: Path, stack, capsys) -> None:
        device = stack.enter_context(loop(tmp_path / "disk", size=SIZE))
        before = (tmp_path / "disk").read_bytes()
        assert cli.main(["flash", str(card.path), str(device)]) == 2
        assert "give --yes" in capsys.readouterr().err
        assert (tmp_path / "disk").read_bytes() == before

    @pytest.mark.parametrize("answer", ["yes", "y", "", "/dev/loop", "/dev/vda"])
    def test_the_name_must_be_typed(self, card, tmp_path, stack, capsys, monkeypatch, answer):
        device = stack.enter_context(loop(tmp_path / "disk", size=SIZE))
        before = (tmp_path / "disk").read_bytes()
        monkeypatch.setattr("sys.stdin", _Terminal(answer + "\n"))
        assert cli.main(["flash", str(card.path), str(device)]) == 2
        shown = capsys.readouterr().err
        assert f"Type '{device}'" in shown
        assert "64.0 MiB" in shown
        assert (tmp_path / "disk").read_bytes() == before

    def test_the_right_name_starts_it(self, card, tmp_path, stack, capsys, monkeypatch) -> None:
        device = stack.enter_context(loop(tmp_path / "disk", size=SIZE))
        monkeypatch.setattr("sys.stdin", _Terminal(f"{device}\n"))
        assert cli.main(["flash", str(card.path), str(device)]) == 0

    def test_unmount_on_request(self, card: Card, tmp_path: Path, stack, capsys) -> None:
        device = stack.enter_context(loop(tmp_path / "disk", size=SIZE))
        (tmp_path / "mnt").mkdir()
        subprocess.run(["mkfs.ext4", "-q", "-F", device], check=True)
        subprocess.run(["mount", device, tmp_path / "mnt"], check=True)
        assert cli.main(["flash", str(card.path), str(device), "--yes", "--unmount"]) == 0
        assert not (tmp_path / "mnt").is_mount()

    def test_a_dry_run_writes_nothing(self, card: Card, tmp_path: Path, stack, capsys) -> None:
        device = stack.enter_context(loop(tmp_path / "disk", size=SIZE))
        before = (tmp_path / "disk").read_bytes()
        assert cli.main(["flash", str(card.path), str(device), "--dry-run"]) == 0
        assert "nothing was written" in capsys.readouterr().out
        assert (tmp_path / "disk").read_bytes() == before


class _Terminal(io.StringIO):
    """Standard input on which somebody types."""

    def isatty(self) -> bool:
        return True


def test_a_user_without_permission_is_told_so(card: Card, tmp_path: Path, stack) -> None:
    device = stack.enter_context(loop(tmp_path / "disk", size=SIZE))
    identity = devices.find(str(device)).identity
    pid = os.fork()
    if pid == 0:  # the child alone gives up root
        code = 1
        try:
            os.setgid(65534)
            os.setuid(65534)
            open_device(identity, write=True)
        except Exception as error:
            code = 0 if "no permission" in str(error) and "root" in str(error.hint) else 2
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
