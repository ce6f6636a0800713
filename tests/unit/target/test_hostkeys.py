"""known_hosts files, and what is said of keys."""

from __future__ import annotations

import base64
import hmac
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedkit.target import hostkeys
from embedkit.target.base import HostKeyRefused

FILE = Path("/state/host-keys/board")


def blob(kind: str = "ssh-ed25519", body: bytes = b"k" * 32) -> bytes:
    return len(kind).to_bytes(4, "big") + kind.encode() + len(body).to_bytes(4, "big") + body


def line(names: str, data: bytes, kind: str = "ssh-ed25519", mark: str = "") -> str:
    return f"{mark}{names} {kind} {base64.b64encode(data).decode()} comment\n"


def hashed(label: str) -> str:
    salt = b"s" * 20
    digest = hmac.digest(salt, label.encode(), "sha1")
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


@pytest.mark.parametrize(
    ("names", "label", "known"),
    [
        ("board", "board", True),
        ("board,192.168.1.5", "192.168.1.5", True),
        ("Board", "board", True),
        ("[board]:2222", "[board]:2222", True),
        ("[board]:2222", "board", False),
        ("board", "[board]:2222", False),
        ("*.lab", "pi.lab", True),
        ("*.lab,!pi.lab", "pi.lab", False),
        ("boar?", "board", True),
        (hashed("board"), "board", True),
        (hashed("board"), "other", False),
        ("b[o]ard", "board", False),
    ],
)
def test_names_match_as_sshd_describes(tmp_path: Path, names: str, label: str, known: bool) -> None:
    file = tmp_path / "known_hosts"
    file.write_text("# comment\n\n" + line(names, blob()))
    keys = hostkeys.known_keys(label, [file, tmp_path / "missing"])
    assert [key.blob for key in keys] == ([blob()] if known else [])
    if known:
        assert keys[0].where == f"{file}:3"


@given(st.binary(max_size=400))
def test_any_file_can_be_read(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.mktemp("known") / "known_hosts"
    file.write_bytes(content + b"\n" + line("board", blob()).encode())
    assert blob() in [key.blob for key in hostkeys.known_keys("board", [file])]


def known(data: bytes, *, revoked: bool = False) -> hostkeys.KnownKey:
    return hostkeys.KnownKey("ssh-ed25519", data, "/home/x/.ssh/known_hosts:3", revoked)


def test_the_known_key_passes() -> None:
    new = hostkeys.check("board", FILE, "ssh-ed25519", blob(), [known(blob())], accept=False)
    assert not new


def test_an_unknown_key_is_refused_with_its_fingerprint_and_the_option() -> None:
    with pytest.raises(HostKeyRefused) as refused:
        hostkeys.check("board", FILE, "ssh-ed25519", blob(), [], accept=False)
    assert hostkeys.fingerprint(blob()) in str(refused.value)
    assert "--accept-new-host-key" in str(refused.value.hint)
    assert hostkeys.check("board", FILE, "ssh-ed25519", blob(), [], accept=True)


@pytest.mark.parametrize("accept", [True, False])
def test_a_changed_key_is_refused_always(accept: bool) -> None:
    other = known(blob(body=b"o" * 32))
    with pytest.raises(HostKeyRefused, match="CHANGED") as refused:
        hostkeys.check("board", FILE, "ssh-ed25519", blob(), [other], accept=accept)
    assert "known_hosts:3" in str(refused.value)


@pytest.mark.parametrize("accept", [True, False])
def test_a_revoked_key_is_refused_always(accept: bool) -> None:
    with pytest.raises(HostKeyRefused, match="revoked"):
        revoked = [known(blob()), known(blob(), revoked=True)]
        hostkeys.check("board", FILE, "ssh-ed25519", blob(), revoked, accept=accept)


def test_accepted_keys_are_kept_for_each_board(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    first, other = hostkeys.accepted_file("board"), hostkeys.accepted_file("other")
    hostkeys.store("board", first, "ssh-ed25519", blob())
    hostkeys.store("other", other, "ssh-ed25519", blob(body=b"o" * 32))
    assert first != other
    assert first.stat().st_mode & 0o077 == 0
    assert [key.blob for key in hostkeys.known_keys("board", [first])] == [blob()]
