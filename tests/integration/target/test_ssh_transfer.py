"""Files over SSH: every way, through broken connections, to real servers."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.proxy import proxied
from support.reaching import reach
from support.sshservers import Server

from embedkit.errors import TargetError
from embedkit.target.receive import get
from embedkit.target.source import Source
from embedkit.target.transfer import _Putting, put

pytestmark = pytest.mark.needs(
    "root", "program:sshd", "program:dropbear", "program:busybox", "program:unshare"
)

HOSTILE_NAMES = (
    "a name",
    'it\'s "quoted"',
    "-rf",
    "line\nbreak",
    "$(touch pwned) `touch pwned`;touch pwned",
    "ünïcode ☃",
    "*?[a]",
    "\\back\\slash",
    "\x1b[31mred",
    ".",
)


def cuts(total: int, times: int, seed: int) -> list[int]:
    """``times`` random amounts of bytes that together are less than ``total``."""
    source = random.Random(seed)
    return [source.randrange(200_000, total // times) for _ in range(times)]


def moves(
    server: Server, blob: Path, put_way: str, get_way: str, folder: str, tmp_path: Path
) -> None:
    size = blob.stat().st_size
    wanted = hashlib.sha256(blob.read_bytes()).hexdigest()
    # What goes over the wire is less where it is compressed; base64 is a third more.
    with (
        proxied(server.port, cuts=cuts(size // 3, 5, 1)) as proxy,
        reach(server, proxy.port) as target,
    ):
        name = f"{folder}/50 MB by {put_way}"
        done = put(target, blob, name, way=put_way, reconnect_seconds=10)
        assert proxy.cut == 5
        assert 1 <= done.interruptions <= 5  # a cut between two commands may go unnoticed
        assert done.way.startswith(put_way)
        assert done.digest == f"sha256:{wanted}"
        assert target.run(["sha256sum", name]).text.split()[0] == wanted
        again = put(target, blob, name, way=put_way)
        assert again.skipped and again.sent_bytes == 0
        left = target.run(["ls", "-a", folder]).text
        assert ".part" not in left and ".pid" not in left
    with (
        proxied(server.port, cuts=cuts(size // 2, 5, 2)) as proxy,
        reach(server, proxy.port) as target,
    ):
        fetched = tmp_path / "fetched"
        back = get(target, name, fetched, way=get_way, reconnect_seconds=10)
        assert proxy.cut == 5 and back.interruptions >= 1
        assert hashlib.sha256(fetched.read_bytes()).hexdigest() == wanted
        assert get(target, name, fetched).skipped
        assert sorted(path.name for path in tmp_path.iterdir()) == ["fetched"]
        target.run(["rm", name])


@pytest.mark.parametrize(
    ("put_way", "get_way"),
    [("exec", "exec"), ("sftp", "sftp"), ("scp", "base64"), ("base64", "exec")],
)
def test_openssh_through_five_cuts(
    sshd: Server, blob: Path, tmp_path: Path, put_way: str, get_way: str
) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    (tmp_path / "here").mkdir()
    moves(sshd, blob, put_way, get_way, str(folder), tmp_path / "here")


@pytest.mark.parametrize(("put_way", "get_way"), [("exec", "exec"), ("base64", "base64")])
def test_dropbear_without_sftp_in_a_busybox_root_through_five_cuts(
    board: Server, blob: Path, tmp_path: Path, put_way: str, get_way: str
) -> None:
    moves(board, blob, put_way, get_way, "/tmp", tmp_path)


def test_on_a_link_of_a_middling_rate_compressing_is_tried(board: Server) -> None:
    """Whether it pays there depends on how fast the target unpacks: the trial's bytes are bytes
    of the file like all others, and the next file knows."""
    content = random.Random(3).randbytes(2 << 20).hex().encode() * 10
    wanted = hashlib.sha256(content).hexdigest()
    with reach(board) as target:
        target.link_rate = 30e6
        done = put(target, content, "/tmp/tried")
        assert done.digest == f"sha256:{wanted}"
        assert target.run("sha256sum /tmp/tried; rm /tmp/tried").text.split()[0] == wanted
        assert target.unpack_rate is not None
        seen, target.link_rate = target.unpack_rate, 30e6
        again = put(target, content, "/tmp/tried")
        assert target.unpack_rate == seen
        assert (again.way == "exec+gzip") == (seen > 33e6), (again.way, seen)
        target.run("rm /tmp/tried")


def test_what_a_board_lacks_is_said(board: Server, tmp_path: Path) -> None:
    with reach(board) as target:
        with pytest.raises(TargetError, match="SFTP"):
            put(target, b"x", "/tmp/x", way="sftp")
        with pytest.raises(TargetError, match="scp"):
            put(target, b"x", "/tmp/x", way="scp")
        assert target.run("echo still good").text == "still good\n"
        with pytest.raises(TargetError, match="no folder"):
            target.put(b"x", "/nowhere/x")
        with pytest.raises(TargetError, match="folder"):
            target.put(b"x", "/tmp")
        with pytest.raises(TargetError, match="not there"):
            target.get("/tmp/none", tmp_path / "none")


# The large one is digested on the target while it is written.
@pytest.mark.parametrize(
    ("way", "mebibytes"), [("exec", 1), ("exec", 6), ("sftp", 1), ("scp", 1), ("base64", 1)]
)
def test_one_wrong_byte_is_never_called_success(
    sshd: Server, tmp_path: Path, way: str, mebibytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file that is digested is right; what travels has one bit turned over."""
    original = Source.pieces

    def damaged(self: Source, start: int, end: int | None = None) -> Iterator[bytes]:
        place = 700_000
        for piece in original(self, start, end):
            if start <= place < start + len(piece):
                index = place - start
                piece = piece[:index] + bytes((piece[index] ^ 1,)) + piece[index + 1 :]
            start += len(piece)
            yield piece

    content = random.Random(3).randbytes(mebibytes << 20)
    there = tmp_path / "file"
    there.write_bytes(b"old")
    with reach(sshd) as target:
        monkeypatch.setattr(Source, "pieces", damaged)
        with pytest.raises(TargetError, match="not what was sent"):
            put(target, content, str(there), way=way)
        assert there.read_bytes() == b"old"
        assert [path.name for path in tmp_path.iterdir()] == ["file"]
        monkeypatch.undo()
        put(target, content, str(there), way=way)
        assert there.read_bytes() == content


def test_a_false_part_is_not_built_upon(sshd: Server, tmp_path: Path) -> None:
    content = random.Random(4).randbytes(1 << 20)
    ident = hashlib.sha256(content).hexdigest()[:12]
    (tmp_path / f".file.embedkit-{ident}.part").write_bytes(content[:5000] + b"?" * 100)
    with reach(sshd) as target:
        done = target.put(content, f"{tmp_path}/file")
    assert done.resumed_at_bytes == 0
    assert (tmp_path / "file").read_bytes() == content


def test_a_true_part_is(sshd: Server, tmp_path: Path) -> None:
    content = random.Random(4).randbytes(1 << 20)
    ident = hashlib.sha256(content).hexdigest()[:12]
    (tmp_path / f".file.embedkit-{ident}.part").write_bytes(content[:500_000])
    with reach(sshd) as target:
        done = target.put(content, f"{tmp_path}/file")
    assert done.resumed_at_bytes == 500_000
    assert done.sent_bytes < len(content) - 500_000 + 1000
    assert (tmp_path / "file").read_bytes() == content


def test_modes_links_and_emptiness(sshd: Server, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    real = tmp_path / "real"
    real.write_text("old")
    (tmp_path / "link").symlink_to("real")
    with reach(sshd) as target:
        target.put(script, f"{tmp_path}/copy")
        assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o755
        target.put(b"secret", f"{tmp_path}/key", mode=0o600)
        assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
        target.put(b"new", f"{tmp_path}/link")
        assert (tmp_path / "link").is_symlink() and real.read_text() == "new"
        target.put(b"", f"{tmp_path}/empty")
        assert (tmp_path / "empty").read_bytes() == b""
        target.get(f"{tmp_path}/empty", tmp_path / "empty2")
        assert (tmp_path / "empty2").read_bytes() == b""


def test_a_full_disk_is_known_beforehand(board: Server) -> None:
    with reach(board) as target:
        target.run("mkdir -p /tmp/small && mount -t tmpfs -o size=256k tmpfs /tmp/small")
        with pytest.raises(TargetError, match=r"needs .* free"):
            target.put(bytes(1 << 20), "/tmp/small/file")
        assert target.run("ls -A /tmp/small").text == ""
        target.run("umount /tmp/small")


def test_a_disk_that_fills_up_meanwhile(board: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    content = random.Random(6).randbytes(8 << 20)
    with reach(board) as target:
        target.run("mkdir -p /tmp/small && mount -t tmpfs -o size=6m tmpfs /tmp/small")
        monkeypatch.setattr(_Putting, "check_room", lambda *args: None)
        target.run("echo old >/tmp/small/file")
        with pytest.raises(TargetError, match="No space left"):
            put(target, content, "/tmp/small/file", way="exec")
        assert target.run("cat /tmp/small/file").text == "old\n"
        target.run("mount -o remount,size=20m /tmp/small")
        done = put(target, content, "/tmp/small/file", way="exec")
        assert done.resumed_at_bytes > 5 << 20, "what had arrived was not used"
        assert target.run("ls -A /tmp/small").text == "file\n"
        target.run("umount /tmp/small")


@pytest.mark.parametrize("way", ["exec", "sftp", "scp", "base64"])
def test_hostile_names_are_only_names(sshd: Server, tmp_path: Path, way: str) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    with reach(sshd) as target:
        for index, name in enumerate(HOSTILE_NAMES):
            if name == ".":
                with pytest.raises(TargetError, match="folder"):
                    put(target, b"x", f"{folder}/{name}", way=way)
                continue
            content = f"content {index}".encode()
            put(target, content, f"{folder}/{name}", way=way)
            assert (folder / name).read_bytes() == content
            get(target, f"{folder}/{name}", tmp_path / f"got{index}")
            assert (tmp_path / f"got{index}").read_bytes() == content
        assert {path.name for path in folder.iterdir()} == set(HOSTILE_NAMES) - {"."}


def test_hostile_names_on_busybox(board: Server, tmp_path: Path) -> None:
    with reach(board) as target:
        target.run("mkdir /tmp/hostile")
        for name in HOSTILE_NAMES[:-1]:
            target.put(name.encode(), f"/tmp/hostile/{name}")
            target.get(f"/tmp/hostile/{name}", tmp_path / "got")
            assert (tmp_path / "got").read_bytes() == name.encode()
        # A relative name that begins with a dash, in the folder that the login starts in.
        target.put(b"dash", "-dash")
        assert target.run("cat ./-dash; rm ./-dash").text == "dash"
        assert "pwned" not in target.run("ls -a / /root /tmp /tmp/hostile").text.replace(
            "touch pwned", ""
        )
        target.run("rm -r /tmp/hostile")
