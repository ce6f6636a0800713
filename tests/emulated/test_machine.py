"""Emulated boards come, hang, collide and go: what is told, and that nothing stays behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.references import BOOT_SECONDS, assembled

from embedkit import board as boards
from embedkit.commands import emulate_reference
from embedkit.emulate import card, states
from embedkit.emulate.machine import BootFailed, Machine, Medium, plan, shut_down, start
from embedkit.emulate.reference import Reference
from embedkit.emulate.watch import trouble
from embedkit.errors import InputError, LackError, TargetError
from embedkit.progress import NullProgress
from embedkit.target import emulated
from embedkit.target.opening import open_target
from embedkit.target.uboot import open_uboot

pytestmark = pytest.mark.needs(
    "debian", "program:qemu-system-arm", "program:qemu-system-aarch64", "program:qemu-img",
    "program:mke2fs",
)  # fmt: skip


@pytest.fixture(scope="session")
def arm64() -> Reference:
    return assembled("arm64")


@pytest.fixture(scope="session")
def arm64_card(arm64: Reference) -> Path:
    """Its card as ``emulate --reference`` composes it, beside it in the cache."""
    card = emulate_reference.make("arm64", None, NullProgress())[1].card
    assert card is not None
    return card


@pytest.fixture(scope="session")
def loader() -> bytes:
    """U-Boot for the Orange Pi PC."""
    return (assembled("orangepi-pc").folder / "u-boot-sunxi-with-spl.bin").read_bytes()


def _move_state(monkeypatch: pytest.MonkeyPatch, place: Path) -> Path:
    """Another state folder, with the user's key: the reference boards let that one in."""
    emulated.authorized_key()
    before = emulated.emulations_folder()
    monkeypatch.setenv("XDG_STATE_HOME", str(place))
    for file in before.glob("id_ed25519*"):
        shutil.copy2(file, emulated.make_folder())
    return emulated.emulations_folder()


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty state folder, deeper than a Unix socket's path may be long."""
    yield _move_state(monkeypatch, tmp_path / ("deep" * 30))
    for left in emulated.running():  # detached by a test that failed
        shut_down(left, deadline_seconds=0)


def _left(state: Path) -> list[str]:
    """Folders and processes of emulated boards below ``state``."""
    found = [entry.name for entry in state.iterdir() if entry.is_dir()]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.joinpath("cwd").readlink().is_relative_to(state):
                found.append(process.joinpath("cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def _soon(gone: Callable[[], object], seconds: float = 30.0) -> None:
    """Fails unless ``gone()`` becomes false in time."""
    ends = time.monotonic() + seconds
    while gone():
        assert time.monotonic() < ends, gone()
        time.sleep(0.05)


def _command(*words: object) -> list[str]:
    return [sys.executable, "-m", "embedkit.cli", *map(str, words)]


def _embedkit(*words: object) -> tuple[int, dict[str, Any]]:
    """Exit code and report of a command."""
    asked = words if "--json" in words else (*words, "--json")
    done = subprocess.run(_command(*asked), capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def _failure(medium: Medium, name: str, seconds: float, until: str = "any") -> BootFailed:
    with start(plan(boards.load(name), medium), NullProgress()) as machine:
        with pytest.raises(BootFailed) as failed:
            machine.wait(seconds, until)
        assert failed.value.message.startswith(f"{machine.state.name} ")
    return failed.value


def test_a_board_s_life(state: Path, arm64: Reference, arm64_card: Path, tmp_path: Path) -> None:
    """Started by the command and let go, used, restarted by itself, shut down with its card
    kept, started again with it, switched off; the image stays as it was."""
    image = (arm64_card.stat().st_mtime_ns, card.stamp(arm64_card))
    words = ("emulate", "--reference", "arm64", "--name", "pi", "--keep", "--detach",
             "--until", "ssh", "--deadline", BOOT_SECONDS)  # fmt: skip
    code, report = _embedkit(*words)
    assert code == 0, report
    assert report["data"]["target"] == "qemu:pi" and report["data"]["way"] == "ssh"
    assert "ssh" in report["data"]["milestones"]
    assert len(str(state / "pi" / "console.sock")) > 107

    with open_target("qemu:pi") as target:
        target.put(b"mine\n", "/root/file")
        assert target.name == "pi" and target.address == "qemu:pi"
    with pytest.raises(InputError, match="already"):
        start(plan(boards.load(arm64.board), Medium(kernel=arm64.kernel), name="pi"),
              NullProgress())  # fmt: skip
    code, report = _embedkit("run", "qemu:pie", "true")
    assert code == 2 and report["error"]["hint"] == "did you mean 'pi'?"
    script = tmp_path / "script"
    script.write_text("sendline\nexpect login: $\nsendline root\nexpect # $\nsendline exit\n")
    assert _embedkit("emulate", "console", "pi", "--script", script)[0] == 0
    code, report = _embedkit("run", "--json", "qemu:pi?via=serial", "hostname")
    assert (code, report["data"]["stdout"]) == (0, f"{arm64.board}\n"), report
    assert "login: root" in _embedkit("emulate", "log", "pi")[1]["data"]["text"]

    with open_target("qemu:pi") as target:
        target.reboot(deadline_seconds=BOOT_SECONDS)
    code, report = _embedkit("emulate", "stop", "pi", "--deadline", 60)
    assert (code, report["data"]["clean"]) == (0, True), report
    boards_known = _embedkit("emulate", "list")[1]["data"]["boards"]
    assert [(one["name"], one["phase"]) for one in boards_known] == [("pi", "off")]

    assert _embedkit(*words)[0] == 0
    with open_target("qemu:pi") as target:
        assert target.run(["cat", "/root/file"]).text == "mine\n"
    assert _embedkit("emulate", "stop", "pi", "--now")[1]["data"]["clean"] is False
    assert _embedkit("emulate", "stop", "pi")[0] == 0  # the card that was kept
    assert _left(state) == []
    assert (arm64_card.stat().st_mtime_ns, card.stamp(arm64_card)) == image


def test_a_killed_caller_leaves_nothing(state: Path, arm64: Reference, arm64_card: Path) -> None:
    """Whenever it is killed: before and after each thing that could be left."""
    words = ("emulate", arm64.board, "--card", arm64_card, "--kernel", arm64.kernel)
    moments: tuple[Callable[[], object], ...] = (
        lambda: True,
        lambda: time.sleep(0.2) is None,
        lambda: list(state.glob("*/")),
        lambda: list(state.glob("*/card.qcow2")),
        lambda: list(state.glob("*/qmp.sock")),
        lambda: [one for one in emulated.running() if one.phase == "booting"],
        lambda: any(log.stat().st_size for log in state.glob("*/console.log")),
    )
    for reached in moments:
        with subprocess.Popen(
            _command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as caller:
            try:
                _soon(lambda moment=reached: not moment(), 60)  # type: ignore[misc]
            finally:
                caller.kill()
        _soon(lambda: _left(state))


def test_a_killed_keeper_leaves_no_qemu(state: Path, arm64: Reference, arm64_card: Path) -> None:
    medium = Medium(arm64_card, arm64.kernel)
    with start(plan(boards.load(arm64.board), medium), NullProgress()) as machine:
        os.kill(machine.state.keeper, signal.SIGKILL)
        qemu = Path(f"/proc/{machine.state.pid}/cmdline")
        _soon(lambda: qemu.exists() and qemu.read_bytes())
        with pytest.raises(InputError, match="no emulated board"):
            emulated.find(machine.state.name)
        assert states.clear_stale() == (machine.state.name,)
    assert _left(state) == []


def test_two_at_once_do_not_collide(state: Path, arm64: Reference) -> None:
    wanted = plan(boards.load(arm64.board), Medium(kernel=arm64.kernel))
    with start(wanted, NullProgress()) as one, start(wanted, NullProgress()) as two:
        assert [one.state.name, two.state.name] == ["qemu-arm64-virt", "qemu-arm64-virt-2"]
        assert one.state.ssh_port != two.state.ssh_port
        assert {state.name for state in emulated.running()} == {one.state.name, two.state.name}
        assert [trouble(one.state), trouble(two.state)] == [None, None]
    assert _left(state) == []


def test_an_accelerator_that_does_not_start_gives_way(state: Path, arm64: Reference) -> None:
    """KVM ends QEMU on some machines, although /dev/kvm is there."""
    wanted = plan(boards.load(arm64.board), Medium(kernel=arm64.kernel))
    ((_, argv),) = wanted.attempts
    wrong = (*argv, "-no-such-option")
    with start(replace(wanted, attempts=(("kvm", wrong), ("tcg", argv))), NullProgress()) as one:
        assert one.state.accelerator == "tcg" and one.state.ssh_port
    with pytest.raises(TargetError, match=r"ended at once: .*-no-such-option"):
        start(replace(wanted, attempts=(("kvm", wrong),)), NullProgress())
    assert _left(state) == []


def test_a_wrong_root_is_a_panic_that_names_it(state: Path, arm64: Reference) -> None:
    medium = Medium(kernel=arm64.kernel, arguments="console=ttyAMA0 root=/dev/vdz9")
    failed = _failure(medium, arm64.board, 120)
    assert failed.diagnosis.kind == "panic-no-root"
    assert "root=/dev/vdz9" in failed.message
    assert any("Kernel panic" in line or "panic" in line for line in failed.last_lines)
    assert _left(state) == []


def test_an_initramfs_that_waits_is_told(state: Path, arm64: Reference) -> None:
    medium = Medium(kernel=arm64.kernel, initrd=arm64.initrd,
                    arguments="console=ttyAMA0 root=/dev/vdz9")  # fmt: skip
    failed = _failure(medium, arm64.board, 120)
    assert failed.diagnosis.kind == "no-root-device", failed.message
    assert "waits for /dev/vdz9" in failed.message


def test_silence_by_a_wrong_console_names_both_lines(state: Path, arm64: Reference) -> None:
    medium = Medium(kernel=arm64.kernel, arguments="console=ttyS7 root=/dev/vda1")
    failed = _failure(medium, arm64.board, 4)
    assert failed.diagnosis.kind == "silence-console"
    assert "console=ttyS7, and this line is ttyAMA0" in failed.message
    assert failed.message.startswith("qemu-arm64-virt did not come up within 4 s: ")


@pytest.fixture
def bare_card(tmp_path: Path, loader: bytes) -> Callable[[int], Path]:
    """An Orange Pi's card with nothing but U-Boot, at the byte that is asked for."""

    def make(offset: int) -> Path:
        image = tmp_path / "card.img"
        with image.open("wb") as file:
            file.truncate(40 << 20)  # no power of two: the overlay is
            file.seek(offset)
            file.write(loader)
        return image

    return make


def test_a_card_without_a_boot_script(state: Path, bare_card: Callable[[int], Path]) -> None:
    failed = _failure(Medium(bare_card(8192)), "orangepi-pc", 120)
    assert failed.diagnosis.kind in ("uboot-no-script", "uboot-no-card"), failed.message


def test_a_boot_loader_at_the_wrong_offset(state: Path, bare_card: Callable[[int], Path]) -> None:
    failed = _failure(Medium(bare_card(1024)), "orangepi-pc", 3)
    assert failed.diagnosis.kind == "silence-loader"
    assert "begins at byte 1024 of the card, and the board looks at 8192" in failed.message


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state folder on a file system of its own, with little room."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "none", place], check=True)
    try:
        yield _move_state(monkeypatch, place)
    finally:
        # Lazily: the kernel may give up QEMU's sockets, which lie there, long after its end.
        subprocess.run(["umount", "--lazy", place], check=True)


def _is_full(machine: Machine, place: Path) -> None:
    _soon(lambda: trouble(machine.state) is None, 60)
    found = trouble(machine.state)
    assert found is not None and found.kind == "host-full", found
    assert f"the file system at {place} is full" in found.guess
    code, report = _embedkit("emulate", "list")
    assert code == 0 and report["data"]["boards"][0]["phase"] == "stopped"
    with pytest.raises(BootFailed, match="is full"):
        machine.wait(5)


@pytest.mark.needs("root")
def test_a_full_disk_stops_the_board_and_is_told(
    small: Path, arm64: Reference, arm64_card: Path
) -> None:
    medium = Medium(arm64_card, arm64.kernel, arm64.initrd, arguments=arm64.arguments)
    with start(plan(boards.load(arm64.board), medium), NullProgress()) as machine:
        machine.wait(BOOT_SECONDS, "ssh")
        with machine.target() as target:
            target.run("dd if=/dev/urandom of=/big bs=1M count=100 >/dev/null 2>&1 &")
        _is_full(machine, small.parents[1])
    assert _left(small) == []


@pytest.mark.needs("root")
def test_an_sd_card_s_lost_writes_stop_the_board(
    small: Path, bare_card: Callable[[int], Path]
) -> None:
    """QEMU's SD card has no way to refuse: the board would go on with what was never written."""
    with start(
        plan(boards.load("orangepi-pc"), Medium(bare_card(8192))), NullProgress()
    ) as machine:
        with open_uboot(f"uboot+unix://{machine.state.console}", deadline_seconds=60) as prompt:
            line = "mmc dev 0; mmc write 40000000 1000 1a000"  # 52 MiB of memory
            prompt.boot(line)
        _is_full(machine, small.parents[1])


@pytest.mark.needs("root")
def test_a_disk_that_is_full_before_is_refused(small: Path, arm64: Reference) -> None:
    with (small / "ballast").open("wb") as file:
        file.write(bytes(12 << 20))
    with pytest.raises(LackError, match="are free in the file system at"):
        start(plan(boards.load(arm64.board), Medium(kernel=arm64.kernel)), NullProgress())
    assert _left(small) == []
