"""What the oci commands share: options, and how images look in reports."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embedkit.errors import InputError
from embedkit.oci import platform as platforms
from embedkit.oci import reference
from embedkit.oci.auth import Credentials
from embedkit.oci.documents import Manifest
from embedkit.oci.http import Trust
from embedkit.oci.locate import Opener, repositories_of
from embedkit.oci.platform import Platform
from embedkit.oci.registry import Access
from embedkit.oci.remote import RepositorySink
from embedkit.oci.sink import Sink, Written
from embedkit.oci.source import ImageTree, platform_of
from embedkit.oci.transfer import Shape, transfer
from embedkit.report.model import Report, Section, Status, Table
from embedkit.ui import Ui
from embedkit.units import format_size

SOURCE_HELP = (
    "an archive (docker save or OCI, also .gz/.zst), a layout folder, or a reference; "
    "FILE:TAG where it holds several"
)
_FIRST_ZSTD_DOCKER = 23


def add_access_arguments(parser: argparse.ArgumentParser) -> None:
    """How registries are talked to."""
    group = parser.add_argument_group("registries")
    group.add_argument(
        "--insecure",
        action="store_true",
        help="no TLS check, and plain HTTP (needed for neither on this machine's own address)",
    )
    group.add_argument("--ca-file", type=Path, metavar="FILE", help="trust this CA (PEM)")
    group.add_argument(
        "--username", metavar="NAME", help="log in as NAME, the password from --password-stdin"
    )
    group.add_argument("--password-stdin", action="store_true", help="read the password")
    group.add_argument(
        "--auth-host", default="", metavar="HOST", help="let HOST have the registry's password"
    )


def access(args: argparse.Namespace) -> Access:
    """The registries' options as a value."""
    if args.ca_file is not None and not args.ca_file.is_file():
        raise InputError(f"no such file: {args.ca_file}")
    credentials = None
    if args.username or args.password_stdin:
        if not (args.username and args.password_stdin):
            raise InputError("--username and --password-stdin belong together")
        credentials = Credentials(args.username, sys.stdin.readline().rstrip("\r\n"))
    return Access(Trust(args.ca_file, args.insecure), credentials, args.auth_host)


def add_shape_arguments(parser: argparse.ArgumentParser) -> None:
    """How the written image shall be."""
    group = parser.add_argument_group("what is written")
    group.add_argument(
        "--compress",
        choices=("keep", "gzip", "zstd", "none"),
        help="layers' compression; by default they stay as they are, and plain ones become gzip",
    )
    group.add_argument("--level", type=int, metavar="N", help="compression level")
    group.add_argument(
        "--type",
        choices=("oci", "docker"),
        help="OCI index and manifests, or Docker's manifest list; default: as they are",
    )
    group.add_argument(
        "--docker",
        type=_major,
        metavar="VERSION",
        help="the oldest Docker that must read it: below 23, zstd layers become gzip "
        "(default for archives: 20.10)",
    )


def _major(text: str) -> int:
    head = text.partition(".")[0]
    if not head.isdigit():
        raise argparse.ArgumentTypeError(f"'{text}' is not a version")
    return int(head)


def shape(args: argparse.Namespace, *, archive: bool) -> Shape:
    """The options as a value; ``archive``: the receiver is a file that any Docker may load."""
    docker = args.docker if args.docker is not None else (20 if archive else _FIRST_ZSTD_DOCKER)
    zstd = docker >= _FIRST_ZSTD_DOCKER or (args.compress == "zstd" and args.docker is None)
    return Shape(
        compression=None if args.compress in (None, "keep") else args.compress,
        level=args.level,
        keep_plain=args.compress == "keep",
        zstd=zstd,
        family=args.type,
    )


def platform_argument(text: str) -> Platform:
    """``linux/arm/v7``, ``armv7l`` or ``host``, as an argparse type."""
    if text == "host":
        return platforms.of_this_machine()
    try:
        return platforms.parse(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(error.message) from error


def add_platform_argument(
    parser: argparse.ArgumentParser,
    text: str = "only this platform (may be repeated); 'host' is this machine's",
) -> None:
    """``--platform``, as often as wanted."""
    parser.add_argument(
        "--platform", action="append", default=[], type=platform_argument, metavar="P", help=text
    )


def split_platform(text: str) -> tuple[Platform | None, str]:
    """``linux/arm/v7=app.tar`` into its halves."""
    head, equals, rest = text.partition("=")
    if equals and not Path(text).exists() and rest:
        return platforms.parse(head), rest
    return None, text


def key_values(items: Sequence[str], what: str) -> dict[str, str]:
    """``KEY=VALUE`` options as a mapping."""
    found = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not key or not equals:
            raise InputError(f"the {what} '{item}' is not KEY=VALUE")
        found[key] = value
    return found


def epoch() -> int:
    """SOURCE_DATE_EPOCH, or 0. See reproducible-builds.org/specs/source-date-epoch."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "0") or "0"
    if not text.isdigit() or len(text) > 11:
        raise InputError(f"SOURCE_DATE_EPOCH is '{text}', not a number of seconds")
    return int(text)


def full_name(text: str | None) -> str:
    """A name as it is written into images: with host, path and tag; "" for none."""
    return str(reference.parse(text)) if text else ""


def only_platforms(tree: ImageTree, wanted: Sequence[Platform]) -> ImageTree:
    """The tree with only these platforms. Raises InputError, with those there are."""
    if not wanted:
        return tree
    there = []
    for entry in tree.images:
        there.append((platform_of(entry, entry.config(entry.manifest())), entry))
    chosen = []
    for platform in wanted:
        fitting = [entry for found, entry in there if platforms.same(found, platform)]
        if not fitting:
            names = ", ".join(str(found) for found, _ in there)
            raise InputError(f"the image has no {platform}; it has: {names}")
        chosen.append(fitting[0])
    if len(wanted) == 1:
        return ImageTree(tree.name, tuple(chosen))
    return ImageTree(tree.name, tuple(chosen), tree.index)


def send(
    trees: Sequence[ImageTree],
    opener: Opener,
    target: str,
    args: argparse.Namespace,
    ui: Ui,
    *,
    name: str = "",
) -> tuple[Sink, tuple[Written, ...]]:
    """Transfers ``trees`` to what the user wrote as ``target``, renamed where ``name`` says so."""
    host = ""
    if target.startswith("docker://"):
        host = reference.parse(target.removeprefix("docker://")).host
    sink, implied = opener.sink(target, repositories_of(list(trees), host))
    named = [
        ImageTree(name or full_name(implied) or tree.name, tree.entries, tree.index, tree.raw_index)
        for tree in trees
    ]
    is_file = not isinstance(sink, RepositorySink)
    written = transfer(named, sink, shape(args, archive=is_file), ui)
    return sink, written


def image_table(written: Written) -> Table:
    """Platforms with their digests and sizes."""
    rows = []
    for platform, manifest in written.images:
        rows.append(
            (
                str(platform),
                manifest.config.digest[:19],
                str(len(manifest.layers)),
                format_size(weight(manifest)),
            )
        )
    return Table(("platform", "image ID", "layers", "size"), tuple(rows))


def weight(manifest: Manifest) -> int:
    """Bytes of the config and the layers as they are stored."""
    return manifest.config.size + sum(layer.size for layer in manifest.layers)


def written_data(written: Written) -> dict[str, Any]:
    """An image that was written, for machines."""
    return {
        "name": written.name,
        "digest": written.root.digest,
        "media_type": written.root.media_type,
        "platforms": [
            {
                "platform": str(platform),
                "config": manifest.config.digest,
                "size": weight(manifest),
                "layers": [
                    {"digest": item.digest, "size": item.size, "media_type": item.media_type}
                    for item in manifest.layers
                ],
            }
            for platform, manifest in written.images
        ],
    }


def written_report(
    command: str,
    title: str,
    sent: Sequence[tuple[Sink, Written]],
    *,
    notes: Sequence[str] = (),
    sections: Sequence[Section] = (),
    data: dict[str, Any] | None = None,
) -> Report:
    """The report of a command that wrote one image to one place or several."""
    facts = []
    for sink, _ in sent:
        facts.append(("written to", sink.where))
        if isinstance(sink, RepositorySink):
            facts.append(("sent", traffic(sink)))
    first = sent[0][1]
    facts += [("name", first.name or "(none)"), ("digest", first.root.digest)]
    noted = list(notes)
    names = [str(platform) for platform, _ in first.images]
    if len(names) > 1 and any(str(sink.where).endswith(".tar") for sink, _ in sent):
        noted.append(
            f"Docker without the containerd image store gives the plain tag to {names[0]} only; "
            "the others get it with a suffix, such as -arm-v7"
        )
    plural = "platform" if len(names) == 1 else "platforms"
    return Report(
        command=command,
        title=title,
        verdict=f"{len(names)} {plural}: {', '.join(names)}",
        status=Status.WARN if notes else Status.OK,
        facts=tuple(facts),
        sections=(Section("Platforms", table=image_table(first)), *sections),
        notes=tuple(noted),
        data={
            **written_data(first),
            "written_to": [sink.where for sink, _ in sent],
            **(data or {}),
        },
    )


def traffic(sink: RepositorySink) -> str:
    """What a push cost."""
    return (
        f"{format_size(sink.sent_bytes)} sent, {format_size(sink.mounted_bytes)} mounted from "
        f"other repositories, {format_size(sink.skipped_bytes)} there already"
    )


def targets(args: argparse.Namespace) -> list[str]:
    """Where a build or a merge goes: ``-o`` and ``--push``."""
    found = [args.into] if args.into else []
    if args.push:
        if not args.tag:
            raise InputError("--push needs a name: -t HOST/PATH:TAG")
        found.append(f"docker://{args.tag}")
    if not found:
        raise InputError("nowhere to write to", hint="give -o FILE.tar, -o FOLDER or --push")
    return found


def add_target_arguments(parser: argparse.ArgumentParser) -> None:
    """``-t``, ``-o`` and ``--push``."""
    parser.add_argument("-t", "--tag", metavar="NAME", help="the image's name, such as app:1.2")
    parser.add_argument(
        "-o",
        "--into",
        metavar="OUT",
        help="FILE.tar: an archive for every Docker and OCI tool; else a layout folder",
    )
    parser.add_argument("--push", action="store_true", help="push to the registry that -t names")
