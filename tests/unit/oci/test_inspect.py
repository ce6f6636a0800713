"""Inspecting: waste, duplicates, what a command answers; and the size map."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.oci_images import embedkit, programs

from embedkit.oci.rootfs import FileNode
from embedkit.oci.treemap import Box, squarify, svg


@pytest.fixture
def wasteful(tmp_path: Path) -> Path:
    """Two layers; the upper one overwrites 30,000 of the lower's bytes."""
    below, above = tmp_path / "below", tmp_path / "above"
    for folder in (below, above):
        (folder / "data").mkdir(parents=True)
    (below / "data/changes").write_bytes(b"a" * 30_000)
    (below / "data/stays").write_bytes(b"b" * 60_000)
    (below / "data/twin").write_bytes(b"b" * 60_000)
    (above / "data/changes").write_bytes(b"c" * 10_000)
    embedkit("oci", "build", f"amd64={below}", "-o", tmp_path / "base.tar")
    embedkit("oci", "build", f"amd64={above}", "--from", tmp_path / "base.tar", "-t", "app:1",
             "-o", tmp_path / "app.tar", "--cmd", "/x")  # fmt: skip
    return tmp_path / "app.tar"


def test_waste_is_counted_by_layer(wasteful: Path) -> None:
    (image,) = embedkit("oci", "inspect", wasteful)["data"]["images"]
    assert image["stored_bytes"] == 160_000
    assert image["visible_bytes"] == 130_000
    assert image["wasted_bytes"] == 30_000
    assert image["efficiency"] == pytest.approx(130 / 160)
    assert image["waste"] == [
        {"path": "data/changes", "size": 30_000, "how": "overwritten", "layers": [0, 1]}
    ]
    assert [layer["wasted"] for layer in image["layers"]] == [0, 30_000]
    assert image["duplicates"] == [
        {"size": 60_000, "count": 2, "paths": ["data/stays", "data/twin"]}
    ]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--fail-under", "0.8"), 0),
        (("--fail-under", "82%"), 1),
        (("--free", "1MiB"), 0),
        (("--free", "100KiB"), 1),
        (("--fits", "amd64"), 0),
        (("--fits", "arm/v7"), 1),
        (("--fail-under", "7"), 2),
        (("--free", "much"), 2),
        (("--platform", "arm64"), 2),
    ],
)
def test_questions_have_answers(wasteful: Path, words: tuple[str, ...], code: int) -> None:
    answer = embedkit("oci", "inspect", wasteful, *words, code=code)
    assert answer["ok"] == (code == 0)


def test_hard_links_are_no_duplicates(tmp_path: Path) -> None:
    rootfs = tmp_path / "rootfs"
    rootfs.mkdir()
    (rootfs / "one").write_bytes(b"x" * 9000)
    (rootfs / "two").hardlink_to(rootfs / "one")
    embedkit("oci", "build", f"amd64={rootfs}", "-o", tmp_path / "x.tar", "--cmd", "x")
    (image,) = embedkit("oci", "inspect", tmp_path / "x.tar")["data"]["images"]
    assert (image["stored_bytes"], image["duplicates"]) == (9000, [])


def test_a_name_is_needed_to_push_and_a_place_to_write(tmp_path: Path) -> None:
    part = programs(tmp_path)["linux/amd64"]
    assert "nowhere" in embedkit("oci", "build", part, code=2)["error"]["message"]
    assert "-t" in embedkit("oci", "build", part, "--push", code=2)["error"]["message"]
    strange = embedkit("oci", "copy", part, tmp_path / "x.tar", code=2)
    assert "not a tar" in strange["error"]["message"] or strange["error"]["message"]


def test_a_folder_that_is_no_layout_is_left_alone(wasteful: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "precious").write_text("mine")
    refused = embedkit("oci", "copy", wasteful, other, code=2)
    assert "not an image layout" in refused["error"]["message"]
    refused = embedkit("oci", "static", "export", other, wasteful, code=2)
    assert "not a static registry" in refused["error"]["message"]
    assert [path.name for path in other.iterdir()] == ["precious"]


def _tree(sizes: list[int]) -> FileNode:
    root, inner = FileNode("dir", 0), FileNode("dir", 0)
    assert root.children is not None and inner.children is not None
    root.children["in <&> \x1b"] = inner
    for number, size in enumerate(sizes):
        target = root.children if number % 2 else inner.children
        target[f"f{number}\udc80"] = FileNode("file", 0, size)
    return root


@given(st.lists(st.integers(0, 10**9), max_size=30))
def test_the_map_is_proper_xml_inside_of_its_frame(sizes: list[int]) -> None:
    drawing = svg(_tree(sizes))
    if not sum(sizes):
        assert drawing == ""
        return
    root = ElementTree.fromstring(drawing)
    for rect in root.iter("{http://www.w3.org/2000/svg}rect"):
        x, y, width, height = (float(rect.get(k, "")) for k in ("x", "y", "width", "height"))
        assert x >= -0.2 and x + width <= 960.2
        assert y >= -0.2 and y + height <= 540.2


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=40))
def test_areas_are_in_proportion_and_fill_the_box(values: list[float]) -> None:
    values.sort(reverse=True)
    boxes = squarify(values, Box(0, 0, 100, 50))
    total = sum(values)
    for value, box in zip(values, boxes, strict=True):
        assert box.width * box.height == pytest.approx(5000 * value / total, rel=1e-3, abs=1e-6)


def test_an_interrupted_copy_leaves_what_was_there(
    wasteful: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from embedkit.oci import transfer

    for target in (tmp_path / "old.tar", tmp_path / "old"):
        embedkit("oci", "copy", wasteful, target, "-t", "old:1")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(transfer._Transfer, "_root", interrupted)
    for target in (tmp_path / "old.tar", tmp_path / "old", tmp_path / "new", tmp_path / "new.tar"):
        with pytest.raises(AssertionError, match="exit 130"):
            embedkit("oci", "copy", wasteful, target, "-t", "new:1")
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    # Blobs without a name in index.json are what an interrupted copy may leave in a layout.
    assert all("old/blobs/" in str(path) for path in changed)
    assert "old:1" in embedkit("oci", "list", tmp_path / "old")["data"]["images"][0]["image"]
    assert len(embedkit("oci", "list", tmp_path / "old")["data"]["images"]) == 1
