"""``embedkit oci build PART… -t NAME -o OUT``."""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from embedkit.commands import oci_common as common
from embedkit.errors import InputError, LackError
from embedkit.oci.build import CA_BUNDLE, ZONEINFO, Built, Part, Recipe, RunConfig, build
from embedkit.oci.locate import Opener
from embedkit.oci.mediatypes import Compression
from embedkit.report.model import Finding, Report, Section, Status
from embedkit.ui import Ui


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "parts",
        nargs="+",
        metavar="PART",
        help="a program, a folder, or a root filesystem's tar: one a platform. "
        "PLATFORM=PART says what it is for; otherwise its ELF files do",
    )
    common.add_target_arguments(parser)
    common.add_platform_argument(parser, "the platform of the only part, or of each in turn")
    parser.add_argument(
        "--trust-platform",
        action="store_true",
        help="hold to the given platform even where the programs contradict it",
    )
    parser.add_argument("--from", dest="base", metavar="IMAGE", help="begin with this image")
    parser.add_argument(
        "--add",
        action="append",
        default=[],
        metavar="FILE:/PLACE",
        help="put a file or folder of this machine into every platform's image",
    )
    parser.add_argument(
        "--ca-certificates",
        nargs="?",
        const="/" + CA_BUNDLE,
        metavar="FILE",
        help="add a bundle of CA certificates (default: this machine's)",
    )
    parser.add_argument("--tzdata", action="store_true", help="add this machine's time zone files")
    parser.add_argument(
        "--keep-owner", action="store_true", help="keep the owners of a folder's files"
    )
    _add_run_arguments(parser)
    common.add_shape_arguments(parser)
    common.add_access_arguments(parser)


def _add_run_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how a container starts")
    words = 'words, as in a shell, or a JSON list: \'["/app", "-v"]\''
    group.add_argument("--entrypoint", metavar="WORDS", help=words)
    group.add_argument("--cmd", metavar="WORDS", help="default arguments, written the same way")
    for option, metavar, text in (
        ("--env", "KEY=VALUE", "an environment variable"),
        ("--label", "KEY=VALUE", "a label"),
        ("--expose", "PORT[/udp]", "a port that it listens on"),
        ("--volume", "/PATH", "a place for data"),
    ):
        group.add_argument(option, action="append", default=[], metavar=metavar, help=text)
    group.add_argument("--user", default="", metavar="USER[:GROUP]", help="whom it runs as")
    group.add_argument("--workdir", default="", metavar="/PATH", help="where it starts")
    group.add_argument("--stop-signal", default="", metavar="SIGNAL", help="what stops it")


def run(args: argparse.Namespace, ui: Ui) -> Report:
    targets = common.targets(args)
    parts = _parts(args)
    for target in targets:
        if not target.startswith("docker://"):
            Path(target.partition(":")[2] or target).parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="embedkit-", dir=_scratch_parent(targets)))
    try:
        with Opener(common.access(args)) as opener:
            recipe = _recipe(args, opener)
            tree, built = build(parts, recipe, scratch)
            sent = []
            for target in targets:
                sink, written = common.send([tree], opener, target, args, ui)
                sent.append((sink, written[0]))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    warnings = [f"{item.source}: {text}" for item in built for text in item.warnings]
    section = Section("Parts", findings=tuple(_finding(item) for item in built))
    return common.written_report(
        "oci build", f"Built {args.tag or 'an image'}", sent, notes=warnings, sections=[section],
        data={"warnings": warnings},
    )  # fmt: skip


def _scratch_parent(targets: list[str]) -> str | None:
    """Beside the output, so that layers are moved there and not copied."""
    for target in targets:
        if not target.startswith("docker://") and ":" not in target:
            return str(Path(target).resolve().parent)
    return None


def _parts(args: argparse.Namespace) -> list[Part]:
    parts = []
    for text in args.parts:
        platform, path = common.split_platform(text)
        parts.append(Part(Path(path), platform))
    if args.platform:
        if len(args.platform) != len(parts):
            raise InputError(
                f"{len(args.platform)} platforms for {len(parts)} parts",
                hint="say each in front of its part: linux/arm/v7=PART",
            )
        parts = [replace(p, platform=given) for p, given in zip(parts, args.platform, strict=True)]
    return parts


def _recipe(args: argparse.Namespace, opener: Opener) -> Recipe:
    run_config = RunConfig(
        entrypoint=_words(args.entrypoint),
        cmd=_words(args.cmd),
        env=common.key_values(args.env, "variable"),
        user=args.user,
        workdir=args.workdir,
        ports=tuple(args.expose),
        volumes=tuple(args.volume),
        labels=common.key_values(args.label, "label"),
        stop_signal=args.stop_signal,
    )
    compression: Compression = "gzip"
    if args.compress in ("zstd", "none"):
        compression = args.compress
    return Recipe(
        name=common.full_name(args.tag),
        run=run_config,
        base=opener.tree(args.base) if args.base else None,
        added=tuple(_added(args)),
        compression=compression,
        level=args.level,
        epoch=common.epoch(),
        keep_owner=args.keep_owner,
        trusted=args.trust_platform,
    )


def _added(args: argparse.Namespace) -> list[tuple[Path, str]]:
    found = []
    if args.ca_certificates:
        bundle = Path(args.ca_certificates)
        if not bundle.is_file():
            raise LackError(
                f"there are no CA certificates at {bundle}",
                hint="on Debian: apt-get install ca-certificates",
            )
        found.append((bundle, f"/{CA_BUNDLE}"))
    if args.tzdata:
        zones = Path("/") / ZONEINFO
        if not zones.is_dir():
            raise LackError(
                f"there are no time zones at {zones}", hint="on Debian: apt-get install tzdata"
            )
        found.append((zones, f"/{ZONEINFO}"))
    for item in args.add:
        source, colon, place = item.rpartition(":")
        if not colon or not source:
            raise InputError(f"'{item}' is not FILE:/PLACE")
        if not Path(source).exists():
            raise InputError(f"no such file or folder: {source}")
        found.append((Path(source), place))
    return found


def _words(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    try:
        if text.lstrip().startswith("["):
            values = json.loads(text)
            if not all(isinstance(word, str) for word in values):
                raise ValueError("not a list of texts")
            return tuple(values)
        return tuple(shlex.split(text))
    except ValueError as error:
        raise InputError(f"'{text}' cannot be read as words: {error}") from error


def _finding(item: Built) -> Finding:
    return Finding(
        id=str(item.platform),
        status=Status.WARN if item.warnings else Status.OK,
        label=str(item.source),
        state=f"{item.platform}, entries: {item.files}",
        detail="\n".join(item.warnings),
    )
