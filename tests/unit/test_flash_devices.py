"""Verdicts from a fake /sys and /proc: what is mounted where, through every layer."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedkit.errors import InputError
from embedkit.media import devices, signatures
from embedkit.media.devices import DeviceInfo
from embedkit.media.uses import Roots
from embedkit.media.verdicts import Judgement, judge, require_writable

GB = 10**9


class Machine:
    """Builds the two trees as the kernel lays them out."""

    def __init__(self, folder: Path) -> None:
        self.roots = Roots(folder / "sys", folder / "proc", folder / "dev")
        self.mounts: list[str] = []
        for path in ("sys/block", "proc/self", "dev"):
            (folder / path).mkdir(parents=True)
        self.swaps("")

    def disk(self, name: str, number: str, size: int, **attributes: str) -> Path:
        folder = self.roots.sys / "block" / name
        (folder / "holders").mkdir(parents=True)
        facts = {"dev": number, "size": str(size // 512), "ro": "0", "removable": "0"}
        self._write(folder, {**facts, **attributes})
        return folder

    def partition(self, disk: Path, name: str, number: str, index: int) -> Path:
        folder = disk / name
        (folder / "holders").mkdir(parents=True)
        self._write(
            folder, {"dev": number, "partition": str(index), "start": "2048", "size": "4096"}
        )
        return folder

    def hold(self, folder: Path, holder: str) -> None:
        (folder / "holders" / holder).touch()

    def mount(self, number: str, place: str, source: str = "/dev/x") -> None:
        self.mounts.append(f"30 1 {number} / {place} rw - ext4 {source} rw")
        (self.roots.proc / "self" / "mountinfo").write_text("\n".join(self.mounts))

    def swaps(self, line: str) -> None:
        (self.roots.proc / "swaps").write_text(f"Filename Type Size Used Priority\n{line}\n")

    def _write(self, folder: Path, facts: dict[str, str]) -> None:
        for name, text in facts.items():
            path = folder / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")

    def look(self, name: str) -> DeviceInfo:
        (found,) = (each for each in devices.scan(self.roots) if each.name == name)
        return found


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_board_that_runs_from_its_card(machine: Machine) -> None:
    disk = machine.disk("mmcblk0", "179:0", 32 * GB, device__type="SD")
    machine.partition(disk, "mmcblk0p1", "179:1", 1)
    machine.partition(disk, "mmcblk0p2", "179:2", 2)
    machine.mount("179:2", "/")
    machine.mount("179:1", "/boot/firmware")
    verdict = judge(machine.look("mmcblk0"))
    assert verdict.judgement is Judgement.REFUSED
    assert "holds the running system (/boot/firmware is on mmcblk0p1, / is on" in verdict.text
    assert not verdict.mounted_only, "--unmount must not help here"


def test_a_root_on_lvm_on_an_encrypted_partition(machine: Machine) -> None:
    disk = machine.disk("sda", "8:0", 500 * GB)
    part = machine.partition(disk, "sda2", "8:2", 2)
    machine.hold(part, "dm-0")
    crypt = machine.disk("dm-0", "253:0", 400 * GB, dm__uuid="CRYPT-LUKS2", dm__name="secret")
    machine.hold(crypt, "dm-1")
    machine.disk("dm-1", "253:1", 300 * GB, dm__uuid="LVM-x", dm__name="vg-root")
    machine.mount("253:1", "/")
    text = judge(machine.look("sda")).text
    assert "holds the running system (/ is on sda2)" in text
    assert "held by dm-0 (encrypted volume secret)" in text
    assert "held by dm-1 (LVM volume vg-root)" in text


def test_a_mounted_stick_may_be_unmounted(machine: Machine) -> None:
    disk = machine.disk("sdb", "8:16", 16 * GB, removable="1")
    machine.partition(disk, "sdb1", "8:17", 1)
    machine.mount("8:17", r"/media/my\040card")
    device = machine.look("sdb")
    verdict = judge(device)
    assert verdict.text == "refused: mounted: sdb1 at /media/my card"
    assert verdict.mounted_only
    with pytest.raises(InputError, match="mounted: sdb1"):
        require_writable(device, verdict)
    require_writable(device, verdict, unmount=True)


def test_unmounting_does_not_clear_a_suspicion(machine: Machine) -> None:
    disk = machine.disk("sdb", "8:16", 4000 * GB, removable="1")
    machine.partition(disk, "sdb1", "8:17", 1)
    machine.mount("8:17", "/media/backup")
    device = machine.look("sdb")
    with pytest.raises(InputError, match=r"suspicious: 3\.6 TiB"):
        require_writable(device, judge(device), unmount=True)
    require_writable(device, judge(device), unmount=True, accept_suspicious=True)


def test_disks_of_the_same_name_prefix_are_told_apart(machine: Machine) -> None:
    machine.disk("sda", "8:0", 16 * GB, removable="1")
    machine.disk("sdaa", "65:160", 16 * GB, removable="1")
    machine.mount("65:160", "/")
    assert judge(machine.look("sda")).judgement is Judgement.CARD
    assert judge(machine.look("sdaa")).judgement is Judgement.REFUSED


def test_rubbish_in_sysfs_is_no_crash(machine: Machine) -> None:
    machine.disk("sdb", "8:16", 0, removable="\x00", diskseq="-1", queue__logical_block_size="x")
    (machine.roots.sys / "block/sdb/size").write_text("many")
    machine.disk("sdc", "nonsense", 16 * GB)
    (machine.roots.proc / "self" / "mountinfo").write_text("what\n1 2 3\n - - -\n\xff\n")
    machine.swaps("/nowhere partition 1 2 3")
    found = devices.scan(machine.roots)
    assert [each.name for each in found] == ["sdb"]
    assert judge(found[0]).text.startswith("refused: there is no medium in it")


def test_names_sort_as_people_count(machine: Machine) -> None:
    for index in (10, 2, 1):
        machine.disk(f"loop{index}", f"7:{index}", GB)
    assert [each.name for each in devices.scan(machine.roots)] == ["loop1", "loop2", "loop10"]


@pytest.mark.parametrize("size", [0, 100, 4096, 1 << 18])
def test_nothing_is_seen_in_blank_devices(size: int) -> None:
    assert signatures.sniff(bytes(size)) == ""
    assert signatures.sniff(b"\xff" * size) == ""
