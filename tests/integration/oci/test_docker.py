"""A real Docker daemon loads, pulls and runs what embedkit writes, and embedkit reads its saves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import oci_images as images
from support.oci_images import embedkit
from support.services import Docker

pytestmark = pytest.mark.needs("root", "program:dockerd", "program:runc", "program:docker-registry")

RUN = ("run", "--rm", "--network", "none")


def test_docker_loads_and_runs_a_built_image(single: Path, docker: Docker) -> None:
    docker("load", "-i", str(single))
    assert docker(*RUN, "single:1") == "hello from linux/amd64\n"
    shown = json.loads(docker("image", "inspect", "single:1"))[0]
    written = embedkit("oci", "inspect", single)["data"]["images"][0]
    assert shown["Id"] == written["config_digest"]
    assert shown["Config"]["Labels"] == {"a": "b"}


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_docker_loads_a_folder_s_image(docker: Docker, tmp_path: Path, compression: str) -> None:
    rootfs = tmp_path / "rootfs"
    (rootfs / "deep" / ("long-name-" * 9) / ("x" * 120)).mkdir(parents=True)
    (rootfs / "tmp").mkdir()
    (rootfs / "tmp").chmod(0o1777)
    hello = images.programs(tmp_path)["linux/amd64"].read_bytes()
    (rootfs / "hello").write_bytes(hello)
    (rootfs / "hello").chmod(0o755)
    (rootfs / "again").hardlink_to(rootfs / "hello")
    (rootfs / "link").symlink_to("/hello")
    archive = tmp_path / "image.tar"
    name = f"folder:{compression}"
    embedkit(
        "oci", "build", rootfs, "-t", name, "-o", archive, "--cmd", "/link",
        "--compress", compression, "--env", "A=b c", "--user", "1000", "--workdir", "/tmp",
        "--expose", "53/udp", "--volume", "/data",
    )  # fmt: skip
    docker("load", "-i", str(archive))
    assert docker(*RUN, name) == "hello from linux/amd64\n"
    assert docker(*RUN, name, "/again") == "hello from linux/amd64\n"
    config = json.loads(docker("image", "inspect", name))[0]["Config"]
    assert "A=b c" in config["Env"]
    assert config["User"] == "1000"
    assert config["ExposedPorts"] == {"53/udp": {}}
    assert config["Volumes"] == {"/data": {}}


def test_docker_loads_every_platform_under_its_own_tag(five: Path, docker: Docker) -> None:
    docker("load", "-i", str(five))
    found = {}
    for line in docker("images", "--format", "{{.Tag}}", "hello").split():
        shown = json.loads(docker("image", "inspect", f"hello:{line}"))[0]
        found[line] = (shown["Architecture"], shown.get("Variant", ""))
    assert found == {
        "1": ("amd64", ""),
        "1-amd64": ("amd64", ""),
        "1-arm64": ("arm64", ""),
        "1-arm-v7": ("arm", "v7"),
        "1-arm-v6": ("arm", "v6"),
        "1-386": ("386", ""),
    }
    assert docker(*RUN, "hello:1") == "hello from linux/amd64\n"
    assert docker(*RUN, "hello:1-386") == "hello from linux/386\n"


def test_docker_pulls_the_entry_that_resolve_says(
    five: Path, docker: Docker, registry: str
) -> None:
    name = f"{registry}/pulled/hello:1"
    embedkit("oci", "push", five, name)
    for platform in ("linux/amd64", "linux/386", "linux/arm/v6", "linux/arm/v7", "linux/arm64"):
        docker("pull", "--quiet", "--platform", platform, name)
        shown = json.loads(docker("image", "inspect", name))[0]
        chosen = embedkit("oci", "resolve", name, "--platform", platform)
        digest = chosen["data"]["choices"]["docker-20.10"]["digest"]
        picked = embedkit("oci", "inspect", f"{registry}/pulled/hello@{digest}")
        assert shown["Id"] == picked["data"]["images"][0]["config_digest"], platform
        docker("rmi", name)


def test_docker_takes_an_arm_entry_that_does_not_fit_as_resolve_says(
    docker: Docker, registry: str, tmp_path: Path
) -> None:
    program = images.programs(tmp_path)["linux/arm/v7"]
    name = f"{registry}/misfit/hello:1"
    embedkit("oci", "merge", "-t", name, "--push", *_single(program, tmp_path))
    docker("pull", "--quiet", "--platform", "linux/arm/v5", name)
    chosen = embedkit("oci", "resolve", name, "--platform", "linux/arm/v5")
    choices = chosen["data"]["choices"]
    assert choices["docker-20.10"]["index"] == 0
    assert choices["docker"]["index"] is None


def _single(program: Path, tmp_path: Path) -> list[Path]:
    archive = tmp_path / "one.tar"
    embedkit("oci", "build", program, "-o", archive)
    return [archive]


def test_embedkit_reads_what_docker_saves(single: Path, docker: Docker, tmp_path: Path) -> None:
    docker("load", "-i", str(single))
    save = tmp_path / "save.tar"
    docker("save", "-o", str(save), "single:1")
    found = embedkit("oci", "inspect", save)["data"]["images"][0]
    written = embedkit("oci", "inspect", single)["data"]["images"][0]
    assert found["config_digest"] == written["config_digest"]
    assert found["layers"][0]["diff_id"] == written["layers"][0]["diff_id"]
    copy = tmp_path / "copy.tar"
    embedkit("oci", "copy", save, copy)
    docker("rmi", "-f", "single:1")
    docker("load", "-i", str(copy))
    assert docker(*RUN, "single:1") == "hello from linux/amd64\n"


def test_a_base_image_from_docker_is_built_upon(
    single: Path, docker: Docker, tmp_path: Path
) -> None:
    docker("load", "-i", str(single))
    save = tmp_path / "save.tar"
    docker("save", "-o", str(save), "single:1")
    more = tmp_path / "more"
    more.mkdir()
    (more / "data").write_text("data\n")
    archive = tmp_path / "derived.tar"
    embedkit(
        "oci", "build", f"linux/amd64={more}", "--from", save, "-t", "derived:1", "-o", archive,
    )  # fmt: skip
    docker("load", "-i", str(archive))
    assert docker(*RUN, "derived:1") == "hello from linux/amd64\n"
    assert len(embedkit("oci", "inspect", archive)["data"]["images"][0]["layers"]) == 2
