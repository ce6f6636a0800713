"""TARGET in oci inspect and oci resolve: does an image fit a board, which entry does it take?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import elf
from support import oci_images as images
from support.oci_images import embedkit
from support.services import Docker

from embedkit.commands import oci_fit

pytestmark = pytest.mark.needs("root", "program:dockerd", "program:runc")


def findings(told: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {
        item["id"]: (item["status"], item["state"])
        for item in told["findings"]
        if item["id"].startswith("board-")
    }


def test_an_image_that_fits(five: Path, docker: Docker) -> None:
    told = embedkit("oci", "inspect", five, "--target", "local:", "--socket", docker.socket)
    found = findings(told)
    assert found["board-platform"] == ("ok", "linux/amd64")
    assert found["board-docker"][1].startswith("Docker 20.10")
    assert found["board-room"][0] == "ok" and str(docker.socket.parent) in found["board-room"][1]
    assert found["board-page"] == ("ok", "4.0 KiB")


def test_an_image_for_other_processors(docker: Docker, tmp_path: Path) -> None:
    part = images.programs(tmp_path / "programs")["linux/arm/v7"]
    archive = tmp_path / "arm.tar"
    embedkit("oci", "build", part, "-o", archive)
    words = ["oci", "inspect", archive, "--target", "local:", "--socket", docker.socket]
    told = embedkit(*words, code=1)
    assert findings(told)["board-platform"][0] == "fail"
    assert "nothing for linux/amd64; it has: linux/arm/v7" in told["verdict"]


def test_a_386_program_on_amd64_is_doubtful(docker: Docker, tmp_path: Path) -> None:
    part = images.programs(tmp_path / "programs")["linux/386"]
    embedkit("oci", "build", part, "-o", tmp_path / "386.tar")
    told = embedkit(
        "oci", "inspect", tmp_path / "386.tar", "--target", "local:", "--socket", docker.socket
    )
    assert findings(told)["board-platform"][0] == "warn"


@pytest.mark.needs("module:zstandard")
def test_zstd_layers_and_large_pages(
    docker: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "small"
    program.write_bytes(elf.program("amd64", text="x"))
    archive = tmp_path / "zstd.tar"
    embedkit("oci", "build", program, "-o", archive, "--compress", "zstd")
    words = ["oci", "inspect", archive, "--target", "local:", "--socket", docker.socket]
    monkeypatch.setattr(oci_fit, "page_bytes", lambda target: 65536)
    found = findings(embedkit(*words))
    assert found["board-docker"][0] == "warn" and "zstd" in found["board-docker"][1]
    assert found["board-page"][0] == "warn" and "/small" in found["board-page"][1]
    # What inspect warns of, load does well: it sends the layers unpacked.
    told = embedkit("oci", "load", archive, "local:", "--socket", docker.socket, "--run")
    assert told["data"]["stdout"] == "x\n"


def test_a_board_without_docker(five: Path, tmp_path: Path) -> None:
    words = ["oci", "inspect", five, "--target", "local:", "--socket", tmp_path / "none"]
    assert findings(embedkit(*words))["board-docker"][0] == "warn"


def test_resolve_for_a_board(five: Path, docker: Docker) -> None:
    words = ["oci", "resolve", five, "--platform", "local:", "--socket", docker.socket]
    told = embedkit(*words)
    assert told["data"]["platform"] == "linux/amd64"
    assert "'docker-20.10' is its line" in told["notes"][0]


def test_resolve_for_a_board_that_cannot_be_reached(five: Path) -> None:
    embedkit("oci", "resolve", five, "--platform", "ssh://127.0.0.1:1", code=4)
