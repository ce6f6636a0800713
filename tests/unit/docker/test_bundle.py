"""Bundles: read where they lie, checked, and hostile ones refused."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedkit import elf
from embedkit.docker import proofelf
from embedkit.docker.bundle import NEEDED, Kind, open_bundle
from embedkit.docker.bundlecache import open_cached
from embedkit.docker.fit import Allowed, check_bundle, check_fit
from embedkit.errors import EmbedkitError, InputError
from embedkit.target.facts import Platform


def program(arch: str = "amd64", text: bytes = b"x") -> bytes:
    return proofelf.program(arch, text, 0)


def folder(path: Path, arch: str = "amd64", names: tuple[str, ...] = NEEDED) -> Path:
    path.mkdir()
    for name in names:
        (path / name).write_bytes(program(arch, name.encode()))
    return path


def tgz(path: Path, members: dict[str, bytes], extra: tuple[tarfile.TarInfo, ...] = ()) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info in extra:
            tar.addfile(info)
    return path


def platform(arch: str, variant: str = "", features: tuple[str, ...] = ()) -> Platform:
    return Platform(arch, variant, arch, None, arch, "cpu", 1, features, None)


def test_an_archive_is_read_without_unpacking(tmp_path: Path) -> None:
    members = {f"docker/{name}": program(text=name.encode()) for name in NEEDED}
    path = tgz(tmp_path / "docker-29.4.2-2.tgz", {**members, "docker/README": b"hello"})
    bundle = open_bundle(path)
    assert (bundle.kind, bundle.version, bundle.major) == (Kind.ARCHIVE, "29.4.2-2", 29)
    assert bundle.names == tuple(sorted(NEEDED))
    assert bundle.ignored == ("README",)
    assert bundle.arch == "amd64"
    assert {c.weight.value for c in check_bundle(bundle)} == {"ok"}
    with bundle.files(["runc"]) as files:
        assert files["runc"].read_bytes() == program(text=b"runc")
        assert os.access(files["runc"], os.X_OK)
        kept = files["runc"]
    assert not kept.exists()


def test_a_folder_and_its_archive_are_the_same_bundle(tmp_path: Path) -> None:
    there = folder(tmp_path / "docker-1.2.3")
    path = tgz(tmp_path / "docker-1.2.3.tgz", {p.name: p.read_bytes() for p in there.iterdir()})
    assert open_bundle(there).digest == open_bundle(path).digest
    assert open_bundle(there).label == open_bundle(path).label == "1.2.3"


def test_a_single_binary_is_all_of_docker(tmp_path: Path) -> None:
    path = tmp_path / "docker-1.9.1"
    path.write_bytes(program("arm"))
    bundle = open_bundle(path)
    assert (bundle.kind, bundle.version, bundle.names) == (Kind.BINARY, "1.9.1", ("docker",))
    assert not [c for c in check_bundle(bundle) if c.weight.value == "fail"]


def test_the_version_is_read_from_the_daemon_itself(tmp_path: Path) -> None:
    there = folder(tmp_path / "stuff")
    built = b'build\t-ldflags="-X \\"github.com/docker/docker/dockerversion.Version=28.5.1\\""'
    # Across the border of what is read at once.
    with (there / "dockerd").open("ab") as file:
        file.write(bytes((1 << 20) - file.tell() - 40) + built)
    assert open_bundle(there).version == "28.5.1"


def test_minimal_leaves_out_what_small_boards_can_do_without(tmp_path: Path) -> None:
    names = (*NEEDED, "docker", "ctr", "docker-proxy", "docker-init")
    bundle = open_bundle(folder(tmp_path / "docker-29.0.0", names=names)).minimal()
    assert set(bundle.names) == {*NEEDED, "docker"}


@pytest.mark.parametrize(
    "name", ["../docker", "/etc/passwd", "docker/../../x", "docker/./../../../root/.profile"]
)
def test_names_that_lead_out_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="leads out"):
        open_bundle(tgz(tmp_path / "a.tgz", {name: program()}))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (tarfile.SYMTYPE, "link"),
        (tarfile.LNKTYPE, "link"),
        (tarfile.CHRTYPE, "device"),
        (tarfile.BLKTYPE, "device"),
        (tarfile.FIFOTYPE, "pipe"),
    ],
)
def test_members_that_are_no_files_are_refused(kind: bytes, said: str, tmp_path: Path) -> None:
    info = tarfile.TarInfo("docker/dockerd")
    info.type, info.linkname = kind, "/etc/passwd"
    with pytest.raises(InputError, match=said):
        open_bundle(tgz(tmp_path / "a.tgz", {}, (info,)))


def test_a_folder_with_a_link_out_of_it_is_refused(tmp_path: Path) -> None:
    there = folder(tmp_path / "docker")
    (there / "ctr").symlink_to("/bin/sh")
    with pytest.raises(InputError, match="not a regular file"):
        open_bundle(there)


def test_an_archive_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    members = {f"docker/{name}": os.urandom(4000) + program() for name in NEEDED}
    whole = tgz(tmp_path / "docker-1.0.0.tgz", members).read_bytes()
    cut = tmp_path / "docker-1.0.1.tgz"
    for size in (20, len(whole) // 2, len(whole) - 9):
        cut.write_bytes(whole[:size])
        with pytest.raises(InputError):
            open_bundle(cut)


def test_two_programs_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two programs"):
        open_bundle(tgz(tmp_path / "a.tgz", {"a/dockerd": program(), "b/dockerd": program()}))


def test_a_truncated_program_is_told(tmp_path: Path) -> None:
    there = folder(tmp_path / "docker-29.0.0")
    (there / "runc").write_bytes(program()[:-3])
    found = {c.id: c for c in check_bundle(open_bundle(there))}
    assert found["program-runc"].weight.value == "fail"
    assert "cut off" in found["program-runc"].state


def test_a_dynamic_program_is_refused_unless_allowed(tmp_path: Path) -> None:
    there = folder(tmp_path / "docker-29.0.0")
    (there / "runc").write_bytes(Path(os.path.realpath("/bin/ls")).read_bytes())
    bundle = open_bundle(there)
    weights = [
        next(c for c in check_bundle(bundle, allowed) if c.id == "static").weight.value
        for allowed in (Allowed(), Allowed(dynamic=True))
    ]
    assert weights == ["fail", "warn"]


def test_missing_programs_and_mixed_architectures_are_told(tmp_path: Path) -> None:
    there = folder(tmp_path / "docker-29.0.0")
    (there / "runc").unlink()
    (there / "containerd").write_bytes(program("arm64"))
    found = {c.id: c.weight.value for c in check_bundle(open_bundle(there))}
    assert found["complete"] == found["one-arch"] == "fail"


@pytest.mark.parametrize(
    ("arch", "board", "weight"),
    [
        ("amd64", platform("amd64"), "ok"),
        ("arm", platform("arm64", "v8"), "warn"),
        ("386", platform("amd64"), "warn"),
        ("arm64", platform("arm", "v7"), "fail"),
        ("amd64", platform("riscv64"), "fail"),
        ("amd64", platform(""), "unknown"),
    ],
)
def test_fit(arch: str, board: Platform, weight: str, tmp_path: Path) -> None:
    bundle = open_bundle(folder(tmp_path / "docker-28.0.0", arch))
    assert [c.weight.value for c in check_fit(bundle, board)] == [weight]


def hard(content: bytes) -> bytes:
    return content[:36] + (0x05000400).to_bytes(4, "little") + content[40:]


@pytest.mark.parametrize(
    ("version", "board", "weight"),
    [
        ("29.1.0", platform("arm", "v6", ("vfp",)), "fail"),
        ("28.5.0", platform("arm", "v6", ("vfp",)), "ok"),
        ("29.1.0", platform("arm", "v7", ("vfpv3",)), "ok"),
        ("28.5.0", platform("arm", "v7", ("swp", "half")), "fail"),
    ],
)
def test_hard_float_and_armv6(version: str, board: Platform, weight: str, tmp_path: Path) -> None:
    there = folder(tmp_path / f"docker-{version}", "arm")
    for path in there.iterdir():
        path.write_bytes(hard(path.read_bytes()))
    assert [c.weight.value for c in check_fit(open_bundle(there), board)] == [weight]


@given(st.binary(max_size=300), st.integers(0, 150))
def test_any_header_is_read_without_an_error(noise: bytes, at: int) -> None:
    content = bytearray(program())
    content[at : at + len(noise)] = noise
    elf.read(bytes(content))
    elf.read(noise)


@given(st.binary(max_size=2000))
def test_any_file_is_a_bundle_or_refused(noise: bytes) -> None:
    path = Path("/dev/shm" if Path("/dev/shm").is_dir() else "/tmp") / f"embedkit-{os.getpid()}"
    try:
        for head in (b"", b"\x1f\x8b\x08\x00", b"\x7fELF"):
            path.write_bytes(head + noise)
            try:
                open_bundle(path)
            except EmbedkitError:
                pass
    finally:
        path.unlink(missing_ok=True)


def test_the_cache_believes_only_what_did_not_change(tmp_path: Path) -> None:
    there = folder(tmp_path / "docker-29.0.0")
    cache = tmp_path / "cache"
    first = open_cached(there, cache)
    assert open_cached(there, cache) == first == open_bundle(there)
    (there / "runc").write_bytes(program(text=b"other"))
    assert open_cached(there, cache) == open_bundle(there) != first
    for file in cache.iterdir():
        file.write_text(json.dumps({"format": 2, "stamp": None}))
    assert open_cached(there, cache) == open_bundle(there)
