"""Reads a bringup file: every problem of it at once.

Paths in it are relative to the folder that it is in.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from embedkit.bringup.settings import (
    DEADLINE_SECONDS,
    EMULATED,
    FILE,
    POWER_OF_TWO,
    PROOFS,
    UNTIL,
    Boot,
    Build,
    Card,
    Docker,
    Kernel,
    Settings,
)
from embedkit.errors import InputError
from embedkit.schema import Problems, Table, read_toml
from embedkit.target.address import parse_address
from embedkit.units import parse_size

_PREFERENCES = ("auto", "y", "m")
_WORK = ".bringup"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}")
_SIZE_STEP = 4096


def read(
    path: Path, kinds: tuple[str, ...], *, device: str | None = None, target: str | None = None
) -> Settings:
    """The settings in the file ``path``; ``kinds`` are the reference boards there are.

    ``device`` and ``target`` go before the file's (a relative ``file:`` then begins here).

    Raises InputError with everything that is wrong with it.
    """
    table = read_toml(path)
    problems = table.problems
    reader = _Reader(table, path.absolute().parent)
    found = reader.settings(path, kinds, device, target)
    table.finish()
    problems.raise_if_any()
    return found


class _Reader:
    def __init__(self, top: Table, folder: Path) -> None:
        self.top = top
        self.folder = folder
        self.problems: Problems = top.problems

    def settings(
        self, path: Path, kinds: tuple[str, ...], device: str | None, target: str | None
    ) -> Settings:
        top = self.top
        reference = top.table("reference")
        kind = reference.choice("kind", kinds, required=top.has("reference"))
        proof = reference.choice("proof", PROOFS, "quick")
        reference.finish()
        name = top.text("name", path.stem)
        if not _NAME.fullmatch(name):
            self.problems.add("name", f"'{name}' is not a name: letters, digits, '.', '_' and '-'")
        found = Settings(
            name=name,
            board=self.board(top.text("board")),
            work=self.path(top, "work") or path.absolute().with_name(f"{path.stem}{_WORK}"),
            device=self.device(top, device),
            target=self.target(top, target),
            reference=kind,
            kernel=self.kernel(top.table("kernel")),
            build=None,
            card=self.card(top.table("card")),
            boot=self.boot(top.table("boot")),
            docker=self.docker(top.table("docker")),
        )
        if kind:
            found = replace(found, docker=Docker(proof=proof))
        if top.has("build"):
            found = replace(found, build=self.build(top.table("build"), found.kernel))
        self.together(found)
        return found

    def path(self, table: Table, key: str, *, there: str = "") -> Path | None:
        """A path; ``there`` says what must be at its place ("file", "folder" or "anything")."""
        text = table.text(key)
        return self.place(table.at(key), text, there) if text else None

    def place(self, at: str, text: str, there: str = "") -> Path:
        path = self.folder / Path(text).expanduser()
        ok = {"file": path.is_file, "folder": path.is_dir, "anything": path.exists}
        if there and not ok[there]():
            what = "no such file or folder" if there == "anything" else f"there is no {there}"
            self.problems.add(at, f"{what}: {path}")
        return path

    def board(self, text: str) -> str:
        return str(self.folder / text) if "/" in text or text.endswith(".toml") else text

    def device(self, top: Table, given: str | None) -> str:
        text = top.text("device", EMULATED if top.has("reference") else "")
        if given is not None:
            text = f"{FILE}{Path(given[5:]).absolute()}" if given.startswith(FILE) else given
        if text.startswith(FILE):
            if text == FILE:
                self.problems.add("device", "'file:' needs the file's name: 'file:card.img'")
            return f"{FILE}{self.folder / text.removeprefix(FILE)}"
        if text.startswith("qemu") and text != EMULATED:
            self.problems.add("device", f"'{text}' is not known; did you mean '{EMULATED}'?")
        elif text and text != EMULATED and not text.startswith("/"):
            self.problems.add("device", f"'{text}' must be '/dev/…', 'file:PATH' or '{EMULATED}'")
        return text

    def target(self, top: Table, given: str | None) -> str:
        text = top.text("target")
        text = text if given is None else given
        if text and not text.startswith(EMULATED):
            try:
                parse_address(text)
            except InputError as error:
                self.problems.add("target", f"{error.message}")
        return text

    def kernel(self, table: Table) -> Kernel:
        config = table.text("config")
        tree = self.path(table, "tree", there="folder")
        named = bool(tree) and "/" not in config and not (self.folder / config).exists()
        if config and not named:
            config = str(self.place(table.at("config"), config, "anything"))
        found = Kernel(
            config=config,
            tree=tree,
            buildroot=self.path(table, "buildroot", there="folder"),
            defconfig=table.text("defconfig"),
            patched=self.path(table, "patched"),
            fragment=self.path(table, "fragment"),
            modules=self.path(table, "modules", there="folder"),
            profile=table.text("profile", "docker"),
            features=table.texts("features"),
            enable=table.texts("enable"),
            disable=table.texts("disable"),
            allow=table.texts("allow"),
            prefer=table.choice("prefer", _PREFERENCES, "auto"),
            arch=table.text("arch") or None,
            cross_compile=table.text("cross-compile") or None,
            assume_compiler=table.boolean("assume-compiler"),
        )
        if found.buildroot is not None and config:
            self.problems.add(table.at("config"), "a Buildroot says itself which config it uses")
        if found.buildroot is not None and found.patched is not None:
            self.problems.add(table.at("patched"), "Buildroot gets a fragment: say 'fragment'")
        if found.defconfig and found.buildroot is None:
            self.problems.add(table.at("defconfig"), "is Buildroot's, and there is no 'buildroot'")
        table.finish()
        return found

    def build(self, table: Table, kernel: Kernel) -> Build:
        command = table.peek("command")
        words = table.texts("command")
        if isinstance(command, str):
            words = ("sh", "-c", command)
        folder = self.path(table, "folder", there="folder")
        if not words and kernel.buildroot is not None:
            # Its own target, for a changed fragment would not rebuild the kernel by itself.
            words = ("make", "linux-reconfigure", "all")
            folder = folder or kernel.buildroot
        if not words:
            self.problems.add(table.at("command"), "is missing (the build's words, or a text)")
        makes = tuple(self.folder / name for name in table.texts("makes"))
        inputs = tuple(
            self.place(f"{table.at('inputs')}", name, "anything") for name in table.texts("inputs")
        )
        table.finish()
        return Build(words, folder or self.folder, makes, inputs)

    def card(self, table: Table) -> Card:
        files = table.table("files")
        chosen = []
        for name in tuple(files.keys()):
            text = files.text(name)
            if text:
                chosen.append((name, self.folder / text))
        rootfs = table.text("rootfs")
        if rootfs:
            chosen.append(("rootfs", self.folder / rootfs))
        size = table.text("size")
        bytes_ = None
        if size and size != POWER_OF_TWO:
            try:
                bytes_ = parse_size(size)
            except InputError as error:
                self.problems.add(table.at("size"), f"{error.message}; or '{POWER_OF_TWO}'")
            if bytes_ is not None and bytes_ % _SIZE_STEP:
                self.problems.add(table.at("size"), f"{size} is not a multiple of 4 KiB")
        found = Card(
            layout=table.text("layout") or None,
            artifacts=self.path(table, "artifacts"),
            files=tuple(chosen),
            size=bytes_,
            power_of_two=size == POWER_OF_TWO,
            seed=table.text("seed"),
            image=self.path(table, "image"),
        )
        table.finish()
        return found

    def boot(self, table: Table) -> Boot:
        deadline = table.integer("deadline", DEADLINE_SECONDS)
        if not 0 < deadline < 100_000:
            self.problems.add(table.at("deadline"), f"{deadline} is not a number of seconds")
        processors = table.integer("processors")
        found = Boot(
            deadline_seconds=deadline,
            kernel=self.path(table, "kernel"),
            initrd=self.path(table, "initrd"),
            device_tree=self.path(table, "device-tree"),
            arguments=table.text("arguments") or None,
            memory=table.size("memory"),
            processors=processors or None,
            accelerator=table.choice("accelerator", ("auto", "kvm", "tcg"), "auto"),
            until=table.choice("until", UNTIL, "any"),
            accept_new_host_key=table.boolean("accept-new-host-key"),
            legacy_ssh=table.boolean("legacy-ssh"),
        )
        table.finish()
        return found

    def docker(self, table: Table) -> Docker:
        settings = table.table("settings")
        found = Docker(
            bundle=self.path(table, "bundle", there="anything"),
            version=table.text("version") or None,
            minimal=table.boolean("minimal"),
            root=table.text("root") or None,
            data_root=table.text("data-root") or None,
            iptables=table.choice("iptables", ("auto", "on", "off"), "auto"),
            allow_dynamic=table.boolean("allow-dynamic"),
            force=table.boolean("force"),
            settings=tuple((key, _plain(settings.peek(key))) for key in tuple(settings.keys())),
            proof=table.choice("proof", PROOFS, "quick"),
            busybox=self.path(table, "busybox", there="file"),
        )
        table.finish()
        return found

    def together(self, found: Settings) -> None:
        """What is wrong only with two keys at once."""
        add = self.problems.add
        if found.reference:
            for key in ("board", "kernel", "build", "card", "boot", "docker", "target"):
                if self.top.has(key):
                    add(key, "a reference board brings its own: leave this out")
            if not found.emulated:
                add("device", f"a reference board is emulated: '{EMULATED}', or leave it out")
        if found.target.startswith(EMULATED) and not found.emulated:
            add("target", f"'{found.target}' is an emulated board, so device must be '{EMULATED}'")
        if found.emulated and found.target and not found.target.startswith(EMULATED):
            add("target", f"the device is '{EMULATED}', so the target is 'qemu:NAME' or left out")
        if not found.board and not found.reference and (found.composes or found.device):
            add("board", "is missing: a card is made for a board ('embedkit boards list')")
        if found.device and not found.composes:
            add("card", f"'{found.device}' needs a card: give artifacts, rootfs or files")
        if found.file is not None and found.card.image is not None:
            add("card.image", "the device is a file already: leave this out")


def _plain(value: object) -> Any:
    """A TOML value as daemon.json can hold it (dates become texts)."""
    return json.loads(json.dumps(value, default=str))
