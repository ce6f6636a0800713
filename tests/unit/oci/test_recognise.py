"""What a set of programs needs, by the evidence of their ELF headers."""

from __future__ import annotations

import io

import pytest
from support import elf as samples

from embedkit import elf
from embedkit.oci.platform import parse
from embedkit.oci.recognise import Evidence, examine_stream, judge, mismatch, missing_loaders


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
    content = samples.program("arm", "v7")
    for path in ("lib/firmware/m4.elf", "usr/lib/glibc-hwcaps/x/libc.so", "lib/modules/x.ko"):
        assert examine_stream(path, len(content), io.BytesIO(content)) is None
    assert examine_stream("app", len(content), io.BytesIO(content)) is not None
