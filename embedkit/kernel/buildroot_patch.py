"""The kernel config that a Buildroot build uses, patched by a fragment that the build merges.

Nothing of the kernel's own files is touched: the changes become a fragment beside the board's
files, registered in Buildroot's configuration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from embedkit.errors import TargetError
from embedkit.kernel import buildroot, buildroot_kernel, buildroot_register, fragment, goals
from embedkit.kernel.buildroot import Buildroot
from embedkit.kernel.buildroot_kernel import KernelUse
from embedkit.kernel.buildroot_register import Registration
from embedkit.kernel.config import KernelConfig
from embedkit.kernel.profile import Profile
from embedkit.kernel.resolve import resolve
from embedkit.kernel.tree import KernelTree, open_tree
from embedkit.kernel.wants import Prefer, Resolution, Want


@dataclass(frozen=True)
class Request:
    """What is wanted of which build.

    ``folder`` is its output folder or tree, ``board`` a defconfig to change as well, ``linux``
    stands in for the unpacked kernel, ``fragment`` is where the changes go (None: beside the
    board's files). The rest is as for :func:`embedkit.kernel.tree.open_tree` and ``goals.plan``.
    """

    folder: Path
    profile: Profile | None
    features: Sequence[str] = ()
    more: Sequence[Want] = ()
    allow: Sequence[str] = ()
    prefer: Prefer = Prefer.AUTO
    board: str | None = None
    linux: Path | None = None
    fragment: Path | None = None
    arch: str | None = None
    cross_compile: str | None = None
    assume_compiler: bool = False


@dataclass(frozen=True)
class BuildrootPatch:
    """The plan. ``base`` is the config without our fragment, ``before`` the same in full on
    ``tree``; ``registration`` is None where there is nothing to keep in a fragment."""

    build: Buildroot
    board: Path | None
    use: KernelUse
    tree: KernelTree
    base: KernelConfig
    before: KernelConfig
    resolution: Resolution
    registration: Registration | None


def plan(request: Request) -> BuildrootPatch:
    """What has to be set, and where it is written down. Changes nothing.

    Raises InputError and LackError for a build that cannot be read.
    """
    build = buildroot.find(request.folder)
    board = buildroot_register.find_board(build, request.board) if request.board else None
    if board is not None and not build.config_file.is_file():
        # Not configured yet: the defconfig says what the build will be.
        build = replace(build, config_file=board)
    use = buildroot_kernel.in_use(build, request.linux)
    profile = request.profile
    name = f"linux-{profile.name if profile else 'options'}.config"
    place = request.fragment or buildroot_register.choose_place(build, board, name)
    base = use.combined(without=place)
    tree = _open(request, build, use, base)
    tree.load(base)
    before = tree.full_config()
    if profile is not None:
        resolution = goals.plan(
            tree, base, profile, features=request.features, more=request.more,
            allow=request.allow, prefer=request.prefer,
        )  # fmt: skip
    else:
        resolution = resolve(tree, base, request.more, allow=request.allow, prefer=request.prefer)
    title = f"{profile.title if profile else 'Chosen options'}: kernel config fragment"
    text = fragment.fragment(resolution, title, f"Linux {tree.release} ({tree.arch})")
    known = any(buildroot_kernel.same(part.path, place) for part in use.fragments)
    registration = None
    if resolution.assignments or known:
        registration = buildroot_register.plan(build, place, text, linux=use.tree, board=board)
    return BuildrootPatch(build, board, use, tree, base, before, resolution, registration)


def write(patch: BuildrootPatch) -> tuple[tuple[str, Path], ...]:
    """Writes what changes, reads it back, and evaluates it on the kernel's tree once more.

    Raises LackError where a file cannot be written, TargetError where it is not what it should
    be when it is read again.
    """
    registration = patch.registration
    if registration is None:
        return ()
    paths = buildroot_register.write(registration)
    _prove(patch, registration)
    return tuple((edit.what, edit.path) for edit in registration.edits if edit.path in paths)


def _open(request: Request, build: Buildroot, use: KernelUse, base: KernelConfig) -> KernelTree:
    prefix = request.cross_compile
    if prefix is None and not request.assume_compiler:
        # The toolchain of this very build answers the tree's probes as the build will.
        prefix = build.compiler_prefix
    return open_tree(
        use.tree,
        arch=request.arch or use.arch,
        config=base,
        cross_compile=prefix,
        assume_compiler=request.assume_compiler,
    )


def _prove(patch: BuildrootPatch, registration: Registration) -> None:
    """Reads everything from disk as Buildroot will, and evaluates it on the kernel's tree."""
    buildroot_register.read_back(patch.build, registration, patch.use.tree)
    changed = replace(patch.build, config_file=registration.edits[1].path)
    anew = buildroot_kernel.in_use(changed, patch.use.tree)
    tree = patch.tree
    tree.load(anew.combined())
    lost = [
        want.symbol
        for want in patch.resolution.satisfied
        if not any(want.accepts(tree.value(name)) for name in want.symbols) and want.value != "n"
    ]
    if lost:
        raise TargetError(
            f"what was written does not keep {', '.join(lost)} when it is read again",
            where=str(registration.fragment),
            hint="another fragment undoes it; report this with the list of fragments",
        )
