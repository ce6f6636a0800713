"""Makes images from programs, folders and root filesystems, for one platform or several.

The same input makes the same bytes: no clock, no user, no file order goes in.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from embedkit.errors import InputError
from embedkit.oci import layer as layers
from embedkit.oci import mediatypes
from embedkit.oci.documents import Config, Descriptor, Index, Manifest, dump
from embedkit.oci.inspect import inspect
from embedkit.oci.layer import Node
from embedkit.oci.limits import DEFAULT, Limits
from embedkit.oci.mediatypes import Compression
from embedkit.oci.memory import MemoryStore
from embedkit.oci.platform import Platform, normalise, runnable, same
from embedkit.oci.recognise import Evidence, examine_stream, judge, mismatch, missing_loaders
from embedkit.oci.rootfs import RootFs
from embedkit.oci.source import Entry, ImageTree, platform_of
from embedkit.oci.tarread import Member

CA_BUNDLE = "etc/ssl/certs/ca-certificates.crt"
ZONEINFO = "usr/share/zoneinfo"
_PORT = re.compile(r"\d{1,5}(?:/(?:tcp|udp|sctp))?")


_RUN_ORDER = ("User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels")


@dataclass(frozen=True)
class RunConfig:
    """What a container of the image starts with. None and empty: as the base image has it."""

    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    workdir: str = ""
    ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = ""


@dataclass(frozen=True)
class Part:
    """One platform's content: a program, a folder or a root filesystem's tar."""

    path: Path
    platform: Platform | None = None


@dataclass(frozen=True)
class Recipe:
    """What every part has in common.

    ``added`` are files or folders of this machine and their places in the image; ``epoch`` is
    SOURCE_DATE_EPOCH, in seconds; ``trusted`` says that a stated platform holds even where
    the programs contradict it.
    """

    name: str
    run: RunConfig = RunConfig()
    base: ImageTree | None = None
    added: tuple[tuple[Path, str], ...] = ()
    compression: Compression = "gzip"
    level: int | None = None
    epoch: int = 0
    keep_owner: bool = False
    trusted: bool = False


@dataclass(frozen=True)
class Built:
    """One platform's image and what there is to say about it."""

    platform: Platform
    source: Path
    files: int
    warnings: tuple[str, ...]


def check(run: RunConfig) -> None:
    """Raises InputError for what Docker would refuse, or misunderstand, later."""
    for port in run.ports:
        number = int(port.partition("/")[0]) if _PORT.fullmatch(port) else 0
        if not 1 <= number <= 65535:
            raise InputError(f"'{port}' is not a port", hint="write it as '80' or '53/udp'")
    for what, path in [("volume", v) for v in run.volumes] + [("working folder", run.workdir)]:
        if path and not path.startswith("/"):
            raise InputError(f"the {what} '{path}' must begin with '/'")
    for key in run.env:
        if not key or "=" in key or "\0" in key:
            raise InputError(f"'{key}' is not the name of an environment variable")


def build(
    parts: Sequence[Part], recipe: Recipe, scratch: Path, *, limits: Limits = DEFAULT
) -> tuple[ImageTree, tuple[Built, ...]]:
    """Makes the image; its layers lie in ``scratch`` until they are transferred.

    Several parts make an index. Raises InputError where a platform cannot be recognised, is
    there twice or contradicts the programs.
    """
    check(recipe.run)
    entries: list[Entry] = []
    built: list[Built] = []
    for part in parts:
        entry, facts = _build_one(part, recipe, scratch, limits)
        for other in built:
            if same(other.platform, facts.platform):
                raise InputError(
                    f"two parts for {facts.platform}: {other.source} and {facts.source}"
                )
        entries.append(entry)
        built.append(facts)
    index = Index(mediatypes.INDEX, ()) if len(parts) > 1 else None
    return ImageTree(recipe.name, tuple(entries), index), tuple(built)


def _build_one(part: Part, recipe: Recipe, scratch: Path, limits: Limits) -> tuple[Entry, Built]:
    warnings: list[str] = []
    nodes, entrypoint, close = _nodes(part, recipe, warnings, limits)
    try:
        for source, place in recipe.added:
            nodes += _added(source, place, recipe.keep_owner, warnings)
        nodes = layers.arrange(nodes)
        evidence = _evidence(nodes)
        words = recipe.run.entrypoint or recipe.run.cmd or entrypoint or ()
        platform = _platform(part, recipe, evidence, words, warnings)
        made = layers.write(
            nodes, scratch, recipe.compression, mtime=recipe.epoch, level=recipe.level
        )
    finally:
        close()
    base = _base(recipe, platform, warnings) if recipe.base else None
    warnings += _loader_warnings(nodes, evidence, base, limits)
    entry = _image(recipe, platform, made, entrypoint, base, limits)
    if not words and not (base and _has_command(base[2])):
        warnings.append("no entrypoint and no command: 'docker run' must be told what to start")
    return entry, Built(platform, part.path, len(nodes), tuple(warnings))


def _nodes(
    part: Part, recipe: Recipe, warnings: list[str], limits: Limits
) -> tuple[list[Node], tuple[str, ...] | None, Any]:
    """The part's files, the entrypoint that follows from it, and what lets go of it."""
    path = part.path
    if path.is_dir():
        skipped: list[str] = []
        nodes = layers.from_folder(path, keep_owner=recipe.keep_owner, skipped=skipped)
        warnings += [f"/{name} is a socket and was left out" for name in skipped]
        return nodes, None, lambda: None
    if not path.exists():
        raise InputError(f"no such file or folder: {path}")
    kind = kind_of(path)
    if kind == "tar":
        nodes, close = layers.from_tar(path, limits=limits)
        return nodes, None, close
    if kind == "program":
        node = layers.from_file(path, path.name, mode=0o755)
        return [node], (f"/{path.name}",), lambda: None
    raise InputError(
        f"{path} is neither a program (ELF or #!), nor a folder, nor a tar archive",
        hint="for other files: --add FILE:/PLACE",
    )


def kind_of(path: Path) -> Literal["tar", "program", "other"]:
    """What a file is, by its first bytes."""
    from embedkit.oci import compression
    from embedkit.oci.content import open_regular

    with open_regular(path, "the file") as file:
        head = file.read(512)
    if head.startswith((b"\x7fELF", b"#!")):
        return "program"
    if compression.sniff(head) != "none" or head[257:262] == b"ustar":
        return "tar"
    # A tar of before POSIX has no magic, but a checksum.
    from embedkit.oci.tarread import _checksum_fits

    return "tar" if len(head) == 512 and head.strip(b"\0") and _checksum_fits(head) else "other"


def _added(source: Path, place: str, keep_owner: bool, warnings: list[str]) -> list[Node]:
    if not place.startswith("/") or ".." in place.split("/"):
        raise InputError(f"'{place}' is not an absolute place in the image")
    if source.is_dir():
        skipped: list[str] = []
        nodes = layers.from_folder(source, place, keep_owner=keep_owner, skipped=skipped)
        warnings += [f"/{name} is a socket and was left out" for name in skipped]
        return nodes
    return [layers.from_file(source, place.rstrip("/") + f"/{source.name}" if place.endswith("/")
                             else place)]  # fmt: skip


def _evidence(nodes: Sequence[Node]) -> list[Evidence]:
    found = []
    for node in nodes:
        if node.open is not None:
            with node.open() as stream:
                item = examine_stream(node.path, node.size, stream)
            if item is not None:
                found.append(item)
    return found


def _platform(
    part: Part,
    recipe: Recipe,
    evidence: Sequence[Evidence],
    words: Sequence[str],
    warnings: list[str],
) -> Platform:
    verdict = judge(evidence, words)
    if verdict.others:
        shown = ", ".join(
            f"/{item.path} ({item.platform.architecture})" for item in verdict.others[:3]
        )
        warnings.append(f"{len(verdict.others)} programs for other architectures: {shown}")
    if part.platform is not None:
        wrong = mismatch(verdict, part.platform)
        if wrong and not recipe.trusted:
            raise InputError(
                wrong, where=str(part.path), hint="leave the platform out, or --trust-platform"
            )
        if wrong:
            warnings.append(wrong)
        return normalise(part.platform)
    if verdict.platform is None or verdict.platform.architecture == "unknown":
        raise InputError(
            "no program in it says which platform it is for",
            where=str(part.path),
            hint="give --platform linux/arm/v7, for instance",
        )
    if not verdict.certain:
        warnings.append(
            f"the programs do not say which ARM they were built for; {verdict.platform} is assumed"
        )
    return verdict.platform


def _base(
    recipe: Recipe, platform: Platform, warnings: list[str]
) -> tuple[Entry, Manifest, Config]:
    """The base image's best entry for ``platform``."""
    assert recipe.base is not None
    candidates = []
    for entry in recipe.base.images:
        manifest = entry.manifest()
        candidates.append((entry, manifest, entry.config(manifest)))
    for offer in runnable(platform):
        for entry, manifest, config in candidates:
            if same(platform_of(entry, config), offer):
                if not same(offer, platform):
                    warnings.append(f"the base image has {offer}, not {platform}")
                return entry, manifest, config
    there = ", ".join(str(platform_of(entry, config)) for entry, _, config in candidates)
    raise InputError(f"the base image has nothing for {platform}; it has: {there}")


def _loader_warnings(
    nodes: Sequence[Node],
    evidence: Sequence[Evidence],
    base: tuple[Entry, Manifest, Config] | None,
    limits: Limits,
) -> tuple[str, ...]:
    if all(item.elf.static for item in evidence):
        return ()
    rootfs = inspect(base[0], duplicates=False, limits=limits).rootfs if base else RootFs("")
    for node in nodes:
        rootfs.add(
            Member(node.path, node.kind, node.size, node.mode, 0, 0, 0, node.link, 0, 0, 0), 1000
        )
    found = missing_loaders(evidence, lambda path: rootfs.find(path) is not None)
    return tuple(f"{item}, which the image does not have" for item in found)


def _has_command(config: Config) -> bool:
    return bool(config.run.get("Entrypoint") or config.run.get("Cmd"))


def _image(
    recipe: Recipe,
    platform: Platform,
    made: layers.Layer,
    entrypoint: tuple[str, ...] | None,
    base: tuple[Entry, Manifest, Config] | None,
    limits: Limits,
) -> Entry:
    created = datetime.fromtimestamp(recipe.epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    values = _config_values(recipe, platform, entrypoint, base[2] if base else None)
    values["created"] = created
    values["rootfs"]["diff_ids"].append(made.diff_id)
    values["history"].append({"created": created, "created_by": "embedkit oci build"})
    raw = dump(values)
    store = MemoryStore("the image being built", base[0].store if base else None)
    store.files[made.descriptor.digest] = made.file
    below = base[1].layers if base else ()
    manifest = Manifest(
        mediatypes.MANIFEST,
        store.add(raw, mediatypes.CONFIG),
        (*(_oci_layer(item) for item in below), made.descriptor),
    )
    descriptor = store.add(manifest.to_bytes(), mediatypes.MANIFEST)
    return Entry(store, replace(descriptor, platform=platform))


def _oci_layer(layer: Descriptor) -> Descriptor:
    kind = mediatypes.layer_compression(layer.media_type)
    return replace(layer, media_type=mediatypes.layer("oci", kind))


def _config_values(
    recipe: Recipe, platform: Platform, entrypoint: tuple[str, ...] | None, base: Config | None
) -> dict[str, Any]:
    """The config document: the base's, with what the recipe says over it."""
    old: dict[str, Any] = copy.deepcopy(dict(base.values)) if base else {}
    run: dict[str, Any] = old.get("config") or {}
    wanted = recipe.run
    entry = wanted.entrypoint if wanted.entrypoint is not None else entrypoint
    if entry is not None:
        run["Entrypoint"] = list(entry)
        # As in a Dockerfile: a new entrypoint makes the base's command meaningless.
        run.pop("Cmd", None)
    if wanted.cmd is not None:
        run["Cmd"] = list(wanted.cmd)
    env = dict(item.partition("=")[::2] for item in run.get("Env") or [])
    env.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    env.update(wanted.env)
    run["Env"] = [f"{key}={value}" for key, value in env.items()]
    for key, value in (
        ("User", wanted.user),
        ("WorkingDir", wanted.workdir),
        ("StopSignal", wanted.stop_signal),
    ):
        if value:
            run[key] = value
    if "WorkingDir" not in run:
        run["WorkingDir"] = "/"
    ports: dict[str, dict[str, str]] = {
        port if "/" in port else f"{port}/tcp": {} for port in wanted.ports
    }
    for key, more in (
        ("ExposedPorts", ports),
        ("Volumes", {path: {} for path in wanted.volumes}),
        ("Labels", dict(wanted.labels)),
    ):
        if more:
            run[key] = dict(sorted({**(run.get(key) or {}), **more}.items()))
    # The order of Go's structures: tools that read and write a config then keep its bytes, and
    # with them the image's ID.
    values: dict[str, Any] = {"created": "", "author": old.get("author")}
    values |= {"architecture": platform.architecture, "os": platform.os}
    values |= {"os.version": old.get("os.version"), "os.features": old.get("os.features")}
    values["variant"] = platform.variant
    values = {key: value for key, value in values.items() if value or key == "created"}
    values["config"] = {key: run[key] for key in sorted(run, key=_run_order)}
    values["rootfs"] = {"type": "layers", "diff_ids": list(base.diff_ids) if base else []}
    history = old.get("history")
    values["history"] = history if isinstance(history, list) else []
    return values


def _run_order(key: str) -> int:
    return _RUN_ORDER.index(key) if key in _RUN_ORDER else len(_RUN_ORDER)
