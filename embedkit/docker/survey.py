"""How a board stands before a plan is made: one exchange, framed by a random word."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from embedkit.docker.state import State, Thing, from_json
from embedkit.errors import TargetError
from embedkit.target.base import Target, quote

# A setting is never bigger; what is, is not ours and is not read.
_CONTENT_LIMIT_BYTES = 256 << 10
_SECONDS = 300.0


@dataclass(frozen=True)
class Survey:
    """``things`` is what is at every place that an installation may touch; ``sizes`` are those
    of the files in each version's folder, ``manifests`` their lists of digests. ``missing``
    are folders that do not exist, outermost first; ``absent_files`` those of the asked files
    that are not there. ``daemon`` is the path of the running daemon's program, or empty."""

    state: State
    things: tuple[Thing, ...]
    switch: str
    sizes: dict[str, dict[str, int]]
    manifests: dict[str, str]
    missing: tuple[str, ...]
    absent_files: frozenset[str]
    daemon: str
    has_group: bool
    path: tuple[str, ...]
    rc_folder: str
    unseen: str = "absent"

    def thing(self, path: str) -> Thing:
        """What is at ``path``; of the kind ``unseen`` where nobody looked."""
        return next((t for t in self.things if t.path == path), Thing(path, self.unseen))


def survey(target: Target, root: str, places: Sequence[str], files: Sequence[str] = ()) -> Survey:
    """Asks. ``places`` are paths of settings, links and services, ``files`` paths whose mere
    existence matters. The state's own places are asked for as well.

    Raises TargetError where the board's record is damaged or its shell does not do it.
    """
    state = from_json(_read(target, f"{root}/state.json"), f"{target.name}:{root}/state.json")
    asked = list(dict.fromkeys([*places, *_places_of(state)]))
    mark = f"@{secrets.token_hex(8)}"
    folders = _ancestors([*asked, f"{root}/x"])
    parts = [
        "PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        f"M={mark}; R={quote(root)}",
        _SURVEY,
        *(f"t {quote(path)}" for path in asked),
        *(f'[ -d {quote(path)} ] || s "missing {path}"' for path in folders),
        *(f'[ -e {quote(path)} ] || s "nofile {path}"' for path in files),
        "s end",
    ]
    result = target.run("\n".join(parts), timeout=_SECONDS, check=False)
    return _read_answer(result.stdout, mark, state, target.name)


def _read(target: Target, path: str) -> bytes:
    file = quote(path)
    return target.run(f"[ ! -f {file} ] || cat {file}").stdout


def _places_of(state: State) -> list[str]:
    generations = (state.current, state.previous, state.pending)
    placed = [item.path for one in generations if one is not None for item in one.placed]
    return [*placed, *(thing.path for thing in state.originals)]


def _ancestors(paths: Sequence[str]) -> list[str]:
    """Every folder above ``paths``, outermost first, without the root."""
    found: set[str] = set()
    for path in paths:
        parent = path.rpartition("/")[0]
        while parent:
            found.add(parent)
            parent = parent.rpartition("/")[0]
    return sorted(found)


# A thing is told as "thing PATH", then the line of ls (mode, and a link's target), then content.
_SURVEY = rf"""
s() {{ echo; echo "$M $1"; }}
t() {{
	s "thing $1"
	if [ -h "$1" ]; then echo link; readlink "$1"; return; fi
	[ -e "$1" ] || {{ echo absent; return; }}
	set -- "$1" $(ls -lnd "$1")
	if [ -f "$1" ] && [ "$6" -le {_CONTENT_LIMIT_BYTES} ]; then
		echo "file $2"; cat "$1"; echo "E$M"
	else echo "other $2"; fi
}}
s "switch $(readlink "$R/current" 2>/dev/null)"
for d in "$R"/*/ "$R"/.*.part/; do
	d=${{d%/}}; [ -d "$d" ] && [ ! -h "$d" ] || continue
	s "folder ${{d##*/}}"
	ls -ln "$d" 2>/dev/null
	s "manifest ${{d##*/}}"
	[ -r "$d/MANIFEST" ] && cat "$d/MANIFEST"
done
p=; read -r p 2>/dev/null </var/run/docker.pid || :
case $p in '' | *[!0-9]*) p= ;; esac
if [ -n "$p" ] && read -r c 2>/dev/null </proc/$p/comm; then
	case $c in dockerd | docker) s "daemon $(readlink /proc/$p/exe || echo "$c")" ;; esac
fi
while IFS=: read -r g rest; do [ "$g" = docker ] && s group; done 2>/dev/null </etc/group
s "path $PATH"
if [ -d /etc/rc2.d ]; then s "rc /etc"; elif [ -d /etc/rc.d/rc2.d ]; then s "rc /etc/rc.d"; fi
"""


def _read_answer(output: bytes, mark: str, state: State, name: str) -> Survey:
    things: list[Thing] = []
    sizes: dict[str, dict[str, int]] = {}
    manifests: dict[str, str] = {}
    missing: list[str] = []
    absent: set[str] = set()
    switch = daemon = ""
    rc_folder = "/etc"
    path: tuple[str, ...] = ()
    group = ended = False
    for part in output.split(f"\n{mark} ".encode())[1:]:
        head, _, body = part.partition(b"\n")
        word, _, rest = head.decode("utf-8", "replace").partition(" ")
        text = body.decode("utf-8", "replace")
        if word == "thing":
            things.append(_thing(rest, body, mark))
        elif word == "switch":
            switch = rest.rpartition("/")[2]
        elif word == "folder":
            sizes[rest] = _sizes(text)
        elif word == "manifest":
            manifests[rest] = text.rstrip("\n")
        elif word == "missing":
            missing.append(rest)
        elif word == "nofile":
            absent.add(rest)
        elif word == "daemon":
            daemon = rest
        elif word == "group":
            group = True
        elif word == "path":
            path = tuple(dict.fromkeys(rest.split(":")))
        elif word == "rc":
            rc_folder = rest
        elif word == "end":
            ended = True
    if not ended:
        raise TargetError("its shell does not answer what is installed", where=name)
    return Survey(
        state,
        tuple(things),
        switch,
        sizes,
        manifests,
        tuple(missing),
        frozenset(absent),
        daemon,
        group,
        path,
        rc_folder,
    )


def _thing(path: str, body: bytes, mark: str) -> Thing:
    head, _, rest = body.partition(b"\n")
    kind, _, shown = head.decode("utf-8", "replace").partition(" ")
    if kind == "link":
        return Thing(path, "link", link_to=rest.split(b"\n")[0].decode("utf-8", "replace"))
    if kind == "file":
        content, end, _ = rest.partition(f"E{mark}\n".encode())
        if end:
            return Thing(path, "file", mode_of(shown), content)
        return Thing(path, "other", mode_of(shown))
    return Thing(path, "absent" if kind == "absent" else "other")


def mode_of(shown: str) -> int:
    """The permission bits of ls's ``-rwxr-sr-t``."""
    bits = 0
    for index, letter in enumerate(shown[1:10].ljust(9, "-")):
        place = 8 - index
        if letter in "rwxst":
            bits |= 1 << place
        if letter in "sStT":
            bits |= {2: 0o4000, 5: 0o2000, 8: 0o1000}.get(index, 0)
    return bits


def _sizes(text: str) -> dict[str, int]:
    found = {}
    for line in text.splitlines():
        words = line.split(None, 8)
        if len(words) == 9 and words[0].startswith("-") and words[4].isdigit():
            found[words[8]] = int(words[4])
    return found
