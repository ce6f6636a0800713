"""What of an image a machine runs, and what its store need not be sent."""

from __future__ import annotations

import hashlib
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import oci_images as images
from support.oci_images import embedkit

from embedkit.errors import InputError
from embedkit.oci import loadable
from embedkit.oci.archive import open_archive
from embedkit.oci.platform import parse
from embedkit.oci.source import ImageTree, read_tree

DIFF_IDS = st.lists(st.integers(0, 3).map(lambda n: f"sha256:{n:064x}"), max_size=5)


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> ImageTree:
    folder = tmp_path_factory.mktemp("five")
    parts = images.programs(folder)
    embedkit("oci", "build", *parts.values(), "-t", "five:1", "-o", folder / "five.tar")
    return read_tree(open_archive(folder / "five.tar"))


@pytest.mark.parametrize(
    ("machine", "taken", "exact"),
    [
        ("arm/v7", "linux/arm/v7", True),
        ("arm/v8", "linux/arm/v7", False),
        ("arm/v6", "linux/arm/v6", True),
        ("arm64", "linux/arm64", True),
        ("amd64", "linux/amd64", True),
    ],
)
def test_the_best_entry(five: ImageTree, machine: str, taken: str, exact: bool) -> None:
    chosen = loadable.choose_for(five, parse(machine))
    assert (str(chosen.platform), chosen.exact) == (taken, exact)


@pytest.mark.parametrize("machine", ["arm/v5", "riscv64"])
def test_nothing_for_the_machine_names_what_there_is(five: ImageTree, machine: str) -> None:
    with pytest.raises(InputError) as caught:
        loadable.choose_for(five, parse(machine))
    assert "linux/amd64, linux/arm64, linux/arm/v7, linux/arm/v6" in caught.value.message
    assert f"--platform linux/{machine}" in str(caught.value.hint)


@given(DIFF_IDS)
def test_chains_are_the_image_spec_s(diff_ids: list[str]) -> None:
    found = loadable.chains(diff_ids)
    before = ""
    for diff_id, chain in zip(diff_ids, found, strict=True):
        text = f"{before} {diff_id}".encode()
        before = f"sha256:{hashlib.sha256(text).hexdigest()}" if before else diff_id
        assert chain == before


@given(DIFF_IDS, st.lists(DIFF_IDS, max_size=4))
def test_layers_are_there_only_on_the_same_layers(mine: list[str], theirs: list[list[str]]) -> None:
    class Chosen:
        class config:
            diff_ids = tuple(mine)

    there = loadable.layers_there(Chosen(), theirs)  # type: ignore[arg-type]
    for number in range(len(mine)):
        known = any(other[: number + 1] == mine[: number + 1] for other in theirs)
        assert (number in there) == known


def test_a_packed_image_is_what_docker_loads(five: ImageTree, tmp_path: Path) -> None:
    chosen = loadable.choose_for(five, parse("arm/v7"))
    packed = loadable.pack_layers(chosen, tmp_path / "all.tar", ())
    with tarfile.open(packed.path) as archive:
        names = archive.getnames()
        (told,) = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
        layer = archive.extractfile(told["Layers"][0])
        assert layer is not None
        digest = hashlib.sha256(layer.read()).hexdigest()
    assert f"sha256:{digest}" == chosen.config.diff_ids[0]
    assert told["RepoTags"] is None and "index.json" not in names
    without = loadable.pack_layers(chosen, tmp_path / "less.tar", {0})
    assert without.left_out == chosen.config.diff_ids and without.size < packed.size
    with tarfile.open(without.path) as archive:
        assert told["Layers"][0] not in archive.getnames()


def test_a_layer_that_is_not_what_the_config_says(five: ImageTree, tmp_path: Path) -> None:
    chosen = loadable.choose_for(five, parse("arm/v7"))
    other = replace(chosen.config, diff_ids=(f"sha256:{7:064x}",))
    with pytest.raises(InputError, match="not what the config says"):
        loadable.pack_layers(replace(chosen, config=other), tmp_path / "x.tar", ())
    assert list(tmp_path.iterdir()) == []
