"""The private apt root: Debian's sources among the host's, downloads, lists that grew old."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import pytest

from embedkit.emulate.apt import Apt, debian_sources
from embedkit.emulate.packages import resolve
from embedkit.errors import LackError
from embedkit.progress import NullProgress, Unit

DEB822 = """\
Types: deb
# a comment
URIs: http://deb.example.org/debian
Suites: bookworm bookworm-updates
Components: main
Architectures: amd64
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: https://apt.example.com
Suites: nodistro
Components: main
Signed-By: /usr/share/keyrings/example.gpg

Types: deb deb-src
URIs: http://deb.example.org/debian-security
Suites: bookworm-security
Components: main
Enabled: no
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""
LINES = """\
# deb http://deb.example.org/debian bookworm main
deb cdrom:[Debian GNU/Linux 12]/debian bookworm main
deb [arch=amd64 signed-by=/k/debian-archive-keyring.gpg] http://m.example.org/debian/ x main # our
deb http://security.example.org/debian-security bookworm-security main
deb [arch=amd64 signed-by=/etc/apt/keyrings/other.gpg] https://d.example.com/linux/debian x main
deb https://d.example.com/linux/debian x stable
deb [trusted=yes] http://m.example.org/debian bookworm-backports main
deb-src http://m.example.org/debian bookworm main
deb http://archive.example.com/ubuntu jammy main
"""


def etc(folder: Path, **files: str) -> Path:
    (folder / "sources.list.d").mkdir(parents=True)
    for name, text in files.items():
        (folder / name.replace("__", "/").replace("_", ".")).write_text(text)
    return folder


def test_debian_s_stanzas_are_taken(tmp_path: Path) -> None:
    kind, text = debian_sources(etc(tmp_path, sources_list_d__debian_sources=DEB822))
    assert kind == "sources"
    assert text == (
        "Types: deb\nURIs: http://deb.example.org/debian\nSuites: bookworm bookworm-updates\n"
        "Components: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    )


def test_debian_s_lines_are_taken(tmp_path: Path) -> None:
    kind, text = debian_sources(etc(tmp_path, sources_list=LINES))
    assert kind == "list"
    assert text.splitlines() == [
        "deb [signed-by=/k/debian-archive-keyring.gpg] http://m.example.org/debian/ x main",
        "deb http://security.example.org/debian-security bookworm-security main",
        # Nobody's word replaces a signature.
        "deb http://m.example.org/debian bookworm-backports main",
    ]


@pytest.mark.needs("program:apt-get")
def test_a_host_that_is_not_debian(tmp_path: Path) -> None:
    ubuntu = etc(
        tmp_path / "etc", sources_list="deb http://archive.example.com/ubuntu jammy main\n"
    )
    with pytest.raises(LackError, match="knows no Debian archive") as caught:
        Apt(tmp_path / "cache", "armhf", etc=ubuntu).find(["runc"])
    assert "--debs FOLDER" in (caught.value.hint or "")


def test_a_host_without_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedkit.process.find", lambda _: None)
    with pytest.raises(LackError, match="no apt") as caught:
        Apt(tmp_path, "armhf").find(["runc"])
    assert "--debs FOLDER" in (caught.value.hint or "")


@pytest.mark.needs("program:apt-get")
def test_an_archive_without_signature_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "debian/dists/stable/main/binary-armhf"
    archive.mkdir(parents=True)
    (archive / "Packages").write_text("Package: evil\nVersion: 1\nArchitecture: armhf\n")
    line = f"deb [trusted=yes] file:{tmp_path}/debian stable main\n"
    apt = Apt(tmp_path / "cache", "armhf", etc=etc(tmp_path / "etc", sources_list=line))
    with pytest.raises(LackError, match="apt-get update failed"):
        apt.find(["evil"])


class Heard(NullProgress):
    """Remembers what was told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.totals: list[tuple[int | None, str]] = []
        self.amount = 0

    def say(self, message: str) -> None:
        self.said.append(message)

    def start(self, title: str, *, total: int | None = None, unit: Unit = "steps") -> Heard:
        if unit == "bytes":
            self.totals.append((total, unit))
        return self

    def advance(self, amount: int) -> None:
        self.amount += amount

    def finish(self) -> None:
        pass


_APT_GET = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do [ "$1" = -o ] && shift; shift; done
case $1 in
update)
  echo x >>"$ARCHIVE/updates"
  [ -e "$ARCHIVE/down" ] && { echo "E: Temporary failure resolving the archive" >&2; exit 100; }
  cp "$ARCHIVE/index" "$ARCHIVE/known" ;;
download)
  shift
  for word; do
    file=${word%%=*}_${word#*=}_armhf.deb
    echo "$file $(cat "$file" 2>/dev/null)" >>"$ARCHIVE/asked"
    [ -e "$ARCHIVE/$file" ] || { echo "E: Failed to fetch $file  404  Not Found" >&2; exit 100; }
    if [ -e "$ARCHIVE/cut" ]; then head -c 2 "$ARCHIVE/$file" >"$file"; exit 100; fi
    cp "$ARCHIVE/$file" "$file"
  done ;;
esac
"""


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the archive, served by programs that stand for apt's."""
    folder = tmp_path / "archive"
    programs = tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    offer(folder, "1", b"first")
    for name, text in (("apt-get", _APT_GET), ("apt-cache", '#!/bin/sh\ncat "$ARCHIVE/known"\n')):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("ARCHIVE", str(folder))
    return folder


def offer(archive: Path, version: str, content: bytes) -> None:
    for old in archive.glob("tini_*"):
        old.unlink()
    (archive / f"tini_{version}_armhf.deb").write_bytes(content)
    (archive / "index").write_text(
        f"Package: tini\nVersion: {version}\nArchitecture: armhf\nSize: {len(content)}\n"
    )


def apt(tmp_path: Path, heard: Heard | None = None, *, max_age: float | None = None) -> Apt:
    places = tmp_path / "etc"
    if not places.exists():
        etc(places, sources_list="deb http://m.example.org/debian stable main\n")
    return Apt(tmp_path / "cache", "armhf", etc=places, max_age=max_age, progress=heard)


def fetched(source: Apt, heard: Heard | None = None) -> Path:
    return source.fetch(resolve(source, ["tini"]), heard or Heard())["tini"]


def updates(archive: Path) -> int:
    return len((archive / "updates").read_text().split())


def test_a_package_is_fetched_once(archive: Path, tmp_path: Path) -> None:
    heard = Heard()
    deb = fetched(apt(tmp_path), heard)
    assert deb == tmp_path / "cache/debs/tini_1_armhf.deb" and deb.read_bytes() == b"first"
    assert heard.totals == [(5, "bytes")] and heard.amount == 5
    heard = Heard()
    assert fetched(apt(tmp_path), heard) == deb
    assert heard.totals == [] and updates(archive) == 1


def test_a_download_goes_on_where_it_was_cut(archive: Path, tmp_path: Path) -> None:
    (archive / "cut").touch()
    with pytest.raises(LackError, match="could not be fetched"):
        fetched(apt(tmp_path))
    assert not list((tmp_path / "cache/debs").glob("*"))
    (archive / "cut").unlink()
    heard = Heard()
    assert fetched(apt(tmp_path), heard).read_bytes() == b"first"
    # apt found the beginning that was there, and so did the progress.
    assert (archive / "asked").read_text().splitlines()[1] == "tini_1_armhf.deb fi"
    assert heard.amount == 5


def test_a_package_that_lost_its_end_is_fetched_again(archive: Path, tmp_path: Path) -> None:
    deb = fetched(apt(tmp_path))
    deb.write_bytes(b"")
    assert fetched(apt(tmp_path)).read_bytes() == b"first"


def test_a_version_that_was_replaced(archive: Path, tmp_path: Path) -> None:
    apt(tmp_path).find(["tini"])
    offer(archive, "2", b"second")
    source = apt(tmp_path)
    with pytest.raises(LackError, match="404"):
        fetched(source)
    assert source.renew() and not source.renew()
    assert fetched(source).name == "tini_2_armhf.deb"


@pytest.mark.parametrize("how", ["age", "sources"])
def test_lists_are_fetched_anew(
    archive: Path, tmp_path: Path, how: Literal["age", "sources"]
) -> None:
    apt(tmp_path).find(["tini"])
    apt(tmp_path, max_age=3600).find(["tini"])
    assert updates(archive) == 1
    if how == "age":
        os.utime(tmp_path / "cache/apt/armhf/lists/.fresh", (0, 0))
    else:
        (tmp_path / "etc/sources.list").write_text("deb http://n.example.org/debian stable main\n")
    apt(tmp_path, max_age=3600).find(["tini"])
    assert updates(archive) == 2


def test_without_a_network_old_lists_serve_on(archive: Path, tmp_path: Path) -> None:
    (archive / "down").touch()
    with pytest.raises(LackError, match="Temporary failure resolving") as caught:
        apt(tmp_path).find(["tini"])
    assert "--debs FOLDER" in (caught.value.hint or "")
    (archive / "down").unlink()
    fetched(apt(tmp_path))
    (tmp_path / "cache/apt/armhf/lists/x_binary-armhf_Packages").touch()
    (archive / "down").touch()
    os.utime(tmp_path / "cache/apt/armhf/lists/.fresh", (0, 0))
    heard = Heard()
    assert fetched(apt(tmp_path, heard, max_age=60)).exists()
    assert len(heard.said) == 1 and "serve on" in heard.said[0]
