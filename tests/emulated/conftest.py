"""Reference boards, assembled and booted once for all tests that want one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.oci_images import embedkit
from support.references import assembled, booted, composed

from embedkit.emulate.machine import Machine
from embedkit.emulate.reference import Reference


@pytest.fixture(scope="session")
def new_card(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Reference], Path]:
    """Composes a reference board's card into a folder of its own."""
    return lambda made: composed(made, tmp_path_factory.mktemp(made.kind) / "card.img")


@pytest.fixture(scope="session")
def arm_reference() -> Reference:
    """The ARMv7 reference board's kernel, rootfs, Docker bundle and BusyBox."""
    return assembled("arm")


@pytest.fixture(scope="session")
def arm_card(arm_reference: Reference, new_card: Callable[[Reference], Path]) -> Path:
    """Its card, never written to."""
    return new_card(arm_reference)


@pytest.fixture(scope="session")
def arm_board(arm_reference: Reference, arm_card: Path) -> Iterator[Machine]:
    """The board, booted once; ``.state.url`` is its address. Leave it as it was found."""
    with booted(arm_reference, arm_card) as machine:
        yield machine


@pytest.fixture(scope="session")
def arm_docker(arm_board: Machine, arm_reference: Reference) -> Iterator[str]:
    """The address of the board with Docker on it: deployed, proven, and removed at the end."""
    url = arm_board.state.url
    embedkit(
        "deploy", url, "--bundle", arm_reference.bundle, "--busybox", arm_reference.busybox,
        "--allow-dynamic", "--proof", "quick", "--yes",
    )  # fmt: skip
    yield url
    embedkit("deploy", url, "--uninstall", "--purge", "--yes")
