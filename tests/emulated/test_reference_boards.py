"""Reference boards at work: booted, found fit for Docker, and Docker runs a container."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import oci_images as images
from support.oci_images import embedkit as done
from support.references import assembled, booted, embedkit

from embedkit.emulate.machine import Machine
from embedkit.emulate.reference import Reference

pytestmark = pytest.mark.needs(
    "debian", "program:qemu-system-arm", "program:qemu-system-aarch64", "program:qemu-img",
    "program:mke2fs",
)  # fmt: skip


def all_well(url: str) -> None:
    """``probe`` has nothing to say against the board, nor about its kernel."""
    code, report = embedkit("probe", url)
    found = {finding["label"]: finding["status"] for finding in report["findings"]}
    assert code == 0 and set(found.values()) == {"ok"}, found
    assert {"iptables", "clock", "name servers", "CA certificates", "kernel modules"} <= set(found)


def test_arm_is_fit_for_docker(arm_board: Machine) -> None:
    all_well(arm_board.state.url)


def test_kernel_loads_its_modules_by_itself(arm_board: Machine) -> None:
    """modules.dep and modules.alias are embedkit's own: by name, by alias, on demand."""
    with arm_board.target() as target:
        said = target.run(
            "modprobe br_netfilter && ls -d /sys/module/bridge >/dev/null && echo deps;"
            "modprobe fs-overlay && grep -c overlay /proc/filesystems;"
            "ip link add veth7 type veth peer name veth8 && ip link del veth7 && echo demand;"
            "iptables -t nat -S >/dev/null && ip6tables -t filter -S >/dev/null && echo tables"
        ).text
    assert said.split() == ["deps", "1", "demand", "tables"]


def test_no_way_in_but_the_key(arm_board: Machine) -> None:
    port = str(arm_board.state.ssh_port)
    done = subprocess.run(
        ["ssh", "-F", "none", "-p", port, "-o", "UserKnownHostsFile=/dev/null", "-v", "-o",
         "StrictHostKeyChecking=no", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o",
         "IdentityFile=/dev/null", "root@127.0.0.1", "true"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 255
    assert "Permission denied (publickey)" in done.stderr


def test_clock_in_1970_is_found_before_anything_is_copied(
    arm_board: Machine, arm_reference: Reference
) -> None:
    """As on a board without a battery; containers run all the same, pulling does not."""
    url = arm_board.state.url
    with arm_board.target() as target:
        target.run("date -s '1970-01-01 00:01:00'")
        try:
            code, report = embedkit(
                "deploy", url, "--bundle", arm_reference.bundle, "--allow-dynamic", "--dry-run"
            )
        finally:
            target.run(f"date -s @{int(time.time())}")
        assert code == 0 and not report["data"]["targets"][0]["blocked"], report
        clock = next(one for one in report["findings"] if one["id"] == "clock")
        assert clock["status"] == "warn" and clock["state"].endswith("days behind")
        assert target.run("ls -d /opt/embedkit", check=False).exit_code != 0


def test_docker_runs_a_container_on_arm(arm_docker: str) -> None:
    """It did when it was deployed; a second deployment has nothing to do but to prove it."""
    code, report = embedkit("probe", arm_docker)
    docker = report["data"]["facts"]["docker"]
    assert code == 0 and docker["running"] and docker["version"], docker


def layers_there(told: dict[str, Any]) -> list[bool]:
    return [layer["there"] for layer in told["data"]["layers"]]


def test_an_image_is_built_loaded_and_run(
    arm_docker: str, arm_reference: Reference, tmp_path: Path
) -> None:
    box, app = tmp_path / "box.tar", tmp_path / "app.tar"
    part = f"linux/arm/v7={arm_reference.busybox}"
    done("oci", "build", part, "-t", "box:1", "-o", box)
    argv = [sys.executable, "-m", "embedkit.cli", "oci", "load", box, arm_docker, "--run", "--"]
    ended = subprocess.run(
        [*argv, "sh", "-c", "uname -m; echo $0; exit 9", "a b"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (9, "armv7l\na b\n"), ended.stderr
    assert "box:1 loaded with" in ended.stderr
    # One more layer on top: nothing else travels.
    hello = images.programs(tmp_path / "programs")["linux/arm/v7"]
    done("oci", "build", hello, "--from", box, "-t", "app:1", "-o", app)
    told = done("oci", "load", app, arm_docker, "--run")
    assert layers_there(told) == [True, False] and told["data"]["sent"]["bytes"] < 30_000
    assert told["data"]["stdout"] == "hello from linux/arm/v7\n"
    assert done("oci", "load", app, arm_docker, "--name", "again:1")["data"]["present"]


def test_an_image_s_entry_for_the_board_is_taken(arm_docker: str, tmp_path: Path) -> None:
    parts = images.programs(tmp_path / "programs")
    archive = tmp_path / "five.tar"
    done("oci", "build", *parts.values(), "-t", "five:1", "-o", archive)
    told = done("oci", "load", archive, arm_docker, "--run")["data"]
    assert told["image"]["platform"] == "linux/arm/v7"
    assert told["stdout"] == "hello from linux/arm/v7\n"
    resolved = done("oci", "resolve", archive, "--platform", arm_docker)
    assert resolved["data"]["platform"] == "linux/arm/v7"
    fits = done("oci", "inspect", archive, "--target", arm_docker)
    found = {item["id"]: item["status"] for item in fits["findings"]}
    assert found["board-platform"] == found["board-page"] == found["board-room"] == "ok"


def test_an_image_for_other_boards_is_refused(arm_docker: str, tmp_path: Path) -> None:
    parts = images.programs(tmp_path / "programs")
    archive = tmp_path / "wrong.tar"
    done("oci", "build", parts["linux/amd64"], parts["linux/arm64"], "-t", "wrong:1", "-o", archive)
    error = done("oci", "load", archive, arm_docker, code=2)["error"]
    assert "nothing in the image runs on linux/arm/v7" in error["message"]
    assert "linux/amd64, linux/arm64" in error["message"]
    code = done("oci", "inspect", archive, "--target", arm_docker, code=1)
    assert "nothing for linux/arm/v7" in code["verdict"]


def test_arm64_is_fit_for_docker(new_card: Callable[[Reference], Path]) -> None:
    reference = assembled("arm64")
    with booted(reference, new_card(reference)) as machine:
        all_well(machine.state.url)
