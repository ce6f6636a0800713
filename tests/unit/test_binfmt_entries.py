"""Magic, masks and entries of binfmt_misc, and ELF headers."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.emulation import program

from embedkit import elf
from embedkit.emulate.entry import Entry, parse, parse_line
from embedkit.emulate.magic import (
    ARCHITECTURES,
    Architecture,
    architecture,
    matches,
    native,
    of_program,
)
from embedkit.errors import InputError

_ANY = st.sampled_from(ARCHITECTURES)
_WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=1, max_size=20)
_NAMES = _WORDS.filter(lambda name: "/" not in name and name.isprintable() and name.isalnum())


@pytest.mark.parametrize(
    ("name", "magic", "mask"),
    [  # as Debian's qemu-user-static registers them
        (
            "arm",
            "7f454c4601010100000000000000000002002800",
            "ffffffffffffff00fffffffffffffffffeffffff",
        ),
        (
            "arm64",
            "7f454c460201010000000000000000000200b700",
            "ffffffffffffff00fffffffffffffffffeffffff",
        ),
        (
            "riscv64",
            "7f454c460201010000000000000000000200f300",
            "ffffffffffffff00fffffffffffffffffeffffff",
        ),
        (
            "mips",
            "7f454c4601020100000000000000000000020008",
            "ffffffffffffff00fffffffffffffffffffeffff",
        ),
    ],
)
def test_magic_and_mask(name: str, magic: str, mask: str) -> None:
    found = architecture(name)
    assert (found.magic.hex(), found.mask.hex()) == (magic, mask)


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("armhf", "arm"),
        ("linux/arm/v6", "arm"),
        ("arm/v7", "arm"),
        ("aarch64", "arm64"),
        ("qemu-aarch64", "arm64"),
        ("linux/arm64/v8", "arm64"),
        ("X86_64", "amd64"),
        ("mipsel", "mipsle"),
    ],
)
def test_names_that_people_use(said: str, name: str) -> None:
    assert architecture(said).name == name


def test_an_unknown_name_is_met_with_a_guess() -> None:
    with pytest.raises(InputError) as caught:
        architecture("aarch46")
    assert "aarch64" in str(caught.value.hint)


@given(_ANY, st.sampled_from((2, 3)), st.integers(0, 255), st.binary(min_size=8, max_size=8))
def test_one_entry_takes_its_programs_and_no_others(
    each: Architecture, kind: int, abi: int, rest: bytes
) -> None:
    header = bytearray(each.header(kind))
    header[7] = abi
    taken = [other for other in ARCHITECTURES if matches(bytes(header), other.magic, other.mask)]
    assert taken == [each]
    found = elf.read(bytes(header) + rest + bytes(32))
    assert found is not None and of_program(found) == each


@given(_ANY)
def test_objects_and_cores_are_not_taken(each: Architecture) -> None:
    for kind in (0, 1, 4):
        found = elf.read(each.header(kind) + bytes(32))
        assert found is not None and of_program(found) is None


@pytest.mark.parametrize(
    ("machine", "names"),
    [("x86_64", ["amd64", "386"]), ("armv7l", ["arm"]), ("aarch64", ["arm64"]), ("i686", ["386"])],
)
def test_what_a_machine_runs_by_itself(machine: str, names: list[str]) -> None:
    assert [each.name for each in native(machine)] == names
    assert native("vax") == ()


@given(
    _NAMES,
    _WORDS.filter(str.isprintable),
    st.sampled_from(("", "F", "OPF", "OCPF")),
    st.binary(min_size=1, max_size=40),
    st.integers(0, 90),
    st.booleans(),
)
def test_a_line_is_read_back_as_it_was_meant(
    name: str, interpreter: str, flags: str, magic: bytes, offset: int, masked: bool
) -> None:
    mask = bytes(len(magic)) if masked else b""
    entry = Entry(name, f"/{interpreter}", flags, magic, mask, offset)
    assert parse_line(entry.line()) == entry


@given(_NAMES, st.sampled_from(("", "OF", "POCF")), st.binary(min_size=1), st.booleans())
def test_what_the_kernel_shows_is_read(name: str, flags: str, magic: bytes, enabled: bool) -> None:
    shown = (
        f"{'enabled' if enabled else 'disabled'}\ninterpreter /usr/bin/q emu\nflags: {flags}\n"
        f"offset 3\nmagic {magic.hex()}\nmask {magic.hex()}\n"
    )
    assert parse(name, shown) == Entry(
        name, "/usr/bin/q emu", flags, magic, magic, 3, enabled=enabled
    )


def test_an_extension_is_read() -> None:
    shown = "enabled\ninterpreter /bin/true\nflags: \nextension .foo\n"
    entry = parse("ext", shown)
    assert entry == Entry("ext", "/bin/true", extension="foo")
    assert parse_line(":ext:E::foo::/bin/true:") == entry
    assert entry is not None and parse_line(entry.line()) == entry


@given(st.text())
def test_no_text_makes_the_readers_fail(text: str) -> None:
    parse("x", text)
    parse("x", "enabled\n" + text)
    parse_line(text)
    parse_line(":x:M:" + text)


@pytest.mark.parametrize(
    "entry",
    [
        Entry("a/b", "/x", magic=b"1"),
        Entry("", "/x", magic=b"1"),
        Entry("register", "/x", magic=b"1"),
        Entry("a", "/x\n:b:M::1::/y:", magic=b"1"),
        Entry("a", "/" + "x" * 2000, magic=b"1"),
    ],
)
def test_what_the_kernel_would_not_take_is_refused(entry: Entry) -> None:
    with pytest.raises(InputError):
        entry.line()


def test_a_colon_in_a_path_gets_another_delimiter() -> None:
    assert Entry("a", "/x:y", "F", b"1").line() == "|a|M||\\x31||/x:y|F"


def test_the_same_entry_in_other_words() -> None:
    one = Entry("a", "/x", "OCPF", b"\x7fE", b"\xff\xff")
    assert one.says_the_same(Entry("a", "/x", "FPC", b"\x7fE"))
    assert not one.says_the_same(Entry("a", "/x", "F", b"\x7fE"))
    assert not one.says_the_same(Entry("a", "/y", "OCPF", b"\x7fE"))
    assert not one.says_the_same(Entry("a", "/x", "OCPF", b"\x7fE", enabled=False))


@pytest.mark.parametrize("each", ARCHITECTURES, ids=lambda each: str(each.name))
def test_a_program_tells_its_architecture_and_loader(each: Architecture, tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_bytes(program(each))
    found = elf.read_path(path)
    assert found is not None and found.static and of_program(found) == each
    path.write_bytes(program(each, loader=b"/lib/ld.so", kind=3))
    found = elf.read_path(path)
    assert found is not None and of_program(found) == each
    assert found.interpreter == "/lib/ld.so" and not found.static


def test_what_is_no_program(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "text").write_text("#!/bin/sh\n")
    for name in ("fifo", "text", "missing", "."):
        assert elf.read_path(tmp_path / name) is None


@given(
    _ANY,
    st.integers(0, 200),
    st.lists(st.tuples(st.integers(0, 199), st.integers(0, 255)), max_size=12),
)
def test_no_bytes_make_the_reader_fail(
    each: Architecture, cut: int, changes: list[tuple[int, int]]
) -> None:
    raw = bytearray(program(each, loader=b"/lib/ld.so", cut=cut))
    for at, value in changes:
        if at < len(raw):
            raw[at] = value
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(raw)
        elf.read_path(Path(file.name))
