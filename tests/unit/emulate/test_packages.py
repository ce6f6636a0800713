"""Debian packages: what is read of them, what is chosen, what is told where some are missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.debs import deb

from embedkit.emulate.packages import (
    Folder,
    NotThere,
    Package,
    is_kernel,
    newer,
    parse,
    resolve,
    unpack,
)
from embedkit.errors import InputError, LackError
from embedkit.progress import NullProgress, Progress

needs_dpkg = pytest.mark.needs("program:dpkg-deb", "program:dpkg")

INDEX = """\
Package: runc
Version: 1.1.5+ds1-1
Architecture: armhf
Pre-Depends: init-system-helpers (>= 1.54~)
Depends: libc6:any (>= 2.34), libseccomp2 (>= 2.5.0) | libseccomp3,
 zlib1g
Description: Open Container Project
 Depends: not a field
Size: 2343448

Package: busybox-static
Version: 1:1.35.0-4
Architecture: armhf
Size: 899

Version: a stanza without a name
"""


class Index:
    """A source of packages that fetches nothing."""

    def __init__(self, packages: Sequence[Package]) -> None:
        self.packages = {package.name: package for package in packages}

    def find(self, names: Iterable[str]) -> dict[str, Package]:
        return {name: self.packages[name] for name in names if name in self.packages}

    def kernel(self, flavour: str) -> Package | None:
        return next((p for n, p in self.packages.items() if is_kernel(n, flavour)), None)

    def fetch(self, packages: Sequence[Package], progress: Progress) -> dict[str, Path]:
        raise NotImplementedError

    def lacks(self, names: Sequence[str]) -> NotThere:
        return NotThere("lacks " + ", ".join(names))

    def renew(self) -> bool:
        return False


def package(name: str, *depends: tuple[str, ...]) -> Package:
    return Package(name, "1", "armhf", depends)


def test_an_index_is_read() -> None:
    runc, busybox = parse(INDEX)
    assert runc == Package(
        "runc", "1.1.5+ds1-1", "armhf",
        (("init-system-helpers",), ("libc6",), ("libseccomp2", "libseccomp3"), ("zlib1g",)),
        2343448,
    )  # fmt: skip
    assert runc.libraries == (("libc6",), ("libseccomp2", "libseccomp3"), ("zlib1g",))
    assert busybox.key == "busybox-static_1%3a1.35.0-4_armhf"


@given(st.text())
def test_any_text_is_read_somehow(text: str) -> None:
    parse(text)


def test_libraries_are_followed_and_nothing_else() -> None:
    index = Index([
        package("tool", ("libone",), ("adduser",), ("libold", "libnew")),
        package("libone", ("libtwo",), ("perl",)),
        package("libtwo", ("libone",)),
        package("libnew"),
        package("adduser"),
        package("linux-image-6.1.0-50-armmp", ("initramfs-tools",)),
    ])  # fmt: skip
    taken = resolve(index, ["tool"], "armmp")
    assert [one.name for one in taken] == [
        "libnew", "libone", "libtwo", "linux-image-6.1.0-50-armmp", "tool",
    ]  # fmt: skip


def test_everything_missing_is_told_at_once() -> None:
    index = Index([package("tool", ("libone", "libuno"), ("libtwo",)), package("libtwo")])
    with pytest.raises(LackError) as caught:
        resolve(index, ["tool", "other"], "armmp")
    assert str(caught.value) == "lacks libone or libuno, linux-image-…-armmp, other"


@pytest.mark.parametrize(
    ("name", "flavour", "expected"),
    [
        ("linux-image-6.1.0-50-armmp", "armmp", True),
        ("linux-image-6.12.43+deb13-arm64", "arm64", True),
        ("linux-image-6.1.0-56-arm64-unsigned", "arm64", True),
        ("linux-image-6.1.0-50-armmp-lpae", "armmp", False),
        ("linux-image-6.1.0-50-armmp-dbg", "armmp", False),
        ("linux-image-6.1.0-56-cloud-arm64", "arm64", False),
        ("linux-image-6.1.0-56-rt-amd64", "amd64", False),
        ("linux-image-arm64", "arm64", False),
        ("linux-headers-6.1.0-50-armmp", "armmp", False),
    ],
)
def test_a_kernel_is_told_by_its_name(name: str, flavour: str, expected: bool) -> None:
    assert is_kernel(name, flavour) is expected


@needs_dpkg
def test_versions_are_compared_as_debian_does() -> None:
    assert newer("1:1.0", "2.0") and newer("1.0", "1.0~rc1") and newer("1.10", "1.9")
    assert not newer("1.0", "1.0")


@needs_dpkg
def test_a_folder_s_packages_tell_what_they_are_themselves(tmp_path: Path) -> None:
    old = deb(tmp_path, "runc", version="1.9-1")
    new = deb(tmp_path, "runc", version="1.10-1", depends="libc6")
    deb(tmp_path, "runc", version="2.0-1", arch="arm64")
    deb(tmp_path, "ca-certificates", arch="all")
    deb(tmp_path, "linux-image-6.1.0-9-armmp", version="6.1.9-1")
    deb(tmp_path, "linux-image-6.1.0-10-armmp", version="6.1.10-1")
    new.rename(new.with_name("download (1).deb"))
    folder = Folder(tmp_path / "debs", "armhf")
    found = folder.find(["runc", "ca-certificates", "tini"])
    assert {name: one.version for name, one in found.items()} == {
        "runc": "1.10-1", "ca-certificates": "1.0-1",
    }  # fmt: skip
    kernel = folder.kernel("armmp")
    assert kernel is not None and kernel.name == "linux-image-6.1.0-10-armmp"
    assert folder.kernel("arm64") is None
    fetched = folder.fetch([found["runc"]], NullProgress())
    assert fetched == {"runc": old.with_name("download (1).deb")}


@needs_dpkg
def test_a_folder_that_lacks_packages_says_which(tmp_path: Path) -> None:
    deb(tmp_path, "runc", depends="libc6, libseccomp2")
    folder = Folder(tmp_path / "debs", "armhf")
    with pytest.raises(LackError, match="lacks 4 packages for armhf: libc6, libseccomp2, ") as told:
        resolve(folder, ["runc", "tini"], "armmp")
    assert "apt-get download" in (told.value.hint or "")


@needs_dpkg
def test_a_folder_that_cannot_be_used_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        Folder(tmp_path / "nothing", "armhf")
    with pytest.raises(InputError, match=r"no \.deb files"):
        Folder(tmp_path, "armhf")
    (tmp_path / "bad.deb").write_bytes(b"!<arch>\nnonsense")
    with pytest.raises(InputError, match="not a Debian package") as caught:
        Folder(tmp_path, "armhf")
    assert caught.value.where == str(tmp_path / "bad.deb")


@needs_dpkg
def test_a_damaged_package_is_not_unpacked(tmp_path: Path) -> None:
    whole = deb(tmp_path, "runc", {"usr/sbin/runc": bytes(100_000)})
    unpack(whole, tmp_path / "good")
    assert (tmp_path / "good/usr/sbin/runc").stat().st_size == 100_000
    whole.write_bytes(whole.read_bytes()[:-400])
    with pytest.raises(InputError, match="cannot be unpacked"):
        unpack(whole, tmp_path / "bad")
