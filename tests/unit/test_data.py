"""Looking up what embedkit ships and what users add."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedkit import data
from embedkit.errors import InputError


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """An installation's ``boards`` and a user's."""
    package = tmp_path / "site" / "embedkit"
    shipped = package / "_data" / "boards"
    users = tmp_path / "config" / "embedkit" / "boards"
    for folder in (shipped / "one", shipped / "two", users):
        folder.mkdir(parents=True)
    (shipped / "README.md").touch()
    monkeypatch.setattr(data, "_PACKAGE", package)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return shipped, users


@pytest.mark.parametrize(
    ("function", "variable", "fallback"),
    [
        (data.config_folder, "XDG_CONFIG_HOME", ".config"),
        (data.cache_folder, "XDG_CACHE_HOME", ".cache"),
        (data.state_folder, "XDG_STATE_HOME", ".local/state"),
    ],
)
def test_folders_of_the_user(
    function: object, variable: str, fallback: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert callable(function)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(variable, "/somewhere")
    assert function() == Path("/somewhere/embedkit")
    monkeypatch.setenv(variable, "relative/is/ignored")
    assert function() == tmp_path / fallback / "embedkit"
    monkeypatch.delenv(variable)
    assert function() == tmp_path / fallback / "embedkit"


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert data.config_folder() == Path("/.config/embedkit")


def test_the_checkout_has_its_folders() -> None:
    assert (data.shipped_folder("boards") / "README.md").is_file()
    assert (data.shipped_folder("kernel_fragments") / "README.md").is_file()


def test_a_broken_installation_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(data, "_PACKAGE", tmp_path / "embedkit")
    with pytest.raises(InputError) as caught:
        data.shipped_folder("boards")
    assert caught.value.hint == "install embedkit again"


def test_the_users_own_come_first(folders: tuple[Path, Path]) -> None:
    shipped, users = folders
    assert data.find("boards", "two") == shipped / "two"
    (users / "two").mkdir()
    (users / "three").mkdir()
    assert data.find("boards", "two") == users / "two"
    assert data.names("boards") == {
        "one": shipped / "one",
        "three": users / "three",
        "two": users / "two",
    }


def test_files_are_named_without_their_suffix(folders: tuple[Path, Path]) -> None:
    shipped, _ = folders
    (shipped / "a.toml").touch()
    (shipped / "folder.toml").mkdir()
    assert data.names("boards", ".toml") == {"a": shipped / "a.toml"}
    assert data.find("boards", "a", ".toml") == shipped / "a.toml"


def test_a_path_is_taken_as_one(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "mine.toml").touch()
    assert data.find("boards", f"{tmp_path}/mine.toml") == tmp_path / "mine.toml"
    with pytest.raises(InputError, match=r"no such file: \./none"):
        data.find("boards", "./none")


def test_a_wrong_name_gets_a_guess_or_the_list(folders: tuple[Path, Path]) -> None:
    with pytest.raises(InputError) as caught:
        data.find("boards", "onne")
    assert str(caught.value) == "there is no board called 'onne'"
    assert caught.value.hint == "did you mean 'one'?"
    with pytest.raises(InputError) as caught:
        data.find("boards", "zzzz")
    assert caught.value.hint == "known: one, two"


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_cannot_lead_out_of_the_folder(folders: tuple[Path, Path], name: str) -> None:
    with pytest.raises(InputError):
        data.find("boards", name)
