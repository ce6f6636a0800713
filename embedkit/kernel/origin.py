"""What a config is called: a file, or the name of one of the tree's defconfigs."""

from __future__ import annotations

from pathlib import Path

from embedkit.kernel import sources
from embedkit.kernel.config import KernelConfig
from embedkit.kernel.tree import defconfigs, find_defconfig


def named_config(name: str, tree: Path, arch: str | None) -> KernelConfig | Path:
    """The file that ``name`` is, or the config of the tree's defconfig of that name.

    Raises InputError where it looks like a defconfig's name and the tree has none such.
    """
    path = Path(name)
    if path.exists() or "/" in name or name == sources.STDIN:
        return path
    if any(item.name == name for item in defconfigs(tree)):
        return sources.load(str(find_defconfig(tree, name, arch).path))
    if name.endswith("defconfig"):
        find_defconfig(tree, name, arch)
    return path


def arch_of(name: str, tree: Path) -> str | None:
    """The architecture in whose folder the defconfig ``name`` lies; None for all other files."""
    named = Path(name)
    for item in defconfigs(tree):
        same_file = named.exists() and item.path.resolve() == named.resolve()
        if same_file or (not named.exists() and item.name == name):
            return item.arch
    return None
