"""Reference boards at work: booted, found fit for Docker, and Docker runs a container."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.references import assembled, booted

from embedkit.emulate.machine import Machine
from embedkit.emulate.reference import Reference

pytestmark = pytest.mark.needs(
    "debian", "program:qemu-system-arm", "program:qemu-system-aarch64", "program:qemu-img",
    "program:mke2fs",
)  # fmt: skip


def embedkit(*words: str | Path) -> tuple[int, dict[str, Any]]:
    """Exit code and data of a command."""
    argv = [sys.executable, "-m", "embedkit.cli", *words, "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


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


def test_docker_runs_a_container_on_arm(arm_board: Machine, arm_reference: Reference) -> None:
    url = arm_board.state.url
    code, report = embedkit(
        "deploy", url, "--bundle", arm_reference.bundle, "--busybox", arm_reference.busybox,
        "--allow-dynamic", "--proof", "full", "--yes",
    )  # fmt: skip
    assert code == 0, report
    code, report = embedkit("deploy", url, "--uninstall", "--purge", "--yes")
    assert code == 0, report


def test_arm64_is_fit_for_docker(new_card: Callable[[Reference], Path]) -> None:
    reference = assembled("arm64")
    with booted(reference, new_card(reference)) as machine:
        all_well(machine.state.url)
