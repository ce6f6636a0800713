"""What a block device may answer, and what becomes of it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from embedkit.errors import InputError, LackError, exit_code
from embedkit.media import blockdev, journal
from embedkit.media.blockdev import BlockDevice, DeviceFault, Identity, aligned_buffer, open_device
from embedkit.media.content import HEAD_BYTES
from embedkit.media.readback import describe_difference, first_difference


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BlockDevice:
    """A file that stands for a device of 64 KiB with sectors of 512 bytes."""
    path = tmp_path / "disk"
    path.write_bytes(bytes(65536))
    monkeypatch.setattr(blockdev, "device_size", lambda descriptor: 65536)
    monkeypatch.setattr(blockdev, "sector_size", lambda descriptor: 512)
    return BlockDevice(os.open(path, os.O_RDWR), path)


def test_short_writes_are_continued(device: BlockDevice, monkeypatch) -> None:
    real = os.pwritev
    asked: list[int] = []

    def short(descriptor: int, views: list[memoryview], offset: int) -> int:
        asked.append(len(views[0]))
        return real(descriptor, [views[0][:1024]], offset)

    monkeypatch.setattr(os, "pwritev", short)
    buffer = aligned_buffer(4096)
    buffer[:] = bytes(range(256)) * 16
    device.write_from(memoryview(buffer), 8192)
    assert asked == [4096, 3072, 2048, 1024]
    assert device.path.read_bytes()[8192:12288] == bytes(buffer)


@pytest.mark.parametrize("count", [0, 100])
def test_a_write_that_gets_nowhere_is_a_fault(device: BlockDevice, monkeypatch, count) -> None:
    monkeypatch.setattr(os, "pwritev", lambda *_: count)
    with pytest.raises(DeviceFault, match="only a part of a sector") as caught:
        device.write_from(memoryview(aligned_buffer(4096)), 512)
    assert caught.value.offset == 512


def test_reading_beyond_the_end_is_a_fault(device: BlockDevice) -> None:
    with pytest.raises(DeviceFault, match="ends before its size"):
        device.read_into(memoryview(aligned_buffer(8192)), 65536 - 4096)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.EIO, "input/output error"),
        (errno.ENOSPC, "smaller than it claims"),
        (errno.ENODEV, "went away"),
        (errno.ENXIO, "went away"),
        (errno.ENOMEDIUM, "went away"),
        (errno.EINVAL, "Invalid argument"),
    ],
)
def test_every_error_has_its_words(device: BlockDevice, monkeypatch, code, message) -> None:
    def fail(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    for name, call in (
        ("pwritev", lambda: device.write_from(memoryview(aligned_buffer(4096)), 4096)),
        ("preadv", lambda: device.read_into(memoryview(aligned_buffer(4096)), 4096)),
        ("fsync", device.flush),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            with pytest.raises(DeviceFault, match=message) as caught:
                call()
        assert exit_code(caught.value) == 4
        assert caught.value.offset == (None if name == "fsync" else 4096)


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        (errno.EBUSY, InputError, "in use"),
        (errno.EACCES, LackError, "no permission"),
        (errno.EROFS, InputError, "read-only"),
        (errno.ENOENT, InputError, "no such device"),
        (errno.ENOMEDIUM, LackError, "no medium"),
        (errno.EMFILE, LackError, "cannot be opened"),
    ],
)
def test_every_refusal_to_open_has_its_words(monkeypatch, code, kind, message) -> None:
    def fail(path: object, flags: int, *_: object) -> int:
        assert flags & os.O_EXCL
        assert not flags & os.O_CREAT, "a mistyped name must never become a file"
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(kind, match=message):
        open_device(Identity(Path("/dev/sdz"), (8, 1), 1, None, ""), write=True)


def test_a_file_is_never_opened_as_a_device(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(4096))
    with pytest.raises((InputError, LackError)):
        open_device(Identity(tmp_path / "file", (0, 0), 4096, None, ""), write=True)
    assert (tmp_path / "file").read_bytes() == bytes(4096)


def test_the_marker_is_no_partition_table_and_no_boot_code() -> None:
    run = journal.new_run()
    marker = journal.marker(run)
    assert len(marker) == HEAD_BYTES
    sectors = [marker[at : at + 512] for at in range(0, HEAD_BYTES, 512)]
    assert len(set(sectors)) == len(sectors), "an alias must be told from its original"
    assert all(sector[510:] == b"\0\0" for sector in sectors)
    assert b"EFI PART" not in marker
    assert b"eGON" not in marker
    assert journal.run_of(marker[:512]) == run
    assert journal.run_of(bytes(512)) is None


def test_a_journal_cut_in_a_line_is_read_as_far_as_it_goes(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    run = journal.new_run()
    one = journal.new(run)
    one.begin("card.img", Identity(Path("/dev/sdz"), (8, 1), 1, None, "S1"))
    one.add([(0, 4096, "aa"), (8192, 4096, "bb")])
    with one.path.open("a") as file:
        file.write('{"done": [[12288, 4096, "c')
    again, done = journal.resume(journal.marker(run)[:512], Path("/dev/sdz"))
    assert done == {(0, 4096, "aa"), (8192, 4096, "bb")}
    again.forget()
    with pytest.raises(InputError, match="not on this machine"):
        journal.resume(journal.marker(run)[:512], Path("/dev/sdz"))


@pytest.mark.parametrize(
    "line", ["[]", "1", '{"done": 7}', '{"done": [[1]]}', '{"done": [["x", 1, 2]]}']
)
def test_a_strange_journal_is_no_crash(tmp_path: Path, monkeypatch, line: str) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    run = journal.new_run()
    one = journal.new(run)
    one.begin("card.img", Identity(Path("/dev/sdz"), (8, 1), 1, None, ""))
    with one.path.open("a") as file:
        file.write(line + "\n")
    assert journal.resume(journal.marker(run)[:512], Path("x"))[1] == frozenset()


def test_a_state_folder_that_cannot_be_written_ends_the_journal_only(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    one = journal.new(journal.new_run())
    one.begin("card.img", Identity(Path("/dev/sdz"), (8, 1), 1, None, ""))
    one.add([(0, 4096, "aa")])
    assert not one.works


def test_differences_in_words() -> None:
    good = bytes(range(256)) * 2
    assert first_difference(good, good) is None
    assert first_difference(good, good[:300] + b"\xaa" + good[301:]) == 300
    assert describe_difference(bytes(512), good) == "it reads as zeros: the write was lost"
    assert "erased" in describe_difference(b"\xff" * 512, good)
    assert describe_difference(good[:-1] + b"\xfe", good) == "1 bit flipped"
    assert describe_difference(good[::-1], good) == "it holds other bytes than were written"
