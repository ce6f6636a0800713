"""Images onto a board that has containerd and no Docker."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import oci_images as images
from support import services
from support.oci_images import embedkit

from embedkit.docker import proofelf

pytestmark = pytest.mark.needs("root", "program:containerd", "program:ctr", "program:runc")


@pytest.fixture(scope="module")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of a containerd of its own."""
    folder = tmp_path_factory.mktemp("containerd")
    found = folder / "c.sock"
    config = folder / "config.toml"
    config.write_text(
        f'version = 2\nroot = "{folder}/root"\nstate = "{folder}/state"\n'
        f'[grpc]\naddress = "{found}"\n'
    )

    def ready() -> bool:
        asked = ["ctr", "-a", str(found), "version"]
        return found.exists() and subprocess.run(asked, capture_output=True).returncode == 0

    with services.running(["containerd", "-c", str(config)], folder / "log", ready):
        yield found


def ctr(socket: Path, *words: str) -> str:
    asked = ["ctr", "-a", str(socket), "-n", "bench", *words]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout


def test_only_missing_blobs_then_run(socket: Path, tmp_path: Path) -> None:
    words = ["local:", "--containerd", "bench", "--socket", socket]
    folder = tmp_path / "rootfs"
    folder.mkdir()
    (folder / "data").write_bytes(random.Random(3).randbytes(2_000_000))
    base, app = tmp_path / "base.tar", tmp_path / "app.tar"
    embedkit("oci", "build", f"linux/amd64={folder}", "-t", "base:1", "-o", base)
    part = images.programs(tmp_path / "programs")["linux/amd64"]
    embedkit("oci", "build", part, "--from", base, "-t", "app:1", "-o", app)
    first = embedkit("oci", "load", base, *words)["data"]
    assert first["store"]["contents"] and first["sent"]["bytes"] > 2_000_000
    second = embedkit("oci", "load", app, *words, "--run")["data"]
    assert second["sent"]["left_out"] == 1 and second["sent"]["bytes"] < 30_000
    assert second["stdout"] == "hello from linux/amd64\n"
    listed = ctr(socket, "images", "ls", "-q").split()
    assert sorted(listed) == ["docker.io/library/app:1", "docker.io/library/base:1"]
    assert ctr(socket, "containers", "ls", "-q") == ""


def test_the_exit_code_and_a_name_are_needed(socket: Path, tmp_path: Path) -> None:
    words = ["local:", "--containerd", "bench", "--socket", socket]
    program = tmp_path / "nine"
    program.write_bytes(proofelf.program("amd64", b"nine\n", 9))
    embedkit("oci", "build", program, "-o", tmp_path / "image.tar")
    error = embedkit("oci", "load", tmp_path / "image.tar", *words, code=2)["error"]
    assert "--name" in error["hint"]
    told = embedkit(
        "oci", "load", tmp_path / "image.tar", *words, "--name", "nine:1", "--run", code=9
    )
    assert told["data"]["stdout"] == "nine\n"


def test_a_broken_archive_leaves_the_old_image(
    socket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["local:", "--containerd", "bench", "--socket", socket, "--name", "kept:1"]
    made = []
    for number in (1, 2):
        program = tmp_path / f"program{number}"
        program.write_bytes(proofelf.program("amd64", b"%d\n" % number, 0))
        archive = tmp_path / f"image{number}.tar"
        embedkit("oci", "build", program, "-o", archive)
        made.append(archive)
    embedkit("oci", "load", made[0], *words)
    from embedkit.commands import oci_loading

    whole = oci_loading.loadable.pack_blobs

    def without(chosen: object, path: Path, name: str, there: object, **more: object) -> object:
        return whole(chosen, path, name, {0}, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(oci_loading.loadable, "pack_blobs", without)
    error = embedkit("oci", "load", made[1], *words, code=4)["error"]
    assert "not found" in error["message"]
    monkeypatch.undo()
    assert "embedkit.invalid" not in ctr(socket, "images", "ls", "-q")
    assert embedkit("oci", "load", made[0], *words, "--run")["data"]["stdout"] == "1\n"


def test_no_containerd_there(single: Path, tmp_path: Path) -> None:
    words = ["local:", "--containerd", "--socket", tmp_path / "none"]
    error = embedkit("oci", "load", single, *words, code=4)["error"]
    assert "its containerd does not answer" in error["message"]
