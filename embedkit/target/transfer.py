"""Files to the target: whole or not at all, compared by digest, resumed after a cut.

What is sent goes to ``.NAME.embedkit-ID.part`` beside its place, where ID is derived from the
content's digest: a later run finds it, checks that what is there is a true beginning of the
file, and goes on. Then: digest of the whole, mode, sync, rename.
"""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass
from pathlib import Path

from embedkit.errors import EmbedkitError, InputError, TargetError
from embedkit.progress import Progress
from embedkit.target.base import ConnectionLost, Equipped, Result, Transfer, quote_path
from embedkit.target.digest import Digester, digester
from embedkit.target.errand import HASH_SECONDS, RECONNECT_SECONDS, Errand, check_way
from embedkit.target.source import Source
from embedkit.target.squeeze import Squeeze
from embedkit.target.ways import WAYS, Sending, append, ways_of
from embedkit.units import format_seconds, format_size

_DIFFERS = 9  # an exit code of our own
# Of the content, for the part's name: on whatever the target has.
_SHA256 = Digester("sha256sum")


@dataclass(frozen=True)
class _Look:
    """How it stands on the target before (the rest of) a file is sent."""

    path: str  # with links followed
    size: int | None
    digest: str | None
    part_size: int
    part_digest: str | None
    free_bytes: int | None


def put(
    target: Equipped,
    source: Path | bytes,
    path: str,
    *,
    mode: int | None = None,
    progress: Progress | None = None,
    way: str | None = None,
    reconnect_seconds: float = RECONNECT_SECONDS,
) -> Transfer:
    """Target.put, with the ``way`` (one of WAYS) chosen by the caller where given.

    Raises InputError for a source or a path that cannot be, TargetError where the target
    refuses, has no room, or holds something else in the end than what was sent.
    """
    sent = Source.of(source)
    _check_path(path)
    check_way(way, WAYS)
    return _Errand(target, sent, path, mode, way, progress).run(reconnect_seconds)


class _Errand(Errand):
    """One file to be brought."""

    def __init__(
        self,
        target: Equipped,
        source: Source,
        path: str,
        mode: int | None,
        way: str | None,
        progress: Progress | None,
    ) -> None:
        super().__init__(target, path, way, progress)
        self._source = source
        self._mode = source.mode if mode is None else mode
        self._digests: dict[str, str] = {}
        self._digesting = threading.Lock()
        # While the connection is made and the board's programs are asked for.
        threading.Thread(target=self._digest_early, daemon=True).start()

    def once(self) -> Transfer:
        target, source = self.target, self._source
        tool = digester(target)
        ident = self._digest(_SHA256)
        putting = _Putting(
            target, source, self.path, tool, self._digest(tool) if tool else ident, ident[:12]
        )
        digest = f"{tool.name if tool else 'read-back:sha256'}:{putting.wanted}"
        look = putting.look()
        if tool is not None and look.size == source.size and look.digest == putting.wanted:
            target.run(f"chmod {self._mode:o} {quote_path(look.path)}")
            # After a cut it may be that the rename was the last thing that got through.
            return self.done(look.path, source.size, digest, "none", skipped=not self.moving)
        ways = ways_of(target) if self.way is None else [_asked_way(target, self.way)]
        if not ways:
            raise TargetError(
                "it has no program that could write a file (cat, scp, base64) and no SFTP server",
                where=target.name,
            )
        offset = putting.beginning(look)
        putting.check_room(look, offset)
        if not self.moving:
            _tell_estimate(target, source, offset, self.progress)
        task = self.started(source.size, offset)
        sending = Sending(target, source, putting.part(look.path), task, tool=tool)
        way = "none"
        try:
            if offset < source.size or source.size == 0:
                way = _append(sending, offset, ways)
        finally:
            self.moved_bytes += sending.sent_bytes
        self.reached = source.size
        putting.finish(sending, self._mode, look.path)
        if sending.squeeze != Squeeze.NONE:
            way += f"+{sending.squeeze}"
        return self.done(look.path, source.size, digest, way)

    def _digest(self, tool: Digester) -> str:
        with self._digesting:
            if tool.program not in self._digests:
                self._digests[tool.program] = self._source.digest(tool)
            return self._digests[tool.program]

    def _digest_early(self) -> None:
        # What goes wrong is raised where the digest is used.
        with contextlib.suppress(OSError, EmbedkitError):
            self._digest(_SHA256)


@dataclass(frozen=True)
class _Putting:
    """One put: the file, its digest by the target's own program, and the ID of its part."""

    target: Equipped
    source: Source
    path: str
    tool: Digester | None
    wanted: str
    ident: str

    def part(self, path: str) -> str:
        """The part's name: in the folder of ``path``, with the name that was asked for (the
        file behind a link may be called something else)."""
        folder, slash, _ = path.rpartition("/")
        name = self.path.rpartition("/")[2]
        # File names have at most 255 bytes; what is added to the name has 27 and a suffix.
        short = name.encode()[:200].decode("utf-8", "ignore")
        return f"{folder}{slash}.{short}.embedkit-{self.ident}.part"

    def look(self) -> _Look:
        """One exchange: what is there, what an earlier try left, and how much room there is.

        A writer that a cut connection left behind is ended first: it is known by its process
        id and by having the part file as its standard output.
        """
        part_of_given = quote_path(self.part(self.path))
        size = "stat -c %s" if "stat" in self.target.tools() else "wc -c <"
        hash_of = f'{self.tool.command} <"$1"' if self.tool else "echo -"
        asked = f"""
p={quote_path(self.path)}; t={part_of_given}
if [ -h "$p" ]; then
  l=$(readlink -f "$p" 2>/dev/null && echo x); l=${{l%?x}}
  [ -n "$l" ] && p=$l && t="${{p%/*}}/${{t##*/}}"
fi
d=${{p%/*}}; [ "$d" = "$p" ] && d=.; [ -n "$d" ] || d=/
[ -d "$p" ] && echo folder && exit 0
[ -d "$d" ] || {{ echo nofolder; exit 0; }}
look() {{
  [ -f "$1" ] || {{ echo -; echo -; return; }}
  s=$({size} "$1"); echo $s
  if [ "$2" = any ] || [ "$2" = "$s" ]; then {hash_of}; else echo -; fi
}}
if read -r w 2>/dev/null <"$t.pid"; then
  [ "/proc/$w/fd/1" -ef "$t" ] && kill -9 "$w" 2>/dev/null
  rm -f "$t.pid"
fi
[ -s "$t.scp" ] && cat "$t.scp" >>"$t"
rm -f "$t.scp"
echo ok
look "$p" {self.source.size}
look "$t" any
df -Pk "$d" 2>/dev/null | while read -r a b c f e; do last=$f; echo "$f"; done | tail -n 1
printf '=%s=\\n' "$p"
"""
        answer = self.target.run(asked, timeout=HASH_SECONDS).text
        first, _, rest = answer.partition("\n")
        if first == "folder":
            raise TargetError(f"{self.path} is a folder", where=self.target.name)
        if first != "ok":
            folder = self.path.rpartition("/")[0] or "/"
            raise TargetError(
                f"there is no folder {folder}",
                where=self.target.name,
                hint=f"embedkit run TARGET -- mkdir -p {quote_path(folder)}",
            )
        return self._read(rest)

    def _read(self, text: str) -> _Look:
        head, _, tail = text.partition("=")
        lines = head.split("\n")
        size, digest, part_size, part_digest = [*lines, "", "", "", ""][:4]
        free = next((line for line in lines[4:] if line.isdecimal()), None)
        path = tail.removesuffix("\n").removesuffix("=") or self.path
        tool = self.tool
        return _Look(
            path=path.removeprefix("./") if not self.path.startswith("./") else path,
            size=int(size) if size.strip().isdecimal() else None,
            digest=tool.read_answer(digest) if tool else None,
            part_size=int(part_size) if part_size.strip().isdecimal() else 0,
            part_digest=tool.read_answer(part_digest) if tool else None,
            free_bytes=int(free) * 1024 if free else None,
        )

    def beginning(self, look: _Look) -> int:
        """How many bytes of the part are a true beginning of the file; else it is emptied."""
        size = look.part_size
        known = self.tool is not None and 0 < size <= self.source.size
        if known and self.tool and self.source.digest(self.tool, size) == look.part_digest:
            return size
        if size:
            self.target.run(f"rm -f {quote_path(self.part(look.path))}")
        return 0

    def check_room(self, look: _Look, offset: int) -> None:
        needed = self.source.size - offset
        if look.free_bytes is not None and needed > look.free_bytes:
            raise TargetError(
                f"{self.path} needs {format_size(needed)} and its filesystem has "
                f"{format_size(look.free_bytes)} free",
                where=self.target.name,
                hint="make room, or choose a folder on another filesystem",
            )

    def finish(self, sending: Sending, mode: int, path: str) -> None:
        """Compares, sets the mode, syncs, renames. Raises TargetError where they differ."""
        part = quote_path(sending.part)
        sync = f"sync {part} 2>/dev/null || fsync {part} 2>/dev/null || sync 2>/dev/null || :"
        place = f"chmod {mode:o} {part} && mv -f {part} {quote_path(path)} && rm -f {part}.pid"
        if self.tool is None:
            found: str | None = self._read_back(part)
            if found == self.wanted:
                self.target.run(f"{sync}; {place}", timeout=HASH_SECONDS)
                return
        elif sending.answer is not None:
            found = self.tool.read_answer(sending.answer)
            if found == self.wanted and self._place_of_size(part, f"{sync}; {place}"):
                return
        else:
            # Compared there: one exchange less, and nothing is renamed on the strength of an
            # answer that was damaged on the way.
            expected = self.tool.expected_answer(self.wanted, self.source.size)
            asked = (
                # To the disk and into the digest at the same time: both read the same pages.
                f"{{ {sync}; }} & "
                f'h=$({self.tool.command} <{part}) || exit; wait; echo "$h"; '
                f"case $h in {expected}*) {place};; *) exit {_DIFFERS};; esac"
            )
            done = self._placed(asked)
            if done.ok:
                return
            found = self.tool.read_answer(done.text)
        self.target.run(f"rm -f {part} {part}.pid", check=False)
        raise TargetError(
            f"what arrived as {self.path} is not what was sent: its digest is {found or '?'} "
            f"and not {self.wanted}",
            where=self.target.name,
            hint="nothing was replaced; if it happens again, suspect its storage or memory",
        )

    def _place_of_size(self, part: str, place: str) -> bool:
        """Whether the part has the size that was digested (nobody wrote to it since)."""
        size = self.source.size
        return self._placed(f"[ $(stat -c %s {part}) = {size} ] || exit {_DIFFERS}; {place}").ok

    def _placed(self, asked: str) -> Result:
        """Runs ``asked``; raises TargetError where it fails by another code than _DIFFERS."""
        done = self.target.run(asked, timeout=HASH_SECONDS, check=False)
        if done.exit_code not in (0, _DIFFERS):
            raise TargetError(
                f"{self.path} could not be put in place: {done.complaint}",
                where=self.target.name,
            )
        return done

    def _read_back(self, part: str) -> str:
        import hashlib

        hasher = hashlib.sha256()
        self.target.stream(f"cat {part}", output=lambda _, data: hasher.update(data))
        return hasher.hexdigest()


def _append(sending: Sending, offset: int, ways: list[str]) -> str:
    """The first of ``ways`` that works; one that fails before its first byte is passed over."""
    for index, way in enumerate(ways):
        before = sending.sent_bytes
        try:
            append(way, sending, offset)
            return way
        except ConnectionLost:
            raise
        except TargetError:
            if index + 1 == len(ways) or sending.sent_bytes != before:
                raise
    raise AssertionError("no way was tried")


def _check_path(path: str) -> None:
    if not path or path.endswith("/"):
        raise InputError(
            f"'{path}' is not a file name on the target",
            hint="give the whole name, with the file's",
        )
    if len(os.fsencode(path.rpartition("/")[2])) > 255:
        raise InputError("the file name has more than 255 bytes", where=path[:60] + "…")
    quote_path(path)


def _asked_way(target: Equipped, way: str) -> str:
    possible = ways_of(target)
    if way not in possible:
        raise TargetError(
            f"it cannot take files by '{way}'",
            where=target.name,
            hint=f"possible: {', '.join(possible) or 'none'}",
        )
    return way


def _tell_estimate(target: Equipped, source: Source, offset: int, progress: Progress) -> None:
    estimate = getattr(target, "estimate_seconds", None)
    if estimate is None:
        return
    sample = b"".join(source.pieces(source.size // 2, source.size // 2 + (256 << 10)))
    seconds: float | None = estimate(source.size - offset, sample)
    if seconds is not None and seconds > 1:
        progress.say(
            f"{target.name}: {format_size(source.size - offset)} over the serial line take about "
            f"{format_seconds(seconds)}"
        )
