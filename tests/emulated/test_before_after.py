"""What embedkit is for: a kernel that cannot run Docker, and the same kernel after patch-kernel.

Both are built from Debian's source and booted under the same root file system. On the first,
``deploy`` names what the kernel lacks, and dockerd ends as the profile says it would; on the
second the proof passes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import armkernels, debian

from embedkit import board as boards
from embedkit.emulate.machine import Medium, plan, start
from embedkit.emulate.reference import Reference, assemble
from embedkit.progress import NullProgress
from embedkit.target.emulated import authorized_key

pytestmark = pytest.mark.needs(
    "debian", "program:qemu-system-arm", "program:mke2fs", "program:flex", "program:bison",
    "program:bc", f"program:{armkernels.CROSS}gcc",
)  # fmt: skip
_BOARD = "qemu-arm-virt"
_BOOT_SECONDS = 300  # on a loaded machine; a quiet one needs 10


@pytest.fixture(scope="module")
def kernels() -> dict[str, armkernels.Kernel]:
    """Both kernels, from the cache; ``scripts/test`` begins to build them when it begins."""
    try:
        return armkernels.kernels()
    except debian.NotToBeHad as error:
        debian.give_up(str(error))
        raise


@pytest.fixture(scope="module")
def reference() -> Reference:
    return assemble("arm", authorized_key=authorized_key(), progress=NullProgress())


@pytest.fixture(scope="module")
def card(reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = tmp_path_factory.mktemp("card") / "card.img"
    asked = embedkit(
        "compose", _BOARD, "--artifacts", reference.folder, "--size", "2GiB", "-o", image
    )
    assert asked.returncode == 0, asked.stderr
    return image


def embedkit(*words: str | Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "embedkit.cli", *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


@contextmanager
def booted(card: Path, kernel: armkernels.Kernel) -> Iterator[str]:
    """The reference board's card under another kernel; its URL."""
    board = boards.load(_BOARD)
    medium = Medium(card, kernel.image, arguments=f"{board.boot.arguments} panic=-1")
    with start(plan(board, medium), NullProgress()) as machine:
        machine.wait(_BOOT_SECONDS, "ssh")
        yield machine.state.url


@pytest.fixture(scope="module")
def before(card: Path, kernels: dict[str, armkernels.Kernel]) -> Iterator[str]:
    with booted(card, kernels["plain"]) as url:
        yield url


@pytest.fixture(scope="module")
def after(card: Path, kernels: dict[str, armkernels.Kernel]) -> Iterator[str]:
    with booted(card, kernels["docker"]) as url:
        yield url


def deployed(url: str, reference: Reference, *more: str) -> tuple[int, dict[str, Any]]:
    """``deploy`` with the reference board's bundle: exit code and report."""
    done = embedkit(
        "deploy", url, "--bundle", reference.bundle, "--allow-dynamic", "--json", *more
    )  # fmt: skip
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_before_the_audit_of_the_running_board_says_no(before: str) -> None:
    asked = embedkit("check-kernel", before, "--json")
    assert asked.returncode == 1, asked.stderr
    assert "CONFIG_CGROUPS" in asked.stdout


def test_before_deploy_names_what_the_kernel_lacks(before: str, reference: Reference) -> None:
    code, report = deployed(before, reference)
    text = json.dumps(report)
    assert code == 1
    for symbol in ("CONFIG_CGROUPS", "CONFIG_OVERLAY_FS", "CONFIG_IP_NF_NAT"):
        assert symbol in text
