"""Sizes and durations as people write and read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedkit.errors import InputError
from embedkit.units import SECTOR, format_seconds, format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("4096B", 4096),
        ("32KiB", 32 << 10),
        ("32k", 32 << 10),
        (" 1.5 GiB ", 3 << 29),
        ("63s", 63 * SECTOR),
        ("1MB", 10**6),
        ("0.1GB", 10**8),
        ("2TiB", 2 << 40),
        # A float of 2.3 × 10¹² plus the rest would not be whole.
        ("2.3TB", 2_300_000_000_000),
        ("9007199254740993", 9007199254740993),
        ("8388607.5TiB", (8388607 << 40) + (1 << 39)),
    ],
)
def test_parse(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "K", "-1", "+1", "1 2", "1e3", "0x10", "1.", ".5K", "1,5G", "1XB", "٣", "nan", "1K\n2"],
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(InputError):
        parse_size(text)


@pytest.mark.parametrize("text", ["0.5", "1.3KiB", "0.001s"])
def test_no_part_of_a_byte(text: str) -> None:
    with pytest.raises(InputError, match="whole number of bytes"):
        parse_size(text)


@given(
    st.integers(0, 1 << 64), st.sampled_from([("", 1), ("KiB", 1024), ("MB", 10**6), ("s", 512)])
)
def test_whole_numbers_are_exact(number: int, unit: tuple[str, int]) -> None:
    assert parse_size(f"{number}{unit[0]}") == number * unit[1]
    assert parse_size(f"{number} {unit[0].lower()}") == number * unit[1]


@given(st.text(max_size=12))
def test_any_text_is_a_size_or_an_input_error(text: str) -> None:
    try:
        assert parse_size(text) >= 0
    except InputError:
        pass


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        ((1 << 20) - 1, "1.0 MiB"),
        (3 << 29, "1.5 GiB"),
        (-2048, "-2.0 KiB"),
        (5000 << 40, "5000.0 TiB"),
    ],
)
def test_format_size(size: int, shown: str) -> None:
    assert format_size(size) == shown


@given(st.integers(0, 1 << 60))
def test_a_shown_size_is_near_the_real_one(size: int) -> None:
    number, unit = format_size(size).split()
    factor = parse_size(f"1{unit}")
    assert abs(float(number) * factor - size) <= 0.051 * factor
    assert float(number) < 1024 or unit == "TiB"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (42.4, "42 s"),
        (59.7, "1 min 00 s"),
        (185, "3 min 05 s"),
    ],
)
def test_format_seconds(seconds: float, shown: str) -> None:
    assert format_seconds(seconds) == shown
