"""``embedkit oci static export DIR IMAGE…``."""

from __future__ import annotations

import argparse
from pathlib import Path

from embedkit.commands import oci_common as common
from embedkit.errors import InputError
from embedkit.oci import reference, static, static_config
from embedkit.oci.locate import Opener
from embedkit.oci.source import ImageTree
from embedkit.oci.transfer import transfer
from embedkit.report.model import Finding, Report, Section, Status, Table
from embedkit.ui import Ui


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="a new folder, or an older export")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help=common.SOURCE_HELP)
    parser.add_argument(
        "-t", "--tag", metavar="NAME", help="the name of the only image, such as tools/app:1.2"
    )
    common.add_shape_arguments(parser)
    common.add_access_arguments(parser)


def run(args: argparse.Namespace, ui: Ui) -> Report:
    if args.tag and len(args.images) > 1:
        raise InputError("-t names one image, and there are several")
    rows = []
    with Opener(common.access(args)) as opener:
        for text in args.images:
            tree = opener.tree(text)
            name = args.tag or tree.name
            if not args.tag and "/" not in name:
                raise InputError(f"{text} has no name to export it under", hint="give -t NAME:TAG")
            ref = reference.parse(name)
            path = ref.path
            if ref.host == reference.HUB and not (args.tag or "").startswith("library/"):
                path = path.removeprefix("library/")
            sink = static.StaticSink(args.folder, path)
            named = ImageTree(str(ref), tree.entries, tree.index, tree.raw_index)
            shape = common.shape(args, archive=args.docker is not None)
            (written,) = transfer([named], sink, shape, ui)
            platforms = ", ".join(str(platform) for platform, _ in written.images)
            rows.append((f"{path}:{ref.tag}", platforms, written.root.digest))
    documents = static.documents(args.folder)
    files = static_config.write(args.folder, documents)
    return Report(
        command="oci static export",
        title=f"Static registry in {args.folder}",
        verdict=f"serve {args.folder} and pull HOST/{rows[0][0]}",
        status=Status.OK,
        facts=(("server files", ", ".join(files)),),
        sections=(
            Section("Images", table=Table(("image", "platforms", "digest"), tuple(rows))),
            Section(
                "What can serve it",
                findings=tuple(
                    Finding(
                        server,
                        Status.OK if works.startswith("everything") else Status.WARN,
                        server,
                        works,
                    )
                    for server, works in static_config.CANNOT
                ),
            ),
        ),
        data={
            "images": [{"name": n, "platforms": p, "digest": d} for n, p, d in rows],
            "documents": [
                {"path": item.url_path, "content_type": item.media_type, "digest": item.digest}
                for item in documents
            ],
        },
    )
