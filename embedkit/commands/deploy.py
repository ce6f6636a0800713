"""``embedkit deploy``: Docker onto boards, started by their own init, proven by a container."""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.commands.targeting import TARGET_HELP, access, add_access_arguments
from embedkit.errors import EmbedkitError, InputError
from embedkit.report.model import Report

if TYPE_CHECKING:
    from embedkit.commands.deploy_report import Told
    from embedkit.docker.deploy import SharedBundle, Wish
    from embedkit.docker.plan import Step
    from embedkit.ui import Ui

_AT_ONCE = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("targets", nargs="+", metavar="TARGET", help=TARGET_HELP)
    what = parser.add_argument_group("what")
    what.add_argument(
        "--bundle", type=Path, metavar="FILE",
        help="docker-VERSION.tgz, a folder with dockerd, or a single docker binary",
    )  # fmt: skip
    what.add_argument("--bundle-version", metavar="VERSION", help="where the bundle does not tell")
    what.add_argument(
        "--minimal", action="store_true",
        help="without ctr, docker-proxy, docker-init and the old shims",
    )  # fmt: skip
    what.add_argument("--rollback", action="store_true", help="go back to the version before")
    what.add_argument(
        "--uninstall", action="store_true",
        help="remove what was deployed and put back what was there; images and volumes stay",
    )  # fmt: skip
    what.add_argument("--purge", action="store_true", help="with --uninstall: remove them, too")
    what.add_argument("--dry-run", action="store_true", help="show the steps, change nothing")
    what.add_argument(
        "--force", action="store_true", help="go on where the board's facts forbid it"
    )
    how = parser.add_argument_group("how")
    how.add_argument("--no-start", action="store_true", help="install without starting it")
    how.add_argument(
        "--proof", choices=("none", "quick", "full"), default="quick",
        help="quick: a container runs; full: also memory limit, volume, network, port and restart "
        "policy, with a static BusyBox",
    )  # fmt: skip
    how.add_argument("--prove", action="store_true", help="prove even where nothing had to be done")
    how.add_argument(
        "--busybox", type=Path, metavar="FILE",
        help="a static BusyBox for the board (default: the board's own, where it is static)",
    )  # fmt: skip
    how.add_argument("--root", default=None, metavar="DIR", help="default: /opt/embedkit/docker")
    how.add_argument("--bin-folder", metavar="DIR", help="where the links go")
    how.add_argument("--data-root", metavar="DIR", help="where images and containers live")
    how.add_argument("--iptables", choices=("auto", "on", "off"), default="auto")
    how.add_argument("--no-group", action="store_true", help="make no group 'docker'")
    how.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
        help="a setting for daemon.json; the value is JSON, or else a text",
    )  # fmt: skip
    how.add_argument(
        "--allow-dynamic", action="store_true",
        help="take programs that need libraries of the board",
    )  # fmt: skip
    add_access_arguments(parser)


def run(args: argparse.Namespace, ui: Ui) -> Report:
    """Deploys to each target; up to eight at once. One that fails does not stop the others."""
    from embedkit.commands.deploy_report import build
    from embedkit.docker.deploy import SharedBundle

    wish = _wish(args)
    if len(set(args.targets)) != len(args.targets):
        raise InputError("a target is named twice")
    if wish.purge and not wish.dry_run:
        names = " ".join(args.targets)
        question = f"All images, containers and volumes on {names} will be removed."
        if not ui.confirm(question, names):
            raise InputError("not confirmed, so nothing was done")
    shared = SharedBundle(_bundle(args)) if wish.action == "install" else None
    try:
        with ThreadPoolExecutor(max_workers=min(len(args.targets), _AT_ONCE)) as pool:
            told = list(pool.map(lambda url: _one(url, shared, wish, args, ui), args.targets))
    finally:
        if shared is not None:
            shared.close()
    if len(told) == 1 and told[0].error is not None:
        raise told[0].error
    return build(wish, told)


def _wish(args: argparse.Namespace) -> Wish:
    from embedkit.docker.deploy import Wish
    from embedkit.docker.fit import Allowed
    from embedkit.docker.install import Options
    from embedkit.docker.settings import Choices
    from embedkit.docker.state import ROOT

    if args.rollback and args.uninstall:
        raise InputError("--rollback and --uninstall do not go together")
    if args.purge and not args.uninstall:
        raise InputError("--purge belongs to --uninstall")
    action = "rollback" if args.rollback else "uninstall" if args.uninstall else "install"
    if action == "install" and args.bundle is None:
        raise InputError(
            "there is no bundle to deploy",
            hint="give --bundle FILE; 'embedkit bundle fetch' gets one",
        )
    if action != "install" and args.bundle is not None:
        raise InputError(f"--{action} takes no bundle")
    if args.busybox is not None and not args.busybox.is_file():
        raise InputError(f"there is no file {args.busybox}")
    for option in ("root", "bin_folder", "data_root"):
        _check_folder(option, getattr(args, option))
    choices = Choices(args.data_root, args.iptables, _settings(args.settings))
    return Wish(
        action=action,
        options=Options(
            root=args.root or ROOT,
            bin_folder=args.bin_folder,
            start=not args.no_start,
            group=not args.no_group,
            choices=choices,
        ),
        allowed=Allowed(dynamic=args.allow_dynamic),
        proof=args.proof,
        prove_again=args.prove,
        busybox=args.busybox,
        purge=args.purge,
        dry_run=args.dry_run,
        force=args.force,
    )


def _check_folder(option: str, value: str | None) -> None:
    """A folder on the board that service files and scripts can name without quoting."""
    import re

    if value is None:
        return
    whole = re.fullmatch(r"(/[A-Za-z0-9._+-]+)+", value)
    if whole is None or any(part in (".", "..") for part in value.split("/")):
        raise InputError(
            f"--{option.replace('_', '-')} takes an absolute path of letters, digits, '.', '_', "
            f"'+' and '-', not '{value}'"
        )


def _settings(words: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise InputError(f"--set takes KEY=VALUE, not '{word}'")
        try:
            found[key] = json.loads(text)
        except ValueError:
            found[key] = text
    return found


def _bundle(args: argparse.Namespace) -> Any:
    from embedkit.data import cache_folder
    from embedkit.docker.bundlecache import open_cached
    from embedkit.docker.deploy import named

    bundle = open_cached(args.bundle, cache_folder() / "bundles")
    return named(bundle, args.bundle_version, args.minimal)


def _one(
    url: str, shared: SharedBundle | None, wish: Wish, args: argparse.Namespace, ui: Ui
) -> Told:
    from embedkit.bringup.causes import kernel_causes
    from embedkit.commands.deploy_report import Told
    from embedkit.docker.deploy import deploy
    from embedkit.target.opening import open_target

    try:
        with open_target(url, access(args, ui)) as target:
            name = target.name
            target.connect(deadline_seconds=args.wait)
            done = deploy(
                target, shared, wish, explain=kernel_causes, progress=ui,
                observer=_Telling(name, ui),
            )  # fmt: skip
            return Told(name, target.address, done)
    except EmbedkitError as error:
        return Told(url, url, error=error)


class _Telling:
    """Says each step with ``-v``."""

    def __init__(self, name: str, ui: Ui) -> None:
        self._name = name
        self._ui = ui

    def started(self, step: Step) -> None:
        self._ui.detail(f"{self._name}: {step.title}")

    def finished(self, step: Step, seconds: float) -> None:
        pass
