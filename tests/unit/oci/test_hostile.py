"""Strangers' layouts and archives: a clear error, no file outside, bounded work."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from support import elf
from support.oci_images import embedkit

from embedkit.errors import InputError
from embedkit.oci import documents, layout
from embedkit.oci.archive import open_archive
from embedkit.oci.source import read_tree
from embedkit.oci.tarread import Member

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class Layout:
    """A layout folder written by hand, right or wrong."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "blobs" / "sha256").mkdir(parents=True)
        (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def blob(self, content: bytes, media_type: str, **more: object) -> dict[str, object]:
        name = hashlib.sha256(content).hexdigest()
        (self.folder / "blobs" / "sha256" / name).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{name}", "size": len(content), **more}

    def image(self, layer: bytes, **config: object) -> dict[str, object]:
        diff_id = "sha256:" + hashlib.sha256(layer).hexdigest()
        values = {"architecture": "amd64", "os": "linux", "rootfs": {"diff_ids": [diff_id]}}
        made = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.blob(
                json.dumps(values | config).encode(), "application/vnd.oci.image.config.v1+json"
            ),
            "layers": [self.blob(layer, "application/vnd.oci.image.layer.v1.tar")],
        }
        return self.blob(json.dumps(made).encode(), MANIFEST)

    def index(self, *entries: dict[str, object]) -> dict[str, object]:
        values = {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(entries)}
        return self.blob(json.dumps(values).encode(), INDEX)

    def root(self, *entries: dict[str, object]) -> Path:
        values = {"schemaVersion": 2, "manifests": list(entries)}
        (self.folder / "index.json").write_text(json.dumps(values))
        return self.folder

    def path(self, descriptor: dict[str, object]) -> Path:
        return self.folder / "blobs" / str(descriptor["digest"]).replace(":", "/")


def _layer(*members: tuple[str, bytes, str]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, kind, link in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, link, 4 if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(b"data"))
    return target.getvalue()


@pytest.fixture
def made(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


def _refused(path: Path, said: str, *words: str) -> None:
    refused = embedkit("oci", "inspect", path, *words, code=2)
    assert said in refused["error"]["message"], refused["error"]
    copied = embedkit("oci", "copy", path, path.parent / "copy", code=2)
    assert copied["error"]["kind"] == "InputError"
    assert not (path.parent / "copy").exists()
    assert not list(path.parent.glob(".copy*"))


def test_the_sample_is_right_where_it_is_not_made_wrong(made: Layout) -> None:
    assert embedkit("oci", "inspect", made.root(made.image(_layer())))["ok"]


def test_another_content_under_a_digest(made: Layout) -> None:
    image = made.image(_layer(("a", tarfile.REGTYPE, "")))
    manifest = json.loads(made.path(image).read_text())
    layer = made.path(manifest["layers"][0])
    content = bytearray(layer.read_bytes())
    content[600] ^= 1
    layer.write_bytes(bytes(content))
    _refused(made.root(image), "has another digest")


@pytest.mark.parametrize(("by", "said"), [(1, "ends after"), (-1, "has more")])
def test_sizes_that_lie(made: Layout, by: int, said: str) -> None:
    image = made.image(_layer())
    manifest = json.loads(made.path(image).read_text())
    manifest["layers"][0]["size"] += by
    _refused(made.root(made.blob(json.dumps(manifest).encode(), MANIFEST)), said)


@pytest.mark.parametrize("size", [-1, 1 << 70, "5", None, True, 1.5])
def test_sizes_that_are_none(made: Layout, size: object) -> None:
    image = made.image(_layer())
    _refused(made.root(image | {"size": size}), "size")


@pytest.mark.parametrize(
    "digest", ["sha256:../../../../etc/passwd", "sha256:ABC", "md5:0", "", 5, "sha256:" + "0" * 63]
)
def test_digests_that_are_none(made: Layout, digest: object) -> None:
    _refused(made.root(made.image(_layer()) | {"digest": digest}), "digest")


def test_a_layer_that_is_not_what_the_config_says(made: Layout) -> None:
    image = made.image(_layer(), rootfs={"diff_ids": ["sha256:" + "0" * 64]})
    refused = embedkit("oci", "inspect", made.root(image), code=2)
    assert "not what the config says" in refused["error"]["message"]
    copied = embedkit("oci", "copy", made.folder, made.folder.parent / "out", code=2)
    assert "not what the config says" in copied["error"]["message"]


def test_an_index_with_ten_thousand_manifests(made: Layout) -> None:
    entry = made.image(_layer())
    _refused(made.root(made.index(*[entry] * 10_000)), "more than 1000")
    _refused(made.root(*[entry] * 10_000), "more than 1000")


def test_many_manifests_in_many_indexes(made: Layout) -> None:
    entry = made.image(_layer())
    inner = [made.index(*[entry] * 900, made.blob(bytes([n]), MANIFEST)) for n in range(5)]
    _refused(made.root(made.index(*inner)), "nested indexes")


def test_deep_recursion(made: Layout) -> None:
    entry = made.image(_layer())
    for _ in range(50):
        entry = made.index(entry)
    _refused(made.root(entry), "nested deeper")


def test_a_document_nested_beyond_reason(made: Layout) -> None:
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    _refused(made.root(made.blob(deep, INDEX)), "nested")


def test_a_manifest_that_says_it_is_huge(made: Layout) -> None:
    _refused(made.root(made.image(_layer()) | {"size": 5 << 30}), "not accepted")


def test_a_manifest_under_a_false_type(made: Layout) -> None:
    image = made.image(_layer())
    values = json.loads(made.path(image).read_text()) | {"mediaType": INDEX}
    _refused(made.root(made.blob(json.dumps(values).encode(), MANIFEST)), "says")


def test_a_fifo_or_a_device_in_place_of_a_blob(made: Layout) -> None:
    image = made.image(_layer())
    path = made.path(image)
    path.unlink()
    os.mkfifo(path)
    _refused(made.root(image), "not a regular file")
    path.unlink()
    path.symlink_to("/dev/zero")
    _refused(made.root(image), "not a regular file")


def test_missing_blobs(made: Layout) -> None:
    image = made.image(_layer())
    made.path(image).unlink()
    _refused(made.root(image), "No such file")


def test_bombs(made: Layout) -> None:
    plain, made_bomb, pieces = hashlib.sha256(), zstandard.ZstdCompressor().compressobj(), []
    for _ in range(300):
        plain.update(bytes(1 << 20))
        pieces.append(made_bomb.compress(bytes(1 << 20)))
    bomb = b"".join(pieces) + made_bomb.flush()
    diff_id = f"sha256:{plain.hexdigest()}"
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"diff_ids": [diff_id]}}
    manifest = {
        "schemaVersion": 2,
        "config": made.blob(
            json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"
        ),
        "layers": [made.blob(bomb, "application/vnd.oci.image.layer.v1.tar+zstd")],
    }
    path = made.root(made.blob(json.dumps(manifest).encode(), MANIFEST))
    refused = embedkit(
        "oci", "copy", path, path.parent / "copy", "--compress", "none", code=2
    )  # fmt: skip
    assert "bomb" in refused["error"]["message"]
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["layout"]


def test_layers_that_no_honest_tool_writes(made: Layout) -> None:
    device = ("dev/sda", tarfile.BLKTYPE, "")
    layer = _layer(
        ("../../etc/cron.d/x", tarfile.REGTYPE, ""),
        ("/absolute", tarfile.REGTYPE, ""),
        ("up", tarfile.SYMTYPE, "../../outside"),
        ("hard", tarfile.LNKTYPE, "../../etc/shadow"),
        (".wh.", tarfile.REGTYPE, ""),
        (".wh..", tarfile.REGTYPE, ""),
        (".wh..wh..opq", tarfile.REGTYPE, ""),
        ("twice", tarfile.REGTYPE, ""),
        ("twice", tarfile.REGTYPE, ""),
        ("a/" * 200 + "deep", tarfile.REGTYPE, ""),
        device,
    )
    found = embedkit("oci", "inspect", made.root(made.image(layer)))["data"]["images"][0]
    said = " | ".join(found["problems"])
    for words in (
        "leads out",
        "absolute",
        "above the root",
        "hard link out",
        "whiteout of the folder itself",
        "twice in one layer",
        "folders deep",
        "device node",
    ):
        assert words in said
    assert found["visible_bytes"] == 4 * 2


def test_whiteouts_take_from_lower_layers_only() -> None:
    from embedkit.oci.rootfs import RootFs

    def member(name: str, size: int = 0, kind: str = "file") -> Member:
        return Member(name, kind, size, 0, 0, 0, 0, "", 0, 0, 0)  # type: ignore[arg-type]

    fs = RootFs("test")
    for name, size in (("a/x", 10), ("a/y", 20), ("b/z", 5)):
        fs.add(member(name, size), 0)
    fs.add(member("a/.wh..wh..opq"), 1)
    fs.add(member("a/new", 7), 1)
    fs.add(member("b/.wh.z"), 1)
    fs.add(member("a/new2", 1), 1)
    fs.add(member("a/.wh.new2"), 1)
    assert [path for path, _ in fs.files()] == ["a/new", "a/new2"]
    assert fs.wasted_bytes == 35
    assert fs.wasted_by == {1: 35}


_PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join)
_OPS = st.tuples(_PATHS, st.sampled_from(["file", "dir", "gone"]), st.integers(1, 9))


@given(st.lists(st.lists(_OPS, max_size=6, unique_by=lambda op: op[0]), max_size=4))
def test_layers_over_layers_as_a_file_system_would(
    layers: list[list[tuple[str, str, int]]],
) -> None:
    """Against a plain model: a mapping of paths, changed the way rm -r, mkdir -p and cp do."""
    from embedkit.oci.rootfs import RootFs

    fs = RootFs("test")
    model: dict[str, tuple[str, int]] = {}
    stored = 0

    def remove(path: str) -> None:
        for known in [k for k in model if k == path or k.startswith(path + "/")]:
            del model[known]

    for number, layer in enumerate(layers):
        mine: set[str] = set()
        for path, kind, size in sorted(layer, key=lambda op: (op[1] != "gone", op[0])):
            above, _, name = path.rpartition("/")
            if kind == "gone":
                full = f"{above}/.wh.{name}" if above else f".wh.{name}"
                fs.add(Member(full, "file", 0, 0, 0, 0, 0, "", 0, 0, 0), number)
                remove(path)
                continue
            if any(model.get(p, ("dir", 0))[0] != "dir" for p in _above(path)):
                continue  # a file where a folder must be: no tar of a real tree has that
            fs.add(Member(path, kind, size if kind == "file" else 0, 0, 0, 0, 0, "", 0, 0, 0),
                   number)  # type: ignore[arg-type] # fmt: skip
            for parent in _above(path):
                model.setdefault(parent, ("dir", 0))
            if kind == "file" or model.get(path, ("", 0))[0] != "dir":
                remove(path)
                model[path] = (kind, size if kind == "file" else 0)
            stored += size if kind == "file" else 0
            mine.add(path)
    expected = {path: size for path, (kind, size) in model.items() if kind == "file"}
    assert {path: node.size for path, node in fs.files()} == expected
    assert fs.stored_bytes == stored


def _above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:n]) for n in range(1, len(parts))]


def _docker_archive(path: Path, **files: bytes | str) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


def _config(layer: bytes) -> bytes:
    diff_id = "sha256:" + hashlib.sha256(layer).hexdigest()
    values = {"architecture": "amd64", "os": "linux", "rootfs": {"diff_ids": [diff_id]}}
    return json.dumps(values).encode()


@pytest.mark.parametrize("packed", ["plain", "gzip", "bzip2", "xz", "zstd"])
def test_docker_archives_with_links_and_packed_layers(tmp_path: Path, packed: str) -> None:
    import bz2
    import lzma

    layer = _layer(("a", tarfile.REGTYPE, ""))
    pack = {"plain": bytes, "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress,
            "zstd": zstandard.compress}[packed]  # fmt: skip
    manifest = [{"Config": "c.json", "RepoTags": ["x:1"], "Layers": ["id/layer.tar"]}]
    files = {"manifest.json": json.dumps(manifest).encode(), "c.json": _config(layer),
             "real.tar": pack(layer), "id__layer.tar": "../real.tar"}  # fmt: skip
    archive = _docker_archive(tmp_path / "x.tar", **files)
    made = embedkit("oci", "copy", archive, tmp_path / "out.tar")
    (layers,) = (platform["layers"] for platform in made["data"]["platforms"])
    assert layers[0]["media_type"].endswith("tar+gzip")
    assert made["data"]["platforms"][0]["config"].endswith(
        hashlib.sha256(files["c.json"]).hexdigest()
    )
    whole = gzip.compress(archive.read_bytes())
    (tmp_path / "x.tar.gz").write_bytes(whole)
    again = embedkit("oci", "copy", tmp_path / "x.tar.gz", tmp_path / "out2.tar")
    assert again["data"]["digest"] == made["data"]["digest"]


@pytest.mark.parametrize(
    "manifest",
    [
        [{"Config": "/etc/passwd", "Layers": []}],
        [{"Config": "../../../etc/passwd", "Layers": []}],
        [{"Config": "c.json", "Layers": ["loop"]}],
        [{"Config": "c.json", "Layers": ["out"]}],
        [{"Config": "c.json", "Layers": []}],
        [{"Config": "c.json", "Layers": ["l", "l"]}],
        [{"Config": 5, "Layers": ["l"]}],
        [{}],
        {},
        [None],
    ],
)
def test_docker_archives_that_lie(tmp_path: Path, manifest: object) -> None:
    layer = _layer()
    archive = _docker_archive(
        tmp_path / "x.tar",
        **{"manifest.json": json.dumps(manifest).encode(), "c.json": _config(layer), "l": layer},
        loop="loop",
        out="../../../../etc/passwd",
    )
    with pytest.raises(InputError):
        open_archive(archive)


@given(st.binary(max_size=300))
def test_json_from_strangers(content: bytes) -> None:
    for parse in (documents.parse_index, documents.parse_manifest, documents.parse_config):
        try:
            parse(content, "test")
        except InputError:
            pass


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["schemaVersion", "manifests", "layers", "config", "digest", "size",
                         "mediaType", "platform", "rootfs", "diff_ids", "annotations", "history",
                         "os", "architecture"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(_JSON)
def test_json_that_looks_right(values: object) -> None:
    content = json.dumps(values).encode()
    for parse in (documents.parse_index, documents.parse_manifest, documents.parse_config):
        try:
            parse(content, "test")
        except InputError:
            pass
    if isinstance(values, dict):
        test_json_from_strangers.hypothesis.inner_test(  # type: ignore[attr-defined]
            json.dumps(values | {"schemaVersion": 2}).encode()
        )


def test_a_layout_of_another_version(made: Layout) -> None:
    (made.folder / "oci-layout").write_text('{"imageLayoutVersion":"2.0.0"}')
    with pytest.raises(InputError, match="version"):
        layout.open_folder(made.root(made.image(_layer())))


def test_a_mislabelled_image_is_refused_by_resolve(made: Layout) -> None:
    target = io.BytesIO()
    program = elf.program("arm", "v7")
    with tarfile.open(fileobj=target, mode="w") as archive:
        info = tarfile.TarInfo("app")
        info.size = len(program)
        archive.addfile(info, io.BytesIO(program))
    image = made.image(target.getvalue())
    image["platform"] = {"os": "linux", "architecture": "amd64"}
    path = made.root(image)
    refused = embedkit("oci", "resolve", path, "--platform", "amd64", code=1)
    assert "needs" in refused["verdict"] or "is a program for linux/arm/v7" in refused["verdict"]
    assert embedkit("oci", "resolve", path, "--platform", "amd64", "--trust-labels")["ok"]
    assert embedkit("oci", "resolve", path, "--platform", "arm64", code=1)["status"] == "fail"


def test_attestations_are_no_platforms(made: Layout) -> None:
    image = made.image(_layer()) | {"platform": {"os": "linux", "architecture": "amd64"}}
    artifact = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": made.blob(b"{}", "application/x"),
        "layers": [],
    }
    other = made.blob(json.dumps(artifact).encode(), MANIFEST)
    other |= {
        "platform": {"os": "unknown", "architecture": "unknown"},
        "annotations": {"vnd.docker.reference.type": "attestation-manifest"},
    }
    path = made.root(made.index(image, other))
    tree = read_tree(layout.open_folder(path))
    assert (len(tree.entries), len(tree.images)) == (2, 1)
    copied = embedkit("oci", "copy", path, path.parent / "copy.tar")
    # What need not change keeps its digest, attestations and all.
    assert [p["platform"] for p in copied["data"]["platforms"]] == ["linux/amd64"]
    merged = embedkit("oci", "merge", path, "-o", path.parent / "merged.tar")
    assert "attestations left out" in merged["notes"][0]
