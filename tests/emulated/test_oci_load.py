"""Images built here run on an emulated ARMv7 board, and what cannot run there is not sent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import oci_images as images
from support.oci_images import embedkit

from embedkit.emulate.reference import Reference

pytestmark = pytest.mark.needs(
    "debian", "program:qemu-system-arm", "program:qemu-img", "program:mke2fs"
)


def layers(told: dict[str, Any]) -> list[bool]:
    return [layer["there"] for layer in told["data"]["layers"]]


def test_built_loaded_and_run(arm_docker: str, arm_reference: Reference, tmp_path: Path) -> None:
    box, app = tmp_path / "box.tar", tmp_path / "app.tar"
    part = f"linux/arm/v7={arm_reference.busybox}"
    embedkit("oci", "build", part, "-t", "box:1", "-o", box)
    argv = [sys.executable, "-m", "embedkit.cli", "oci", "load", box, arm_docker, "--run", "--"]
    ended = subprocess.run(
        [*argv, "sh", "-c", "uname -m; echo $0; exit 9", "a b"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (9, "armv7l\na b\n"), ended.stderr
    assert "box:1 loaded with" in ended.stderr
    # One more layer on top: nothing else travels.
    hello = images.programs(tmp_path / "programs")["linux/arm/v6"]
    embedkit("oci", "build", hello, "--from", box, "-t", "app:1", "-o", app)
    told = embedkit("oci", "load", app, arm_docker, "--run")
    assert layers(told) == [True, False] and told["data"]["sent"]["bytes"] < 30_000
    assert told["data"]["stdout"] == "hello from linux/arm/v6\n"
    assert embedkit("oci", "load", app, arm_docker, "--name", "again:1")["data"]["present"]


def test_the_board_s_platform_is_taken(arm_docker: str, tmp_path: Path) -> None:
    parts = images.programs(tmp_path / "programs")
    archive = tmp_path / "five.tar"
    embedkit("oci", "build", *parts.values(), "-t", "five:1", "-o", archive)
    told = embedkit("oci", "load", archive, arm_docker, "--run")["data"]
    assert told["image"]["platform"] == "linux/arm/v7"
    assert told["stdout"] == "hello from linux/arm/v7\n"
    resolved = embedkit("oci", "resolve", archive, "--platform", arm_docker)
    assert resolved["data"]["platform"] == "linux/arm/v7"
    fits = embedkit("oci", "inspect", archive, "--target", arm_docker)
    found = {item["id"]: item["status"] for item in fits["findings"]}
    assert found["board-platform"] == found["board-page"] == found["board-room"] == "ok"


def test_a_wrong_platform_is_refused(arm_docker: str, tmp_path: Path) -> None:
    parts = images.programs(tmp_path / "programs")
    archive = tmp_path / "wrong.tar"
    embedkit(
        "oci", "build", parts["linux/amd64"], parts["linux/arm64"], "-t", "wrong:1", "-o", archive
    )
    error = embedkit("oci", "load", archive, arm_docker, code=2)["error"]
    assert "nothing in the image runs on linux/arm/v7" in error["message"]
    assert "linux/amd64, linux/arm64" in error["message"]
    code = embedkit("oci", "inspect", archive, "--target", arm_docker, code=1)
    assert "nothing for linux/arm/v7" in code["verdict"]
