"""``embedkit oci resolve IMAGE --platform P``."""

from __future__ import annotations

import argparse

from embedkit.commands import oci_common as common
from embedkit.commands import targeting
from embedkit.commands.oci_board import add_store_arguments, is_target, look_only
from embedkit.errors import EXIT_NO
from embedkit.oci import platform as platforms
from embedkit.oci.inspect import inspect
from embedkit.oci.locate import Opener
from embedkit.oci.platform import Platform
from embedkit.oci.resolve import Candidate, Choice, resolve
from embedkit.oci.source import Entry
from embedkit.report.model import Finding, Report, Section, Status, Table
from embedkit.ui import Ui


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", help=common.SOURCE_HELP)
    parser.add_argument(
        "--platform",
        default="host",
        metavar="P",
        help="what is asked for, such as linux/arm/v6, or a board: ssh://…, serial://…, local: "
        "(default: host, this machine's)",
    )
    parser.add_argument(
        "--trust-labels",
        action="store_true",
        help="do not read the layers to see whether the programs fit their label",
    )
    add_store_arguments(parser)
    targeting.add_access_arguments(parser)
    common.add_access_arguments(parser)


def run(args: argparse.Namespace, ui: Ui) -> Report:
    wanted, notes = _wanted(args, ui)
    with Opener(common.access(args)) as opener:
        entries = opener.tree(args.image).images
        candidates = []
        for entry in entries:
            config = entry.config(entry.manifest())
            candidates.append(Candidate(entry.label, config.platform))
        choices = resolve(candidates, wanted)
        taken = sorted({choice.index for choice in choices if choice.index is not None})
        wrong = {} if args.trust_labels else _mislabelled(entries, taken, ui)
    findings = [_finding(choice, candidates, entries, wrong) for choice in choices]
    rows = tuple(
        (str(number), str(item.label or "(none)"), str(item.config), entry.descriptor.digest[:19])
        for number, (item, entry) in enumerate(zip(candidates, entries, strict=True))
    )
    nothing = [choice.client for choice in choices if choice.index is None]
    status, verdict = Status.OK, f"every client takes the same entry for {wanted}"
    if wrong:
        status, verdict = Status.FAIL, next(iter(wrong.values()))
    elif len(nothing) == len(choices):
        status, verdict = Status.FAIL, f"no client finds anything for {wanted}"
    elif nothing or len(taken) > 1:
        status, verdict = Status.WARN, f"the clients do not agree on {wanted}"
    return Report(
        command="oci resolve",
        title=f"{args.image} for {wanted}",
        verdict=verdict,
        status=status,
        exit_code=EXIT_NO if status is Status.FAIL else 0,
        sections=(
            Section("Entries", table=Table(("no", "label", "config", "digest"), rows)),
            Section("What each client takes", findings=tuple(findings)),
        ),
        notes=notes,
        data={
            "platform": str(wanted),
            "choices": {
                choice.client: {
                    "index": choice.index,
                    "digest": entries[choice.index].descriptor.digest
                    if choice.index is not None
                    else None,
                    "why": choice.why,
                }
                for choice in choices
            },
            "mislabelled": {str(number): text for number, text in wrong.items()},
        },
    )


def _wanted(args: argparse.Namespace, ui: Ui) -> tuple[Platform, tuple[str, ...]]:
    """The platform that is asked for; of a board, with which of the clients it has."""
    if not is_target(args.platform):
        return _as_written(args.platform), ()
    args.target = args.platform
    with targeting.connected(args, ui) as target:
        found, _, board = look_only(target, args)
    if board is None:
        return found, (f"{args.platform} is {found}; it has neither Docker nor containerd",)
    daemon = board.daemon
    client = daemon.program.lower()
    if client == "docker" and 0 < daemon.major < 23:
        client = "docker-20.10"
    said = f"{args.platform} is {found} with {daemon.program} {daemon.version}"
    return found, (f"{said}: '{client}' is its line",)


def _as_written(text: str) -> Platform:
    """The platform as the user wrote it: clients differ in what a missing variant means."""
    if text == "host":
        return platforms.of_this_machine()
    canonical = platforms.parse(text)
    bare = canonical.architecture == "arm" and text in ("arm", "linux/arm")
    return Platform(canonical.os, "arm") if bare else canonical


def _mislabelled(entries: tuple[Entry, ...], taken: list[int], ui: Ui) -> dict[int, str]:
    found = {}
    for number in taken:
        wrong = inspect(entries[number], duplicates=False, progress=ui).mislabelled
        if wrong:
            found[number] = wrong
    return found


def _finding(
    choice: Choice, candidates: list[Candidate], entries: tuple[Entry, ...], wrong: dict[int, str]
) -> Finding:
    if choice.index is None:
        return Finding(choice.client, Status.WARN, choice.client, "nothing", detail=choice.why)
    item = candidates[choice.index]
    digest = entries[choice.index].descriptor.digest[:19]
    status = Status.FAIL if choice.index in wrong else Status.OK
    return Finding(
        choice.client,
        status,
        choice.client,
        f"{item.label or item.config} ({digest}): {choice.why}",
        detail=wrong.get(choice.index, ""),
        hint="--trust-labels takes it all the same" if choice.index in wrong else "",
    )
