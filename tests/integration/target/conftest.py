"""Servers and a home of their own for the tests of targets.

One set for each module, so that the other tests have the real home back.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.reaching import Home
from support.sshservers import Server, dropbear_in_busybox, keygen, openssh


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    path = tmp_path_factory.mktemp("home")
    (path / ".ssh").mkdir(mode=0o700)
    keygen(path / ".ssh/id_ed25519")
    changed = {"HOME": str(path), "XDG_STATE_HOME": str(path / "state")}
    before = {name: os.environ.get(name) for name in (*changed, "SSH_AUTH_SOCK")}
    os.environ.update(changed)
    os.environ.pop("SSH_AUTH_SOCK", None)
    yield Home(path)
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@pytest.fixture(scope="module")
def sshd(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("sshd")
    keys = folder / "authorized_keys"
    keys.write_text(home.public_key)
    with openssh(folder, keys) as server:
        yield server


@pytest.fixture(scope="module")
def board(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """dropbear without an sftp-server in a BusyBox-only root."""
    root = tmp_path_factory.mktemp("board") / "root"
    with dropbear_in_busybox(root, home.public_key) as server:
        yield server


@pytest.fixture(scope="session")
def blob(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 MB, half of which compresses: as programs do."""
    source = random.Random(5)
    path = tmp_path_factory.mktemp("blob") / "blob.bin"
    noise = source.randbytes(1 << 20)
    words = b"".join(
        source.choice((b"docker", b"container", b"\0\0\0\0", b"runc ")) for _ in range(99999)
    )
    with path.open("wb") as file:
        for index in range(50):
            file.write(
                noise[index:] + noise[:index] if index % 2 else words[: 1 << 20].ljust(1 << 20)
            )
    assert path.stat().st_size == 50 << 20
    return path
