"""Trees for file systems: tars and folders become sorted nodes, hostile ones an error."""

from __future__ import annotations

import io
import os
import random
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from embedkit.errors import InputError
from embedkit.media.tree import from_files, from_folder, from_tar

Fill = Callable[[tarfile.TarFile], None]


def add(tar: tarfile.TarFile, name: str, content: bytes = b"", **fields: object) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(content))


def archive(tmp_path: Path, fill: Fill, mode: str = "w") -> Path:
    path = tmp_path / "rootfs.tar"
    with tarfile.open(path, mode, format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload]
        fill(tar)
    return path


def good(tar: tarfile.TarFile) -> None:
    add(tar, "./", type=tarfile.DIRTYPE, mode=0o755)
    add(tar, "./bin/su", b"program", mode=0o4755, uid=0, mtime=1234)
    add(tar, "./bin/sudo", type=tarfile.LNKTYPE, linkname="./bin/su")
    add(tar, "./bin/sh", type=tarfile.SYMTYPE, linkname="/bin/../bin/busybox")
    add(tar, "./dev/null", type=tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=3)
    add(tar, "./dev/sda", type=tarfile.BLKTYPE, mode=0o660, gid=6, devmajor=8, devminor=0)
    add(tar, "./run/pipe", type=tarfile.FIFOTYPE, mode=0o600)
    add(tar, "./home/user/a file", b"1", uid=1000, gid=100000)
    add(tar, "./home/user/a file", b"22", uid=1000, gid=100000)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
def test_a_tar_s_facts_are_kept(tmp_path: Path, mode: str) -> None:
    nodes = {node.path: node for node in from_tar(archive(tmp_path, good, mode), tmp_path)}
    assert list(nodes) == sorted(nodes, key=lambda path: path.split("/"))
    assert nodes["bin/su"].mode == stat.S_IFREG | 0o4755
    assert nodes["bin/su"].mtime == 1234
    assert nodes["bin/sudo"].link_to == "bin/su"
    assert nodes["bin/sh"].target == "/bin/../bin/busybox"
    assert nodes["dev/null"].device == (1, 3) and stat.S_ISCHR(nodes["dev/null"].mode)
    assert nodes["dev/sda"].device == (8, 0) and nodes["dev/sda"].gid == 6
    assert stat.S_ISFIFO(nodes["run/pipe"].mode)
    twice = nodes["home/user/a file"]
    assert (twice.uid, twice.gid) == (1000, 100000)
    assert twice.content is not None and twice.content.read_bytes() == b"22", "the later wins"
    assert nodes["home"].is_folder and nodes["home"].uid == 0, "missing parents are made"


def test_zstd(tmp_path: Path) -> None:
    import zstandard

    plain = archive(tmp_path, good)
    packed = tmp_path / "rootfs.tar.zst"
    packed.write_bytes(zstandard.compress(plain.read_bytes()))
    assert len(from_tar(packed, tmp_path)) == len(from_tar(plain, tmp_path))


def hostile(*members: dict[str, object]) -> Fill:
    def fill(tar: tarfile.TarFile) -> None:
        for member in members:
            add(tar, **member)  # type: ignore[arg-type]

    return fill


@pytest.mark.parametrize(
    ("fill", "complaint"),
    [
        (hostile({"name": "../etc/passwd"}), "leaves the tree"),
        (hostile({"name": "a/../../b"}), "leaves the tree"),
        (hostile({"name": "a\nrm"}), "line break"),
        (hostile({"name": "x" * 300}), "longer than 255"),
        (
            hostile(
                {"name": "etc", "type": tarfile.SYMTYPE, "linkname": "/etc"},
                {"name": "etc/passwd", "content": b"x"},
            ),
            "'etc/passwd' lies below 'etc', which is not a folder",
        ),
        (hostile({"name": "a", "type": tarfile.LNKTYPE, "linkname": "b"}), "which is missing"),
        (hostile({"name": "a", "type": tarfile.LNKTYPE, "linkname": "../b"}), "leaves the tree"),
        (hostile({"name": "a", "type": b"Z"}), "of a type that a file system has not"),
    ],
)
def test_hostile_members(tmp_path: Path, fill: Fill, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint) as caught:
        from_tar(archive(tmp_path, fill), tmp_path)
    assert "rootfs.tar" in str(caught.value.where)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
def test_a_tar_cut_short(tmp_path: Path, mode: str) -> None:
    path = archive(tmp_path, lambda tar: add(tar, "x", random.Random(1).randbytes(90_000)), mode)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="not a readable tar archive"):
        from_tar(path, tmp_path)


def test_a_folder(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "z" / "deep").mkdir(parents=True)
    (tree / "z" / "file").write_bytes(b"x")
    (tree / "a-link").symlink_to("z/file")
    os.link(tree / "z" / "file", tree / "b-hard")
    os.mkfifo(tree / "pipe")
    nodes = {node.path: node for node in from_folder(tree)}
    assert set(nodes) == {"a-link", "b-hard", "pipe", "z", "z/deep", "z/file"}
    assert nodes["a-link"].target == "z/file"
    links = {nodes["b-hard"].link_to, nodes["z/file"].link_to}
    assert links in ({"", "b-hard"}, {"", "z/file"}), "one of the two names is the file"
    owners = {(node.uid, node.gid) for node in nodes.values()}
    assert owners == {(0, 0)}, "root's files, whoever made the folder"


def test_single_files(tmp_path: Path) -> None:
    source = tmp_path / "Image"
    source.write_bytes(b"kernel")
    nodes = from_files([(source, "overlays/Image")])
    assert [(node.path, node.is_folder) for node in nodes] == [
        ("overlays", True),
        ("overlays/Image", False),
    ]
