"""Packages from the host's own apt, for any architecture, in a private root.

Nothing is added to the host: lists, state and packages lie in one folder, and apt checks
signatures with the host's own keys as it always does. Only sources of Debian itself are
asked: others rarely have foreign architectures. Source: apt.conf(5), sources.list(5).
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from embedkit import process
from embedkit.emulate.packages import NotThere, Package, is_kernel, parse
from embedkit.errors import LackError
from embedkit.files import alone, write_atomically
from embedkit.progress import NullProgress, Progress

_HINT = "on a machine without Debian's apt, give a folder of packages: --debs FOLDER"
_POLL_SECONDS = 0.2


class Apt:
    """A private apt root in ``folder`` for one architecture.

    ``max_age`` is how old the lists may be in seconds before they are fetched anew (None:
    only fetched where there are none).
    """

    def __init__(
        self,
        folder: Path,
        arch: str,
        *,
        etc: Path = Path("/etc/apt"),
        max_age: float | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.arch = arch
        self.debs = folder / "debs"
        self._root = folder / "apt" / arch
        self._etc = etc
        self._max_age = max_age
        self._progress = progress or NullProgress()
        self._ready = False
        self._updated = False
        self._kind = ""

    def find(self, names: Iterable[str]) -> dict[str, Package]:
        """The newest version of each of ``names`` that Debian has; the others are left out.

        Raises LackError where apt or its lists cannot be had.
        """
        words = [*names]
        if not words:
            return {}
        self._prepare()
        shown = self._apt("apt-cache", "show", "--no-all-versions", *words, check=False)
        return {package.name: package for package in parse(shown)}

    def kernel(self, flavour: str) -> Package | None:
        """The kernel that the flavour's metapackage asks for today, or None."""
        meta = self.find([f"linux-image-{flavour}"]).get(f"linux-image-{flavour}")
        names = [name for clause in meta.depends for name in clause] if meta else []
        names = [name for name in names if is_kernel(name, flavour)]
        # The signed kernel of some architectures comes later than the unsigned one.
        found = self.find([word for name in names for word in (name, f"{name}-unsigned")])
        return next(iter(found.values()), None)

    def search(self, pattern: str) -> tuple[str, ...]:
        """Names of packages that match a regular expression, sorted. Raises LackError."""
        self._prepare()
        output = self._apt("apt-cache", "search", "--names-only", pattern)
        return tuple(sorted(line.split(" - ")[0] for line in output.splitlines() if line))

    def lacks(self, names: Sequence[str]) -> NotThere:
        """The error for packages that Debian does not have."""
        return NotThere(
            f"this machine's Debian sources have no package for {self.arch}: {', '.join(names)}",
            hint=_HINT,
        )

    def deb(self, package: Package) -> Path:
        """Where the package is, or will be once fetched."""
        return self.debs / f"{package.key}.deb"

    def fetch(self, packages: Sequence[Package], progress: Progress) -> dict[str, Path]:
        """Name → the .deb, from the cache or downloaded.

        What an interrupted download left is taken up again. Raises NotThere where a package
        cannot be had, LackError where there is no room.
        """
        if not all(map(self._has, packages)):
            with self._alone():
                missing = [package for package in packages if not self._has(package)]
                if missing:
                    self._download(missing, progress)
        return {package.name: self.deb(package) for package in packages}

    def _has(self, package: Package) -> bool:
        try:
            size = self.deb(package).stat().st_size
        except OSError:
            return False
        # Shorter only where this machine lost its power just after the download.
        return size == (package.size_bytes or size)

    def _download(self, packages: Sequence[Package], progress: Progress) -> None:
        part = self._root / "part"
        part.mkdir(parents=True, exist_ok=True)
        words = [f"{package.name}={package.version}" for package in packages]
        expected = {part / f"{package.key}.deb": package for package in packages}
        for other in set(part.iterdir()) - expected.keys():
            other.unlink()  # the beginning of a version that was replaced
        total = sum(package.size_bytes for package in packages)
        there = _bytes_of(expected)
        task = progress.start("fetching Debian packages", total=total or None, unit="bytes")
        task.advance(there)
        complaints = self._root / "complaints"
        try:
            with complaints.open("wb") as errors:
                argv = self._argv("apt-get", "download", *words)
                running = process.start(argv, cwd=part, env=_ENV, stdout=errors.fileno(),
                                        stderr=errors.fileno())  # fmt: skip
                try:
                    while running.poll() is None:
                        time.sleep(_POLL_SECONDS)
                        now = _bytes_of(expected)
                        task.advance(max(0, now - there))
                        there = max(there, now)
                finally:
                    if running.poll() is None:
                        running.terminate()
                        running.wait()
        finally:
            task.finish()
        if running.returncode != 0:
            raise self._failed("the packages could not be fetched", complaints.read_bytes())
        self.debs.mkdir(parents=True, exist_ok=True)
        for file in expected:
            if not file.exists():
                raise self._failed(f"apt-get brought no {file.name}", complaints.read_bytes())
            file.rename(self.debs / file.name)

    def renew(self) -> bool:
        """Fetches the lists anew, once; False where that was done before. Raises LackError."""
        if self._updated:
            return False
        self._prepare(fresh=True)
        return True

    def _prepare(self, *, fresh: bool = False) -> None:
        """Fetches the lists where there are none, where they are too old, or (``fresh``) anyway.

        Lists that are there serve on where new ones cannot be had. Raises LackError.
        """
        if self._ready and not fresh:
            return
        if process.find("apt-get") is None:
            raise LackError("this machine has no apt to fetch Debian packages with", hint=_HINT)
        with self._alone():
            self._folders()
            stamp = self._root / "lists" / ".fresh"
            if fresh or self._stale(stamp):
                self._update(stamp)
        self._ready = True

    def _folders(self) -> None:
        for name in ("lists/partial", "archives/partial", "state"):
            (self._root / name).mkdir(parents=True, exist_ok=True)
        (self._root / "state" / "status").touch()
        kind, text = debian_sources(self._etc)
        if not text:
            raise LackError("this machine's apt knows no Debian archive", hint=_HINT)
        self._kind = kind
        file = self._sources(kind)
        if _text(file) != text:
            # The lists that are there are of other sources.
            (self._root / "lists" / ".fresh").unlink(missing_ok=True)
            write_atomically(file, text.encode())

    def _sources(self, kind: str) -> Path:
        return self._root / f"debian.{kind}"

    def _stale(self, stamp: Path) -> bool:
        try:
            age = time.time() - stamp.stat().st_mtime
        except OSError:
            return True
        return self._max_age is not None and age > self._max_age

    def _update(self, stamp: Path) -> None:
        task = self._progress.start(f"fetching Debian's package lists for {self.arch}")
        try:
            self._apt("apt-get", "update")
        except LackError as error:
            # A mirror in the middle of its sync has one bad index; the others are good to use.
            if not list((self._root / "lists").glob("*_Packages*")):
                raise
            self._progress.say(f"{error.message}; the lists that are there serve on")
        finally:
            task.finish()
        stamp.touch()
        self._updated = True

    def _alone(self) -> AbstractContextManager[None]:
        """One at a time changes this root; who comes second waits."""
        return alone(
            self._root / "lock",
            lambda: self._progress.say("waiting for another embedkit that is fetching packages"),
        )

    def _argv(self, tool: str, *words: str) -> list[str]:
        root = self._root
        options = {
            "APT::Architecture": self.arch,
            "APT::Architectures": self.arch,
            "Dir::State": root / "state",
            "Dir::State::Lists": root / "lists",
            "Dir::State::status": root / "state" / "status",
            "Dir::Cache": root,
            "Dir::Cache::archives": root / "archives",
            # Containers of Debian switch these off; every question would then take a second more.
            "Dir::Cache::pkgcache": "pkgcache.bin",
            "Dir::Cache::srcpkgcache": "srcpkgcache.bin",
            # The folder is this user's own: apt's user "_apt" could not write to it.
            "APT::Sandbox::User": "",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            "Dir::Etc::sourcelist": self._sources(self._kind),
            "Dir::Etc::sourceparts": "-",
        }
        pairs = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return [str(process.require(tool)), "-q", *pairs, *words]

    def _apt(self, tool: str, *words: str, check: bool = True) -> str:
        ended = process.run(self._argv(tool, *words), env=_ENV, check=False)
        if check and ended.returncode != 0:
            raise self._failed(f"{tool} {words[0]} failed", ended.stderr or ended.stdout)
        return ended.text

    def _failed(self, what: str, said: bytes) -> LackError:
        lines = [line for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
        told = [line for line in lines if line.startswith("E:")] or lines
        first = told[0].removeprefix("E:").strip() if told else "no reason given"
        if any("No space left" in line for line in lines):
            return LackError("no room is left for Debian's packages", where=str(self._root))
        return NotThere(f"{what}: {first}", where=self.arch, hint=f"is there a network? {_HINT}")


_ENV = {"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}


def _bytes_of(files: Iterable[Path]) -> int:
    total = 0
    for file in files:
        with contextlib.suppress(OSError):
            total += file.stat().st_size
    return total


def debian_sources(etc: Path) -> tuple[str, str]:
    """Debian's own archives among the host's sources, as one file: its suffix and its text.

    The text is empty where there are none.
    """
    stanzas = []
    for file in sorted((etc / "sources.list.d").glob("*.sources")):
        for stanza in re.split(r"\n\s*\n", _text(file)):
            lines = [line for line in stanza.splitlines() if line and not line.startswith("#")]
            if _is_debian_stanza(lines):
                kept = [line for line in lines if not line.lower().startswith("architectures:")]
                stanzas.append("\n".join(kept) + "\n")
    if stanzas:
        return "sources", "\n".join(stanzas)
    entries = []
    for file in (etc / "sources.list", *sorted((etc / "sources.list.d").glob("*.list"))):
        entries += [found for line in _text(file).splitlines() if (found := _entry(line))]
    return "list", "".join(f"{entry}\n" for entry in dict.fromkeys(entries))


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""


def _is_debian_stanza(lines: Sequence[str]) -> bool:
    fields = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon and not line[0].isspace():
            fields[name.lower()] = value.strip()
    if fields.get("enabled", "yes").lower() in ("no", "false", "0"):
        return False
    if "deb" not in fields.get("types", "").split():
        return False
    return _is_debian(
        fields.get("uris", ""), fields.get("components", ""), fields.get("signed-by", "")
    )


def _entry(line: str) -> str:
    """The one-line entry without its host-bound options; "" where it is not Debian's."""
    match = re.match(r"deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]+)", line.strip())
    if match is None:
        return ""
    options, uri, suite, components = match.groups()
    signed = [word for word in (options or "").split() if word.startswith("signed-by=")]
    if not _is_debian(uri, components, *signed):
        return ""
    kept = f"[{signed[0]}] " if signed else ""
    return f"deb {kept}{uri} {suite} {components.strip()}"


def _is_debian(uris: str, components: str, signed: str = "") -> bool:
    if uris.startswith("cdrom:") or (signed and "debian-archive" not in signed):
        return False
    # Others serve something of their own under …/debian, but call none of it main.
    return re.search(r"/debian(-security)?(/|\s|$)", uris) is not None and "main" in components
