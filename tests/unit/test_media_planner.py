"""Plans: every byte has one owner, and what cannot be is refused before anything is written."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.founding import device_tree, noise, uimage

from embedkit import board
from embedkit.errors import InputError
from embedkit.media.layout import CardPlan, FileSource
from embedkit.media.planner import plan

HEAD = 'title = "A board"\narch = "arm"\n[layouts.sd]\nsource = "x"\n'
MIB = 1 << 20


def a_board(folder: Path, layout: str, head: str = HEAD) -> board.Board:
    path = folder / "board.toml"
    path.write_text(head + layout)
    return board.load(str(path))


def blob(name: str, offset: str, *more: str) -> str:
    lines = "\n".join(more)
    return f'[layouts.sd.blobs.{name}]\nimage = "{name}.bin"\noffset = {offset}\n{lines}\n'


def files(folder: Path, **sizes: int) -> Path:
    for name, size in sizes.items():
        (folder / f"{name}.bin").write_bytes(noise(name, size))
    return folder


def xu3(folder: Path, **changed: bytes) -> Path:
    contents = {
        "bl1.bin": noise("bl1", 15616),
        "bl2.bin": noise("bl2", 14592),
        "u-boot.bin": noise("u-boot", 600_000),
        "tzsw.bin": noise("tzsw", 262144),
        "uImage": uimage(noise("kernel", 5_000)),
        "exynos5422-odroidxu3.dtb": device_tree(4096),
    }
    for name, content in {**contents, **changed}.items():
        (folder / name).write_bytes(content)
    return folder


def of(card: CardPlan, name: str) -> list[tuple[int, int]]:
    return [(e.first_byte, e.length) for e in card.extents if e.name == name]


def test_the_xu3_card(tmp_path: Path) -> None:
    card = plan(board.load("odroid-xu3"), artifacts=xu3(tmp_path))
    assert card.size_bytes == 4325376 * 512
    assert of(card, "bl1") == [(512, 15360)], "cut at 30 sectors"
    assert any("256 B too many" in warning for warning in card.warnings)
    assert any("not a build that is known" in warning for warning in card.warnings)
    names = {sector: card.region_at(sector * 512) for sector in (0, 30, 31, 62, 63, 2110, 2111)}
    assert names == {
        0: "gap at the card's start", 30: "bl1", 31: "bl2", 62: "bl2", 63: "u-boot",
        2110: "u-boot", 2111: "tzsw",
    }  # fmt: skip
    assert card.region_at(446) == "partition table"
    assert card.region_at(2623 * 512) == "gap after tzsw"
    assert card.region_at(131072 * 512) == "partition 1 (rootfs)"


def test_all_problems_at_once(tmp_path: Path) -> None:
    xu3(tmp_path, **{"u-boot.bin": bytes(2048 * 512 + 1), "uImage": b"\x7fELF" + bytes(100)})
    (tmp_path / "tzsw.bin").unlink()
    with pytest.raises(InputError) as caught:
        plan(board.load("odroid-xu3"), artifacts=tmp_path)
    told = str(caught.value)
    assert "3 problems" in told
    assert "u-boot: u-boot.bin has 1048577 bytes, its room at sector 63 has 1048576" in told
    assert "is not a uImage: it looks like an ELF file" in told
    assert "tzsw: tzsw.bin.hardkernel or tzsw.bin is not in" in told


def test_a_bl2_of_another_layout_is_refused(tmp_path: Path) -> None:
    """The silent board: BL2 built for 720 KiB of U-Boot on a card laid out for 1 MiB."""
    found = b"bl2 for another layout"
    text = f"""
[layouts.sd.blobs.bl2]
image = "bl2.bin"
offset = 31
sha256 = ["{"0" * 64}"]
[layouts.other]
source = "x"
[layouts.other.blobs.bl2]
image = "bl2.bin"
offset = 31
sha256 = ["{hashlib.sha256(found).hexdigest()}"]
"""
    (tmp_path / "bl2.bin").write_bytes(found)
    with pytest.raises(InputError, match="is the build for layout other") as caught:
        plan(a_board(tmp_path, text), artifacts=tmp_path)
    assert "--layout other" in str(caught.value.hint)
    assert plan(a_board(tmp_path, text), layout="other", artifacts=tmp_path).warnings == ()


def test_holes_leave_the_table_alone(tmp_path: Path) -> None:
    """An Amlogic boot loader lies around the MBR."""
    layout = blob("bl1", "0", 'holes = ["(440; 512)"]', 'size = "8s"')
    layout += '[layouts.sd.partitions.p]\noffset = "1MiB"\nsize = "1MiB"\n'
    card = plan(a_board(tmp_path, layout), artifacts=files(tmp_path, bl1=2000))
    assert of(card, "bl1") == [(0, 440), (512, 1488)]
    skips = [e.source.skip for e in card.extents if isinstance(e.source, FileSource)]
    assert skips == [0, 512]
    assert of(card, "partition table") == [(440, 72)]


def test_without_the_hole_it_is_an_overlap(tmp_path: Path) -> None:
    layout = blob("bl1", "0", 'size = "8s"')
    with pytest.raises(InputError, match="partition table"):
        plan(a_board(tmp_path, layout), artifacts=files(tmp_path, bl1=2000))


def test_a_later_blob_wins_only_where_the_file_says_so(tmp_path: Path) -> None:
    files(tmp_path, one=3 * 512, two=512)
    allowed = blob("one", "1", 'size = "2s"', 'overwritten-by = "two"') + blob("two", "3")
    card = plan(a_board(tmp_path, allowed), artifacts=tmp_path)
    assert of(card, "one") == [(512, 1024)]
    assert of(card, "two") == [(1536, 512)]
    refused = allowed.replace('overwritten-by = "two"\n', "")
    with pytest.raises(InputError, match=r"512 B too many"):
        plan(a_board(tmp_path, refused), artifacts=tmp_path)


def test_a_blob_s_room_ends_where_the_next_thing_starts(tmp_path: Path) -> None:
    layout = blob("one", "1") + '[layouts.sd.partitions.p]\noffset = "1MiB"\nsize = "1MiB"\n'
    limit = MIB - 512
    plan(a_board(tmp_path, layout), artifacts=files(tmp_path, one=limit))
    with pytest.raises(InputError, match="1 B too many"):
        plan(a_board(tmp_path, layout), artifacts=files(tmp_path, one=limit + 1))


def test_the_card_s_size(tmp_path: Path) -> None:
    found = board.load("qemu-arm-virt")
    smallest = plan(found)
    assert smallest.size_bytes % MIB == 0
    rounded = plan(found, power_of_two=True).size_bytes
    assert rounded & (rounded - 1) == 0 and rounded >= smallest.size_bytes
    eight = plan(found, size_bytes=8_000_000_000 // 4096 * 4096)
    assert eight.table is not None
    entry = eight.table.entries[0]
    spare = eight.size_bytes // 512 - entry.end_sector
    assert 33 <= spare < 33 + 8, "the rest goes to the partition, 33 sectors to the GPT's copy"
    with pytest.raises(InputError, match="needs"):
        plan(found, size_bytes=16 * MIB)


def test_seeds_make_cards_differ() -> None:
    found = board.load("qemu-arm-virt")
    one, same, other = (plan(found, seed=seed).table for seed in ("a", "a", "b"))
    assert one is not None and other is not None
    assert one == same
    assert one.identity != other.identity
    assert one.entries[0].uuid != other.entries[0].uuid


def test_kept_places_are_never_zeroed(tmp_path: Path) -> None:
    found = board.load("rock-pi-4")
    (tmp_path / "idbloader.img").write_bytes(noise("idb", 100_000))
    fit = device_tree(4096).replace(b"\0\0\0\1\0\0\0\0", b"\0\0\0\1images\0", 1)
    (tmp_path / "u-boot.itb").write_bytes(fit)
    card = plan(found, artifacts=tmp_path)
    assert [(part.first_byte, part.length) for part in card.kept] == [(4064 * 1024, 32 * 1024)]
    for part in card.zeroed:
        for kept in card.kept:
            assert part.end <= kept.first_byte or kept.end <= part.first_byte
    assert card.region_at(4064 * 1024) == "env"


def test_choices(tmp_path: Path) -> None:
    found = board.load("orangepi-pc")
    loader = tmp_path / "mine.bin"
    loader.write_bytes(noise("loader", 1000))
    card = plan(found, chosen={"u-boot": loader})
    assert of(card, "u-boot") == [(8192, 1000)]
    with pytest.raises(InputError, match="no blob or partition 'u-bot'") as caught:
        plan(found, chosen={"u-bot": loader})
    assert "u-boot" in str(caught.value.hint)
    with pytest.raises(InputError, match="no such file"):
        plan(found, chosen={"u-boot": tmp_path / "nothing"})
    with pytest.raises(InputError, match="neither a ext4 image nor a tar"):
        plan(found, chosen={"u-boot": loader, "rootfs": loader})
    with pytest.raises(InputError, match="does not exist"):
        plan(found, artifacts=tmp_path / "nothing")


def test_an_image_larger_than_its_partition(tmp_path: Path) -> None:
    image = bytearray(2 * MIB)
    image[1024 + 4 : 1024 + 8] = (2 * MIB // 1024).to_bytes(4, "little")
    image[1024 + 56 : 1024 + 58] = b"\x53\xef"
    (tmp_path / "root.bin").write_bytes(image)
    layout = '[layouts.sd.partitions.root]\noffset = "1MiB"\nsize = "1MiB"\nfilesystem = "ext4"\n'
    layout += 'image = "root.bin"\n'
    with pytest.raises(InputError, match=r"content has 2097152 bytes, the partition 1048576"):
        plan(a_board(tmp_path, layout), artifacts=tmp_path)
    (tmp_path / "root.bin").write_bytes(image[:MIB])
    with pytest.raises(InputError, match="cut short"):
        plan(a_board(tmp_path, layout), artifacts=tmp_path)


sizes = st.integers(1, 5000)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 30), sizes), min_size=1, max_size=4), st.booleans())
def test_extents_never_overlap(
    tmp_path_factory: pytest.TempPathFactory, blobs: list[tuple[int, int]], overwrite: bool
) -> None:
    """Whatever the sizes: a plan with one owner for each byte, or a refusal."""
    folder = tmp_path_factory.mktemp("plan")
    text = ""
    for number, (sector, size) in enumerate(blobs):
        later = ", ".join(f'"b{other}"' for other in range(number + 1, len(blobs)))
        more = [f"overwritten-by = [{later}]"] if overwrite and later else []
        text += blob(f"b{number}", str(sector), *more)
        (folder / f"b{number}.bin").write_bytes(noise(str(number), size))
    try:
        card = plan(a_board(folder, text), artifacts=folder)
    except InputError:
        return
    at = 0
    for extent in card.extents:
        assert extent.first_byte >= at and extent.length > 0
        at = extent.end
    assert at <= card.size_bytes
    # The last blob loses nothing to anybody.
    last = len(blobs) - 1
    assert sum(length for _, length in of(card, f"b{last}")) == blobs[last][1]
