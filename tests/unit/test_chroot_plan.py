"""What a chroot would do: paths inside a root, its architecture, mounts, the emulation."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.emulation import program

from embedkit.emulate import chroot, rootfs
from embedkit.emulate.binfmt import Found, Interpreter, Owner, Status
from embedkit.emulate.entry import Entry
from embedkit.emulate.inside import Op, Work
from embedkit.emulate.magic import Architecture, architecture, native
from embedkit.errors import InputError, LackError

_ARM = architecture("arm" if native()[0].name != "arm" else "arm64")
_MIPS = architecture("mips")


def _status(
    *entries: tuple[Architecture, Entry], private: bool = True, static: bool | None = True
) -> Status:
    found = tuple(
        Found(entry, Interpreter(entry.interpreter, True, static), Owner("unknown"), (each,))
        for each, entry in entries
    )
    return Status(True, True, True, found, True, private)


def _entry(each: Architecture, flags: str = "F") -> Entry:
    return Entry(each.entry, "/usr/bin/qemu", flags, each.magic, each.mask)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("usr/bin", "proc", "sys", "dev", "run", "etc", "srv"):
        (tmp_path / "root" / name).mkdir(parents=True)
    made = tmp_path / "root"
    (made / "bin").symlink_to("usr/bin")
    (made / "usr/bin/busybox").write_bytes(program(_ARM))
    (made / "usr/bin/sh").symlink_to("/bin/busybox")
    (made / "etc/resolv.conf").touch()
    return made


@pytest.mark.parametrize(
    ("link", "asked", "place"),
    [
        ("/", "x/etc/passwd", "etc/passwd"),
        ("/etc", "x/../etc/passwd", "etc/passwd"),
        ("../../../../etc", "x/passwd", "etc/passwd"),
        ("..", "/x/x/x/etc", "etc"),
        ("/srv/", "x", "srv"),
    ],
)
def test_links_end_at_the_root(root: Path, link: str, asked: str, place: str) -> None:
    (root / "x").symlink_to(link)
    assert rootfs.within(root, asked) == root / place


_PARTS = st.sampled_from(("a", "b", "c", "..", "/", "."))


@given(
    st.lists(st.lists(_PARTS, min_size=1, max_size=5).map("/".join), min_size=3, max_size=3),
    st.lists(_PARTS, min_size=1, max_size=8).map("/".join),
)
def test_no_links_lead_out(targets: list[str], asked: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "root")
        root.mkdir()
        for name, target in zip("abc", targets, strict=True):
            (root / name).symlink_to(target)
        try:
            found = rootfs.within(root, asked)
        except InputError as error:
            assert "circle" in error.message
            return
        assert found == root or found.is_relative_to(root)
        assert ".." not in found.parts and not found.is_symlink()


def test_the_architecture_is_that_of_command_and_shell(root: Path) -> None:
    assert rootfs.architectures(root, "sh") == (_ARM,)
    assert rootfs.architectures(root, "nothing") == (_ARM,)
    (root / "srv/tool").write_bytes(program(_MIPS))
    assert rootfs.architectures(root, "/srv/tool") == (_MIPS, _ARM)
    (root / "usr/bin/script").write_text("#! /srv/tool -x\n")
    assert rootfs.architectures(root, "script") == (_MIPS, _ARM)


def test_a_folder_that_is_no_root_file_system(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot tell this root file system's architecture"):
        chroot.plan_chroot(tmp_path, ("sh",), _status())
    with pytest.raises(InputError, match="no such folder"):
        chroot.plan_chroot(tmp_path / "x", ("sh",), _status())
    with pytest.raises(InputError, match="machine's own"):
        chroot.plan_chroot(Path("/"), ("sh",), _status())


def test_mounts_never_leave_the_root(root: Path) -> None:
    (root / "sys").rmdir()
    (root / "sys").symlink_to("/srv")
    ops, remarks = rootfs.mounts(root, (), own_sysfs=True)
    targets = {op.source: op.target for op in ops}
    assert targets["sysfs"] == str(root / "srv")
    assert remarks == ()
    assert all(op.target.startswith(f"{root}/") for op in ops)
    # No disk of this machine is to be seen inside.
    devices = {op.source for op in ops if op.kind == "bind" and op.source.startswith("/dev/")}
    assert devices <= {f"/dev/{name}" for name in rootfs._DEVICES}


def test_what_cannot_be_mounted_is_said(root: Path) -> None:
    for name in ("sys", "run"):
        (root / name).rmdir()
    (root / "etc/resolv.conf").unlink()
    ops, remarks = rootfs.mounts(root, (), own_sysfs=False)
    assert [remark.split(" ")[0] for remark in remarks] == ["/sys", "/run", "names"]
    assert not any(op.source in ("sysfs", "/sys") for op in ops)


@pytest.mark.needs("file:/etc/resolv.conf")
def test_names_of_hosts(root: Path) -> None:
    source = str(Path("/etc/resolv.conf").resolve())
    ops = rootfs.mounts(root, (), own_sysfs=True)[0]
    copy = str(root / "run/embedkit/resolv.conf")
    assert ops[-2:] == (
        Op("copy", source, copy),
        Op("bind", copy, str(root / "etc/resolv.conf")),
    )
    # The machine's own file is never within reach of the command.
    assert not any(op.source == source and op.kind != "copy" for op in ops)
    (root / "etc/resolv.conf").unlink()
    (root / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    last = rootfs.mounts(root, (), own_sysfs=True)[0][-1]
    assert last == Op("copy", source, str(root / "run/systemd/resolve/stub-resolv.conf"))


def test_binds(root: Path, tmp_path: Path) -> None:
    last = rootfs.mounts(root, ((tmp_path, "/srv"),), own_sysfs=True)[0][-1]
    assert last == Op("rbind", str(tmp_path), str(root / "srv"))
    with pytest.raises(InputError, match="not there in the root"):
        rootfs.mounts(root, ((tmp_path, "/nowhere"),), own_sysfs=True)


def test_the_machines_entry_comes_first_then_a_private_one(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = _entry(_ARM)
    monkeypatch.setattr(chroot, "wanted", lambda each, qemu: _entry(each, "PF"))
    assert chroot.way(native()[0], _status()) == chroot.Way(native()[0])
    assert chroot.way(_ARM, _status((_ARM, entry))) == chroot.Way(_ARM, entry)
    private = chroot.Way(_ARM, _entry(_ARM, "PF"), private=True)
    assert chroot.way(_ARM, _status()) == private
    assert chroot.way(_ARM, _status((_ARM, _entry(_ARM, "")))) == private
    assert chroot.way(_ARM, _status((_ARM, entry), static=False)) == private
    assert chroot.way(_ARM, _status((_ARM, entry)), Path("/given")) == private
    with pytest.raises(LackError, match="lacks the flag F") as caught:
        chroot.way(_ARM, _status((_ARM, _entry(_ARM, "")), private=False))
    assert caught.value.hint == f"as root: embedkit binfmt register {_ARM.name}"


def test_the_environment_is_chosen(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SECRET": "1", "LC_ALL": "C", "http_proxy": "x", "PATH": "/here"}.items():
        monkeypatch.setenv(name, value)
    session = chroot.plan_chroot(
        root, ("sh",), _status((_ARM, _entry(_ARM))), environment={"GIVEN": "2"}
    )
    known = dict(session.work.environment)
    assert known["PATH"] == rootfs.PATH and known["GIVEN"] == "2"
    assert known["LC_ALL"] == "C" and known["http_proxy"] == "x"
    assert "SECRET" not in known
    assert session.user_namespace == (os.geteuid() != 0)


def test_a_cpu_is_only_for_emulated_programs(root: Path) -> None:
    (root / "usr/bin/busybox").write_bytes(program(native()[0]))
    with pytest.raises(InputError, match="own CPU"):
        chroot.plan_chroot(root, ("sh",), _status(), cpu="arm926")


@given(st.lists(st.text()), st.dictionaries(st.text(), st.text()), st.text())
def test_the_work_reaches_the_inside_unchanged(
    command: list[str], environment: dict[str, str], root: str
) -> None:
    work = Work(
        ("line",),
        (Op("mount", "proc", "/p", "x"),),
        root,
        tuple(command),
        tuple(environment.items()),
    )
    assert Work.decoded(work.encoded()) == work
