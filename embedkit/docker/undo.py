"""Ways back: recovery from a failed change, rollback to the version before, uninstallation."""

from __future__ import annotations

from dataclasses import replace

from embedkit.docker import settings
from embedkit.docker.plan import (
    Plan,
    Shell,
    Step,
    group_removal,
    leftovers,
    record,
    transition,
)
from embedkit.docker.state import ROOT, Generation, State
from embedkit.docker.survey import Survey
from embedkit.errors import InputError
from embedkit.target.base import quote

REMOVE_SECONDS = 900.0


def recover(
    remembered: State, new: Generation, root: str, *, was_running: bool
) -> tuple[Step, ...]:
    """From anywhere within the change back to what was before, whole; it assumes nothing about
    how far the change got, so every step is there."""
    old = remembered.current
    anything = _unknown(remembered, new, old)
    steps = transition(
        anything,
        remembered,
        root,
        old,
        start=was_running,
        running=True,
        leaving=(new, *((old,) if old else ())),
    )
    if old is not None:
        back = replace(remembered, pending=None)
        return (*steps, record("back", "note that it was put back", root, back))
    # Nothing was there before: the programs stay for the next try, the rest is undone.
    undone = [group_removal()] if remembered.group_made else []
    undone.append(_folders(remembered, root))
    back = _nothing(remembered, root)
    return (*steps, *undone, record("back", "note that it was put back", root, back))


def _unknown(state: State, new: Generation, old: Generation | None) -> Survey:
    """A survey that says that nothing is as it should be, so that everything is placed anew."""
    return Survey(state, (), "?", {}, {}, (), frozenset(), "?", True, (), "/etc", unseen="other")


def _nothing(state: State, root: str) -> State:
    """Before any installation, but for the folders around the programs that stay. Originals are
    forgotten: they have been put back, and may change before the next try."""
    return State(folders=tuple(one for one in state.folders if f"{root}/".startswith(f"{one}/")))


def _folders(state: State, root: str) -> Step:
    """Removes the folders that embedkit made, innermost first, where they are empty."""
    folders = [one for one in reversed(state.folders) if not f"{root}/".startswith(f"{one}/")]
    names = " ".join(quote(one) for one in folders)
    script = f'for d in {names}; do rmdir "$d" 2>/dev/null; done; :' if names else ":"
    return Step("folders", "remove the folders that were made", Shell(script), " ".join(folders))


def rollback(survey: Survey, root: str, *, start: bool = True) -> Plan:
    """Back to the generation before; after an interrupted deployment, back to where it began.

    Raises InputError where there is nothing to go back to.
    """
    state = survey.state
    running = bool(survey.daemon)
    interrupted = state.pending is not None
    to = state.current if interrupted else state.previous
    if to is None and not interrupted:
        raise InputError(
            "there is no version to go back to",
            hint="only one was ever deployed; --uninstall removes it"
            if state.current
            else "embedkit has deployed nothing there",
        )
    if to is not None and to.folder not in survey.sizes:
        raise InputError(
            f"the programs of {to.version or to.folder} are not on the board any more",
            where=f"{root}/{to.folder}",
            hint="deploy that bundle again",
        )
    leaving = tuple(one for one in (state.current, state.pending) if one is not None and one != to)
    if to is not None:
        to = _remerged(to, survey)
    steps: list[Step] = []
    if not interrupted and to is not None:
        steps.append(record("record", "note what is about to change", root, state.begun(to)))
    prepared = len(steps)
    if not leaving and to is not None:
        leaving = (to,)
    steps += transition(survey, state, root, to, start=start, running=running, leaving=leaving)
    ended = replace(state, current=to, previous=state.current, pending=None)
    if interrupted:
        ended = replace(state, pending=None)
    if to is None:
        steps += [group_removal()] if state.group_made else []
        steps.append(_folders(state, root))
        ended = _nothing(state, root)
    closing = (record("commit", "note that it is done", root, ended),)
    recovery: tuple[Step, ...] = ()
    if not interrupted and to is not None:
        recovery = recover(state, to, root, was_running=running)
    return Plan("rollback", tuple(steps), prepared, recovery, closing)


def _remerged(to: Generation, survey: Survey) -> Generation:
    """``to`` with a daemon.json that keeps what somebody changed there since."""
    before = survey.state.pending or survey.state.current
    present = survey.thing(settings.PATH)
    recorded = before.placed_at(settings.PATH) if before is not None else None
    if before is None or recorded is None or present.kind != "file":
        return to
    if present.content == recorded.content.encode():
        return to
    text = settings.merge(present.content.decode("utf-8", "replace"), before.ours, to.ours).text
    placed = tuple(
        replace(item, content=text) if item.path == settings.PATH else item for item in to.placed
    )
    return replace(to, service=replace(to.service, placed=placed))


def uninstall(survey: Survey, root: str, *, purge: bool = False) -> Plan:
    """Takes everything away that embedkit put there, and puts back what was before.

    Images, containers and volumes stay unless ``purge``. Raises InputError where nothing is
    installed.
    """
    state = survey.state
    generations = tuple(
        one for one in (state.pending, state.current, state.previous) if one is not None
    )
    if not generations and not state.originals and not survey.sizes:
        raise InputError("embedkit has installed nothing there", where=root)
    running = bool(survey.daemon)
    state = _settled(state, survey)
    steps = list(
        transition(survey, state, root, None, start=False, running=running, leaving=generations)
    )
    control = next(
        (i for g in generations for i in g.placed if i.content.startswith("#!/bin/sh")), None
    )
    if control is not None and survey.thing(control.path).kind == "file":
        # While its script is still there: the cgroups that it mounted.
        after_stop = 1 if running else 0
        steps.insert(
            after_stop,
            Step(
                "cgroups",
                "unmount the cgroups that were mounted for it",
                Shell(f"{quote(control.path)} unprepare", may_fail=True),
                "/sys/fs/cgroup",
            ),
        )
    if state.group_made:
        steps.append(group_removal())
    if purge:
        roots = dict.fromkeys(one.data_root for one in generations)
        steps += [_purge(root) for root in roots]
    steps.append(Step("leftovers", "remove logs and sockets", Shell(leftovers(state)), "/var/run"))
    steps.append(
        Step(
            "remove",
            f"remove {root}",
            Shell(f"rm -rf {quote(root)}", REMOVE_SECONDS),
            root,
        )
    )
    steps.append(_last_folders(state, root))
    return Plan("uninstall", tuple(steps))


def _settled(state: State, survey: Survey) -> State:
    """``state`` with the original daemon.json as it will have to be: with what somebody changed
    in it since, without what embedkit put there."""
    before = state.pending or state.current
    present = survey.thing(settings.PATH)
    original = state.original(settings.PATH)
    if before is None or original is None or present.kind != "file":
        return state
    left = settings.merge(present.content.decode("utf-8", "replace"), before.ours, {}).text
    was = original.content.decode("utf-8", "replace") if original.kind == "file" else None
    if settings.read(left) == settings.read(was):
        return state
    settled = replace(original, kind="file", mode=present.mode, content=left.encode())
    others = tuple(thing for thing in state.originals if thing.path != settings.PATH)
    return replace(state, originals=(*others, settled))


def _last_folders(state: State, root: str) -> Step:
    # The parent is embedkit's by its name, even where a first try ended before it was noted.
    own = {root.rpartition("/")[0]} if root == ROOT else set()
    folders = " ".join(quote(one) for one in sorted({*state.folders, *own}, reverse=True))
    script = f'for d in {folders}; do rmdir "$d" 2>/dev/null; done; :' if folders else ":"
    return Step("folders", "remove the folders that were made", Shell(script), root)


def _purge(data_root: str) -> Step:
    """Removes Docker's data: what is mounted below it first, and never through a mount."""
    if len([part for part in data_root.split("/") if part]) < 2:
        raise InputError(
            f"{data_root} is not removed: it is too near to the root", hint="remove it by hand"
        )
    root = quote(data_root)
    script = f"""
list=
while read -r dev dir rest; do case $dir in {root}/*) list="$dir $list";; esac; done </proc/mounts
for d in $list; do umount "$d" || umount -l "$d" || exit; done
[ ! -d {root} ] || rm -rf {root}/* {root}/.[!.]* || exit
# dockerd mounts its data root onto itself. A partition of its own is another device and stays.
if [ "$(stat -c %d {root} 2>/dev/null)" = "$(stat -c %d {root}/.. 2>/dev/null)" ]; then
  umount {root} 2>/dev/null || :
fi
[ ! -d {root} ] || rmdir {root} 2>/dev/null || :
rm -f /etc/docker/key.json
"""
    return Step(
        "purge",
        f"remove all images, containers and volumes in {data_root}",
        Shell(script, REMOVE_SECONDS),
        data_root,
        "cannot be undone",
    )
