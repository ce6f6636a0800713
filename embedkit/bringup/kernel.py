"""The stages about the kernel: what its config lacks, and the config that lacks nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from embedkit import data
from embedkit.bringup.settings import Kernel
from embedkit.bringup.stages import Chain, Done, Stage, Todo, Tone
from embedkit.bringup.state import Record, hash_of
from embedkit.files import write_atomically
from embedkit.kernel import (
    buildroot,
    buildroot_kernel,
    buildroot_patch,
    fragment,
    goals,
    profile_file,
    sources,
)
from embedkit.kernel.audit import Audit, Question, Verdict, audit
from embedkit.kernel.buildroot_patch import BuildrootPatch
from embedkit.kernel.config import KernelConfig, canonical_arch
from embedkit.kernel.modules import open_modules
from embedkit.kernel.origin import arch_of, named_config
from embedkit.kernel.profile import Level, Profile
from embedkit.kernel.tree import KernelTree, open_tree
from embedkit.kernel.wants import Prefer, Resolution, parse_disable, parse_enable

_TONES = {
    Verdict.RUNS: Tone.OK,
    Verdict.LIMITS: Tone.WARN,
    Verdict.UNDECIDED: Tone.WARN,
    Verdict.FAILS: Tone.FAIL,
}
_SAYS = {
    Verdict.RUNS: "the kernel has all that is needed",
    Verdict.LIMITS: "Docker will run on this kernel, with limits (kernel.features lifts them)",
    Verdict.UNDECIDED: "this config does not tell whether Docker will run",
    Verdict.FAILS: "Docker will not run on this kernel as it is",
}


@dataclass(frozen=True)
class Patched:
    """A config patched on its tree; ``registered`` is Buildroot's half, None for a plain tree."""

    profile: Profile
    tree: KernelTree
    source: KernelConfig
    before: KernelConfig
    resolution: Resolution
    after: Audit
    written: tuple[tuple[str, Path], ...] = ()
    registered: BuildrootPatch | None = None


class Check(Stage):
    """The audit of the kernel's config."""

    name = "check"
    title = "Check the kernel's config"

    def absent(self, chain: Chain) -> str:
        known = chain.settings.kernel.known or chain.settings.reference
        return "" if known else "the file names no kernel"

    def inputs(self, chain: Chain) -> object:
        kernel = chain.settings.kernel
        # A verdict of "fails" is one thing before a patch, another without it.
        patched = "patch" in chain.will_run
        return [_plain(kernel), _source_digests(chain), _profile_digest(chain, kernel), patched]

    def preview(self, chain: Chain) -> tuple[Todo, ...]:
        kernel = chain.settings.kernel
        return (Todo(f"audit {_named(kernel)} for the profile '{kernel.profile}'"),)

    def do(self, chain: Chain) -> Done:
        kernel = chain.settings.kernel
        tree, config = _opened(chain)
        profile = profile_file.load(kernel.profile)
        modules = None
        if kernel.modules is not None:
            modules = open_modules(kernel.modules, config.release)
        full = config
        if tree is not None and not config.is_full:
            tree.load(config)
            full = tree.full_config()
        arch = canonical_arch(kernel.arch) if kernel.arch else None
        version = tree.version if tree is not None else None
        result = audit(Question(full, profile, version, arch, modules, kernel.features))
        tone, says, hint = _TONES[result.verdict], _SAYS[result.verdict], ""
        if result.verdict is Verdict.FAILS:
            count = len(result.lacking(Level.NECESSARY))
            says += f": {count} necessary options are missing"
            if kernel.patchable and "patch" in chain.will_run:
                tone = Tone.WARN
                says += "; it is patched next"
            elif kernel.patchable:
                hint = "do not leave out the stage 'patch'"
            else:
                hint = "give the kernel's source as kernel.tree, and it is patched"
        return Done(says, tone, result, hint=hint)


class Patch(Stage):
    """The config that has all, and the fragment that makes it so."""

    name = "patch"
    title = "Patch the kernel's config"

    def absent(self, chain: Chain) -> str:
        if chain.settings.kernel.patchable:
            return ""
        if chain.settings.reference:
            return "Debian's kernel has all that is needed"
        return "the file gives no kernel source (kernel.tree or kernel.buildroot)"

    def inputs(self, chain: Chain) -> object:
        kernel = chain.settings.kernel
        return [_plain(kernel), _source_digests(chain), _profile_digest(chain, kernel)]

    def verify(self, chain: Chain, record: Record) -> bool:
        """The files are as they were written, and the tree's Kconfig files as they were read."""
        names = record.carry.get("kconfig", [])
        same = record.carry.get("kconfig_stamp") == _stamps(_tree(chain), names)
        return same and super().verify(chain, record)

    def preview(self, chain: Chain) -> tuple[Todo, ...]:
        patched = self._plan(chain)
        count = len(patched.resolution.assignments)
        todos = [Todo(f"set {item.symbol}={item.raw}") for item in patched.resolution.assignments]
        if patched.registered is not None:
            registration = patched.registered.registration
            edits = registration.changes if registration is not None else ()
            todos += [Todo(f"write {edit.what}", str(edit.path)) for edit in edits]
        else:
            todos += [Todo(f"write the {what}", str(path)) for what, path in self._files(chain)]
        return (Todo(f"patch {count} options, dependencies included"), *todos)

    def do(self, chain: Chain) -> Done:
        patched = self._plan(chain)
        resolution = patched.resolution
        if not resolution.complete:
            names = ", ".join(item.want.symbol for item in resolution.refused[:6])
            hint = "see the reasons below; kernel.allow lets a protected symbol change"
            return Done(f"not to be had on this kernel: {names}", Tone.FAIL, patched, hint=hint)
        if patched.registered is not None:
            written = buildroot_patch.write(patched.registered)
        else:
            written = self._write(chain, patched)
        patched = replace(patched, written=written)
        count = len(resolution.assignments)
        verdict = f"{count} options set" if count else "nothing to change"
        verdict += f": {_SAYS[patched.after.verdict]}"
        outputs = tuple(path for _, path in written)
        registered = patched.registered
        if registered is not None and registered.registration is not None:
            outputs = (registered.registration.fragment,)
        if chain.settings.build is None and count:
            verdict += "; the kernel must be built with it"
        tone = Tone.WARN if chain.settings.build is None and count else Tone.OK
        hint = (
            "add a [build] table, or build it before the card is made" if tone is Tone.WARN else ""
        )
        files = {what: str(path) for what, path in written} if not registered else {}
        read = sorted(set(patched.tree.kconf.kconfig_filenames))
        carry = {**files, "kconfig": read, "kconfig_stamp": _stamps(_tree(chain), read)}
        return Done(verdict, tone, patched, outputs, carry, hint)

    def _files(self, chain: Chain) -> tuple[tuple[str, Path], ...]:
        kernel, work = chain.settings.kernel, chain.settings.work
        return (
            ("config", kernel.patched or work / "kernel.config"),
            ("fragment", kernel.fragment or work / "docker.fragment"),
        )

    def _plan(self, chain: Chain) -> Patched:
        kernel = chain.settings.kernel
        profile = profile_file.load(kernel.profile)
        more = [*parse_disable(kernel.disable), *parse_enable(kernel.enable)]
        prefer = {"y": Prefer.BUILT_IN, "m": Prefer.MODULE}.get(kernel.prefer, Prefer.AUTO)
        if kernel.buildroot is not None:
            request = buildroot_patch.Request(
                kernel.buildroot, profile, kernel.features, more, kernel.allow, prefer,
                board=kernel.defconfig or None, linux=kernel.tree, fragment=kernel.fragment,
                arch=kernel.arch, cross_compile=kernel.cross_compile,
                assume_compiler=kernel.assume_compiler,
            )  # fmt: skip
            plan = buildroot_patch.plan(request)
            after = _audit_after(plan.tree, plan.resolution, profile)
            return Patched(
                profile, plan.tree, plan.base, plan.before, plan.resolution, after, (), plan
            )
        tree, config = _opened(chain)
        assert tree is not None
        tree.load(config)
        before = tree.full_config()
        resolution = goals.plan(
            tree, config, profile, features=kernel.features, more=more, allow=kernel.allow,
            prefer=prefer,
        )  # fmt: skip
        after = _audit_after(tree, resolution, profile)
        return Patched(profile, tree, config, before, resolution, after)

    def _write(self, chain: Chain, patched: Patched) -> tuple[tuple[str, Path], ...]:
        title = f"{chain.settings.kernel.profile}: kernel config fragment"
        tree, resolution = patched.tree, patched.resolution
        text = fragment.fragment(resolution, title, f"Linux {tree.release} ({tree.arch})")
        content = {"config": resolution.full.to_bytes(), "fragment": text.encode()}
        files = self._files(chain)
        for what, path in files:
            write_atomically(path, content[what])
        return files


def _audit_after(tree: KernelTree, resolution: Resolution, profile: Profile) -> Audit:
    arch = canonical_arch(tree.srcarch) or None
    return audit(Question(resolution.full, profile, tree.version, arch))


def _named(kernel: Kernel) -> str:
    if not kernel.known:
        return "the reference board's kernel"
    return kernel.config or str(kernel.buildroot or kernel.tree)


def _plain(kernel: Kernel) -> object:
    return asdict(kernel)


def _profile_digest(chain: Chain, kernel: Kernel) -> Mapping[str, str]:
    """All profiles: one extends another."""
    paths = dict(profile_file.available())
    paths["linux-containers"] = data.find("profiles", "linux-containers", ".toml")
    if kernel.profile not in paths:
        paths[kernel.profile] = Path(kernel.profile)
    return {name: chain.digests.of(path) for name, path in paths.items()}


def _stamps(tree: Path, names: Sequence[str]) -> str:
    """Size and time of change of the tree's files ``names``: thousands, so they are not read."""
    found = []
    for name in names:
        try:
            status = (tree / name).stat()
            found.append((name, status.st_size, status.st_mtime_ns))
        except OSError:
            found.append((name, -1, 0))
    return hash_of(found)


def _tree(chain: Chain) -> Path:
    kernel = chain.settings.kernel
    if kernel.tree is not None:
        return kernel.tree
    assert kernel.buildroot is not None
    return buildroot.find(kernel.buildroot).linux_folder or kernel.buildroot


def _source_digests(chain: Chain) -> Mapping[str, str]:
    """The files that the config is made of; a tree's own defconfigs lie in the tree."""
    kernel = chain.settings.kernel
    paths: list[Path] = []
    if kernel.buildroot is not None:
        build = buildroot.find(kernel.buildroot)
        use = buildroot_kernel.in_use(build, kernel.tree)
        # Our own fragment is an output: what it says must not make the patch stale.
        paths = [build.config_file, use.base]
    elif kernel.config and Path(kernel.config).exists():
        paths = [Path(kernel.config)]
    elif kernel.config and kernel.tree is not None:
        found = named_config(kernel.config, kernel.tree, kernel.arch)
        return {kernel.config: "" if isinstance(found, Path) else found.text}
    elif kernel.tree is not None:
        paths = [kernel.tree / ".config"]
    if kernel.modules is not None:
        for pattern in ("modules.dep", "*/modules.dep", "lib/modules/*/modules.dep"):
            paths += sorted(kernel.modules.glob(pattern))
    return {str(path): chain.digests.of(path) for path in paths}


def _opened(chain: Chain) -> tuple[KernelTree | None, KernelConfig]:
    """The tree, where there is one, and the config; opened once in a run."""
    if chain.kernel is not None:
        return chain.kernel
    kernel = chain.settings.kernel
    tree = None
    if kernel.buildroot is not None:
        config = buildroot_kernel.in_use(buildroot.find(kernel.buildroot), kernel.tree).combined()
        built = buildroot.find(kernel.buildroot).linux_folder
        if built is not None and (built / ".config").is_file():
            config = sources.load(str(built / ".config"))
    elif kernel.tree is not None:
        name = kernel.config or str(kernel.tree)
        found = named_config(name, kernel.tree, kernel.arch)
        config = sources.load(str(found)) if isinstance(found, Path) else found
        arch = kernel.arch or arch_of(name, kernel.tree)
        tree = open_tree(
            kernel.tree, arch=arch, config=config, cross_compile=kernel.cross_compile,
            assume_compiler=kernel.assume_compiler,
        )  # fmt: skip
    else:
        config = sources.load(kernel.config)
    chain.kernel = (tree, config)
    return chain.kernel
