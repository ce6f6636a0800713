"""Makes the plan of an installation. See :mod:`embedkit.docker.plan`.

Layout on the board: ``ROOT/VERSION/`` with the programs and a MANIFEST of their digests,
``ROOT/current`` the one switch, ``ROOT/state.json`` the record; links in a PATH folder and the
service point through the switch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from embedkit.docker import settings
from embedkit.docker.bundle import Bundle
from embedkit.docker.plan import (
    Plan,
    Send,
    Shell,
    Step,
    Write,
    group_step,
    record,
    remember,
    starting,
    transition,
)
from embedkit.docker.service import Place, Placed, make
from embedkit.docker.settings import Choices, Wanted
from embedkit.docker.state import ROOT, Generation, State
from embedkit.docker.survey import Survey
from embedkit.docker.undo import REMOVE_SECONDS, recover
from embedkit.target.base import quote
from embedkit.target.facts import Facts
from embedkit.target.preflight import Concern, Weight

_TRY_SECONDS = 120.0
# Every place that a service of any init may take; all are looked at, so that a board whose
# init was changed since is cleaned up as well.
_PLACES = (
    settings.PATH,
    "/etc/init.d/S60docker",
    "/etc/init.d/docker",
    "/etc/systemd/system/docker.service",
    "/etc/systemd/system/multi-user.target.wants/docker.service",
    "/etc/runlevels/default/docker",
    *(
        f"{rc}/rc{level}.d/{order}docker"
        for rc in ("/etc", "/etc/rc.d")
        for level, order in (
            ("2", "S60"),
            ("3", "S60"),
            ("4", "S60"),
            ("5", "S60"),
            ("0", "K20"),
            ("6", "K20"),
        )
    ),
)


@dataclass(frozen=True)
class Options:
    """What the user decided about an installation."""

    root: str = ROOT
    bin_folder: str | None = None
    start: bool = True
    group: bool = True
    choices: Choices = field(default_factory=Choices)


def places(bundle: Bundle | None, options: Options) -> tuple[str, ...]:
    """Every path that the survey must look at before a plan can be made."""
    found = [*_PLACES, f"{options.root}/control"]
    if bundle is not None:
        for folder in (
            (options.bin_folder,) if options.bin_folder else ("/usr/local/bin", "/usr/bin")
        ):
            found += [f"{folder}/{name}" for name in bundle.names]
    return tuple(found)


@dataclass(frozen=True)
class Installation:
    """A plan with what led to it: ``concerns`` of weight FAIL speak against doing it."""

    plan: Plan
    generation: Generation
    concerns: tuple[Concern, ...]


def install(facts: Facts, bundle: Bundle, survey: Survey, options: Options) -> Installation:
    """The plan that makes ``bundle`` the board's Docker.

    Raises InputError where the board's daemon.json cannot be read.
    """
    state = survey.state
    single = "dockerd" not in bundle.names
    proxy = single or "docker-proxy" in bundle.names
    wanted = settings.choose(facts, bundle.major, options.choices, proxy=proxy)
    concerns = [*wanted.concerns, *_standing(facts, survey, options)]
    folder, sending = _folder(bundle, survey)
    generation = _generation(facts, bundle, survey, options, wanted, folder, concerns)
    for item in generation.placed:
        if survey.thing(item.path).kind == "other":
            concerns.append(
                Concern(
                    f"odd-{item.path}",
                    Weight.FAIL,
                    item.path,
                    "is no ordinary file",
                    "it cannot be replaced and put back",
                    "move it away",
                )
            )
    running = _ours_runs(survey, options.root)
    done = (
        not sending
        and state.pending is None
        and survey.switch == folder
        and state.current is not None
        and state.current.folder == folder
        and all(survey.thing(item.path).is_as(item) for item in generation.placed)
        and {item.path for item in state.current.placed}
        == {item.path for item in generation.placed}
    )
    if done and (running or not options.start):
        unchanged = (f"{options.root}/{folder}", *(item.path for item in generation.placed))
        return Installation(Plan("install", (), unchanged=unchanged), generation, tuple(concerns))
    if done:
        return Installation(
            Plan("install", starting(generation, options.root)), generation, tuple(concerns)
        )
    remembered = remember(state, survey, generation.placed, options.root)
    steps = _sending(bundle, survey, options.root, folder, sending)
    if options.root in survey.missing:
        # The folders that are made now have to be known even if the next step never comes.
        bare = replace(remembered, originals=())
        steps.insert(0, record("begin", "begin embedkit's record", options.root, bare))
    make_group = options.group and not survey.has_group
    remembered = replace(remembered, group_made=state.group_made or make_group)
    steps.append(
        record("record", "note what is about to change", options.root, remembered.begun(generation))
    )
    prepared = len(steps)
    leaving = _leaving(state)
    steps += transition(
        survey,
        remembered,
        options.root,
        generation,
        start=options.start,
        running=running,
        leaving=leaving,
    )
    if make_group:
        steps.insert(prepared, group_step(options.root))
    ended = remembered.ended(generation)
    closing = [record("commit", "note that it is done", options.root, ended)]
    closing += _pruning(survey, options.root, ended, folder)
    recovery = recover(remembered, generation, options.root, was_running=running)
    plan = Plan("install", tuple(steps), prepared, recovery, tuple(closing))
    return Installation(plan, generation, tuple(concerns))


def _standing(facts: Facts, survey: Survey, options: Options) -> list[Concern]:
    found = []
    here = facts.filesystem_of(options.root)
    if here is not None and here.read_only:
        found.append(
            Concern(
                "root",
                Weight.FAIL,
                "installation",
                f"{here.mount} is mounted read-only",
                f"nothing can be written to {options.root}",
                "remount it (mount -o remount,rw), or give --root on another filesystem",
            )
        )
    foreign = survey.daemon and not survey.daemon.startswith(f"{options.root}/")
    if foreign and survey.state.current is None:
        found.append(
            Concern(
                "foreign",
                Weight.FAIL,
                "Docker",
                f"another one runs: {survey.daemon}",
                "two daemons would fight for the same socket and bridge",
                "stop it and take it out of the boot, or remove its package",
            )
        )
    return found


def _ours_runs(survey: Survey, root: str) -> bool:
    # A program that was replaced while it runs is shown as "PATH (deleted)".
    return survey.daemon.startswith(f"{root}/")


def _leaving(state: State) -> tuple[Generation, ...]:
    found = (state.current, state.pending)
    return tuple(one for one in found if one is not None)


def manifest(bundle: Bundle) -> str:
    """The text of MANIFEST, in the form that ``sha256sum -c`` reads."""
    return "\n".join(f"{p.sha256}  {p.name}" for p in bundle.programs)


def _folder(bundle: Bundle, survey: Survey) -> tuple[str, tuple[str, ...]]:
    """The version's folder, and the programs that have to be sent.

    Where the name is taken by other programs of the same version the digest tells them apart.
    """
    wanted = manifest(bundle)
    for folder in (bundle.label, f"{bundle.label}-{bundle.digest[:8]}"):
        present = survey.manifests.get(folder)
        if present == wanted:
            sizes = survey.sizes[folder]
            return folder, tuple(
                p.name for p in bundle.programs if sizes.get(p.name) != p.size_bytes
            )
        if folder not in survey.sizes or (not present and not survey.sizes[folder]):
            return folder, bundle.names
    return f"{bundle.label}-{bundle.digest[:8]}", bundle.names


def _generation(
    facts: Facts,
    bundle: Bundle,
    survey: Survey,
    options: Options,
    wanted: Wanted,
    folder: str,
    concerns: list[Concern],
) -> Generation:
    single = "dockerd" not in bundle.names and "docker" in bundle.names
    place = Place(options.root, f"{options.root}/current", survey.rc_folder)
    service = make(facts.init, place, environment=wanted.environment, single_binary=single)
    before = survey.state.current or survey.state.pending
    present = survey.thing(settings.PATH)
    merged = settings.merge(
        present.content.decode("utf-8", "replace") if present.kind == "file" else None,
        before.ours if before is not None else {},
        wanted.values,
    )
    for key in merged.kept:
        concerns.append(
            Concern(
                f"kept-{key}",
                Weight.WARN,
                settings.PATH,
                f"'{key}' is left as it was set there",
                f"embedkit would set it to {wanted.values[key]!r}",
            )
        )
    # What the board's own file said the same way is not embedkit's to take away again.
    original = survey.state.original(settings.PATH) or present
    own = settings.read(original.content.decode("utf-8", "replace"))
    ours = {
        key: value for key, value in wanted.values.items() if key not in own or own[key] != value
    }
    mode = present.mode if present.kind == "file" else 0o644
    links = _links(bundle, survey, options, concerns)
    placed = (Placed(settings.PATH, merged.text, mode), *links, *service.placed)
    return Generation(
        folder=folder,
        version=bundle.version,
        digest=bundle.digest,
        init=facts.init.value,
        data_root=wanted.data_root,
        single_binary=single,
        ours=ours,
        service=replace(service, placed=placed),
    )


def _links(
    bundle: Bundle, survey: Survey, options: Options, concerns: list[Concern]
) -> list[Placed]:
    folder = options.bin_folder
    if folder is None:
        folder = "/usr/local/bin" if "/usr/local/bin" in survey.path else "/usr/bin"
    links = []
    for name in bundle.names:
        path = f"{folder}/{name}"
        to = f"{options.root}/current/{name}"
        present = survey.thing(path)
        ours = present.kind == "link" and present.link_to.startswith(f"{options.root}/")
        if present.kind == "absent" or ours:
            links.append(Placed(path, link_to=to))
        else:
            concerns.append(
                Concern(
                    f"taken-{name}",
                    Weight.WARN,
                    path,
                    "is there already and stays",
                    f"{name} of this bundle is {to}",
                    "choose another --bin-folder",
                )
            )
    return links


def _sending(
    bundle: Bundle, survey: Survey, root: str, folder: str, names: Sequence[str]
) -> list[Step]:
    """Programs go to a folder that nothing uses, are tried there, and then get their name."""
    if not names:
        return []
    whole = len(names) == len(bundle.programs)
    place = f"{root}/.{folder}.part" if whole else f"{root}/{folder}"
    sizes = {p.name: p.size_bytes for p in bundle.programs}
    steps = [Step("folder", f"make {place}", Shell(f"mkdir -p {quote(place)}"), place, "remove it")]
    for name in names:
        steps.append(
            Step(
                f"send {name}",
                f"send {name}",
                Send(name, f"{place}/{name}"),
                f"{place}/{name}: {sizes[name]} bytes",
            )
        )
    tried = [name for name in ("dockerd", "docker", "containerd", "runc") if name in bundle.names]
    lines = [f"PATH={quote(place)}:$PATH"]
    lines += [f"{quote(f'{place}/{name}')} --version || exit" for name in tried]
    steps.append(
        Step(
            "try",
            "start each program once, for its version",
            Shell("\n".join(lines), _TRY_SECONDS),
            place,
        )
    )
    if whole:
        text = manifest(bundle) + "\n"
        final = quote(f"{root}/{folder}")
        steps.append(
            Step(
                "manifest",
                "write the list of digests",
                Write(f"{place}/MANIFEST", text.encode(), 0o644),
                f"{place}/MANIFEST",
            )
        )
        script = (
            f"sync; [ ! -d {final} ] || rmdir {final} || exit; mv {quote(place)} {final} && sync"
        )
        steps.append(
            Step("seal", f"name it {root}/{folder}", Shell(script), f"{root}/{folder}", "remove it")
        )
    return steps


def _pruning(survey: Survey, root: str, state: State, folder: str) -> list[Step]:
    kept = {folder}
    kept |= {one.folder for one in (state.current, state.previous) if one is not None}
    old = sorted(name for name in survey.sizes if name not in kept)
    if not old:
        return []
    names = " ".join(quote(f"{root}/{name}") for name in old)
    return [
        Step("prune", f"remove {', '.join(old)}", Shell(f"rm -rf {names}", REMOVE_SECONDS), root)
    ]
