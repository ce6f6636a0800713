"""The hand-assembled programs: small, and running on every architecture."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import debian

from embedkit import elf
from embedkit.docker import proofelf

QEMU = {"arm": "arm", "arm64": "aarch64", "riscv64": "riscv64", "amd64": "x86_64", "386": "i386"}
NONCE = b"embedkit 0123456789abcdef0123456789abcdef\n"


@pytest.mark.parametrize("arch", proofelf.known())
def test_under_300_bytes_static_and_whole(arch: str) -> None:
    content = proofelf.program(arch, b"n" * proofelf.TEXT_LIMIT, 255)
    assert len(content) < 300
    header = elf.read(content)
    assert header is not None and header.static
    assert (header.architecture, header.end_bytes) == (arch, len(content))


@pytest.mark.parametrize("arch", proofelf.known())
@pytest.mark.parametrize("code", [0, 77, 255])
@pytest.mark.needs("debian")
def test_prints_and_exits_on_its_processor(arch: str, code: int, tmp_path: Path) -> None:
    """By QEMU's user emulation, from the package and not installed: nothing is registered."""
    try:
        qemu = debian.unpack("qemu-user-static") / f"usr/bin/qemu-{QEMU[arch]}-static"
    except debian.NotToBeHad as reason:
        debian.give_up(str(reason))
    path = tmp_path / "hello"
    path.write_bytes(proofelf.program(arch, NONCE, code))
    path.chmod(0o755)
    ended = subprocess.run([qemu, path], capture_output=True, check=False)
    assert (ended.returncode, ended.stdout) == (code, NONCE)


@given(st.binary(min_size=1, max_size=proofelf.TEXT_LIMIT), st.integers(0, 255))
def test_any_text_and_code_can_be_assembled(text: bytes, code: int) -> None:
    for arch in proofelf.known():
        assert proofelf.program(arch, text, code).endswith(text)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="runs amd64 and 386 programs directly")
@pytest.mark.parametrize("arch", ["amd64"])
def test_the_kernel_itself_runs_it(arch: str, tmp_path: Path) -> None:
    path = tmp_path / "hello"
    path.write_bytes(proofelf.program(arch, NONCE, 42))
    path.chmod(0o755)
    ended = subprocess.run([path], capture_output=True, check=False)
    assert (ended.returncode, ended.stdout) == (42, NONCE)
