"""What embedkit is for: a kernel that cannot run Docker, and the same one after patch-kernel.

Both are built from Debian's source and booted with the same card. On the first, ``deploy`` says
what the kernel lacks, and dockerd ends as the profile says it would; on the second the proof
passes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import armkernels, debian
from support.references import booted, embedkit

from embedkit.emulate.reference import Reference
from embedkit.kernel import profile_file

pytestmark = pytest.mark.needs(
    "debian", "program:qemu-system-arm", "program:qemu-img", "program:mke2fs", "program:flex",
    "program:bison", "program:bc", f"program:{armkernels.CROSS}gcc",
)  # fmt: skip
Kernels = dict[str, armkernels.Kernel]


# How much longer than all other tests the kernels may take, where they are built beside them.
_PATIENCE_SECONDS = 180.0


@pytest.fixture(scope="module")
def kernels() -> Kernels:
    """From the cache; a whole run of scripts/test builds them while other tests run.

    Two kernels from source are more than a slow machine can do in one run: then it goes without
    this time, and ``scripts/build-kernels`` makes them in peace.
    """
    beside = "EMBEDKIT_KERNELS_BESIDE" in os.environ
    try:
        return armkernels.kernels(patience=_PATIENCE_SECONDS if beside else None)
    except TimeoutError:
        pytest.skip("the two kernels are not built yet: run scripts/build-kernels first")
    except debian.NotToBeHad as error:
        debian.give_up(str(error))
        raise


@pytest.fixture(scope="module")
def before(arm_reference: Reference, arm_card: Path, kernels: Kernels) -> Iterator[str]:
    """The board with the kernel that has nothing for containers."""
    with booted(arm_reference, arm_card, kernels["plain"].image) as machine:
        yield machine.state.url


def deploy(url: str, reference: Reference, *more: str) -> tuple[int, dict[str, Any]]:
    """Exit code of ``deploy``, and what it tells of its one target."""
    code, report = embedkit(
        "deploy", url, "--bundle", reference.bundle, "--busybox", reference.busybox,
        "--allow-dynamic", "--yes", *more,
    )  # fmt: skip
    return code, report["data"]["targets"][0]


def on_board(url: str, script: str) -> int:
    return embedkit("run", url, "--", "sh", "-c", script)[0]


def test_before_the_board_s_own_config_is_refused(before: str) -> None:
    code, report = embedkit("check-kernel", before)
    assert code == 1
    missing = json.dumps(report)
    for symbol in ("CGROUPS", "NAMESPACES", "OVERLAY_FS", "VETH", "BRIDGE"):
        assert symbol in missing


def test_before_deploy_says_what_is_missing_and_copies_nothing(
    before: str, arm_reference: Reference
) -> None:
    code, told = deploy(before, arm_reference)
    assert code == 1
    assert told["blocked"] and not told["changed"]
    concerns = {concern["id"]: concern for concern in told["concerns"]}
    assert concerns["cgroups"]["weight"] == "fail"
    assert "CONFIG_CGROUPS" in concerns["cgroups"]["hint"]
    assert "CONFIG_OVERLAY_FS" in concerns["overlay"]["hint"]
    assert on_board(before, "! test -e /opt/embedkit") == 0


def test_before_docker_fails_as_the_profile_says(before: str, arm_reference: Reference) -> None:
    """Forced all the same: dockerd's own words lead to the missing symbol."""
    code, told = deploy(before, arm_reference, "--force")
    assert code == 4
    assert told["changed"] and told["recovered"] is True
    promised = profile_file.load("docker").symbol("CGROUPS").symptom.partition(" / ")[0]
    assert promised.removeprefix("dockerd: ") in "\n".join(told["log"])
    assert "CONFIG_CGROUPS" in [cause["name"] for cause in told["causes"]]
    assert on_board(before, "! pidof dockerd && ! test -e /etc/docker/daemon.json") == 0


def test_after_patch_kernel_containers_run(
    arm_reference: Reference, arm_card: Path, kernels: Kernels
) -> None:
    with booted(arm_reference, arm_card, kernels["docker"].image) as machine:
        url = machine.state.url
        code, report = embedkit("check-kernel", url)
        assert code == 0, report
        code, told = deploy(url, arm_reference, "--proof", "quick")
        assert code == 0, told
        assert told["proof"]["ok"]
        assert {check["ok"] for check in told["proof"]["checks"]} == {True}
