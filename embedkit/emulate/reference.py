"""Reference boards: whole little systems that embedkit assembles from Debian's packages.

What is assembled lies in the cache, under a name made of all that went into it, and is made
once. Nothing of the packages is run on this machine, and nothing is installed here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from embedkit import board as boards
from embedkit.board.model import Board
from embedkit.data import cache_folder
from embedkit.emulate import initramfs, system
from embedkit.emulate.apt import Apt
from embedkit.emulate.modules import ModuleTree
from embedkit.emulate.packages import Folder, NotThere, Package, Source, resolve, unpack
from embedkit.errors import InputError, LackError, did_you_mean
from embedkit.files import alone
from embedkit.progress import Progress

_LISTS_SECONDS = 7 * 86400.0
_UNUSED_SECONDS = 86400.0
_MANIFEST = "reference.json"


@dataclass(frozen=True)
class _Kind:
    """``arch`` is Debian's name, ``drivers`` are the modules that the root device needs, and
    ``loader`` is the boot loader's file where the card starts the board by itself."""

    board: str
    arch: str
    flavour: str
    drivers: tuple[str, ...]
    loader: str = ""


_VIRTIO = ("virtio_mmio", "virtio_pci", "virtio_blk", "virtio_net", "virtio_rng")
_EXT4 = ("crc32c_generic", "libcrc32c", "ext4")
_KINDS = {
    "arm": _Kind("qemu-arm-virt", "armhf", "armmp", (*_VIRTIO, *_EXT4)),
    "arm64": _Kind("qemu-arm64-virt", "arm64", "arm64", (*_VIRTIO, *_EXT4)),
    "x86_64": _Kind("qemu-x86_64", "amd64", "amd64", (*_VIRTIO, *_EXT4)),
    "orangepi-pc": _Kind(
        "orangepi-pc", "armhf", "armmp", ("sunxi-mmc", *_EXT4), "u-boot-sunxi-with-spl.bin"
    ),
}
KINDS = tuple(_KINDS)
_PACKAGES = (
    "busybox-static", "ca-certificates", "containerd", "docker.io", "dropbear-bin", "iptables",
    "runc", "tini",
)  # fmt: skip
# Program of the bundle → where packages have it, the first that is there.
_BUNDLE = {
    "docker": ("usr/bin/docker",),
    "dockerd": ("usr/sbin/dockerd", "usr/bin/dockerd"),
    "docker-proxy": (
        "usr/sbin/docker-proxy", "usr/bin/docker-proxy", "usr/libexec/docker/docker-proxy",
    ),
    "docker-init": ("usr/bin/tini-static", "usr/bin/tini"),
    "containerd": ("usr/bin/containerd",),
    "containerd-shim-runc-v2": ("usr/bin/containerd-shim-runc-v2",),
    "ctr": ("usr/bin/ctr",),
    "runc": ("usr/sbin/runc", "usr/bin/runc"),
}  # fmt: skip
# Modules that the rootfs carries: what containers and their networks ask for, file systems,
# and the devices of emulated boards. All of Debian's would be three times as much.
_MODULES = (
    "kernel/arch/", "kernel/block/", "kernel/crypto/", "kernel/fs/", "kernel/kernel/",
    "kernel/lib/", "kernel/mm/", "kernel/net/", "kernel/security/",
    "kernel/drivers/block/", "kernel/drivers/char/hw_random/", "kernel/drivers/md/dm-",
    "kernel/drivers/mmc/", "kernel/drivers/virtio/", "kernel/drivers/rtc/",
    "kernel/drivers/net/bonding/", "kernel/drivers/net/dummy", "kernel/drivers/net/ifb",
    "kernel/drivers/net/ipvlan/", "kernel/drivers/net/macvlan", "kernel/drivers/net/tap",
    "kernel/drivers/net/tun", "kernel/drivers/net/veth", "kernel/drivers/net/virtio_net",
    "kernel/drivers/net/vrf", "kernel/drivers/net/vxlan/", "kernel/drivers/net/wireguard/",
    "kernel/drivers/net/ethernet/stmicro/", "kernel/drivers/net/mdio/",
    "kernel/drivers/net/phy/", "kernel/drivers/net/pcs/",
)  # fmt: skip
_NOT_THESE = (
    "kernel/net/bluetooth/", "kernel/net/mac80211/", "kernel/net/wireless/", "kernel/net/can/",
    "kernel/net/mac802154/", "kernel/net/ieee802154/", "kernel/net/nfc/", "kernel/net/rds/",
    "kernel/net/smc/", "kernel/fs/ocfs2/", "kernel/fs/gfs2/", "kernel/fs/dlm/",
)  # fmt: skip


@dataclass(frozen=True)
class Reference:
    """An assembled board. ``kernel`` and ``initrd`` are for machines that are given them, None
    where the card holds them. ``folder`` has what ``compose`` wants, ``bundle`` Docker's programs
    for the board, ``busybox`` a static BusyBox of its architecture."""

    kind: str
    board: str
    arch: str
    folder: Path
    kernel: Path | None
    initrd: Path | None
    arguments: str
    config: Path
    bundle: Path
    busybox: Path
    packages: tuple[tuple[str, str], ...]


def assemble(
    kind: str,
    *,
    debs: Path | None = None,
    authorized_key: str,
    progress: Progress,
) -> Reference:
    """The reference board of a kind, from the cache or made now.

    Packages come from Debian through this machine's apt, or from the folder ``debs``. Raises
    InputError for a kind that is none, LackError where packages or room are missing.
    """
    if kind not in _KINDS:
        raise InputError(
            f"there is no reference board '{kind}'",
            hint=did_you_mean(kind, KINDS) or f"known: {', '.join(KINDS)}",
        )
    what = _KINDS[kind]
    source: Source = (
        Folder(debs, what.arch)
        if debs
        else Apt(cache_folder() / "debian", what.arch, max_age=_LISTS_SECONDS, progress=progress)
    )
    wanted = (*_PACKAGES, *(("u-boot-sunxi",) if what.loader else ()))
    board = boards.load(what.board)
    try:
        return _assembled(kind, board, source, wanted, authorized_key, progress)
    except NotThere:
        # Lists of some days ago name versions that the archive has replaced since.
        if not source.renew():
            raise
    return _assembled(kind, board, source, wanted, authorized_key, progress)


def _assembled(
    kind: str,
    board: Board,
    source: Source,
    wanted: Sequence[str],
    authorized_key: str,
    progress: Progress,
) -> Reference:
    packages = resolve(source, wanted, _KINDS[kind].flavour)
    folder = cache_folder() / "reference" / f"{kind}-{_digest(board, packages, authorized_key)}"

    def waiting() -> None:
        progress.say(f"waiting for another embedkit that assembles the {kind} board")

    with alone(folder.parent / f"{kind}.lock", waiting):
        if not folder.is_dir():
            _tidy(folder.parent, kind)
            debs_by_name = source.fetch(packages, progress)
            with _ours(folder) as part:
                _make(part, kind, board, debs_by_name, packages, authorized_key, progress)
        os.utime(folder)
    return _opened(folder)


def _digest(board: Board, packages: tuple[Package, ...], authorized_key: str) -> str:
    """Everything that makes one assembled board another than the next, the recipe included."""
    recipe = hashlib.sha256()
    for module in ("reference", "system", "scripts", "initramfs", "modules"):
        recipe.update(Path(__file__).with_name(f"{module}.py").read_bytes())
    recipe.update(board.path.read_bytes())
    recipe.update("\n".join([authorized_key, *(package.key for package in packages)]).encode())
    return recipe.hexdigest()[:16]


def _tidy(folder: Path, kind: str) -> None:
    """Removes what an interrupted run left, and boards of this kind that went out of use."""
    # "arm-0123456789abcdef", not "arm64-…"; whoever is here holds the kind's lock.
    for part in folder.glob(f".{kind}-????????????????.part"):
        shutil.rmtree(part, ignore_errors=True)
    for old in folder.glob(f"{kind}-????????????????"):
        if time.time() - old.stat().st_mtime > _UNUSED_SECONDS:
            shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def _ours(folder: Path) -> Iterator[Path]:
    """A folder to work in, renamed to ``folder`` at the end; removed where that is not reached."""
    part = folder.with_name(f".{folder.name}.part")
    try:
        part.mkdir(parents=True)
        yield part
        part.rename(folder)
    except OSError as error:
        raise LackError(
            f"the board cannot be assembled: {error.strerror or error}", where=str(folder.parent)
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _make(
    part: Path,
    kind: str,
    board: Board,
    debs: dict[str, Path],
    packages: tuple[Package, ...],
    authorized_key: str,
    progress: Progress,
) -> None:
    what = _KINDS[kind]
    task = progress.start("assembling the board", total=len(debs) + 2)
    try:
        unpacked = part / "unpacked"
        for deb in debs.values():
            unpack(deb, unpacked)
            task.advance(1)
        _write(part, what, board, system.Tree(unpacked), authorized_key, task.advance)
        shutil.rmtree(unpacked)
        manifest = {
            "kind": kind,
            "packages": [[package.name, package.version] for package in packages],
        }
        (part / _MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    finally:
        task.finish()


def _write(
    part: Path,
    what: _Kind,
    board: Board,
    tree: system.Tree,
    authorized_key: str,
    advance: Callable[[int], None],
) -> None:
    image = next(iter(tree.glob("boot/vmlinuz-*")), None)
    if image is None:
        raise InputError("the kernel package holds no boot/vmlinuz-…")
    release = image.name.removeprefix("vmlinuz-")
    kernel = ModuleTree(tree.first(*_modules_of(release)).parent)
    config = tree.read(f"boot/config-{release}")
    (part / "config").write_bytes(config)
    busybox = tree.read("bin/busybox", "usr/bin/busybox")
    _program(part / "busybox", busybox)
    bundle = {name: tree.read(*places) for name, places in _BUNDLE.items()}
    (part / "bundle").mkdir()
    for name, content in bundle.items():
        _program(part / "bundle" / name, content)
    drivers = [(f"{one.name}.ko", one.content) for one in kernel.closure(what.drivers)]
    initrd = initramfs.boot_archive(busybox, drivers)
    advance(1)
    folder = part / "artifacts"
    folder.mkdir()
    boot = [(f"config-{release}", config)]
    if what.loader:
        boot += _card_boot(folder, what, board, tree, image.read_bytes(), initrd)
    else:
        shutil.copyfile(image, folder / board.boot.kernel)
        (folder / "initrd.gz").write_bytes(initrd)
    names = set(kernel.below(*_MODULES)) - set(kernel.below(*_NOT_THESE))
    system.write_system(
        folder / "rootfs.tar",
        tree,
        kernel,
        kernel.closure(sorted({*names, *what.drivers})),
        hostname=board.name.replace("_", "-"),
        title=f"{board.title}, embedkit's reference board",
        console=board.console.device,
        baud=board.console.baud,
        authorized_key=authorized_key,
        needed_by=tuple(bundle.values()),
        boot=boot,
    )
    advance(1)


def _modules_of(release: str) -> tuple[str, ...]:
    names = ("modules.builtin", "modules.order")
    return tuple(f"{lib}/modules/{release}/{name}" for lib in ("lib", "usr/lib") for name in names)


def _program(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o755)


def _card_boot(
    folder: Path, what: _Kind, board: Board, tree: system.Tree, image: bytes, initrd: bytes
) -> list[tuple[str, bytes]]:
    """Puts the boot loader into the artifacts; what it reads from /boot is returned."""
    # Debian 12 builds the Orange Pi Plus's loader only: the same H3, the same place on the card.
    loader = tree.first(
        *(f"usr/lib/u-boot/{name}/{what.loader}" for name in ("orangepi_pc", "orangepi_plus"))
    )
    shutil.copyfile(loader, folder / what.loader)
    trees = tree.glob(f"usr/lib/linux-image-*/**/{board.boot.device_tree}")
    if not trees:
        raise InputError(f"the kernel package holds no {board.boot.device_tree}")
    extlinux = (
        "timeout 1\ndefault board\nlabel board\n"
        "    kernel /boot/vmlinuz\n    initrd /boot/initrd.gz\n"
        f"    fdt /boot/{board.boot.device_tree}\n    append {_arguments(board)}\n"
    )
    return [
        ("extlinux/extlinux.conf", extlinux.encode()),
        ("vmlinuz", image),
        ("initrd.gz", initrd),
        (board.boot.device_tree, trees[0].read_bytes()),
    ]


def _arguments(board: Board) -> str:
    # Warnings and worse are shown: enough to see why a boot fails, and no thousand lines.
    return f"{board.boot.arguments} loglevel=5"


def _opened(folder: Path) -> Reference:
    manifest = json.loads((folder / _MANIFEST).read_text())
    what = _KINDS[manifest["kind"]]
    board = boards.load(what.board)
    artifacts = folder / "artifacts"
    return Reference(
        kind=manifest["kind"],
        board=what.board,
        arch=what.arch,
        folder=artifacts,
        kernel=None if what.loader else artifacts / board.boot.kernel,
        initrd=None if what.loader else artifacts / "initrd.gz",
        arguments=_arguments(board),
        config=folder / "config",
        bundle=folder / "bundle",
        busybox=folder / "busybox",
        packages=tuple((name, version) for name, version in manifest["packages"]),
    )
