"""One registry and one Docker daemon serve all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import oci_images as images
from support import services
from support.services import Docker
from support.skopeo import Skopeo


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("oci")


@pytest.fixture(scope="session", autouse=True)
def no_logins(work: Path) -> Iterator[None]:
    """Nobody's saved logins are used by a test."""
    auth = work / "no-logins.json"
    auth.write_text("{}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGISTRY_AUTH_FILE", str(auth))
        patch.setenv("DOCKER_CONFIG", str(work))
        yield


@pytest.fixture(scope="session")
def skopeo(work: Path) -> Skopeo:
    return Skopeo(work)


@pytest.fixture(scope="session")
def registry(work: Path) -> Iterator[str]:
    with services.docker_registry(work / "registry") as address:
        yield address


@pytest.fixture(scope="session")
def docker(work: Path) -> Iterator[Docker]:
    with services.dockerd(work / "docker") as daemon:
        yield daemon


@pytest.fixture(scope="session")
def five(work: Path) -> Path:
    """An archive with an index of five platforms, from five static programs."""
    parts = images.programs(work / "programs")
    archive = work / "five.tar"
    images.embedkit("oci", "build", *parts.values(), "-t", "hello:1", "-o", archive)
    return archive


@pytest.fixture(scope="session")
def single(work: Path) -> Path:
    """An archive of an amd64 image alone."""
    part = images.programs(work / "programs-single")["linux/amd64"]
    archive = work / "single.tar"
    images.embedkit("oci", "build", part, "-t", "single:1", "-o", archive, "--label", "a=b")
    return archive
