"""``embedkit bundle fetch``: a Docker archive from Docker's download layout or a mirror of it."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.errors import InputError
from embedkit.report.model import Report
from embedkit.units import format_size

if TYPE_CHECKING:
    from embedkit.ui import Ui


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument(
        "--arch", required=True, metavar="ARCH",
        help="the board's: x86_64, aarch64, armhf, armel, ppc64le or s390x (probe tells it)",
    )  # fmt: skip
    parser.add_argument("--version", metavar="VERSION", help="default: the newest listed")
    parser.add_argument(
        "--mirror", metavar="URL",
        help="a mirror with the same layout, ARCH/docker-VERSION.tgz (default: Docker's own, or "
        "EMBEDKIT_DOCKER_MIRROR)",
    )  # fmt: skip
    parser.add_argument("--sha256", metavar="HEX", help="refuse everything else")
    parser.add_argument("--to", type=Path, metavar="FILE", help="copy it there as well")
    parser.add_argument("--insecure-http", action="store_true", help="allow a mirror without TLS")


def run(args: argparse.Namespace, ui: Ui) -> Report:
    """Fetches and inspects. Exit code 1 where what arrived cannot work."""
    import shutil

    from embedkit.commands.bundle_inspect import build
    from embedkit.data import cache_folder
    from embedkit.docker.bundle import open_bundle
    from embedkit.docker.fetch import DEFAULT_MIRROR, Source, fetch
    from embedkit.docker.fit import check_bundle

    mirror = args.mirror or os.environ.get("EMBEDKIT_DOCKER_MIRROR") or DEFAULT_MIRROR
    source = Source(mirror, insecure=args.insecure_http)
    got = fetch(
        source, args.arch, args.version, cache_folder() / "bundles",
        sha256=args.sha256.lower() if args.sha256 else None, progress=ui,
    )  # fmt: skip
    path = got.path
    if args.to is not None:
        try:
            shutil.copyfile(path, args.to)
        except OSError as error:
            raise InputError(f"cannot write {args.to}: {error.strerror}") from error
        path = args.to
    how = "in the cache already" if got.cached else f"fetched {format_size(got.sent_bytes)}"
    if got.resumed_at_bytes:
        how += f", went on at {format_size(got.resumed_at_bytes)}"
    digest = got.sha256
    if got.first and args.sha256 is None:
        digest += " (noted now; nothing to compare it with)"
    bundle = open_bundle(path)
    return build(
        "bundle fetch", bundle, check_bundle(bundle),
        (("file", str(path)), ("from", got.url), ("download", how), ("sha256", digest)),
    )  # fmt: skip
