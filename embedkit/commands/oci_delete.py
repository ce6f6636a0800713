"""``embedkit oci delete REFERENCE``."""

from __future__ import annotations

import argparse

from embedkit.commands import oci_common as common
from embedkit.errors import EmbedkitError
from embedkit.oci import digest as digests
from embedkit.oci import reference
from embedkit.oci.locate import Opener
from embedkit.oci.reference import Reference
from embedkit.oci.registry import Client
from embedkit.report.model import Report, Status, Step
from embedkit.report.model import Section as ReportSection
from embedkit.ui import Ui

_MAX_LOOKED_AT = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", help="HOST/PATH:TAG or HOST/PATH@DIGEST")
    parser.add_argument("--dry-run", action="store_true", help="show what would be removed")
    common.add_access_arguments(parser)


def run(args: argparse.Namespace, ui: Ui) -> Report:
    ref = reference.parse(args.reference.removeprefix("docker://"))
    with Opener(common.access(args)) as opener:
        client = opener.client(ref.host)
        content, _, _ = client.manifest(ref.path, ref.selector)
        digest = ref.digest or digests.of(content)
        others = _other_tags(client, ref, digest)
        step = Step(f"delete {digest} from {ref.host}/{ref.path}", touches=", ".join(others))
        done = not args.dry_run
        if done:
            also = [tag for tag in others if tag != ref.tag]
            if also:
                ui.warn(f"these tags point to the same image and go with it: {', '.join(also)}")
            expected = ref.tag or digest
            done = ui.confirm(f"This removes {ref} for everyone.", expected)
            if done:
                client.delete_manifest(ref.path, digest)
    verdict = f"deleted {ref}" if done else "nothing was deleted"
    return Report(
        command="oci delete",
        title=str(ref),
        verdict=verdict,
        status=Status.OK if done else Status.SKIP,
        exit_code=0 if done or args.dry_run else 1,
        sections=(ReportSection("Steps", steps=(step,)),),
        notes=("the layers stay until the registry collects its garbage",) if done else (),
        data={"digest": digest, "tags": others, "deleted": done},
    )


def _other_tags(client: Client, ref: Reference, digest: str) -> list[str]:
    """The tags that a deletion of ``digest`` takes with it, as far as can be told."""
    found = [ref.tag] if ref.tag else []
    try:
        tags = client.tags(ref.path)
    except EmbedkitError:
        return found
    for tag in tags[:_MAX_LOOKED_AT]:
        if tag != ref.tag:
            content, _, _ = client.manifest(ref.path, tag)
            if digests.of(content) == digest:
                found.append(tag)
    return found
