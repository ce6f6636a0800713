"""Plans as plain data: what a deployment, a rollback or an uninstallation would do, step by step.

Everything is decided here, from the board's survey and the wanted generation; carrying it out
(:mod:`embedkit.docker.apply`) decides nothing. Every step is a sentence, what it touches, how
it is undone and one action, and can be done twice with the result of once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from embedkit.docker.service import LOG, PID_FILE, SOCKET, Placed
from embedkit.docker.state import Generation, State, Thing, to_json
from embedkit.docker.survey import Survey
from embedkit.target.base import quote

_STEP_SECONDS = 120.0
# Rewriting flash and stopping a dozen containers takes its time.
_SERVICE_SECONDS = 180.0


@dataclass(frozen=True)
class Shell:
    """A script for the board's ``sh``."""

    script: str
    timeout_seconds: float = _STEP_SECONDS
    may_fail: bool = False


@dataclass(frozen=True)
class Send:
    """A program of the bundle, to ``path``."""

    program: str
    path: str


@dataclass(frozen=True)
class Write:
    """A small file with this content; it replaces what is there whole, or not at all."""

    path: str
    content: bytes
    mode: int


@dataclass(frozen=True)
class Await:
    """Until the daemon answers. ``log`` is the file to follow, empty for systemd's journal;
    ``again`` is how one that was too slow is started once more (empty: not at all)."""

    log: str
    folder: str
    again: str = ""


Action = Shell | Send | Write | Await


@dataclass(frozen=True)
class Step:
    """One step. ``id`` is unique in its plan."""

    id: str
    title: str
    action: Action
    touches: str = ""
    undo: str = ""


@dataclass(frozen=True)
class Plan:
    """``steps`` in order. Up to ``prepared`` (a number of steps) nothing that runs is touched;
    a failure after it is answered by ``recovery``, which puts back what was there before.
    ``closing`` comes last, after the new daemon has been proven."""

    name: str
    steps: tuple[Step, ...]
    prepared: int = 0
    recovery: tuple[Step, ...] = ()
    closing: tuple[Step, ...] = ()
    unchanged: tuple[str, ...] = ()

    @property
    def all_steps(self) -> tuple[Step, ...]:
        return self.steps + self.closing

    @property
    def empty(self) -> bool:
        return not self.steps and not self.closing


def transition(
    survey: Survey,
    state: State,
    root: str,
    to: Generation | None,
    *,
    start: bool,
    running: bool,
    leaving: Sequence[Generation] = (),
) -> tuple[Step, ...]:
    """From whatever is on the board to the generation ``to`` (None: what was there before
    embedkit), service stopped before and started after. ``leaving`` are the generations whose
    service may be what runs."""
    changes = tuple(_placing(survey, state, to, leaving))
    steps: list[Step] = []
    if running:
        stop = [one.service.stop for one in leaving] or [to.service.stop if to else ":"]
        steps.append(_stop(stop[0]))
    steps += changes
    if to is None:
        if survey.switch:
            steps.append(
                Step(
                    "switch",
                    "take the switch away",
                    Shell(f"rm -f {quote(root)}/current"),
                    f"{root}/current",
                )
            )
    elif survey.switch != to.folder:
        steps.append(_switch(root, survey.switch, to.folder))
    reload = to.service.reload if to else next((one.service.reload for one in leaving), ":")
    if changes and reload != ":":
        steps.append(Step("reload", "tell the init system of it", Shell(reload), "init system"))
    if to is not None and start:
        steps += starting(to, root)
    return tuple(steps)


def starting(to: Generation, root: str) -> tuple[Step, ...]:
    """Start and wait."""
    again = to.service.start if to.service.log else ""
    return (
        Step(
            "start", "start Docker", Shell(to.service.start, _SERVICE_SECONDS), to.init, "stop it"
        ),
        Step(
            "await",
            "wait until it answers",
            Await(to.service.log, f"{root}/current", again),
            SOCKET,
        ),
    )


def _stop(command: str) -> Step:
    # Whatever the service says, what counts is that no daemon is left.
    script = f"""
{command} || echo "the service's own stop failed" >&2
read -r p 2>/dev/null <{PID_FILE} || [ -n "$p" ] || exit 0
case $p in ''|*[!0-9]*) exit 0;; esac
read -r c 2>/dev/null </proc/$p/comm || exit 0
case $c in dockerd|docker) kill $p;; *) exit 0;; esac
n=0; while [ -d /proc/$p ] && [ $n -lt 120 ]; do sleep 0.25 || sleep 1; n=$((n+1)); done
[ ! -d /proc/$p ] || kill -9 $p
"""
    return Step(
        "stop",
        "stop the running Docker",
        Shell(script, _SERVICE_SECONDS),
        "containers that run stop, too",
        "start it again",
    )


def _switch(root: str, before: str, after: str) -> Step:
    new = quote(f"{root}/.current.new")
    link = quote(f"{root}/current")
    # "mv -T" renames over the old link in one go. BusyBox before 1.34 has no -T; there a plain
    # "mv" would move into the folder that the link points to, so the link goes first.
    script = (
        f"rm -f {new}; ln -s {quote(after)} {new} && "
        f"{{ mv -fT {new} {link} 2>/dev/null || {{ rm -f {link} && mv -f {new} {link}; }}; }} "
        "&& sync"
    )
    return Step(
        "switch",
        f"switch from {before or 'nothing'} to {after}",
        Shell(script),
        f"{root}/current",
        f"switch back to {before}" if before else "take the switch away",
    )


def _placing(
    survey: Survey, state: State, to: Generation | None, leaving: Sequence[Generation]
) -> Iterator[Step]:
    wanted = {item.path: item for item in to.placed} if to is not None else {}
    # The order matters: settings before the service that reads them, links to it last.
    changed = [item for item in wanted.values() if not survey.thing(item.path).is_as(item)]
    for item in changed:
        if item.link_to is None:
            yield _write(item, survey.thing(item.path))
    yield from _linking("links", "link", {i.path: i.link_to for i in changed if i.link_to})
    originals = []
    for path in dict.fromkeys(item.path for one in leaving for item in one.placed):
        original = state.original(path)
        if path in wanted or original is None or original.kind == "other":
            continue
        if survey.thing(path) != original:
            originals.append(original)
    for thing in originals:
        if thing.kind == "file":
            title = f"put back {thing.path} as it was"
            action = Write(thing.path, thing.content, thing.mode)
            yield Step(f"restore {thing.path}", title, action, thing.path)
    links = {thing.path: thing.link_to for thing in originals if thing.kind == "link"}
    yield from _linking("links-back", "put back the links", links)
    gone = [thing.path for thing in originals if thing.kind == "absent"]
    if gone:
        script = f"rm -f {' '.join(quote(path) for path in gone)}"
        yield Step("clear", f"remove {_several(gone)}", Shell(script), ", ".join(gone))


def _write(item: Placed, present: Thing) -> Step:
    undo = "remove it" if present.kind == "absent" else "put back what was there"
    action = Write(item.path, item.content.encode(), item.mode)
    return Step(f"write {item.path}", f"write {item.path}", action, item.path, undo)


def _linking(id: str, title: str, links: Mapping[str, str]) -> Iterator[Step]:
    """All links in one exchange; each is renamed into its place."""
    if not links:
        return
    lines = []
    for path, to in links.items():
        new = quote(f"{path}.embedkit-new")
        lines.append(
            f"mkdir -p {quote(path.rpartition('/')[0])} && rm -f {new} && "
            f"ln -s {quote(to)} {new} && mv -f {new} {quote(path)} || exit"
        )
    yield Step(
        id,
        f"{title} {_several(list(links))}",
        Shell("\n".join(lines)),
        ", ".join(links),
        "put back what was there",
    )


def _several(paths: Sequence[str]) -> str:
    if len(paths) <= 2:
        return " and ".join(paths)
    return f"{paths[0]} and {len(paths) - 1} more"


def record(id: str, title: str, root: str, state: State) -> Step:
    """Writes embedkit's own record."""
    path = f"{root}/state.json"
    return Step(id, title, Write(path, to_json(state), 0o600), path)


def remember(state: State, survey: Survey, placed: Iterable[Placed], root: str) -> State:
    """``state`` with the originals of every place that is about to be touched first, and with
    the folders that will have to be made."""
    placed = tuple(placed)
    originals = list(state.originals)
    known = {thing.path for thing in originals}
    for item in placed:
        if item.path not in known:
            known.add(item.path)
            originals.append(survey.thing(item.path))
    paths = [*(item.path for item in placed), f"{root}/"]
    parents = {
        folder for path in paths for folder in survey.missing if path.startswith(folder + "/")
    }
    folders = dict.fromkeys([*state.folders, *sorted(parents)])
    return replace(state, originals=tuple(originals), folders=tuple(sorted(folders)))


def group_step(root: str) -> Step:
    """A group called docker, by ``sh`` alone: groupadd and addgroup differ from board to board."""
    script = """
while IFS=: read -r g r; do [ "$g" = docker ] && exit 0; done </etc/group
n=999
while [ $n -gt 100 ]; do
  used=; while IFS=: read -r g p i r; do [ "$i" = $n ] && used=1; done </etc/group
  [ -n "$used" ] || break
  n=$((n-1))
done
add() {
  [ -f "$1" ] || return 0
  cp -p "$1" "$1.embedkit-new" && echo "$2" >>"$1.embedkit-new" && mv -f "$1.embedkit-new" "$1"
}
add /etc/gshadow 'docker:!::' || exit
add /etc/group "docker:x:$n:"
"""
    return Step("group", "make the group 'docker'", Shell(script), "/etc/group", "remove it")


def group_removal() -> Step:
    """Takes the group away; only where embedkit made it."""
    script = """
for f in /etc/group /etc/gshadow; do
  [ -f $f ] || continue
  cp -p $f $f.embedkit-new && while IFS= read -r l; do
    case $l in docker:*) ;; *) printf '%s\\n' "$l";; esac
  done <$f >$f.embedkit-new && mv -f $f.embedkit-new $f || exit
done
"""
    return Step("group", "remove the group 'docker'", Shell(script), "/etc/group")


def leftovers(state: State) -> str:
    """A script that removes what a running Docker leaves outside of its data."""
    names = " ".join((LOG, f"{LOG}.1", PID_FILE, SOCKET))
    # containerd makes three empty folders in /opt for its plugins.
    return (
        "while read -r dev dir rest; do case $dir in /run/docker/*|/var/run/docker/*) "
        'umount "$dir";; esac; done </proc/mounts; '
        f"rm -f {names}; rm -rf /var/run/docker; "
        "rmdir /opt/containerd/bin /opt/containerd/lib /opt/containerd 2>/dev/null; :"
    )
