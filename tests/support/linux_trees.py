"""Debian's kernel sources, cut down to what Kconfig needs, and the kernel's own tools on them."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

from embedkit.kernel.config import KernelConfig
from support import debian, locks

# What `make olddefconfig` and a Kconfig parser read: 45 of 1,300 MB.
_WANTED = (
    "*/Kconfig*",
    "*/scripts/*",
    "*/arch/*/configs/*",
    "linux-source-*/Makefile",
    "linux-source-*/arch/*/Makefile*",
)
_LOST = re.compile(r"^Value requested for CONFIG_(\w+) not in final \.config", re.MULTILINE)


def source(version: str) -> Path:
    """The folder of linux-source-VERSION. Raises debian.NotToBeHad."""
    deb = debian.download(f"linux-source-{version}")

    def fill(folder: Path) -> None:
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            subprocess.run(["dpkg-deb", "-x", deb, temporary], check=True)
            archive = next(Path(temporary).rglob("linux-source-*.tar.xz"))
            unpack = ["tar", "-xf", archive, "-C", folder, "--strip-components=1"]
            wanted = ["--wildcards", "--wildcards-match-slash", *_WANTED]
            subprocess.run([*unpack, *wanted], check=True)

    return locks.made_once(debian.cache() / "trees" / deb.stem, fill)


class KernelMake:
    """The kernel's own configuration tools for one tree and architecture.

    All architectures are configured with the host's gcc, which is given to embedkit as well:
    what is compared is the evaluation, not a compiler.
    """

    def __init__(self, tree: Path, arch: str, output: Path) -> None:
        self.tree = tree
        self.arch = arch
        self.output = output
        output.mkdir(parents=True, exist_ok=True)

    def make(self, target: str, **variables: str) -> str:
        """Runs ``make TARGET``; returns what it printed."""
        words = [f"ARCH={self.arch}", "CROSS_COMPILE=", "CC=gcc", f"O={self.output}"]
        words += [f"{name}={value}" for name, value in variables.items()]
        environment = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}
        ended = subprocess.run(
            ["make", "-s", "-C", self.tree, *words, target],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout + ended.stderr

    def olddefconfig(self, config: str) -> KernelConfig:
        """What the kernel makes of a .config."""
        self._path.write_text(config)
        self.make("olddefconfig")
        return KernelConfig(self._path.read_text(), "make olddefconfig")

    def savedefconfig(self, config: str) -> KernelConfig:
        """The defconfig that the kernel makes of a .config."""
        self._path.write_text(config)
        self.make("savedefconfig")
        return KernelConfig((self.output / "defconfig").read_text(), "make savedefconfig")

    def merge(self, base: str, fragment: str) -> tuple[KernelConfig, tuple[str, ...]]:
        """``merge_config.sh``: the result, and the symbols that it says were lost."""
        (self.output / "base").write_text(base)
        (self.output / "fragment").write_text(fragment)
        ended = subprocess.run(
            ["bash", self.tree / "scripts/kconfig/merge_config.sh", "-O", ".", "base", "fragment"],
            cwd=self.output,
            env={**os.environ, "ARCH": self.arch, "CROSS_COMPILE": "", "CC": "gcc"},
            capture_output=True,
            text=True,
            check=False,
        )
        said = ended.stdout + ended.stderr
        assert ended.returncode == 0, said
        return KernelConfig(self._path.read_text()), tuple(_LOST.findall(said))

    @property
    def _path(self) -> Path:
        return self.output / ".config"


def differences(ours: KernelConfig, theirs: KernelConfig) -> dict[str, tuple[str, str]]:
    """Symbol → both values, where they differ or only one config has it."""
    a, b = ours.values, theirs.values
    return {
        name: (a.get(name, "absent"), b.get(name, "absent"))
        for name in sorted(a.keys() | b.keys())
        if a.get(name) != b.get(name)
    }
