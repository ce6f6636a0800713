"""Target URLs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedkit.errors import InputError
from embedkit.target.address import (
    BAUDS,
    LocalAddress,
    SerialAddress,
    SshAddress,
    parse_address,
)

HOSTS = st.from_regex(
    r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,10}[a-zA-Z0-9])?(\.[a-z0-9]{1,5}){0,2}", fullmatch=True
)
USERS = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_.-]{0,10}", fullmatch=True)
PORTS = st.integers(1, 65535)


@given(HOSTS, st.none() | USERS, st.none() | PORTS, st.booleans())
def test_an_ssh_address_survives_its_own_url(
    host: str, user: str | None, port: int | None, legacy: bool
) -> None:
    address = SshAddress(host, user, port, legacy)
    assert parse_address(address.url) == address


@given(
    st.sampled_from(("device", "unix")),
    st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs", "Cc")), min_size=1),
    st.sampled_from(BAUDS),
    st.booleans(),
)
def test_a_serial_path_survives_its_own_url(kind: str, name: str, baud: int, uboot: bool) -> None:
    address = SerialAddress(kind, path=f"/dev/{name}", baud=baud, uboot=uboot)
    assert parse_address(address.url) == address


@given(st.sampled_from(("tcp", "rfc2217")), HOSTS, PORTS, st.none() | st.sampled_from(BAUDS))
def test_a_serial_port_survives_its_own_url(
    kind: str, host: str, port: int, baud: int | None
) -> None:
    address = SerialAddress(kind, host=host, port=port, baud=baud)
    assert parse_address(address.url) == address


@given(st.text(max_size=60))
def test_anything_else_is_refused_and_never_crashes(text: str) -> None:
    try:
        parse_address(text)
    except InputError:
        pass


def test_the_short_forms() -> None:
    assert parse_address("root@board") == SshAddress("board", "root")
    assert parse_address("board:2222") == SshAddress("board", port=2222)
    assert parse_address("ssh://root@[fe80::1%eth0]:22") == SshAddress("fe80::1%eth0", "root", 22)
    assert parse_address("local:") == LocalAddress()
    assert parse_address("ssh://Board") == SshAddress("Board"), "aliases may have capitals"
    assert parse_address("serial:///dev/ttyUSB0").url == "serial:///dev/ttyUSB0?baud=115200"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ssh://-oProxyCommand=x@board", "user name"),
        ("ssh://-oProxyCommand=x", "host"),
        ("ssh://board;reboot", "host"),
        ("ssh://$(reboot)", "host"),
        ("ssh://board/path", "no path"),
        ("ssh://board:0", "port 0"),
        ("ssh://board:99999", "Port"),
        ("shs://board", "did you mean"),
        ("serial://dev/ttyUSB0", "three slashes"),
        ("serial:///dev/ttyUSB0?baud=115300", "115200"),
        ("serial:///dev/ttyUSB0?baut=115200", "baud"),
        ("serial+tcp://host", "port"),
        ("ssh://", "host"),
    ],
)
def test_mistakes_are_named(url: str, says: str) -> None:
    with pytest.raises(InputError) as refused:
        parse_address(url)
    assert says in f"{refused.value} {refused.value.hint}"


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(InputError) as refused:
        parse_address("ssh://root:hunter2@board")
    assert "hunter2" not in f"{refused.value!r} {refused.value} {refused.value.hint}"
