"""Of a daemon's log the lines stay that say why it ended, whatever else it wrote."""

from __future__ import annotations

import pytest

from embedkit.docker import log

REASON = (
    'time="2026-11-22T01:53:02Z" level=error msg="failed to mount overlay: no such device" '
    "storage-driver=overlay2"
)
LAST = "failed to start daemon: error initializing graphdriver: driver not supported"
TALK = [
    'time="2026-11-22T01:53:02Z" level=info msg="loading plugin" type=io.containerd.service.v1',
    'time="2026-11-22T01:53:02Z" level=info msg="stopping" error="context canceled"',
    'time="2026-11-22T01:53:02Z" level=warning msg="failed to connect: timeout" module=grpc',
    "[core] Subchannel Connectivity change to CONNECTING",
]


@pytest.mark.parametrize("line", [REASON, LAST, "Error: Iptables not found", "cannot allocate"])
def test_a_reason_tells(line: str) -> None:
    assert log.tells(line)


@pytest.mark.parametrize("line", TALK)
def test_talk_does_not(line: str) -> None:
    assert not log.tells(line)


def test_a_reason_outlives_any_talk() -> None:
    kept: list[str] = []
    for piece in (TALK * 9, [REASON], TALK * 100, [LAST]):
        kept = log.shortened([*kept, *piece], 60)
        assert len(kept) <= 60
    assert REASON in kept and kept[-1] == LAST
    assert log.shortened(kept, 2) == [REASON, LAST]
    assert log.shortened(kept, 1) == [LAST]


def test_little_is_kept_as_it_is() -> None:
    assert log.shortened(TALK, 60) == TALK
    assert log.shortened([], 5) == []
    assert log.shortened(TALK, 0) == []


def test_what_a_terminal_would_obey_is_not_shown() -> None:
    assert log.lines(b"\x1b[2Jone\r\ntwo\xff") == ["?[2Jone", "two\ufffd"]
