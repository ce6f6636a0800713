"""``embedkit oci list WHAT``."""

from __future__ import annotations

import argparse
from pathlib import Path

from embedkit.commands import oci_common as common
from embedkit.oci import locate
from embedkit.oci.locate import Opener
from embedkit.oci.source import Source, platform_of, read_tree
from embedkit.report.model import Report, Section, Status, Table
from embedkit.ui import Ui


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", help="an archive or layout folder; HOST/PATH for its tags; HOST/ for repositories"
    )
    common.add_access_arguments(parser)


def run(args: argparse.Namespace, ui: Ui) -> Report:
    text = args.what.removeprefix("docker://")
    with Opener(common.access(args)) as opener:
        if text.endswith("/") and text.count("/") == 1 and not Path(text).exists():
            names = opener.client(text[:-1]).repositories()
            return _report(args.what, "repository", [(name,) for name in names], ("repository",))
        place = locate.parse(args.what)
        if place.ref is not None:
            tags = opener.client(place.ref.host).tags(place.ref.path)
            where = f"{place.ref.host}/{place.ref.path}"
            return _report(where, "tag", [(tag,) for tag in tags], ("tag",))
        source, _ = opener.source(args.what)
        rows = _images(source)
    return _report(args.what, "image", rows, ("image", "platforms", "digest"))


def _images(source: Source) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for root in source.roots:
        tree = read_tree(Source(source.store, (root,)))
        names = []
        for entry in tree.images:
            names.append(str(platform_of(entry, entry.config(entry.manifest()))))
        digest = root.descriptors[0].digest if len(root.descriptors) == 1 else "(flat)"
        rows.append((root.name or "(untagged)", ", ".join(names), digest))
    return rows


def _report(where: str, what: str, rows: list[tuple[str, ...]], columns: tuple[str, ...]) -> Report:
    many = {"repository": "repositories"}.get(what, what + "s")
    plural = what if len(rows) == 1 else many
    return Report(
        command="oci list",
        title=where,
        verdict=f"{len(rows)} {plural}",
        status=Status.OK,
        sections=(Section(plural.capitalize(), table=Table(columns, tuple(rows))),) if rows else (),
        data={many: [dict(zip(columns, row, strict=True)) for row in rows]},
    )
