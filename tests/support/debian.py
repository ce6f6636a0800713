"""Debian packages for tests: fetched for any architecture, cached, unpacked, never installed.

A private apt root with the host's own sources and keys serves each architecture, so nothing
is added to the host, and signatures are checked as apt always checks them. All of it lies in
one folder under the XDG cache, keyed by name and version.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from embedkit.data import cache_folder


class NotToBeHad(Exception):
    """A download that did not come."""


# Settled when the tests are collected: some give themselves another home later.
_CACHE = cache_folder() / "tests"


def cache() -> Path:
    """The one folder of everything that tests download or make from downloads."""
    _CACHE.mkdir(parents=True, exist_ok=True)
    return _CACHE


def give_up(reason: str) -> None:
    """Skips the test on a user's machine, fails it in CI."""
    if os.environ.get("CI"):
        pytest.fail(f"CI must have it: {reason}", pytrace=False)
    pytest.skip(reason)


def _apt(arch: str, tool: str, *words: str, cwd: Path | None = None) -> str:
    root = cache() / "apt" / arch
    for folder in ("lists/partial", "archives/partial", "state"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    status = root / "state" / "status"
    status.touch()
    options = {
        "APT::Architecture": arch,
        "APT::Architectures": arch,
        "Dir::State": str(root / "state"),
        "Dir::State::Lists": str(root / "lists"),
        "Dir::State::status": str(status),
        "Dir::Cache": str(root),
        "Dir::Cache::archives": str(root / "archives"),
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        # Third-party sources of the host often lack foreign architectures.
        "Dir::Etc::sourcelist": str(_sources(root)),
        "Dir::Etc::sourceparts": "-",
    }
    argv = [tool, "-q"]
    for name, value in options.items():
        argv += ["-o", f"{name}={value}"]
    ended = subprocess.run([*argv, *words], capture_output=True, text=True, cwd=cwd, check=False)
    if ended.returncode != 0:
        last = (ended.stderr.strip() or ended.stdout.strip()).splitlines()[-1:]
        raise NotToBeHad(f"{tool} {' '.join(words)} ({arch}): {' '.join(last)}")
    return ended.stdout


def _sources(root: Path) -> Path:
    """Debian's own sources of this host, as one deb822 file."""
    stanzas = []
    for file in sorted(Path("/etc/apt/sources.list.d").glob("*.sources")):
        for stanza in file.read_text().split("\n\n"):
            if "debian-archive-keyring" in stanza and "Types:" in stanza:
                lines = [
                    line
                    for line in stanza.splitlines()
                    if line and not line.startswith(("#", "Architectures:"))
                ]
                stanzas.append("\n".join(lines))
    if stanzas:
        return _written(root / "debian.sources", "\n\n".join(stanzas))
    lists = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*.list")]
    lines = [
        line
        for file in lists
        if file.exists()
        for line in file.read_text().splitlines()
        if line.startswith("deb ") and "debian" in line
    ]
    return _written(root / "debian.list", "\n".join(lines))


def _written(path: Path, content: str) -> Path:
    """Renamed into place: another run may be reading it just now."""
    temporary = path.with_suffix(f".{os.getpid()}{path.suffix}")
    temporary.write_text(content + "\n")
    temporary.rename(path)
    return path


@functools.cache
def _update(arch: str) -> None:
    stamp = cache() / "apt" / arch / "lists" / ".fresh"
    if stamp.exists():
        return
    try:
        _apt(arch, "apt-get", "update")
        stamp.touch()
    except NotToBeHad:
        # A mirror in the middle of its sync has one bad index; the others are good to use.
        if not list((cache() / "apt" / arch / "lists").glob("*_main_binary-*_Packages*")):
            raise


@functools.cache
def version(package: str, arch: str) -> str:
    """The newest version that Debian offers for ``arch``. Raises NotToBeHad."""
    _update(arch)
    for line in _apt(arch, "apt-cache", "show", "--no-all-versions", package).splitlines():
        if line.startswith("Version:"):
            return line.split(None, 1)[1]
    raise NotToBeHad(f"{package} is not in Debian for {arch}")


@functools.cache
def search(pattern: str, arch: str) -> tuple[str, ...]:
    """Names of packages that match ``pattern``, sorted. Raises NotToBeHad."""
    _update(arch)
    output = _apt(arch, "apt-cache", "search", "--names-only", pattern)
    return tuple(sorted(line.split(" - ")[0] for line in output.splitlines() if line))


def download(package: str, arch: str = "amd64") -> Path:
    """The package's .deb, from the cache or fetched. Raises NotToBeHad."""
    release = version(package, arch)
    folder = cache() / "debs" / f"{package}_{release.replace(':', '%3a')}_{arch}"
    found = list(folder.glob("*.deb"))
    if found:
        return found[0]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        # apt-get download cannot resume into a folder of its own that another test fills.
        _apt(arch, "apt-get", "download", package, cwd=Path(temporary))
        if not list(Path(temporary).glob("*.deb")):
            raise NotToBeHad(f"apt-get download {package} ({arch}) brought nothing")
        if folder.exists():
            shutil.rmtree(folder)
        Path(temporary).rename(folder)
        Path(temporary).mkdir()
    return next(folder.glob("*.deb"))


def unpack(package: str, arch: str = "amd64") -> Path:
    """The folder with the package's files; its maintainer scripts are not run."""
    deb = download(package, arch)
    target = cache() / "unpacked" / deb.parent.name
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        subprocess.run(["dpkg-deb", "-x", deb, f"{temporary}/files"], check=True)
        try:
            (Path(temporary) / "files").rename(target)
        except OSError:  # another run was faster
            if not target.exists():
                raise
    return target
