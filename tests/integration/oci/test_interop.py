"""What embedkit writes, the common tools read; what they write, embedkit reads."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
from support import oci_images as images
from support.oci_images import OVERRIDES, embedkit
from support.skopeo import Skopeo, run

pytestmark = pytest.mark.needs("program:skopeo", "program:umoci", "program:docker-registry")


def _ids(envelope: dict[str, object]) -> dict[str, str]:
    data = envelope["data"]
    assert isinstance(data, dict)
    return {item["platform"]: item["config"] for item in data["platforms"]}


@pytest.mark.parametrize("platform", list(images.PLATFORMS))
def test_skopeo_resolves_each_platform_of_an_archive(
    five: Path, skopeo: Skopeo, platform: str
) -> None:
    config = skopeo.config(f"oci-archive:{five}:1", os="linux", **OVERRIDES[platform])
    variant = f"/{config['variant']}" if "variant" in config else ""
    assert f"{config['os']}/{config['architecture']}{variant}" == platform


@pytest.mark.parametrize("platform", list(images.PLATFORMS))
def test_skopeo_resolves_each_platform_in_a_registry(
    five: Path, skopeo: Skopeo, registry: str, platform: str
) -> None:
    embedkit("oci", "push", five, f"{registry}/resolve/hello:1")
    image = f"docker://{registry}/resolve/hello:1"
    config = skopeo.config(image, os="linux", **OVERRIDES[platform])
    variant = f"/{config['variant']}" if "variant" in config else ""
    assert f"{config['os']}/{config['architecture']}{variant}" == platform
    chosen = embedkit("oci", "resolve", image.removeprefix("docker://"), "--platform", platform)
    index = chosen["data"]["choices"]["skopeo"]["digest"]
    raw = skopeo("inspect", "--raw", f"{image.rpartition(':')[0]}@{index}")
    layers = json.loads(raw)["layers"]
    whole = embedkit("oci", "inspect", image, "--platform", platform)
    assert [layer["digest"] for layer in layers] == [
        layer["digest"] for layer in whole["data"]["images"][0]["layers"]
    ]


def test_skopeo_copies_all_platforms_and_keeps_every_digest(
    five: Path, skopeo: Skopeo, registry: str, tmp_path: Path
) -> None:
    target = f"docker://{registry}/skopeo/hello:1"
    skopeo("copy", "--all", f"oci-archive:{five}:1", target)
    written = embedkit("oci", "pull", target, tmp_path / "back.tar")
    original = embedkit("oci", "copy", five, tmp_path / "again.tar")
    assert written["data"]["digest"] == original["data"]["digest"]
    assert _ids(written) == _ids(original)


@pytest.mark.parametrize("form", ["oci", "oci-archive", "docker-archive", "dir-through-registry"])
def test_what_skopeo_writes_is_read(
    single: Path, skopeo: Skopeo, registry: str, tmp_path: Path, form: str
) -> None:
    if form == "dir-through-registry":
        source = f"docker://{registry}/skopeo/{form}:1"
    else:
        source = f"{form}:{tmp_path}/image" + ("" if form == "oci" else ".tar") + ":single:1"
    skopeo("copy", f"docker-archive:{single}", source)
    again = embedkit("oci", "copy", source, tmp_path / "copy.tar")
    first = embedkit("oci", "copy", single, tmp_path / "first.tar")
    # The image has no Healthcheck, which is all that skopeo would drop: same config, same ID.
    assert _ids(again) == _ids(first)


def test_umoci_unpacks_each_platform(five: Path, tmp_path: Path) -> None:
    for platform in images.PLATFORMS:
        layout = tmp_path / platform.replace("/", "-")
        embedkit("oci", "copy", five, layout, "--platform", platform, "-t", "hello:1")
        bundle = tmp_path / f"bundle-{layout.name}"
        run("umoci", "unpack", "--rootless", "--image", f"{layout}:1", bundle)
        content = (bundle / "rootfs/hello").read_bytes()
        assert f"hello from {platform}".encode() in content
        spec = json.loads((bundle / "config.json").read_text())
        assert spec["process"]["args"] == ["/hello"]


def test_what_umoci_writes_is_read(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    run("umoci", "init", "--layout", layout)
    run("umoci", "new", "--image", f"{layout}:base")
    run("umoci", "unpack", "--rootless", "--image", f"{layout}:base", tmp_path / "bundle")
    (tmp_path / "bundle/rootfs/motd").write_text("hello\n")
    run("umoci", "repack", "--image", f"{layout}:done", tmp_path / "bundle")
    listed = embedkit("oci", "list", layout)
    assert {image["image"] for image in listed["data"]["images"]} == {"base", "done"}
    found = embedkit("oci", "inspect", f"{layout}:done")
    assert found["data"]["images"][0]["stored_bytes"] == 6


def test_a_registry_keeps_what_was_pushed_and_skips_it_the_next_time(
    five: Path, registry: str
) -> None:
    name = f"{registry}/push/hello:1"
    first = embedkit("oci", "push", five, name)
    listed = embedkit("oci", "list", f"{registry}/push/hello")
    assert [tag["tag"] for tag in listed["data"]["tags"]] == ["1"]
    again = embedkit("oci", "push", five, name)
    assert again["data"]["digest"] == first["data"]["digest"]


def test_blobs_of_a_neighbour_are_mounted_not_sent(single: Path, registry: str) -> None:
    embedkit("oci", "push", single, f"{registry}/mount/one:1")
    from embedkit.oci import reference
    from embedkit.oci.locate import Opener, repositories_of
    from embedkit.oci.registry import Access
    from embedkit.oci.remote import RepositorySink
    from embedkit.oci.transfer import Shape, transfer
    from embedkit.progress import NullProgress

    with Opener(Access()) as opener:
        tree = opener.tree(f"docker://{registry}/mount/one:1")
        sink, _ = opener.sink(f"docker://{registry}/mount/two:1", repositories_of([tree], registry))
        assert isinstance(sink, RepositorySink)
        transfer([tree], sink, Shape(), NullProgress())
        assert sink.sent_bytes == 0
        assert sink.mounted_bytes > 0
        there = opener.client(registry).tags(reference.parse(f"{registry}/mount/two").path)
    assert there == ["1"]


def test_delete_takes_the_tag_out_of_the_registry(single: Path, registry: str) -> None:
    name = f"{registry}/delete/one:1"
    embedkit("oci", "push", single, name)
    planned = embedkit("oci", "delete", name, "--dry-run")
    assert planned["data"]["deleted"] is False
    embedkit("oci", "delete", name, "--yes")
    gone = embedkit("oci", "inspect", name, code=2)
    assert gone["error"]["kind"] == "NotFound"


def test_a_docker_manifest_list_is_accepted_everywhere(
    five: Path, skopeo: Skopeo, registry: str, tmp_path: Path
) -> None:
    name = f"{registry}/family/hello:1"
    pushed = embedkit("oci", "push", five, name, "--type", "docker")
    raw = json.loads(skopeo("inspect", "--raw", f"docker://{name}"))
    assert raw["mediaType"] == "application/vnd.docker.distribution.manifest.list.v2+json"
    assert [entry["platform"].get("variant") for entry in raw["manifests"]] == [
        None, None, "v7", "v6", None,
    ]  # fmt: skip
    # Other manifests, the same images.
    assert _ids(pushed) == _ids(embedkit("oci", "copy", five, tmp_path / "x.tar"))


def test_a_large_blob_goes_up_in_pieces(registry: str, tmp_path: Path, monkeypatch) -> None:
    from embedkit.oci import remote

    monkeypatch.setattr(remote, "UPLOAD_PIECE", 256 << 10)
    folder = tmp_path / "rootfs"
    folder.mkdir()
    part = images.programs(tmp_path)["linux/amd64"]
    (folder / "hello").write_bytes(part.read_bytes())
    import random

    (folder / "noise").write_bytes(random.Random(7).randbytes(1_000_000))
    image = tmp_path / "big.tar"
    built = embedkit("oci", "build", folder, "-t", "big:1", "-o", image, "--entrypoint", "/hello")
    embedkit("oci", "push", image, f"{registry}/big/one:1")
    back = embedkit("oci", "pull", f"{registry}/big/one:1", tmp_path / "back.tar")
    assert back["data"]["digest"] == built["data"]["digest"]


def test_zstd_goes_through_a_registry_and_back(
    five: Path, registry: str, skopeo: Skopeo, tmp_path: Path
) -> None:
    name = f"{registry}/zstd/hello:1"
    pushed = embedkit("oci", "push", five, name, "--compress", "zstd")
    kinds = {layer["media_type"] for p in pushed["data"]["platforms"] for layer in p["layers"]}
    assert kinds == {"application/vnd.oci.image.layer.v1.tar+zstd"}
    # An archive that any Docker must load has no zstd in it.
    pulled = embedkit("oci", "pull", name, tmp_path / "x.tar")
    kinds = {layer["media_type"] for p in pulled["data"]["platforms"] for layer in p["layers"]}
    assert kinds == {"application/vnd.oci.image.layer.v1.tar+gzip"}
    assert _ids(pulled) == _ids(pushed)
    skopeo("copy", "--all", f"docker://{name}", f"oci:{tmp_path}/out:x")


def test_the_archive_is_a_plain_tar(five: Path) -> None:
    with tarfile.open(five) as archive:
        names = archive.getnames()
    assert {"oci-layout", "index.json", "manifest.json"} <= set(names)
    assert len(names) == len(set(names))
