"""A kernel's modules: chosen with all that they need, and listed for modprobe."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest
from support.debs import module

from embedkit.emulate.modules import ModuleTree, aliases, listing
from embedkit.errors import InputError, LackError


@pytest.fixture
def tree(tmp_path: Path) -> ModuleTree:
    folder = tmp_path / "6.1.0-test"
    files = {
        "kernel/fs/ext4/ext4.ko": module("depends=jbd2,mbcache", "alias=fs-ext4", "softdep=pre: c"),
        "kernel/fs/jbd2/jbd2.ko": module("depends=crc-x"),
        "kernel/fs/mbcache.ko": module("depends=crc-x"),
        "kernel/lib/crc_x.ko": module("depends="),
        "kernel/crypto/c.ko": module("depends=", "alias=crypto-c"),
        "kernel/net/packed.ko.xz": lzma.compress(module("depends=built_in", "alias=net-pf-1")),
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return ModuleTree(folder)


def test_what_a_module_needs_comes_before_it(tree: ModuleTree) -> None:
    assert [one.name for one in tree.closure(["ext4"])] == ["crc_x", "jbd2", "mbcache", "c", "ext4"]
    assert "c" not in [one.name for one in tree.closure(["ext4"], soft=False)]
    assert tree.closure(["not-there"]) == ()
    assert tree.below("kernel/fs/ext", "kernel/lib/") == ("crc_x", "ext4")


def test_packed_modules_come_out_plain(tree: ModuleTree) -> None:
    (one,) = tree.closure(["packed"])
    assert one.path == "kernel/net/packed.ko" and one.content.startswith(b"\x7fELF")


def test_modprobe_s_lists(tree: ModuleTree) -> None:
    modules = tree.closure(["ext4", "packed"])
    lines = dict(line.split(":") for line in listing(modules).splitlines())
    # The last of a line is loaded first.
    assert lines["kernel/fs/ext4/ext4.ko"].split() == [
        "kernel/fs/jbd2/jbd2.ko", "kernel/fs/mbcache.ko", "kernel/lib/crc_x.ko",
    ]  # fmt: skip
    assert lines["kernel/net/packed.ko"] == ""
    assert aliases(modules).splitlines() == [
        "alias crypto-c c", "alias fs-ext4 ext4", "alias net-pf-1 packed",
    ]  # fmt: skip


def test_a_damaged_or_foreign_packing_is_told(tree: ModuleTree) -> None:
    (tree.folder / "kernel/net/bad.ko.xz").write_bytes(b"nonsense")
    (tree.folder / "kernel/net/odd.ko.zst").write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"damaged.*bad\.ko\.xz"):
        ModuleTree(tree.folder).closure(["bad"])
    with pytest.raises(LackError, match=r"packed as \.zst"):
        ModuleTree(tree.folder).closure(["odd"])
