"""board.toml: what is shipped is sound, what is wrong is told at once and by its key."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedkit import board
from embedkit.board.geometry import conflicts, places
from embedkit.board.model import Blob, Layout
from embedkit.errors import InputError

HEAD = 'title = "A board"\narch = "arm"\n'
LAYOUT = HEAD + '[layouts.sd]\nsource = "x"\n'


def load(tmp_path: Path, text: str) -> board.Board:
    path = tmp_path / "board.toml"
    path.write_text(text)
    return board.load(str(path))


def complaints(tmp_path: Path, text: str) -> str:
    with pytest.raises(InputError) as caught:
        load(tmp_path, text)
    return str(caught.value)


def test_every_shipped_board_is_sound_and_has_sources() -> None:
    expected = {
        "odroid-xu3", "odroid-xu4", "odroid-c2", "orangepi-pc", "beaglebone-black",
        "raspberrypi-3", "raspberrypi-4", "rock-pi-4", "imx8mm-evk", "stm32mp157c-dk2",
        "qemu-arm-virt", "qemu-arm64-virt", "qemu-x86_64",
    }  # fmt: skip
    assert expected <= set(board.names())
    for name in expected:
        found = board.load(name)
        assert not found.advice, found.advice
        assert found.console.device and found.console.source
        assert found.emulation is not None and found.emulation.source
        assert found.sources


def test_the_founding_layout_to_the_sector() -> None:
    layout = board.load("odroid-xu3").default_layout
    sectors = {blob.name: blob.offset // 512 for blob in layout.blobs}
    assert sectors == {
        "bl1": 1, "bl2": 31, "u-boot": 63, "tzsw": 2111, "kernel": 6304, "dtb": 22688,
    }  # fmt: skip
    first, second = layout.partitions
    assert first.offset is not None and first.size is not None
    assert (first.offset // 512, (first.offset + first.size) // 512 - 1) == (131072, 2228223)
    assert second.offset is not None and second.size is not None
    assert (second.offset // 512, (second.offset + second.size) // 512 - 1) == (2228224, 4325375)
    assert (second.label, first.filesystem, second.filesystem) == ("usrfs", "ext4", "ext4")
    assert layout.zero_head == 128 << 20
    assert layout.table == "mbr"


def test_the_three_layouts_differ_by_their_bl2() -> None:
    layouts = [*board.load("odroid-xu3").layouts, *board.load("odroid-xu4").layouts]
    tzsw = {}
    for layout in layouts:
        by_name = {blob.name: blob for blob in layout.blobs}
        if by_name["bl2"].offset == 31 * 512:
            tzsw[by_name["bl2"].sha256] = by_name["tzsw"].offset // 512
    assert sorted(tzsw.values()) == [719, 1503, 2111]


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    told = complaints(
        tmp_path,
        HEAD.replace('"arm"', '"amr"')
        + """
colour = "blue"
[layouts.sd.blobs.spl]
image = "spl.bin"
offset = -1
siez = "32KiB"
[layouts.sd.blobs.second]
image = "../etc/passwd"
offset = "32 apples"
size = 63
[layouts.sd.partitions.root]
filesystem = "ext5"
offset = "1000B"
partition-type = 300
""",
    )
    for part in (
        "did you mean 'arm'",
        "colour: unknown key",
        "layouts.sd.blobs.spl.offset: -1 is negative",
        "layouts.sd.blobs.spl.siez: unknown key; did you mean 'size'?",
        "must stay inside the artifacts folder",
        "'32 apples' is not a size",
        "layouts.sd.blobs.second.size: 63 needs a unit",
        "layouts.sd.partitions.root.filesystem: 'ext5' is not known; did you mean",
        "is not a whole number of sectors",
        "300 is not between 1 and 0xff",
    ):
        assert part in told, f"{part!r} is not in {told}"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (HEAD, "needs at least one"),
        (
            LAYOUT + '[layouts.sd.blobs.a]\nimage="a"\noffset=1\nsize="2s"\n'
            '[layouts.sd.blobs.b]\nimage="b"\noffset=2\nsize="1s"\n',
            r"a (sectors 1 to 2) and b (sectors 2 to 2) overlap by 512 B",
        ),
        (
            LAYOUT.replace("[layouts.sd]", '[layouts.sd]\npartition-table-type="gpt"')
            + '[layouts.sd.blobs.a]\nimage="a"\noffset="8KiB"\nsize="32KiB"\n',
            "GPT entries (sectors 2 to 33) and a (sectors 16 to 79) overlap by 9.0 KiB",
        ),
        (
            LAYOUT + '[layouts.sd.partitions.a]\noffset="1MiB"\n[layouts.sd.partitions.b]\n',
            "only the last partition may take the rest",
        ),
        (
            LAYOUT + '[layouts.sd.reserved.env]\noffset=3\nsize="1s"\ncontent="keep"\n',
            "multiple of 4 KiB",
        ),
        (
            LAYOUT + '[layouts.sd.blobs.a]\nimage="a"\noffset=4\noverwritten-by="z"\n',
            "there is no blob 'z'",
        ),
        (LAYOUT + '[layouts.sd.blobs.a]\nimage="a"\noffset=4\ncut=true\n', "needs a 'size'"),
        (
            LAYOUT + '[layouts.sd.blobs.a]\nimage="a"\noffset=4\nholes="(5;5)"\n',
            "the hole '(5;5)' is empty",
        ),
        (
            LAYOUT + "".join(
                f'[layouts.sd.partitions.p{n}]\noffset={2048 * n}\nsize="1s"\n' for n in range(1, 6)
            ),
            "an MBR has room for 4",
        ),
        ("title = 3\n", "title: must be a text"),
        ("[", "not valid TOML"),
    ],
)  # fmt: skip
def test_each_mistake_has_its_message(tmp_path: Path, text: str, complaint: str) -> None:
    assert complaint in complaints(tmp_path, text)


def test_overlap_is_fine_where_the_file_says_so(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        LAYOUT + '[layouts.sd.blobs.a]\nimage="a"\noffset=1\nsize="3s"\noverwritten-by="b"\n'
        '[layouts.sd.blobs.b]\nimage="b"\noffset=2\nsize="4s"\n',
    )
    assert conflicts(found.default_layout) == ()


def test_unknown_names_get_a_guess() -> None:
    with pytest.raises(InputError) as caught:
        board.load("odriod-xu3")
    assert "odroid-xu3" in str(caught.value.hint)
    with pytest.raises(InputError) as caught:
        board.find_layout(board.load("orangepi-pc"), "gtp")
    assert "gpt" in str(caught.value.hint)


blobs = st.builds(
    Blob,
    name=st.uuids().map(str),
    images=st.just(("x",)),
    offset=st.integers(1, 40).map(lambda sector: sector * 512),
    room=st.integers(1, 20).map(lambda sector: sector * 512),
)


@given(st.lists(blobs, min_size=1, max_size=6))
def test_conflicts_are_exactly_the_shared_sectors(found: list[Blob]) -> None:
    layout = Layout("sd", "sd", "none", tuple(found), ())
    taken = [range(blob.offset, blob.offset + (blob.room or 0), 512) for blob in found]
    wanted = sum(
        bool(set(one) & set(other))
        for index, one in enumerate(taken)
        for other in taken[index + 1 :]
    )
    assert len(conflicts(layout)) == wanted
    assert len(places(layout)) == len(found)


@given(st.text(max_size=200))
def test_no_text_crashes_the_reader(text: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "board.toml"
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        try:
            board.load(str(path))
        except InputError:
            pass
