"""Building and merging, through the command line as a user would."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from support import elf
from support.oci_images import PLATFORMS, embedkit, programs

from embedkit.errors import InputError
from embedkit.oci.layer import Node, arrange, from_folder, from_tar, write


@pytest.fixture(autouse=True)
def no_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)


def _program(path: Path, architecture: str, variant: str = "", **more: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(elf.program(architecture, variant, **more))  # type: ignore[arg-type]
    path.chmod(0o755)
    return path


def _built(path: Path) -> dict[str, dict[str, object]]:
    found = embedkit("oci", "inspect", path)
    return {image["platform"]: image for image in found["data"]["images"]}


def test_platforms_are_recognised(tmp_path: Path) -> None:
    parts = programs(tmp_path)
    embedkit("oci", "build", *parts.values(), "-t", "hello:1", "-o", tmp_path / "out")
    built = _built(tmp_path / "out")
    assert list(built) == list(PLATFORMS)
    for image in built.values():
        assert image["mislabelled"] is None
        assert image["config"]["config"]["Entrypoint"] == ["/hello"]  # type: ignore[index]


def test_the_same_input_makes_the_same_bytes(tmp_path: Path) -> None:
    digests = set()
    for name in ("one", "two"):
        rootfs = tmp_path / name
        for part in sorted(("a", "b", "c"), reverse=name == "two"):
            (rootfs / part).mkdir(parents=True)
            (rootfs / part / "file").write_text(part)
        _program(rootfs / "app", "arm", "v6")
        os.utime(rootfs / "a", (5, len(name) * 1000))
        made = embedkit("oci", "build", rootfs, "-t", "x:1", "-o", tmp_path / f"{name}.tar")
        digests.add(made["data"]["digest"])
    assert len(digests) == 1
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()


def test_source_date_epoch_is_in_config_and_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    embedkit("oci", "build", _program(tmp_path / "app", "amd64"), "-o", tmp_path / "out.tar",
             "--compress", "none")  # fmt: skip
    (image,) = _built(tmp_path / "out.tar").values()
    assert image["config"]["created"] == "2023-11-14T22:13:20Z"  # type: ignore[index]
    with tarfile.open(tmp_path / "out.tar") as outer:
        layer = outer.extractfile(f"blobs/sha256/{image['layers'][0]['diff_id'][7:]}")  # type: ignore
        with tarfile.open(fileobj=layer) as inner:
            assert {member.mtime for member in inner} == {1700000000}


def test_a_v7_program_is_not_built_as_v6(tmp_path: Path) -> None:
    app = _program(tmp_path / "app", "arm", "v7")
    words = ("oci", "build", app, "-o", tmp_path / "out.tar", "--platform", "linux/arm/v6")
    refused = embedkit(*words, code=2)
    assert "built for linux/arm/v7" in refused["error"]["message"]
    assert not (tmp_path / "out.tar").exists()
    made = embedkit(*words, "--trust-platform")
    assert "dies on" in made["data"]["warnings"][0]


def test_mixed_architectures_and_missing_loaders_are_told(tmp_path: Path) -> None:
    rootfs = tmp_path / "rootfs"
    _program(rootfs / "app", "arm64", interpreter="/lib/ld-linux-aarch64.so.1")
    _program(rootfs / "tools" / "x86", "amd64")
    made = embedkit("oci", "build", rootfs, "-o", tmp_path / "out", "--entrypoint", "/app")
    said = " ".join(made["data"]["warnings"])
    assert "/tools/x86 (amd64)" in said
    assert "/app needs the dynamic loader /lib/ld-linux-aarch64.so.1" in said
    (rootfs / "lib").mkdir()
    (rootfs / "lib" / "ld-linux-aarch64.so.1").write_bytes(b"loader")
    made = embedkit("oci", "build", rootfs, "-o", tmp_path / "out2", "--entrypoint", "/app")
    assert "loader" not in " ".join(made["data"]["warnings"])


def test_a_loader_behind_a_symlink_counts(tmp_path: Path) -> None:
    rootfs = tmp_path / "rootfs"
    _program(rootfs / "app", "amd64", interpreter="/lib64/ld.so")
    (rootfs / "usr/lib").mkdir(parents=True)
    (rootfs / "usr/lib/ld.so").write_bytes(b"loader")
    (rootfs / "lib64").symlink_to("usr/lib")
    made = embedkit("oci", "build", rootfs, "-o", tmp_path / "out", "--entrypoint", "/app")
    assert made["data"]["warnings"] == []


def test_two_parts_for_one_platform_are_refused(tmp_path: Path) -> None:
    one, two = (_program(tmp_path / name / "app", "amd64") for name in ("1", "2"))
    refused = embedkit("oci", "build", one, two, "-o", tmp_path / "out", code=2)
    assert "two parts for linux/amd64" in refused["error"]["message"]


def test_no_program_means_no_guess(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("text")
    refused = embedkit("oci", "build", tmp_path / "data", "-o", tmp_path / "out", code=2)
    assert "--platform" in refused["error"]["hint"]
    embedkit("oci", "build", f"linux/riscv64={tmp_path / 'data'}", "-o", tmp_path / "out")
    assert list(_built(tmp_path / "out")) == ["linux/riscv64"]


def test_a_base_image_gives_its_config_and_layers(tmp_path: Path) -> None:
    parts = programs(tmp_path / "base")
    embedkit("oci", "build", *parts.values(), "-o", tmp_path / "base.tar", "--env", "A=1",
             "--label", "l=1", "--user", "7")  # fmt: skip
    more = tmp_path / "more"
    _program(more / "new", "arm", "v6")
    embedkit("oci", "build", more, "--from", tmp_path / "base.tar", "-o", tmp_path / "out",
             "--entrypoint", "/new", "--env", "B=2")  # fmt: skip
    (image,) = _built(tmp_path / "out").values()
    assert image["platform"] == "linux/arm/v6"
    config = image["config"]
    assert {"A=1", "B=2"} <= set(config["config"]["Env"])  # type: ignore[index]
    assert config["config"]["User"] == "7"  # type: ignore[index]
    assert len(image["layers"]) == 2  # type: ignore[arg-type]
    assert len(config["history"]) == 2  # type: ignore[index]


@pytest.mark.parametrize(
    "bad",
    [
        ("--expose", "0"),
        ("--expose", "http"),
        ("--workdir", "relative"),
        ("--env", "novalue"),
        ("--entrypoint", '["a", 1]'),
        ("--entrypoint", "'open"),
        ("--add", "missing:/x"),
        ("--platform", "linux/pdp11"),
        ("--from", "missing.tar"),
        ("-t", "host.example/UPPER"),
    ],
)
def test_bad_options_are_one_clear_message(tmp_path: Path, bad: tuple[str, str]) -> None:
    app = _program(tmp_path / "app", "amd64")
    refused = embedkit("oci", "build", app, "-o", tmp_path / "out", *bad, code=2)
    assert refused["error"]["message"]
    assert not (tmp_path / "out").exists()


def _tar(path: Path, *members: tuple[str, bytes, str]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, kind, link in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            info.uid = 12
            content = name.encode() if kind == tarfile.REGTYPE else b""
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    "member",
    [
        ("../../etc/passwd", tarfile.REGTYPE, ""),
        ("a/../../b", tarfile.REGTYPE, ""),
        ("link", tarfile.LNKTYPE, "../../etc/shadow"),
        ("link", tarfile.LNKTYPE, "nowhere"),
        (".wh.etc", tarfile.REGTYPE, ""),
        ("dir/.wh..wh..opq", tarfile.REGTYPE, ""),
        ("file/inside", tarfile.REGTYPE, ""),
        ("odd", b"Z", ""),
    ],
)
def test_hostile_root_filesystems_are_refused(
    tmp_path: Path, member: tuple[str, bytes, str]
) -> None:
    archive = _tar(tmp_path / "rootfs.tar", ("file", tarfile.REGTYPE, ""), member)
    refused = embedkit("oci", "build", f"arm/v7={archive}", "-o", tmp_path / "out", code=2)
    assert refused["error"]["kind"] == "InputError"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rootfs.tar"]


def test_a_root_filesystem_keeps_owners_devices_and_links(tmp_path: Path) -> None:
    archive = _tar(
        tmp_path / "rootfs.tar",
        ("./z", tarfile.REGTYPE, ""),
        ("./a", tarfile.LNKTYPE, "./z"),
        ("/abs", tarfile.REGTYPE, ""),
        ("dev/console", tarfile.CHRTYPE, ""),
        ("s", tarfile.SYMTYPE, "/etc/target"),
    )
    nodes, close = from_tar(archive)
    made = write(arrange(nodes), tmp_path, "none")
    close()
    with tarfile.open(made.file) as layer:
        members = {member.name: member for member in layer}
        assert list(members) == ["a", "abs", "dev", "dev/console", "s", "z"]
        assert members["a"].isreg() and members["z"].linkname == "a"
        assert layer.extractfile("a").read() == b"./z"  # type: ignore[union-attr]
        assert members["z"].islnk() and members["a"].uid == 12
        assert members["dev/console"].ischr()


def test_a_folder_belongs_to_root_and_sockets_stay_out(tmp_path: Path) -> None:
    import socket

    folder = tmp_path / "f"
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "sock"))
        skipped: list[str] = []
        nodes = from_folder(folder, skipped=skipped)
    assert (nodes, skipped) == ([], ["sock"])


def test_a_file_that_grows_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    node = Node("f", "file", 0o644, size=3, open=lambda: io.BytesIO(b"12345"))
    with pytest.raises(InputError, match="changed"):
        write([node], tmp_path, "none")


def _single(tmp_path: Path, name: str, architecture: str, variant: str = "") -> Path:
    app = _program(tmp_path / name / "app", architecture, variant)
    embedkit("oci", "build", app, "-t", "app:1", "-o", tmp_path / f"{name}.tar")
    return tmp_path / f"{name}.tar"


def _relabel(source: Path, target: Path, **values: str | None) -> Path:
    """A docker save archive of the image, with another platform in its config."""
    with tarfile.open(source) as archive, tarfile.open(target, "w") as out:
        image = json.load(archive.extractfile("manifest.json"))[0]  # type: ignore[arg-type]
        config = json.load(archive.extractfile(image["Config"]))  # type: ignore[arg-type]
        for key, value in values.items():
            config.pop(key, None)
            if value is not None:
                config[key] = value
        files = {"c.json": json.dumps(config).encode()}
        files["l.tar"] = archive.extractfile(image["Layers"][0]).read()  # type: ignore[union-attr]
        image |= {"Config": "c.json", "Layers": ["l.tar"]}
        files["manifest.json"] = json.dumps([image]).encode()
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
    return target


def test_merge_corrects_what_a_tool_left_wrong_and_says_so(tmp_path: Path) -> None:
    v6 = _single(tmp_path, "v6", "arm", "v6")
    wrong = _relabel(v6, tmp_path / "wrong.tar", architecture="amd64", variant=None)
    bare = _relabel(_single(tmp_path, "v5", "arm", "v5"), tmp_path / "bare.tar", variant=None)
    merged = embedkit("oci", "merge", wrong, bare, "-o", tmp_path / "out.tar")
    assert [p["platform"] for p in merged["data"]["platforms"]] == ["linux/arm/v6", "linux/arm/v5"]
    notes = " ".join(merged["notes"])
    assert "is labelled linux/amd64, but /app needs linux/arm/v6" in notes
    assert "names no ARM variant" in notes


def test_merge_refuses_duplicates_and_contradictions(tmp_path: Path) -> None:
    v6, v7 = (_single(tmp_path, v, "arm", v) for v in ("v6", "v7"))
    for words, said in (
        ((v6, v6), "the same image twice"),
        ((v6, f"linux/arm/v5={v7}"), "needs linux/arm/v7"),
        ((v7, _relabel(v6, tmp_path / "x.tar", variant="v7")), "two images for linux/arm/v7"),
    ):
        refused = embedkit("oci", "merge", *words, "-o", tmp_path / "out.tar", code=2)
        assert said in refused["error"]["message"]
        assert not (tmp_path / "out.tar").exists()


def test_merge_keeps_image_ids_and_takes_flat_and_nested_layouts(tmp_path: Path) -> None:
    archives = [_single(tmp_path, "a", "amd64"), _single(tmp_path, "b", "arm", "v7")]
    merged = embedkit("oci", "merge", *archives, "-t", "app:1", "-o", tmp_path / "nested")
    ids = [p["config"] for p in merged["data"]["platforms"]]
    assert ids == [next(iter(_built(a).values()))["config_digest"] for a in archives]
    # The flat shape: index.json itself lists the platforms.
    flat = tmp_path / "nested"
    index = json.loads((flat / "index.json").read_text())
    inner = flat / "blobs" / index["manifests"][0]["digest"].replace(":", "/")
    (flat / "index.json").write_bytes(inner.read_bytes())
    again = embedkit("oci", "copy", flat, tmp_path / "again.tar")
    assert [p["config"] for p in again["data"]["platforms"]] == ids
    third = _single(tmp_path, "c", "arm64")
    more = embedkit("oci", "merge", flat, third, "-o", tmp_path / "more.tar", "--type", "docker")
    assert len(more["data"]["platforms"]) == 3
    assert more["data"]["media_type"].endswith("manifest.list.v2+json")


def test_a_layout_keeps_its_other_images(tmp_path: Path) -> None:
    out = tmp_path / "layout"
    first = _single(tmp_path, "a", "amd64")
    second = _single(tmp_path, "b", "arm", "v7")
    embedkit("oci", "copy", first, out, "-t", "one:1")
    embedkit("oci", "copy", second, out, "-t", "two:1")
    embedkit("oci", "copy", second, out, "-t", "one:1")
    listed = embedkit("oci", "list", out)["data"]["images"]
    assert [(image["image"], image["platforms"]) for image in listed] == [
        ("docker.io/library/two:1", "linux/arm/v7"),
        ("docker.io/library/one:1", "linux/arm/v7"),
    ]
    assert not list(out.glob(".*"))
    embedkit("oci", "copy", first, out, "-t", "three:1")
    asked = embedkit("oci", "inspect", out, code=2)
    assert "3 images are in it" in asked["error"]["message"]
    embedkit("oci", "inspect", f"{out}:two:1")
