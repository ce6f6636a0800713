"""``embedkit oci load IMAGE TARGET``: an image onto a board, and running there."""

from __future__ import annotations

import argparse
import time
from typing import Any

from embedkit.commands import oci_common as common
from embedkit.commands import targeting
from embedkit.commands.oci_board import Board, add_store_arguments, look
from embedkit.commands.oci_loading import Errand, Loaded, bring, check_room, errand
from embedkit.commands.passing import Passing
from embedkit.errors import InputError
from embedkit.oci import loadable, reference
from embedkit.oci.loadable import Chosen
from embedkit.oci.locate import Opener
from embedkit.oci.source import ImageTree
from embedkit.report.model import Finding, Report, Section, Status, Step
from embedkit.ui import Ui
from embedkit.units import format_seconds, format_size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "With --run the exit code is the container's own (125 to 127 are Docker's: it could not "
        "start it). Where embedkit itself fails it is 2, 3, 4 or 70 as everywhere, and a line "
        "'error: …' says so on standard error."
    )
    parser.add_argument("image", metavar="IMAGE", help=common.SOURCE_HELP)
    parser.add_argument("target", metavar="TARGET", help=targeting.TARGET_HELP)
    parser.add_argument(
        "--name", metavar="TAG", help="what the board calls it (default: its own name)"
    )
    parser.add_argument(
        "--run",
        action="store_true",
        help="run a container of it, removed at its end; words behind '--' are its command: "
        "--run -- ls -l",
    )
    parser.add_argument(
        "--trust-labels",
        action="store_true",
        help="do not read the layers to see whether the programs fit their label",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would be sent, and change nothing"
    )
    parser.set_defaults(after_dashes=())
    add_store_arguments(parser)
    targeting.add_access_arguments(parser)
    common.add_access_arguments(parser)


def run(args: argparse.Namespace, ui: Ui) -> Report:
    command: tuple[str, ...] = args.after_dashes
    if command and not args.run:
        raise InputError("words behind '--' are a container's command", hint="give --run as well")
    with Opener(common.access(args)) as opener, targeting.connected(args, ui) as target:
        tree = opener.tree(args.image)
        name = _name(tree, args)
        board = look(target, args)
        chosen = loadable.choose_for(tree, board.platform)
        unpacked: tuple[int, ...] = ()
        if not args.trust_labels:
            unpacked = loadable.check_label(chosen, progress=ui)
        if not name and board.daemon.program != "Docker":
            raise InputError("the image has no name, and containerd wants one", hint="give --name")
        wanted = errand(board, chosen, name, unpacked)
        check_room(wanted)
        if args.dry_run:
            return _report(args, wanted, None, None, command)
        begun = time.monotonic()
        loaded = bring(wanted, ui)
        seconds = time.monotonic() - begun
        ui.say(f"{target.name}: {_done(wanted, loaded)} in {format_seconds(seconds)}")
        if not args.run:
            return _report(args, wanted, loaded, None, command)
        output = Passing(args)
        code = board.images.run(name or wanted.id, command, output)
        return _report(args, wanted, loaded, code, command, output)


def _name(tree: ImageTree, args: argparse.Namespace) -> str:
    """What the board is to call it, with host, path and tag; "" for nothing."""
    if args.name:
        found = reference.parse(args.name)
    elif "/" in tree.name:
        found = reference.parse(tree.name)
    else:
        return ""
    if found.digest and args.name:
        raise InputError(f"'{args.name}' names a digest", hint="a name has a tag: app:1.2")
    return str(found).partition("@")[0] if found.tag else ""


def _done(wanted: Errand, loaded: Loaded) -> str:
    if loaded.packed is None or loaded.sent is None:
        return f"{wanted.shown} was there already"
    there = len(loaded.packed.left_out)
    kept = f" ({there} of {len(wanted.chosen.manifest.layers)} layers were there)" if there else ""
    return f"{wanted.shown} loaded with {format_size(loaded.sent.sent_bytes)} sent{kept}"


def _steps(wanted: Errand, args: argparse.Namespace, command: tuple[str, ...]) -> tuple[Step, ...]:
    daemon, layers = wanted.board.daemon, wanted.chosen.manifest.layers
    steps = []
    name = wanted.shown
    if wanted.present:
        steps.append(Step(f"send nothing: {wanted.id[:19]} is there"))
    else:
        size = sum(layers[n].size for n in wanted.missing)
        kept = f"; {len(wanted.there)} there already" if wanted.there else ""
        steps.append(
            Step(
                f"send {len(wanted.missing)} of {len(layers)} layers ({format_size(size)} as they "
                f"are stored){kept}",
                f"{daemon.program} {daemon.version} ({daemon.way})",
                f"docker image rm {name}" if daemon.program == "Docker" else "ctr images rm",
            )
        )
        steps.append(Step("compare image ID, layers and platform with what was sent"))
    if wanted.name:
        steps.append(Step(f"name it {wanted.shown}"))
    if args.run:
        words = f": {' '.join(command)}" if command else ""
        steps.append(Step(f"run a container{words}, and remove it"))
    return tuple(steps)


def _report(
    args: argparse.Namespace,
    wanted: Errand,
    loaded: Loaded | None,
    code: int | None,
    command: tuple[str, ...],
    output: Passing | None = None,
) -> Report:
    board, chosen = wanted.board, wanted.chosen
    name = wanted.shown
    verdict, status = f"would load {name}, {chosen.platform}", Status.OK
    if loaded is not None:
        verdict = _done(wanted, loaded)
    if code is not None:
        verdict = f"{name} ran and ended with {code}"
        status = Status.OK if code == 0 else Status.FAIL
    findings = [_platform(board, chosen)]
    notes = [] if wanted.name else ["the image has no name; --name TAG gives it one"]
    shown = output.gathered() if output is not None else {}
    passed = output is not None and output.through
    return Report(
        command="oci load",
        title=f"{args.image} → {board.target.name}",
        verdict=verdict,
        status=status,
        exit_code=code or 0,
        facts=(
            ("board", f"{board.platform}, {board.daemon.program} {board.daemon.version}"),
            ("image", f"{wanted.id} ({chosen.platform})"),
        ),
        sections=(
            Section("Platform", findings=tuple(findings)),
            Section("Steps", steps=_steps(wanted, args, command)),
        ),
        notes=tuple(notes),
        data=_data(wanted, loaded, code, shown, args.dry_run),
        # What there is to show was shown already.
        renderings={"text": lambda: ""} if passed else {},
    )


def _platform(board: Board, chosen: Chosen) -> Finding:
    status, detail = Status.OK, ""
    if not chosen.exact and chosen.platform.architecture != board.platform.architecture:
        status = Status.WARN
        detail = "it runs there if the processor and the kernel have a 32-bit mode"
    return Finding(
        "platform", status, "platform", f"{chosen.platform} for {board.platform}: {chosen.why}",
        detail=detail,
    )  # fmt: skip


def _data(
    wanted: Errand,
    loaded: Loaded | None,
    code: int | None,
    shown: dict[str, str],
    dry_run: bool,
) -> dict[str, Any]:
    board, chosen = wanted.board, wanted.chosen
    made: dict[str, Any] = {
        "target": board.target.name,
        "platform": str(board.platform),
        "store": {
            "program": board.daemon.program,
            "version": board.daemon.version,
            "way": board.daemon.way,
            "contents": board.daemon.contents,
        },
        "image": {
            "id": wanted.id,
            "platform": str(chosen.platform),
            "name": wanted.name,
            "why": chosen.why,
        },
        "layers": [
            {"diff_id": diff_id, "size": layer.size, "there": n in wanted.there}
            for n, (layer, diff_id) in enumerate(
                zip(chosen.manifest.layers, chosen.config.diff_ids, strict=True)
            )
        ],
        "present": wanted.present,
        "dry_run": dry_run,
    }
    if loaded is not None and loaded.sent is not None and loaded.packed is not None:
        made["sent"] = {
            "bytes": loaded.sent.sent_bytes,
            "archive_bytes": loaded.packed.size,
            "compression": loaded.sent.squeeze.value,
            "layers": len(loaded.packed.layers),
            "left_out": len(loaded.packed.left_out),
            "cuts": loaded.cuts,
            "sent_again_whole": loaded.again,
        }
    if code is not None:
        made["exit_code"] = code
        made |= shown
    return made
