"""Messages that people met, and symbols: each finds its own, and other causes find none."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from embedkit.kernel import message, profile_file
from embedkit.kernel.explain import by_message, known_symbols
from embedkit.kernel.profile import Symbol

_FILE = Path(__file__).parents[1] / "data" / "messages.toml"
_MESSAGES: list[dict[str, Any]] = tomllib.loads(_FILE.read_text())["message"]
_MEANT = [entry for entry in _MESSAGES if "first" in entry]
_OTHER = [entry for entry in _MESSAGES if "first" not in entry]
_PROFILES = tuple(profile_file.load(name) for name in profile_file.available())
_SYMBOLS = known_symbols(_PROFILES)


def _ids(entries: list[dict[str, Any]]) -> list[str]:
    return [f"{number}-{entry['source']}" for number, entry in enumerate(entries)]


def test_the_table_is_as_large_as_it_should_be() -> None:
    assert len(_MEANT) >= 40
    assert len(_OTHER) >= 15
    for entry in _MEANT:
        assert {*entry["first"], *entry.get("also", [])} <= set(_SYMBOLS), entry["source"]


@pytest.mark.parametrize("entry", _MEANT, ids=_ids(_MEANT))
def test_message_leads_to_its_symbol(entry: dict[str, Any]) -> None:
    found = [match.symbol.name for match in by_message(entry["text"], _PROFILES)]
    assert found, "no answer"
    assert found[0] in entry["first"], found
    assert set(entry.get("also", [])) <= set(found), found


@pytest.mark.parametrize("entry", _OTHER, ids=_ids(_OTHER))
def test_other_causes_get_no_answer(entry: dict[str, Any]) -> None:
    assert by_message(entry["text"], _PROFILES) == ()


@pytest.mark.parametrize("name", [s.name for s in _SYMBOLS.values() if s.match])
def test_a_symptom_finds_its_own_symbol(name: str) -> None:
    symbol = _SYMBOLS[name]
    found = [
        {match.symbol.name for match in by_message(said, _PROFILES)}
        for said in symbol.symptom.split(" / ")
    ]
    assert any(name in names for names in found), symbol.symptom


def test_words_find_what_no_pattern_names() -> None:
    text = (
        'level=error msg="Failed to create a new service for vip 10.0.1.7 fwmark 260 in sbox '
        'lb_xk2p9 (lb-my): no such file or directory"'
    )
    found = by_message(text, _PROFILES)
    assert found[0].symbol.name == "IP_VS_RR"
    assert not found[0].certain
    assert found[0].score >= 0.8
    assert "fwmark" in found[0].words


def test_the_error_number_has_to_agree() -> None:
    symbol = Symbol("GLUE", symptom="gluer: cannot glue the wings on: no such device")
    right = "gluer[12]: cannot glue the wings on: No such device"
    wrong = "gluer[12]: cannot glue the wings on: permission denied"
    assert [match.symbol for match in message.find(right, [symbol])] == [symbol]
    assert message.find(wrong, [symbol]) == ()


def test_words_in_another_order_are_another_message() -> None:
    symbol = Symbol("GLUE", symptom="cannot glue the paper wings onto this cardboard plane")
    assert message.find("this plane: paper wings glue cannot onto cardboard", [symbol]) == ()


@pytest.mark.parametrize(
    ("raw", "simple"),
    [
        (
            'msg="failed to register \\"bridge\\" driver"',
            "msg='failed to register 'bridge' driver'",
        ),
        ('caused \\\\\\"no such device\\\\\\"\\n(exit)', "caused 'no such device' (exit)"),
        ("table `nat': Gone", "table 'nat': gone"),
        ("\x1b[31mERRO\x1b[0m[0001] x", "erro[#] x"),
        ("vethbe530b8 br-90dbe6ab6a57", "veth br"),
        ("172.17.0.0/16 3fff:172:20:20::/64 0x1f90", "# # #"),
        ("iptables v1.8.13 (legacy)", "iptables v# (legacy)"),
        ("2025-02-20T16:44:47.547947598+01:00 up", "# up"),
        (
            "container d26e8e1ad7d997d81cd93021d514def34a93fe0d0db47f1f8172c3df8345d75b",
            "container #",
        ),
        ("/proc/sys/net/ipv4/vs", "/proc/sys/net/ipv4/vs"),
    ],
)
def test_normalise(raw: str, simple: str) -> None:
    assert message.normalise(raw) == simple


@settings(deadline=None)
@given(st.text(max_size=400))
@example("\\" * 16000)
@example("\\" * 300 + '"')
@example("failed adding rsa{" * 20)
def test_nothing_a_user_pastes_is_too_strange(text: str) -> None:
    assert not re.search(r"[\r\n\t`\"]", message.normalise(text))
    for match in message.find(text, _SYMBOLS.values()):
        assert 0 < match.score <= 1


def test_a_whole_log_is_read_within_bounds() -> None:
    line = 'level=info msg="iptables -t nat -m addrtype -m conntrack fib mqueue rsa{ mount" '
    assert isinstance(message.find(line * 5000, _SYMBOLS.values()), tuple)
