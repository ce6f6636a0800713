"""Reading TOML: typed values, and every problem of a file at once."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedkit.errors import InputError
from embedkit.schema import Problems, Table, read_toml


def _table(text: str) -> Table:
    return Table(tomllib.loads(text), Problems(Path("b.toml")))


def test_values_as_they_are_given() -> None:
    table = _table(
        """
        name = "x"
        size = 3
        on = true
        mode = "fast"
        list = ["a", "b"]
        one = "a"
        [sub]
        deep = 1
        [[row]]
        id = 1
        [[row]]
        id = 2
        [named.first]
        id = 3
        """
    )
    assert table.text("name", required=True) == "x"
    assert table.integer("size") == 3
    assert table.boolean("on")
    assert table.choice("mode", ("fast", "slow")) == "fast"
    assert table.texts("list") == ("a", "b")
    assert table.texts("one") == ("a",)
    assert table.table("sub").integer("deep") == 1
    assert [row.integer("id") for row in table.tables("row")] == [1, 2]
    named = table.named_tables("named")
    assert {name: sub.integer("id") for name, sub in named.items()} == {"first": 3}
    table.finish()
    table.problems.raise_if_any()


def test_what_is_absent() -> None:
    table = _table("")
    assert table.text("a") == ""
    assert table.text("a", "default") == "default"
    assert table.integer("a", 7) == 7
    assert table.boolean("a", True) is True
    assert table.choice("a", ("x",), "x") == "x"
    assert table.texts("a") == ()
    assert table.tables("a") == []
    assert table.named_tables("a") == {}
    assert not table.has("a")
    assert table.table("a").text("b") == ""
    assert table.problems.found == []


@pytest.mark.parametrize(
    ("text", "read", "problem"),
    [
        ("a = 1", lambda t: t.text("a"), "a: must be a text, not 1"),
        ("a = true", lambda t: t.integer("a"), "a: must be a whole number, not True"),
        ("a = 1.5", lambda t: t.integer("a"), "a: must be a whole number, not 1.5"),
        ("a = 1", lambda t: t.boolean("a"), "a: must be true or false, not 1"),
        ("a = [1]", lambda t: t.texts("a"), "a: must be a list of texts"),
        ("a = 1", lambda t: t.table("a"), "a: must be a table, not 1"),
        ("a = [1]", lambda t: t.tables("a"), "a[0]: must be a table"),
        ("a.b = 1", lambda t: t.named_tables("a"), "a.b: must be a table"),
        ("", lambda t: t.text("a", required=True), "a: is missing (a text)"),
        ("", lambda t: t.table("a", required=True), "a: is missing (a table)"),
        (
            'a = "fats"',
            lambda t: t.choice("a", ("fast", "slow")),
            "a: 'fats' is not known; did you mean 'fast'?",
        ),
        ('a = "x"', lambda t: t.choice("a", ("fast",)), "a: 'x' is not known; one of fast"),
        ("[a]\nb = 1", lambda t: t.table("a").text("b"), "a.b: must be a text, not 1"),
    ],
)
def test_what_is_wrong(text: str, read: object, problem: str) -> None:
    assert callable(read)
    table = _table(text)
    read(table)
    assert table.problems.found == [problem]


def test_unknown_keys_get_a_guess() -> None:
    table = _table("nmae = 1\nzzz = 2\nname = 'x'")
    table.text("name")
    table.finish()
    assert table.problems.found == ["nmae: unknown key; did you mean 'name'?", "zzz: unknown key"]


def test_one_problem_and_many() -> None:
    problems = Problems(Path("b.toml"))
    problems.raise_if_any()
    problems.add("a.b", "is missing")
    with pytest.raises(InputError) as caught:
        problems.raise_if_any()
    assert str(caught.value) == "a.b: is missing (b.toml)"
    problems.add("", "something else")
    with pytest.raises(InputError) as caught:
        problems.raise_if_any()
    assert str(caught.value) == ("2 problems in b.toml:\n  - a.b: is missing\n  - something else")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"a = ", "not valid TOML"),
        (b"a = 1\nb = ]\n", "line 2"),
        (b"\xff", "not a text file in UTF-8"),
        (b"a = " + b"[" * 20000, "nested too deeply"),
    ],
)
def test_files_that_are_no_toml(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "b.toml"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_toml(path)
    assert complaint in str(caught.value)
    assert "b.toml" in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_toml(tmp_path / "none.toml")
    with pytest.raises(InputError, match="Is a directory"):
        read_toml(tmp_path)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from("abc"), _VALUES))
def test_any_value_is_read_or_noted(values: dict[str, object]) -> None:
    table = Table(values, Problems(Path("x")))
    for key in values:
        assert isinstance(table.text(key), str)
        assert isinstance(table.integer(key), int)
        assert isinstance(table.boolean(key), bool)
        assert all(isinstance(item, str) for item in table.texts(key))
        table.choice(key, ("a", "b"))
        for sub in (table.table(key), *table.tables(key), *table.named_tables(key).values()):
            sub.text("a")
    table.finish()
