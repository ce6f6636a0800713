"""ELF files: what they need, and that no file makes the reader fail."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import elf as samples

from embedkit.oci import elf
from embedkit.oci.platform import parse
from embedkit.oci.recognise import Evidence, examine_stream, judge, mismatch, missing_loaders


@pytest.mark.parametrize(
    ("architecture", "variant"),
    [("amd64", ""), ("386", ""), ("arm64", ""), ("arm", "v5"), ("arm", "v6"), ("arm", "v7")],
)
def test_static_programs(architecture: str, variant: str) -> None:
    found = elf.read(samples.program(architecture, variant))
    assert found is not None
    assert found.platform.architecture == architecture
    assert found.platform.variant == variant
    assert found.static and found.loadable and found.variant_known


def test_float_abi_and_interpreter() -> None:
    soft = elf.read(samples.program("arm", "v5", hard_float=False))
    hard = elf.read(samples.program("arm", "v7", interpreter="/lib/ld-linux-armhf.so.3"))
    assert soft is not None and soft.float_abi == "soft"
    assert hard is not None and hard.float_abi == "hard"
    assert hard.interpreter == "/lib/ld-linux-armhf.so.3"


def test_an_arm_file_that_says_nothing_is_a_guess() -> None:
    found = elf.read(samples.program("arm"))
    assert found is not None and not found.variant_known


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


def _evidence(path: str, architecture: str, variant: str = "", **more: str) -> Evidence:
    found = elf.read(samples.program(architecture, variant, **more))  # type: ignore[arg-type]
    assert found is not None
    return Evidence(path, found)


def test_the_newest_arm_variant_decides() -> None:
    verdict = judge([_evidence("a", "arm", "v6"), _evidence("b", "arm", "v7")])
    assert str(verdict.platform) == "linux/arm/v7"
    assert verdict.decisive is not None and verdict.decisive.path == "b"


def test_the_entrypoint_s_architecture_decides() -> None:
    files = [_evidence("a", "amd64"), _evidence("b", "amd64"), _evidence("app", "arm", "v6")]
    verdict = judge(files, ["/app"])
    assert str(verdict.platform) == "linux/arm/v6"
    assert [item.path for item in verdict.others] == ["a", "b"]


@pytest.mark.parametrize(
    ("label", "architecture", "variant", "wrong"),
    [
        ("arm/v6", "arm", "v7", True),
        ("arm/v7", "arm", "v6", False),
        ("arm/v7", "arm64", "", True),
        ("arm64", "arm64", "", False),
        ("amd64", "arm", "v7", True),
        ("windows/amd64", "arm", "v7", False),
    ],
)
def test_labels_are_compared(label: str, architecture: str, variant: str, wrong: bool) -> None:
    said = mismatch(judge([_evidence("app", architecture, variant)]), parse(label))
    assert (said is not None) == wrong


def test_missing_loaders_are_told_once() -> None:
    files = [_evidence(name, "amd64", interpreter="/lib64/ld.so") for name in ("a", "b")]
    assert len(missing_loaders(files, lambda path: False)) == 1
    assert missing_loaders(files, lambda path: True) == ()


def test_firmware_and_hwcaps_do_not_count() -> None:
    import io

    content = samples.program("arm", "v7")
    for path in ("lib/firmware/m4.elf", "usr/lib/glibc-hwcaps/x/libc.so", "lib/modules/x.ko"):
        assert examine_stream(path, len(content), io.BytesIO(content)) is None
    assert examine_stream("app", len(content), io.BytesIO(content)) is not None
