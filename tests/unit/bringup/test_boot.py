"""What is believed of a board that an earlier run left on, and how it is let go of."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from embedkit.bringup import boot
from embedkit.bringup.held import Board
from embedkit.bringup.settings import Card, Settings
from embedkit.bringup.stages import Chain, Hands
from embedkit.bringup.state import Digests, Record, State
from embedkit.errors import LackError, TargetError


class _Target:
    def __init__(self, boot_id: str = "one", fails: bool = False) -> None:
        self.boot_id = boot_id
        self.fails = fails
        self.closed = False

    def connect(self, *, deadline_seconds: float | None = None) -> None:
        if self.fails:
            raise TargetError("nobody answers")

    def facts(self) -> Any:
        return SimpleNamespace(boot_id=self.boot_id)

    def close(self) -> None:
        self.closed = True


_RECORD = Record("", {}, "ok", "", 1.0, 1.0, {"boot_id": "one", "address": "qemu:me"})


@pytest.fixture
def chain() -> Chain:
    settings = Settings(
        "me", "qemu-arm-virt", Path("/w"), device="qemu:", card=Card(artifacts=Path("/a"))
    )
    state = State({"boot": _RECORD})
    return Chain(settings, Hands(), state, Digests({}))


def _world(patch: pytest.MonkeyPatch, target: _Target, *running: str) -> None:
    patch.setattr(boot, "open_target", lambda address, access: target)
    states = [SimpleNamespace(name=name) for name in running]
    patch.setattr(boot.emulated, "running", lambda: states)


def test_the_same_boot_is_kept(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    target = _Target()
    _world(monkeypatch, target, "me")
    assert boot.Boot().verify(chain, _RECORD)
    assert boot.reach(chain).target is target
    assert boot.reach(chain).machine is None


@pytest.mark.parametrize(
    ("target", "running"),
    [
        (_Target(), ()),
        (_Target(), ("other",)),
        (_Target(boot_id="two"), ("me",)),
        (_Target(fails=True), ("me",)),
    ],
)
def test_any_other_is_not(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, target: _Target, running: tuple[str, ...]
) -> None:
    _world(monkeypatch, target, *running)
    assert not boot.Boot().verify(chain, _RECORD)
    assert chain.board is None
    assert target.closed == ("me" in running)


def test_a_board_that_is_off_is_not_reached(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    _world(monkeypatch, _Target())
    with pytest.raises(LackError, match="not running"):
        boot.reach(chain)


@pytest.mark.parametrize(("keep", "expected"), [(True, ["release"]), (False, ["close"])])
def test_a_machine_of_ours_goes_on_only_when_asked(keep: bool, expected: list[str]) -> None:
    calls: list[str] = []
    machine = SimpleNamespace(
        release=lambda: calls.append("release"), close=lambda: calls.append("close")
    )
    target = _Target()
    Board(target, machine).close(keep=keep)  # type: ignore[arg-type]
    assert calls == expected
    assert target.closed


def test_without_a_target_there_is_nothing_to_boot(chain: Chain) -> None:
    assert boot.Boot().absent(chain) == ""
    chain.settings = dataclasses.replace(chain.settings, device="/dev/sdx")
    assert boot.Boot().absent(chain) == "the file names no target"
    assert boot.Probe().absent(chain) == "the file names no target"
