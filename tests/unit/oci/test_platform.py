"""Platforms: canonical forms, fallbacks, /proc/cpuinfo."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedkit.errors import InputError
from embedkit.oci.platform import (
    Platform,
    accepts,
    from_cpuinfo,
    normalise,
    parse,
    runnable,
    tag_suffix,
)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("arm", "linux/arm/v7"),
        ("armhf", "linux/arm/v7"),
        ("armel", "linux/arm/v6"),
        ("linux/arm", "linux/arm/v7"),
        ("arm/v6", "linux/arm/v6"),
        ("linux/arm/7", "linux/arm/v7"),
        ("armv6l", "linux/arm/v6"),
        ("aarch64", "linux/arm64"),
        ("arm64/v8", "linux/arm64"),
        ("linux/arm64/v8.2", "linux/arm64/v8.2"),
        ("linux/arm64/9", "linux/arm64/v9"),
        ("x86_64", "linux/amd64"),
        ("amd64/v1", "linux/amd64"),
        ("amd64/v3", "linux/amd64/v3"),
        ("i686", "linux/386"),
        ("macos/arm64", "darwin/arm64"),
        ("LINUX/AMD64", "linux/amd64"),
    ],
)
def test_parse_makes_it_canonical(text: str, canonical: str) -> None:
    assert str(parse(text)) == canonical


@pytest.mark.parametrize("text", ["", "a/b/c/d", "linux/", "linux/sparc", "linux/arm v7", "../x"])
def test_parse_refuses(text: str) -> None:
    with pytest.raises(InputError):
        parse(text)


def _names(text: str) -> list[str]:
    return [str(platform).removeprefix("linux/") for platform in runnable(parse(text))]


def test_fallbacks_are_containerd_s() -> None:
    assert _names("arm/v7") == ["arm/v7", "arm/v6", "arm/v5"]
    assert _names("arm/v8") == ["arm/v8", "arm/v7", "arm/v6", "arm/v5"]
    assert _names("amd64/v3") == ["amd64/v3", "amd64/v2", "amd64", "386"]
    assert _names("arm64") == ["arm64", "arm/v8", "arm/v7", "arm/v6", "arm/v5"]
    assert _names("arm64/v8.2")[:3] == ["arm64/v8.2", "arm64/v8.1", "arm64"]
    assert _names("arm64/v9")[:3] == ["arm64/v9", "arm64/v8.5", "arm64/v8.4"]
    assert _names("riscv64") == ["riscv64"]


_WORDS = st.sampled_from(["", "v5", "v6", "v7", "v8", "8", "v8.2", "v9", "v1", "v3", "odd"])
_ARCHITECTURES = st.sampled_from(["arm", "arm64", "amd64", "386", "aarch64", "armhf", "riscv64"])


@given(_ARCHITECTURES, _WORDS)
def test_normalising_twice_changes_nothing(architecture: str, variant: str) -> None:
    once = normalise(Platform("linux", architecture, variant))
    assert normalise(once) == once


@given(_ARCHITECTURES, _WORDS)
def test_every_machine_runs_its_own_platform_first(architecture: str, variant: str) -> None:
    host = Platform("linux", architecture, variant)
    assert runnable(host)[0] == normalise(host)
    assert accepts(host, host)
    assert len(set(runnable(host))) == len(runnable(host))


@given(st.text(max_size=40))
def test_parse_never_fails_otherwise(text: str) -> None:
    try:
        found = parse(text)
    except InputError:
        return
    assert parse(str(found)) == found


def test_no_arm64_image_for_a_32_bit_daemon() -> None:
    assert not accepts(parse("arm/v8"), parse("arm64"))
    assert accepts(parse("arm64"), parse("arm/v7"))
    assert not accepts(parse("arm/v6"), parse("arm"))


@pytest.mark.parametrize(
    ("machine", "cpuinfo", "canonical"),
    [
        ("armv7l", "model name\t: ARMv7 Processor rev 4\nCPU architecture: 7\n", "linux/arm/v7"),
        ("armv6l", "model name\t: ARMv6-compatible\nCPU architecture: 7\n", "linux/arm/v6"),
        ("armv8l", "CPU architecture: 8\n", "linux/arm/v8"),
        ("armv5tejl", "CPU architecture: 5TEJ\n", "linux/arm/v5"),
        ("armv7l", "nothing\n", "linux/arm/v7"),
        ("aarch64", "CPU architecture: 8\n", "linux/arm64"),
        ("x86_64", "model name : whatever\n", "linux/amd64"),
    ],
)
def test_the_machine_is_read_from_cpuinfo(machine: str, cpuinfo: str, canonical: str) -> None:
    assert str(from_cpuinfo(machine, cpuinfo)) == canonical


def test_tag_suffixes() -> None:
    assert tag_suffix(parse("arm/v7")) == "arm-v7"
    assert tag_suffix(parse("amd64")) == "amd64"
    assert tag_suffix(Platform("windows", "amd64")) == "windows-amd64"
