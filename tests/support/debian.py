"""Debian packages for tests: fetched for any architecture, cached, unpacked, never installed.

A private apt root with the host's own sources and keys serves each architecture, so nothing
is added to the host, and signatures are checked as apt always checks them. All of it lies in
one folder under the XDG cache, keyed by name and version.
"""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

import pytest

from support import locks


class NotToBeHad(Exception):
    """A download that did not come."""


def cache() -> Path:
    """The one folder of everything that tests download or make from downloads."""
    locks.CACHE.mkdir(parents=True, exist_ok=True)
    return locks.CACHE


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
        # Images for containers switch these off; each question would then read all lists anew.
        "Dir::Cache::pkgcache": "pkgcache.bin",
        "Dir::Cache::srcpkgcache": "srcpkgcache.bin",
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
    lists = cache() / "apt" / arch / "lists"
    stamp = lists / ".fresh"
    with locks.held(f"apt-{arch}"):
        if stamp.exists():
            return
        try:
            _apt(arch, "apt-get", "update")
            stamp.touch()
        except NotToBeHad:
            # A mirror in the middle of its sync has one bad index; the others are good to use.
            if not list(lists.glob("*_main_binary-*_Packages*")):
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

    def fetch(empty: Path) -> None:
        _apt(arch, "apt-get", "download", package, cwd=empty)
        if not list(empty.glob("*.deb")):
            raise NotToBeHad(f"apt-get download {package} ({arch}) brought nothing")

    return next(locks.made_once(folder, fetch).glob("*.deb"))


def unpack(package: str, arch: str = "amd64") -> Path:
    """The folder with the package's files; its maintainer scripts are not run."""
    deb = download(package, arch)

    def fill(empty: Path) -> None:
        subprocess.run(["dpkg-deb", "-x", deb, empty], check=True)

    return locks.made_once(cache() / "unpacked" / deb.parent.name, fill)
