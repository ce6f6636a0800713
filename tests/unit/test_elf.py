"""ELF files: what they say, and that no file makes the reader fail."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import elf as samples
from support.debs import module

from embedkit import elf


@pytest.mark.parametrize(
    ("architecture", "variant"),
    [("amd64", ""), ("386", ""), ("arm64", ""), ("arm", "v5"), ("arm", "v6"), ("arm", "v7")],
)
def test_static_programs(architecture: str, variant: str) -> None:
    found = elf.read(samples.program(architecture, variant))
    assert found is not None
    assert (found.architecture, found.variant) == (architecture, variant)
    assert found.static and found.loadable


def test_float_abi_and_interpreter() -> None:
    soft = elf.read(samples.program("arm", "v5", hard_float=False))
    hard = elf.read(samples.program("arm", "v7", interpreter="/lib/ld-linux-armhf.so.3"))
    assert soft is not None and soft.float_abi == "soft"
    assert hard is not None and hard.float_abi == "hard"
    assert hard.interpreter == "/lib/ld-linux-armhf.so.3"


def test_an_arm_file_may_say_nothing() -> None:
    found = elf.read(samples.program("arm"))
    assert found is not None and found.architecture == "arm" and not found.variant


def test_objects_are_not_programs() -> None:
    found = elf.read(samples.program("amd64", kind=1))
    assert found is not None and not found.loadable


@given(st.binary(max_size=400))
def test_no_bytes_make_it_fail(tail: bytes) -> None:
    elf.read(tail)
    elf.read(b"\x7fELF" + tail)
    elf.read(b"\x7fELF\x01\x01" + tail)
    elf.read(b"\x7fELF\x02\x01" + tail)


@given(
    st.sampled_from([("arm", "v7"), ("amd64", ""), ("arm", "")]),
    st.integers(0, 400),
    st.binary(min_size=1, max_size=12),
)
def test_no_damage_makes_it_fail(which: tuple[str, str], at: int, damage: bytes) -> None:
    whole = bytearray(samples.program(*which, interpreter="/ld"))
    whole[at : at + len(damage)] = damage
    elf.read(bytes(whole))
    elf.read(bytes(whole[:at]))


@pytest.mark.needs("program:readelf")
@pytest.mark.parametrize("which", ["python", "libc", "sh"])
def test_the_dynamic_section_as_readelf_reads_it(which: str) -> None:
    path = {
        "python": Path(sys.executable).resolve(),
        "libc": next(iter(sorted(Path("/lib").glob("*-linux-gnu*/libm.so.6")))),
        "sh": Path("/bin/sh").resolve(),
    }[which]
    told = subprocess.run(
        ["readelf", "-W", "-d", "-l", path], capture_output=True, text=True, check=True
    ).stdout
    found = elf.read_path(path)
    assert found is not None and found.dynamic
    assert list(found.needed) == re.findall(r"\(NEEDED\).*\[(.*)\]", told)
    assert [found.soname] == (re.findall(r"\(SONAME\).*\[(.*)\]", told) or [""])
    asked = re.findall(r"program interpreter: (.*)\]", told) or [""]
    assert [found.interpreter] == asked
    assert found.end_bytes <= path.stat().st_size
    assert found == elf.read(path.read_bytes())


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("big_endian", [True, False])
def test_libraries_and_where_they_are_looked_for(wide: bool, big_endian: bool) -> None:
    found = elf.read(samples.library(wide=wide, big_endian=big_endian))
    assert found is not None and found.dynamic and found.static
    assert found.needed == ("libc.so.6", "libm.so.6")
    assert found.soname == "libx.so.1"
    assert found.rpath == ("/opt/lib",)
    assert found.runpath == ("$ORIGIN/../lib", "/usr/x")
    assert (found.bits, found.big_endian) == (64 if wide else 32, big_endian)


def test_a_beginning_tells_the_machine_and_where_the_whole_ends() -> None:
    whole = samples.program("arm", "v7", interpreter="/lib/ld.so")
    head = elf.read(whole[:200])
    assert head is not None and head.end_bytes == len(whole)
    assert (head.architecture, head.interpreter, head.variant) == ("arm", "/lib/ld.so", "")
    least = elf.read(samples.program("arm64")[:52])
    assert least is not None and least.architecture == "arm64"


@given(st.booleans(), st.integers(0, 600), st.binary(min_size=1, max_size=12))
def test_no_damage_to_a_library_makes_it_fail(wide: bool, at: int, damage: bytes) -> None:
    whole = bytearray(samples.library(wide=wide))
    whole[at : at + len(damage)] = damage
    found = elf.read(bytes(whole))
    with tempfile.TemporaryFile() as file:
        file.write(whole)
        file.flush()
        assert elf.read_file(file) == found
    elf.read(bytes(whole[:at]))


def test_tables_that_lie_cost_nothing() -> None:
    whole = bytearray(samples.library())
    for at, value in ((32, 1 << 63), (40, (1 << 64) - 1), (56, 0xFFFF), (60, 0xFFFF)):
        size = 8 if at < 56 else 2
        whole[at : at + size] = value.to_bytes(size, "little")
    found = elf.read(bytes(whole))
    assert found is not None and found.needed == ()
    with tempfile.TemporaryFile() as file:
        file.write(whole)
        file.flush()
        assert elf.read_file(file) == found


def test_a_section_is_found_by_its_name() -> None:
    whole = module("alias=a*", "depends=x,y")
    assert elf.section(whole, ".modinfo") == b"alias=a*\0depends=x,y\0"
    assert elf.section(whole, ".mod") == elf.section(b"no ELF file", ".modinfo") == b""
    for cut in range(0, len(whole), 7):
        elf.section(whole[:cut], ".modinfo")
