"""Puts a kernel fragment beside a board's files and registers it in Buildroot's configuration.

A plan first, with every file's whole new content; then the writes, each atomic, the fragment
before the list that names it: whenever it is interrupted, Buildroot sees either the old state or
a complete new one, and the next run finishes the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from embedkit.errors import InputError, LackError, TargetError, did_you_mean
from embedkit.files import backup_path, write_atomically
from embedkit.kernel import makelist
from embedkit.kernel.buildroot import Buildroot, BuildrootConfig, read_config
from embedkit.kernel.buildroot_kernel import FRAGMENTS, Part, fragments, same
from embedkit.kernel.config import KernelConfig

# Paths of a configuration that lie beside a board's files, the surest first.
_BESIDE = (
    FRAGMENTS,
    "BR2_LINUX_KERNEL_CUSTOM_CONFIG_FILE",
    "BR2_ROOTFS_POST_IMAGE_SCRIPT",
    "BR2_ROOTFS_POST_BUILD_SCRIPT",
    "BR2_ROOTFS_OVERLAY",
    "BR2_GLOBAL_PATCH_DIR",
)
_DEFCONFIG = "_defconfig"


@dataclass(frozen=True)
class Edit:
    """One file to write; ``before`` is None where there is none yet.

    ``backup`` is where the old content goes, None for a file that is ours alone.
    """

    what: str
    path: Path
    before: bytes | None
    after: bytes
    backup: Path | None = None

    @property
    def changes(self) -> bool:
        """Whether there is anything to write."""
        return self.before != self.after


@dataclass(frozen=True)
class Registration:
    """The plan. ``word`` is how the configuration names the fragment; ``edits`` in their order."""

    fragment: Path
    word: str
    edits: tuple[Edit, ...]

    @property
    def changes(self) -> tuple[Edit, ...]:
        """The files that will be written."""
        return tuple(edit for edit in self.edits if edit.changes)


def find_board(build: Buildroot, name: str) -> Path:
    """The defconfig that ``--board`` names: a path, or a name as make takes it.

    External trees come before Buildroot's own, the last first, as in its Makefile.
    """
    if "/" in name or Path(name).is_file():
        path = Path(name)
        if not path.is_file():
            raise InputError("no such defconfig", where=name)
        return path
    wanted = name if name.endswith(_DEFCONFIG) else name + _DEFCONFIG
    folders = [*(external.path for external in reversed(build.externals)), build.tree]
    for folder in folders:
        if (folder / "configs" / wanted).is_file():
            return folder / "configs" / wanted
    known = sorted(
        path.name for folder in folders for path in (folder / "configs").glob(f"*{_DEFCONFIG}")
    )
    raise InputError(
        f"there is no defconfig called '{wanted}'",
        where=", ".join(str(folder / "configs") for folder in folders),
        hint=did_you_mean(wanted, known) or "'make list-defconfigs' lists them",
    )


def choose_place(build: Buildroot, board: Path | None, name: str) -> Path:
    """Where the fragment goes: into an external tree if there is one, beside the board's files.

    ``name`` is the file's name. The folder need not exist.
    """
    config = build.config if board is None else read_config(board)
    # What several boards share comes last.
    places = sorted(_beside(build, config), key=lambda place: "common" in place.parts)
    if build.externals:
        for external in build.externals:
            for place in places:
                if place.resolve().is_relative_to(external.path.resolve()):
                    return place / name
        return build.externals[-1].path / "board" / _board_name(build, board) / name
    if places:
        return places[0] / name
    return build.tree / "board" / _board_name(build, board) / name


def _beside(build: Buildroot, config: BuildrootConfig) -> Iterable[Path]:
    roots = [build.tree / "board", *(external.path for external in build.externals)]
    for symbol in _BESIDE:
        for word in makelist.split(config.text_value(symbol)):
            path = build.expand(word)
            if path is None or not path.exists():
                continue
            folder = path.parent
            for root in roots:
                if folder.resolve().is_relative_to(root.resolve()) and not same(folder, root):
                    yield folder


def _board_name(build: Buildroot, board: Path | None) -> str:
    told = board.name if board else Path(build.config.text_value("BR2_DEFCONFIG")).name
    return told.removesuffix(_DEFCONFIG) or "docker"


def plan(
    build: Buildroot,
    fragment: Path,
    text: str,
    *,
    linux: Path,
    board: Path | None = None,
) -> Registration:
    """What has to be written so that the build merges ``text``, kept in ``fragment``.

    Raises InputError where make could not read the fragment's name, or where the name is taken
    by something that is no fragment.
    """
    word = build.reference(fragment)
    edits = [Edit("the fragment", fragment, _content(fragment), text.encode())]
    targets = [("Buildroot's configuration", build.config_file)]
    if board is not None and not same(board, build.config_file):
        targets.append(("the board's defconfig", board))
    for what, path in targets:
        config = read_config(path)
        after = _registered(build, config, fragment, word, text, linux)
        edits.append(Edit(what, path, config.to_bytes(), after.to_bytes(), backup_path(path)))
    return Registration(fragment, word, tuple(edits))


def _registered(
    build: Buildroot, config: BuildrootConfig, fragment: Path, word: str, text: str, linux: Path
) -> BuildrootConfig:
    """``config`` with the fragment in its list, once, and after whatever would undo it."""
    old = config.string(FRAGMENTS) or ""
    parts = fragments(build, old, linux)
    mine = [index for index, part in enumerate(parts) if same(part.path, fragment)]
    if mine and not _undone(parts[mine[0] + 1 :], fragment, text):
        new = old
        for index in reversed(mine[1:]):
            new = makelist.without(new, index)
    else:
        new = old
        for index in reversed(mine):
            new = makelist.without(new, index)
        new = makelist.append(new, word)
    if new == old:
        return config
    return config.with_values({FRAGMENTS: quoted(new)})


def _undone(later: tuple[Part, ...], fragment: Path, text: str) -> bool:
    """Whether a fragment that comes later gives one of our symbols another value."""
    ours = KernelConfig(text).values
    for part in later:
        content = _content(part.path)
        if content is None or same(part.path, fragment):
            continue
        theirs = KernelConfig.from_bytes(content).values
        if any(theirs.get(name, value) != value for name, value in ours.items()):
            return True
    return False


def write(registration: Registration) -> tuple[Path, ...]:
    """write_edits() of the plan."""
    return write_edits(registration.edits)


def write_edits(edits: Iterable[Edit]) -> tuple[Path, ...]:
    """Writes what changes, in their order, old configurations kept as ``.bak``.

    Raises LackError where a folder cannot be made or written; what was written before stays
    valid by itself.
    """
    written = []
    for edit in edits:
        if not edit.changes:
            continue
        try:
            edit.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LackError(
                f"cannot make the folder {edit.path.parent}: {error.strerror}"
            ) from error
        if edit.backup is not None and edit.before is not None:
            write_atomically(edit.backup, edit.before)
        write_atomically(edit.path, edit.after)
        written.append(edit.path)
    return tuple(written)


def read_back(build: Buildroot, registration: Registration, linux: Path) -> None:
    """Reads every file anew: the fragment is there, and each list names it exactly once.

    Raises TargetError where it does not.
    """
    for edit in registration.edits:
        if _content(edit.path) != edit.after:
            raise TargetError("the file is not what was written", where=str(edit.path))
        if edit.path == registration.fragment:
            continue
        parts = fragments(build, read_config(edit.path).string(FRAGMENTS) or "", linux)
        count = sum(same(part.path, registration.fragment) for part in parts)
        if count != 1:
            raise TargetError(
                f"{FRAGMENTS} names the fragment {count} times, not once", where=str(edit.path)
            )


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"it cannot be read: {error.strerror}", where=str(path)) from error


def quoted(text: str) -> str:
    """``text`` as Kconfig writes a string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
