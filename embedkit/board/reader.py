"""board.toml → Board, with every problem of the file in one message."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from pathlib import Path

from embedkit.board.geometry import conflicts
from embedkit.board.model import (
    Blob,
    Board,
    Boot,
    Console,
    Emulation,
    Hole,
    Layout,
    Partition,
    Reserved,
)
from embedkit.errors import InputError
from embedkit.schema import Problems, Table, read_toml
from embedkit.units import SECTOR, parse_size

ARCHES = ("arm", "arm64", "amd64", "riscv64")
TABLES = ("mbr", "gpt", "none")
FILESYSTEMS = ("ext2", "ext3", "ext4", "fat", "squashfs")
KINDS = ("raw", "uimage", "zimage", "arm64-image", "dtb", "fit", "ext4", "squashfs", "elf")
# Kept bytes must not share a 4 KiB block with written ones: block maps know nothing smaller.
BLOCK = 4096

# genimage's short names, and those of the UEFI and the discoverable partitions specifications.
TYPE_GUIDS = {
    "linux": "0fc63daf-8483-4772-8e79-3d69d8477de4",
    "fat": "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7",
    "esp": "c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
    "boot": "bc13c2ff-59e6-4262-a352-b275fd6f7172",
    "root-arm": "69dad710-2ce4-4e3c-b16c-21a1d49abed3",
    "root-arm64": "b921b045-1df0-41c3-af44-4c6f280d3fae",
    "root-riscv64": "72ec70a6-cf74-40e6-bd49-4bda08e8f224",
    "root-x86-64": "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
}
_TYPE_BYTES = {"linux": 0x83, "fat": 0x0C, "esp": 0xEF}
_HOLE = re.compile(r"\(\s*([^;]+?)\s*;\s*([^)]+?)\s*\)")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def read(path: Path, name: str) -> Board:
    """The board of one file. Raises InputError with everything that is wrong with it."""
    top = read_toml(path)
    problems = top.problems
    layouts = tuple(
        _layout(key, table, problems) for key, table in top.named_tables("layouts").items()
    )
    if not layouts:
        problems.add("layouts", "is missing (a card needs at least one [layouts.NAME])")
    if sum(layout.default for layout in layouts) > 1:
        problems.add("layouts", "more than one layout is the default")
    sources = top.table("sources")
    given = sources.keys()
    board = Board(
        name=name,
        title=top.text("title", required=True),
        soc=top.text("soc"),
        arch=top.choice("arch", ARCHES, required=True),
        compatible=top.texts("compatible"),
        layouts=layouts,
        console=_console(top.table("console")),
        boot=_boot(top.table("boot")),
        emulation=_emulation(top.table("emulate")) if top.has("emulate") else None,
        sources=tuple((key, sources.text(key)) for key in given),
        advice=tuple(f"{place}: has no source" for place in _unsourced(layouts)),
        path=path,
    )
    top.finish()
    problems.raise_if_any()
    return board


def _console(table: Table) -> Console:
    console = Console(
        device=table.text("device"),
        baud=table.integer("baud", 115200),
        login_prompt=table.text("login-prompt", "login: "),
        boot_prompt=table.text("boot-prompt", "=> "),
        source=table.text("source"),
    )
    table.finish()
    return console


def _boot(table: Table) -> Boot:
    boot = Boot(
        kernel=table.text("kernel"),
        device_tree=table.text("device-tree"),
        load_address=table.integer("load-address"),
        arguments=table.text("arguments"),
        source=table.text("source"),
    )
    table.finish()
    return boot


def _emulation(table: Table) -> Emulation:
    emulation = Emulation(
        program=table.text("program", required=True),
        machine=table.text("machine", required=True),
        cpu=table.text("cpu"),
        memory=table.size("memory", required=True) or 0,
        processors=table.integer("processors", 1),
        drive=table.choice("drive", ("sd", "virtio"), "virtio"),
        network=table.choice("network", ("onboard", "virtio", "usb"), "virtio"),
        console=table.text("console", required=True),
        card_boot=table.boolean("card-boot"),
        power_of_two=table.boolean("power-of-two"),
        substitute=table.boolean("substitute"),
        note=table.text("note"),
        source=table.text("source"),
    )
    table.finish()
    return emulation


def _layout(name: str, table: Table, problems: Problems) -> Layout:
    before = len(problems.found)
    kind = table.choice("partition-table-type", TABLES, "mbr")
    layout = Layout(
        name=name,
        title=table.text("title", name),
        table=kind,
        blobs=tuple(_blob(key, item) for key, item in table.named_tables("blobs").items()),
        partitions=tuple(
            _partition(key, number, item, kind)
            for number, (key, item) in enumerate(table.named_tables("partitions").items(), 1)
        ),
        reserved=tuple(
            _reserved(key, item) for key, item in table.named_tables("reserved").items()
        ),
        default=table.boolean("default"),
        identity=_identity(table, kind),
        gpt_location=_or(table.size("gpt-location"), 2 * SECTOR),
        gpt_backup=not table.boolean("gpt-no-backup"),
        zero_head=table.size("zero-head") or 0,
        alignment=_or(table.size("align"), 1 << 20),
        note=table.text("note"),
        source=table.text("source"),
    )
    table.finish()
    if len(problems.found) == before:
        _check(layout, table, problems)
    return layout


def _check(layout: Layout, table: Table, problems: Problems) -> None:
    """What only the parts together can have wrong."""
    for sentence in conflicts(layout):
        problems.add(table.path, sentence)
    names = [blob.name for blob in layout.blobs]
    for blob in layout.blobs:
        for other in blob.overwritten_by:
            if other not in names:
                place = f"{table.path}.blobs.{blob.name}.overwritten-by"
                problems.add(place, f"there is no blob '{other}' in this layout")
    partitions = layout.partitions
    if layout.table == "mbr" and len(partitions) > 4:
        problems.add(f"{table.path}.partitions", "an MBR has room for 4; use a GPT")
    if layout.table == "none" and partitions:
        problems.add(f"{table.path}.partitions", "there is no partition table to hold them")
    last_offset = 0
    for partition in partitions:
        place = f"{table.path}.partitions.{partition.name}"
        if partition.size is None and partition is not partitions[-1]:
            problems.add(f"{place}.size", "is missing (only the last partition may take the rest)")
        if partition.offset is not None:
            if partition.offset < last_offset:
                problems.add(f"{place}.offset", "partitions must be listed as they lie on the card")
            last_offset = partition.offset
    for item in layout.reserved:
        if item.keep and (item.offset % BLOCK or item.size % BLOCK):
            problems.add(
                f"{table.path}.reserved.{item.name}",
                "a kept place must start and end at a multiple of 4 KiB",
            )
    if layout.table == "gpt" and layout.gpt_location % SECTOR:
        problems.add(f"{table.path}.gpt-location", "is not a whole number of sectors")


def _named(name: str, table: Table) -> str:
    if not _NAME.fullmatch(name):
        table.problems.add(table.path, "a name is lower-case letters, digits, '.', '_' and '-'")
    return name


def _blob(name: str, table: Table) -> Blob:
    sha256 = table.texts("sha256")
    for value in sha256:
        if not _SHA256.fullmatch(value):
            table.problems.add(table.at("sha256"), f"'{value}' is not 64 lower-case hex digits")
    blob = Blob(
        name=_named(name, table),
        images=_images(table, required=True),
        offset=_or(table.size("offset", required=True, bare=SECTOR), 0),
        room=table.size("size"),
        cut=table.boolean("cut"),
        overwritten_by=table.texts("overwritten-by"),
        holes=_holes(table),
        kind=table.choice("type", KINDS, "raw"),
        optional=table.boolean("optional"),
        sha256=sha256,
        source=table.text("source"),
    )
    if blob.cut and blob.room is None:
        table.problems.add(table.at("cut"), "needs a 'size' to cut to")
    if blob.room == 0:
        table.problems.add(table.at("size"), "is zero")
    table.finish()
    return blob


def _images(table: Table, *, required: bool = False) -> tuple[str, ...]:
    images = table.texts("image")
    if required and not images:
        table.problems.add(table.at("image"), "is missing (a file name in the artifacts folder)")
    for image in images:
        _relative(image, table, "image")
    return images


def _relative(path: str, table: Table, key: str) -> None:
    if path.startswith("/") or ".." in Path(path).parts:
        table.problems.add(table.at(key), f"'{path}' must stay inside the artifacts folder")


def _holes(table: Table) -> tuple[Hole, ...]:
    holes = []
    for text in table.texts("holes"):
        match = _HOLE.fullmatch(text.strip())
        try:
            if match is None:
                raise InputError(f"'{text}' is not a hole; write it as '(440; 512)'")
            start, end = parse_size(match.group(1)), parse_size(match.group(2))
            if end <= start:
                raise InputError(f"the hole '{text}' is empty")
            holes.append(Hole(start, end))
        except InputError as error:
            table.problems.add(table.at("holes"), error.message)
    return tuple(sorted(holes, key=lambda hole: hole.start))


def _partition(name: str, number: int, table: Table, table_kind: str) -> Partition:
    filesystem = table.choice("filesystem", FILESYSTEMS)
    files, optional_files = table.texts("files"), table.texts("optional-files")
    for path in (*files, *optional_files):
        _relative(path, table, "files")
    if files and not filesystem:
        table.problems.add(table.at("files"), "needs a 'filesystem' to put them in")
    partition = Partition(
        name=_named(name, table),
        number=number,
        offset=table.size("offset", bare=SECTOR),
        size=table.size("size"),
        type=_type(table, table_kind, filesystem),
        bootable=table.boolean("bootable"),
        uuid=_guid(table, "partition-uuid"),
        filesystem=filesystem,
        label=table.text("label"),
        images=_images(table),
        files=files,
        optional_files=optional_files,
        kind=table.choice("type", KINDS, "raw"),
        features=table.text("features"),
        grow=table.boolean("grow", True),
        extlinux=table.text("extlinux"),
        optional=table.boolean("optional"),
        source=table.text("source"),
    )
    _check_partition(partition, table)
    table.finish()
    return partition


def _check_partition(partition: Partition, table: Table) -> None:
    for key, value in (("offset", partition.offset), ("size", partition.size)):
        if value is not None and value % SECTOR:
            table.problems.add(table.at(key), f"{value} bytes is not a whole number of sectors")
    if partition.size == 0:
        table.problems.add(table.at("size"), "is zero")
    limit = 11 if partition.filesystem == "fat" else 16
    if len(partition.label.encode()) > limit:
        table.problems.add(table.at("label"), f"is longer than {limit} bytes")
    if partition.extlinux and partition.filesystem in ("", "squashfs"):
        table.problems.add(table.at("extlinux"), "needs an ext or FAT file system to be made in")
    if partition.extlinux and not partition.extlinux.startswith("/"):
        table.problems.add(table.at("extlinux"), "is a folder of the file system, such as '/boot'")
    if partition.filesystem and partition.kind != "raw":
        table.problems.add(table.at("type"), "is for raw content; this one has a file system")


def _type(table: Table, table_kind: str, filesystem: str) -> str:
    default = "fat" if filesystem == "fat" else "linux"
    key = "partition-type"
    if isinstance(table.peek(key), int):
        value = table.integer(key)
        if table_kind == "gpt":
            table.problems.add(table.at(key), "must be a GUID or a name in a GPT")
        elif not 1 <= value <= 0xFF:
            table.problems.add(table.at(key), f"{value} is not between 1 and 0xff")
        return f"0x{value & 0xFF:02x}"
    text = table.text(key, default).lower()
    if table_kind == "gpt":
        return TYPE_GUIDS.get(text) or _checked_guid(table, key, text, TYPE_GUIDS)
    if text not in _TYPE_BYTES:
        table.problems.add(
            table.at(key),
            f"'{text}' is not a number such as 0x83 or one of {', '.join(_TYPE_BYTES)}",
        )
        return "0x83"
    return f"0x{_TYPE_BYTES[text]:02x}"


def _checked_guid(table: Table, key: str, text: str, names: Sequence[str] | dict[str, str]) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        known = f" or one of {', '.join(names)}" if names else ""
        table.problems.add(table.at(key), f"'{text}' is not a GUID{known}")
        return TYPE_GUIDS["linux"]


def _guid(table: Table, key: str) -> str:
    text = table.text(key)
    return _checked_guid(table, key, text, ()) if text else ""


def _identity(table: Table, kind: str) -> str:
    if kind == "gpt":
        return _guid(table, "disk-uuid")
    if not table.has("disk-signature"):
        return ""
    value = table.integer("disk-signature")
    if not 0 <= value <= 0xFFFFFFFF:
        table.problems.add(table.at("disk-signature"), "is not a 32-bit number")
    return f"0x{value & 0xFFFFFFFF:08x}"


def _reserved(name: str, table: Table) -> Reserved:
    reserved = Reserved(
        name=_named(name, table),
        offset=_or(table.size("offset", required=True, bare=SECTOR), 0),
        size=_or(table.size("size", required=True), 0),
        keep=table.choice("content", ("zero", "keep"), "zero") == "keep",
        source=table.text("source"),
    )
    table.finish()
    return reserved


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


def _unsourced(layouts: tuple[Layout, ...]) -> list[str]:
    places = []
    for layout in layouts:
        path = f"layouts.{layout.name}"
        if not layout.source:
            places.append(path)
        places += [f"{path}.blobs.{blob.name}" for blob in layout.blobs if not blob.source]
        places += [f"{path}.reserved.{item.name}" for item in layout.reserved if not item.source]
        # A partition without a source of its own has the layout's.
    return places
