"""Reading and writing tar: against the standard library's tarfile, and against strangers."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedkit.errors import InputError
from embedkit.oci.limits import Limits
from embedkit.oci.tarread import Member, TarReader
from embedkit.oci.tarwrite import END, Header, encode, padding

_NAME = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=70
).filter(lambda name: name not in (".", ".."))
_PATH = st.lists(_NAME, min_size=1, max_size=5).map("/".join)


@st.composite
def _headers(draw: st.DrawFn) -> tuple[Header, bytes]:
    kind = draw(st.sampled_from(["file", "dir", "symlink", "link", "char", "fifo"]))
    content = draw(st.binary(max_size=1500)) if kind == "file" else b""
    header = Header(
        draw(_PATH),
        kind,
        size=len(content),
        mode=draw(st.integers(0, 0o7777)),
        uid=draw(st.one_of(st.integers(0, 70000), st.just(2**31))),
        gid=draw(st.integers(0, 70000)),
        mtime=draw(st.one_of(st.integers(0, 2**33), st.just(2**40))),
        link=draw(_PATH) if kind in ("symlink", "link") else "",
        major=draw(st.integers(0, 255)) if kind == "char" else 0,
        xattrs=draw(st.dictionaries(st.sampled_from(["user.a", "security.capability"]),
                                    st.binary(max_size=40), max_size=2)),
    )  # fmt: skip
    return header, content


def _archive(members: list[tuple[Header, bytes]]) -> bytes:
    return b"".join(encode(h) + c + padding(len(c)) for h, c in members) + END


@settings(max_examples=60)
@given(st.lists(_headers(), max_size=6))
def test_tarfile_reads_what_we_write(members: list[tuple[Header, bytes]]) -> None:
    with tarfile.open(fileobj=io.BytesIO(_archive(members))) as archive:
        for header, content in members:
            found = archive.next()
            assert found is not None
            assert found.name.rstrip("/") == header.path.rstrip("/") or header.kind == "dir"
            assert (found.uid, found.gid, found.mode) == (header.uid, header.gid, header.mode)
            assert int(found.mtime) == header.mtime
            assert found.linkname == header.link
            if header.kind == "file":
                stream = archive.extractfile(found)
                assert stream is not None and stream.read() == content
        assert archive.next() is None


@settings(max_examples=60)
@given(st.lists(_headers(), max_size=6), st.booleans())
def test_we_read_what_we_write(members: list[tuple[Header, bytes]], seekable: bool) -> None:
    reader = TarReader(io.BytesIO(_archive(members)), "test", seekable=seekable)
    found = []
    for member in reader:
        found.append((member, reader.read_all(10_000)))
    assert len(found) == len(members)
    for (member, content), (header, written) in zip(found, members, strict=True):
        assert content == written
        assert member.kind == header.kind
        assert member.name.removesuffix("/") == header.path.removesuffix("/")
        assert member.xattrs == header.xattrs
        assert (member.uid, member.mtime, member.link) == (header.uid, header.mtime, header.link)


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_we_read_what_tarfile_writes(format: int) -> None:
    target = io.BytesIO()
    long = "d" * 90 + "/" + "f" * 90
    with tarfile.open(fileobj=target, mode="w", format=format) as archive:
        for name in ("short", long):
            info = tarfile.TarInfo(name)
            info.size = 700
            archive.addfile(info, io.BytesIO(b"x" * 700))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "t" * 99
        archive.addfile(link)
    found = list(TarReader(io.BytesIO(target.getvalue()), "test"))
    assert [member.name for member in found] == ["short", long, "link"]
    assert [member.size for member in found] == [700, 700, 0]
    assert found[2].link == "t" * 99


def test_numbers_in_base_256() -> None:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.GNU_FORMAT) as archive:
        info = tarfile.TarInfo("big")
        info.uid = 2**32
        archive.addfile(info)
    (member,) = TarReader(io.BytesIO(target.getvalue()), "test")
    assert member.uid == 2**32


@settings(max_examples=150)
@given(st.lists(_headers(), min_size=1, max_size=2), st.data())
def test_damage_ends_in_one_kind_of_error(
    members: list[tuple[Header, bytes]], data: st.DataObject
) -> None:
    whole = bytearray(_archive(members))
    at = data.draw(st.integers(0, len(whole) - 1))
    damage = data.draw(st.binary(min_size=1, max_size=30))
    whole[at : at + len(damage)] = damage
    for seekable in (True, False):
        reader = TarReader(io.BytesIO(bytes(whole)), "test", seekable=seekable)
        try:
            for _ in reader:
                reader.read(100)
        except InputError as error:
            assert "test" in str(error)


def test_cut_archives_are_refused() -> None:
    whole = _archive([(Header("a", "file", size=5000), b"y" * 5000)])
    for seekable in (True, False):
        with pytest.raises(InputError, match="cut off"):
            reader = TarReader(io.BytesIO(whole[:3000]), "test", seekable=seekable)
            for _ in reader:
                reader.read_all(5000)


def test_a_size_that_lies_is_refused_before_it_is_believed() -> None:
    header = encode(Header("a", "file", size=8**11 - 1))
    with pytest.raises(InputError, match="cut off"):
        list(TarReader(io.BytesIO(header + END), "test", seekable=True))


def test_an_extended_header_of_gigabytes_is_not_read() -> None:
    class Endless(io.RawIOBase):
        served = 0

        def read(self, size: int = -1) -> bytes:
            self.served += size
            return b"1" * size

    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, 5 * 10**9
    endless = Endless()
    head = io.BytesIO(info.tobuf(tarfile.GNU_FORMAT))

    class Joined(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            return head.read(size) or endless.read(size)

    with pytest.raises(InputError, match="extended header"):
        list(TarReader(Joined(), "test"))  # type: ignore[arg-type]
    assert endless.served < 1 << 20


def test_members_are_counted() -> None:
    whole = _archive([(Header(f"f{n}", "file"), b"") for n in range(20)])
    with pytest.raises(InputError, match="more than 10"):
        list(TarReader(io.BytesIO(whole), "test", limits=Limits(layer_members=10)))


def test_paths_are_relative_and_keep_their_dots() -> None:
    def path(name: str) -> str:
        return Member(name, "file", 0, 0, 0, 0, 0, "", 0, 0, 0).path

    assert path("./a//b/") == "a/b"
    assert path("/etc/passwd") == "etc/passwd"
    assert path("../x") == "../x"
    assert path("./") == ""
