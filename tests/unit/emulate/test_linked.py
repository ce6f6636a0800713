"""What programs and kernel modules ask for, read from their ELF."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.debs import dynamic, module

from embedkit.emulate.linked import Linked, linked, modinfo


@pytest.mark.parametrize("wide", [False, True])
def test_libraries_and_loader_are_read(wide: bool) -> None:
    program = dynamic(("libc.so.6", "libz.so.1"), "/lib/ld-linux.so.3", wide=wide)
    assert linked(program) == Linked("/lib/ld-linux.so.3", ("libc.so.6", "libz.so.1"))
    assert linked(dynamic((), wide=wide)) == Linked("", ())
    assert linked(b"#!/bin/sh\n" + bytes(100)) is None


def test_a_real_program_needs_what_ldd_says() -> None:
    found = linked(Path("/bin/sh").resolve().read_bytes())
    assert found is not None and found.loader
    assert any(name.startswith("libc.") for name in found.needed)


def test_a_module_tells_in_order() -> None:
    told = modinfo(module("alias=a*", "depends=x,y", "alias=b", "nothing"))
    assert told == (("alias", "a*"), ("depends", "x,y"), ("alias", "b"))


@given(st.binary(max_size=40), st.integers(0, 300), st.booleans())
def test_damaged_files_read_as_something(junk: bytes, at: int, cut: bool) -> None:
    for whole in (dynamic(("libc.so.6",), "/lib/ld.so"), module("depends=x")):
        hurt = whole[:at] + junk + (b"" if cut else whole[at + len(junk) :])
        linked(hurt)
        modinfo(hurt)
