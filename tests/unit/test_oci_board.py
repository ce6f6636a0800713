"""What a board is to container images, by its facts; and what its daemon streams."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedkit.arguments import Parser
from embedkit.commands.oci_board import is_target, machine_platform
from embedkit.docker.images import _Frames
from embedkit.errors import TargetError
from embedkit.target.base import Channel
from embedkit.target.gather import read_facts

FACTS = read_facts({}, 0.0)


@pytest.mark.parametrize(
    ("arch", "variant", "userland", "daemon", "platform"),
    [
        ("arm", "v7", "arm", "arm", "linux/arm/v7"),
        ("arm", "v6", "arm", "arm", "linux/arm/v6"),
        ("arm64", "v8", "arm64", "arm64", "linux/arm64"),
        # A 32-bit Docker on a 64-bit kernel; and the same without a daemon to ask.
        ("arm64", "v8", "arm", "arm", "linux/arm/v8"),
        ("arm64", "v8", "arm", "", "linux/arm/v8"),
        ("amd64", "", "amd64", "386", "linux/386"),
        ("amd64", "", "", "", "linux/amd64"),
    ],
)
def test_the_machine_s_platform(
    arch: str, variant: str, userland: str, daemon: str, platform: str
) -> None:
    known = replace(FACTS.platform, arch=arch, variant=variant, userland_arch=userland)
    assert str(machine_platform(replace(FACTS, platform=known), daemon)) == platform


def test_a_board_that_tells_nothing() -> None:
    with pytest.raises(TargetError):
        machine_platform(FACTS)


@pytest.mark.parametrize("text", ["ssh://board", "local:", "qemu:arm", "serial:///dev/ttyUSB0"])
def test_urls_are_targets(text: str) -> None:
    assert is_target(text)


@pytest.mark.parametrize("text", ["arm64", "linux/arm/v7", "host", "board"])
def test_words_are_platforms(text: str) -> None:
    assert not is_target(text)


@given(
    st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=40)), max_size=6),
    st.integers(1, 50),
)
def test_frames_come_through_however_they_are_cut(
    frames: list[tuple[int, bytes]], step: int
) -> None:
    answer = b"HTTP/1.0 200 OK\r\nA: b\r\n\r\n"
    for stream, data in frames:
        answer += struct.pack(">BxxxI", stream, len(data)) + data
    found: dict[Channel, bytes] = {Channel.STDOUT: b"", Channel.STDERR: b""}

    def keep(channel: Channel, data: bytes) -> None:
        found[channel] += data

    take = _Frames(keep)
    for at in range(0, len(answer), step):
        take(Channel.STDOUT, answer[at : at + step])
    assert found[Channel.STDOUT] == b"".join(data for stream, data in frames if stream == 1)
    assert found[Channel.STDERR] == b"".join(data for stream, data in frames if stream == 2)


def test_words_behind_the_first_dashes_are_the_command_s() -> None:
    parser = Parser("x", "y")
    parser.add_argument("image")
    parser.add_argument("--run", action="store_true")
    parser.set_defaults(after_dashes=())
    found = parser.parse_args(["a", "--run", "--", "sh", "--", "--run"])
    assert found.image == "a" and found.run and found.after_dashes == ("sh", "--", "--run")
    assert parser.parse_args(["a"]).after_dashes == ()
