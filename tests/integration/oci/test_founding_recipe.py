"""skopeo to four layouts, jq, skopeo to a registry: and what embedkit does instead."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import oci_images as images
from support import recipe
from support.oci_images import embedkit
from support.skopeo import Skopeo, run

pytestmark = pytest.mark.needs("program:skopeo", "program:jq", "program:docker-registry")

FOUR = ("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6")


def test_merge_makes_the_same_index_as_the_recipe(
    skopeo: Skopeo, registry: str, tmp_path: Path
) -> None:
    programs = images.programs(tmp_path)
    archives = []
    for platform in FOUR:
        made, archive = tmp_path / "made.tar", tmp_path / f"{platform.replace('/', '-')}.tar"
        embedkit("oci", "build", programs[platform], "-t", "app:1", "-o", made)
        run("skopeo", "--insecure-policy", "copy", f"docker-archive:{made}",
            f"docker-archive:{archive}:app:1")  # fmt: skip
        archives.append(archive)
    (tmp_path / "recipe").mkdir()
    recipe.run(tmp_path / "recipe", f"{registry}/founding/recipe:1", archives)
    embedkit("oci", "merge", *archives, "-t", f"{registry}/founding/merge:1", "--push")

    theirs = _described(skopeo, f"docker://{registry}/founding/recipe:1")
    ours = _described(skopeo, f"docker://{registry}/founding/merge:1")
    assert [platform for platform, *_ in ours] == [
        {"architecture": "amd64", "os": "linux"},
        {"architecture": "arm64", "os": "linux"},
        {"architecture": "arm", "os": "linux", "variant": "v7"},
        {"architecture": "arm", "os": "linux", "variant": "v6"},
    ]
    assert ours == theirs


def _described(skopeo: Skopeo, image: str) -> list[tuple[object, ...]]:
    """Everything of an index but what depends on the compressor's library: platforms in their
    order, configs, layers' content by diff_id, media types."""
    index = json.loads(skopeo("inspect", "--raw", image))
    assert index["mediaType"] == "application/vnd.oci.image.index.v1+json"
    found = []
    for entry in index["manifests"]:
        name = f"{image.rpartition(':')[0]}@{entry['digest']}"
        manifest = json.loads(skopeo("inspect", "--raw", name))
        config = embedkit("oci", "inspect", name)["data"]["images"][0]
        found.append(
            (
                entry["platform"],
                entry["mediaType"],
                # Debian's skopeo writes a config anew, in another order of its keys.
                config["config"],
                [layer["mediaType"] for layer in manifest["layers"]],
                [layer["diff_id"] for layer in config["layers"]],
            )
        )
    return found
