"""``embedkit boards …`` and the card's drawing."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedkit import board
from embedkit.cli import main
from embedkit.media import cardmap
from embedkit.media.cardmap import CardMap
from embedkit.media.layout import Region, RegionKind

SVG = "{http://www.w3.org/2000/svg}"


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["boards", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["data"]["boards"]
    xu3 = next(row for row in rows if row["name"] == "odroid-xu3")
    assert xu3["default_layout"] == "1m" and "328k" in xu3["layouts"]


def test_a_user_s_broken_board_does_not_hide_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "embedkit" / "boards" / "mine"
    folder.mkdir(parents=True)
    (folder / "board.toml").write_text("title = 5\n")
    assert main(["boards", "list"]) == 0
    shown = capsys.readouterr().out
    assert "mine: cannot be read" in shown and "orangepi-pc" in shown
    assert main(["boards", "validate", "mine", "orangepi-pc"]) == 1
    shown = capsys.readouterr().out
    assert "title: must be a text" in shown and "1 of 2 board files have problems" in shown


def test_validate_all_that_ship(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["boards", "validate"]) == 0
    assert "warn" not in capsys.readouterr().out


def test_show_draws_the_map(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["boards", "show", "odroid-xu3", "--layout", "1m"]) == 0
    lines = capsys.readouterr().out.splitlines()
    tzsw = next(line for line in lines if " tzsw " in line)
    assert tzsw.split()[:3] == ["2111", "2622", "256.0"]
    assert any("cut to its room" in line for line in lines)
    assert main(["boards", "show", "odroid-xu3", "--layout", "328"]) == 2
    assert "did you mean '328k'" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(board.names()))
def test_every_layout_has_a_drawing(name: str) -> None:
    for layout in board.load(name).layouts:
        card = cardmap.of_layout(layout)
        assert sum(row.length for row in card.rows) >= card.size_bytes
        root = ElementTree.fromstring(cardmap.svg(card))
        boxes = root.findall(f"{SVG}rect")
        assert len(boxes) == len(card.rows)
        for row in card.rows:
            assert row.name in cardmap.text(card)


regions = st.builds(
    Region,
    name=st.text(max_size=12),
    kind=st.sampled_from([kind for kind in RegionKind if kind is not RegionKind.GAP]),
    first_byte=st.integers(0, 1 << 40),
    length=st.integers(1, 1 << 40),
    note=st.text(max_size=12),
)


@given(st.lists(regions, max_size=6))
def test_any_card_can_be_drawn(found: list[Region]) -> None:
    rows = tuple(sorted(found, key=lambda region: region.first_byte))
    card = CardMap(rows, (), max((row.end for row in rows), default=0))
    drawing = "".join(c for c in cardmap.svg(card) if c.isprintable())
    boxes = ElementTree.fromstring(drawing).findall(f"{SVG}rect")
    assert len(boxes) == len(rows)
    for box in boxes:
        assert float(box.attrib["height"]) > 0
    assert cardmap.text(card)


def test_regions_that_overlap_stand_side_by_side() -> None:
    rows = (
        Region("one", RegionKind.BLOB, 0, 4096),
        Region("two", RegionKind.BLOB, 2048, 4096),
    )
    card = CardMap(rows, (("one", "two", 2048),), 8192)
    boxes = ElementTree.fromstring(cardmap.svg(card)).findall(f"{SVG}rect")
    assert boxes[0].attrib["x"] != boxes[1].attrib["x"]
    assert "one and two share 2.0 KiB" in cardmap.text(card)


def test_a_longer_region_is_never_drawn_shorter() -> None:
    drawn = [cardmap.steps(length) for length in range(512, 1 << 22, 4096)]
    assert drawn == sorted(drawn)
