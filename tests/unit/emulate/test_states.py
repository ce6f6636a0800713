"""What is written down of emulated boards: claimed once, never trusted blindly, cleared away."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedkit.emulate import states
from embedkit.errors import InputError
from embedkit.target import emulated
from embedkit.target.address import QemuAddress, SerialAddress, SshAddress, parse_address
from embedkit.target.emulated import Emulated
from embedkit.target.opening import open_target


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


def made(name: str, **changes: Any) -> Emulated:
    """A board whose keeper is this process."""
    state = Emulated(
        name=name, board="qemu-arm-virt", title="QEMU", arch="arm", phase="up",
        keeper=os.getpid(), birth=emulated.birth(os.getpid()), pid=4711, started=1.0,
        accelerator="tcg", ssh_port=2222, user="root", way="ssh", card="/card.img",
        card_stamp="1:2", kernel="", arguments="", keep=False,
    )  # fmt: skip
    return dataclasses.replace(state, **changes)


def claimed(name: str, exact: bool = True, **changes: Any) -> Emulated:
    return states.claim(name, exact, lambda chosen: made(chosen, **changes))[0]


def test_a_name_is_taken_once() -> None:
    assert claimed("pi").name == "pi"
    with pytest.raises(InputError, match="already"):
        claimed("pi")
    assert [claimed("pi", exact=False).name for _ in range(2)] == ["pi-2", "pi-3"]
    assert [state.name for state in emulated.running()] == ["pi", "pi-2", "pi-3"]
    assert emulated.find("pi-2").folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "birth",
    ["", "other-boot:1", f"{emulated.birth(os.getpid())}0"],
    ids=["none", "other-boot", "later"],
)
def test_a_process_with_the_same_number_is_no_keeper(birth: str) -> None:
    state = claimed("pi", birth=birth)
    assert not state.alive and emulated.running() == []
    with pytest.raises(InputError, match="no emulated board 'pi'"):
        emulated.find("pi")
    assert claimed("pi").alive  # the name is free


def test_stale_folders_are_cleared_and_others_stay() -> None:
    claimed("alive")
    claimed("stale", birth="gone")
    folder = emulated.emulations_folder()
    (folder / "claimed-and-died").mkdir()
    (folder / "broken").mkdir()
    (folder / "broken" / "machine.json").write_text("{")
    (folder / ".hidden").mkdir()
    assert states.clear_stale() == ("broken", "claimed-and-died", "stale")
    assert sorted(entry.name for entry in folder.iterdir()) == [".hidden", ".lock", "alive"]


def test_nothing_is_removed_through_a_link(home: Path) -> None:
    precious = home / "precious"
    precious.mkdir()
    (precious / "file").touch()
    (emulated.make_folder() / "link").symlink_to(precious)
    assert states.clear_stale() == ("link",)
    assert (precious / "file").exists()


def test_a_kept_card_waits_for_the_same_image() -> None:
    state = claimed("pi", keep=True)
    state.overlay.touch()
    (state.folder / "qmp.sock").touch()
    states.end(state)
    off = emulated.read("pi")
    assert off is not None and off.phase == "off" and not off.qmp.exists()
    gone = dataclasses.replace(off, birth="gone")
    gone.write()
    assert states.clear_stale() == ()
    for changes in ({"keep": False}, {"keep": True, "card_stamp": "3:4"}):
        with pytest.raises(InputError, match="was kept"):
            claimed("pi", **changes)
    assert claimed("pi", exact=False).name == "pi-2"
    again, kept = states.claim("pi", True, lambda name: made(name, keep=True))
    assert kept and again.overlay.exists() and again.alive


def test_the_end_removes_the_card_that_nobody_keeps() -> None:
    state = claimed("pi")
    state.overlay.touch()
    states.end(state)
    assert not state.folder.exists()


_HOSTILE: list[Callable[[dict[str, Any]], Any]] = [
    lambda value: {**value, "keeper": "1"},
    lambda value: {**value, "keeper": True},
    lambda value: {**value, "ssh_port": 0},
    lambda value: {**value, "ssh_port": 65536},
    lambda value: {**value, "way": "telnet"},
    lambda value: {**value, "phase": "ascended"},
    lambda value: {**value, "name": "../../other"},
    lambda value: {**value, "extra": 1},
    lambda value: {**value, "schema": "embedkit.emulation/2"},
    lambda value: {key: value[key] for key in value if key != "pid"},
    lambda value: [value],
    lambda value: None,
]


@pytest.mark.parametrize("change", _HOSTILE)
def test_what_makes_no_sense_is_not_taken(change: Callable[[dict[str, Any]], Any]) -> None:
    state = claimed("pi")
    file = state.folder / "machine.json"
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    assert emulated.read("pi") is None


@pytest.mark.parametrize("name", ["", ".", "..", "../pi", "pi/../pi", "/pi", "x" * 64])
def test_names_lead_nowhere_else(name: str) -> None:
    claimed("pi")
    assert emulated.read(name) is None


@given(st.binary(max_size=300))
def test_any_file_can_be_read(content: bytes) -> None:
    folder = emulated.make_folder() / "any"
    folder.mkdir(exist_ok=True)
    (folder / "machine.json").write_bytes(content)
    assert emulated.read("any") is None


def test_a_deep_file_can_be_read() -> None:
    folder = emulated.make_folder() / "deep"
    folder.mkdir()
    (folder / "machine.json").write_text("[" * 100_000)
    assert emulated.read("deep") is None


def test_addresses() -> None:
    assert parse_address("qemu:pi") == QemuAddress("pi")
    assert parse_address("qemu:pi?via=serial") == QemuAddress("pi", "serial")
    assert QemuAddress("pi", "ssh").url == "qemu:pi?via=ssh"
    for wrong in ("qemu:", "qemu://pi", "qemu:a b", "qemu:pi?via=uucp", "qemu:pi?x=1", "qemu:../x"):
        with pytest.raises(InputError):
            parse_address(wrong)


def test_where_a_board_is_reached() -> None:
    state = claimed("pi")
    assert emulated.locate(QemuAddress("pi"))[1] == SshAddress("127.0.0.1", "root", 2222)
    serial = SerialAddress("unix", path=str(state.console), user="root")
    assert emulated.locate(QemuAddress("pi", "serial"))[1] == serial
    claimed("quiet", way="serial", ssh_port=None)
    place = emulated.locate(QemuAddress("quiet"))[1]
    assert isinstance(place, SerialAddress) and place.path.endswith("/quiet/console.sock")
    with pytest.raises(InputError, match="no network"):
        emulated.locate(QemuAddress("quiet", "ssh"))
    settings = emulated.ssh_settings(state, SshAddress("127.0.0.1", "root", 2222))
    assert settings.identities_only and settings.identity_files == (emulated.key_file(),)
    assert settings.accepted == state.folder / "known_hosts"


def test_a_name_that_is_not_there_is_explained() -> None:
    with pytest.raises(InputError) as none:
        open_target("qemu:pi")
    assert "none is running" in str(none.value.hint)
    claimed("orangepi")
    with pytest.raises(InputError) as close:
        open_target("qemu:orangpi")
    assert close.value.hint == "did you mean 'orangepi'?"
    with pytest.raises(InputError) as far:
        open_target("qemu:xyz")
    assert far.value.hint == "running: orangepi"


def test_the_key_pair_is_made_once_and_mended() -> None:
    line = emulated.authorized_key()
    assert line.startswith("ssh-ed25519 ") and line == emulated.authorized_key()
    assert emulated.key_file().stat().st_mode & 0o777 == 0o600
    emulated.key_file().with_name("id_ed25519.pub").unlink()
    assert emulated.authorized_key() == line
