"""embedkit patch-kernel against merge_config.sh + make olddefconfig: whole runs, and what is kept.

All get the same requests (everything that Docker's profile speaks of) for exynos_defconfig on
Debian's linux-source-6.1. Peers write the requests as a fragment and trust Kconfig; embedkit
loads the tree, resolves and writes. The compiler is the host's gcc for all.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from support import debian
from support.linux_trees import KernelMake, source

from benchmarks.timing import medians
from embedkit.kernel import profile_file
from embedkit.kernel.config import KernelConfig
from embedkit.kernel.goals import wants_for
from embedkit.kernel.tree import find_defconfig, open_tree


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--kernel", default="6.1", help="Debian's linux-source-VERSION")
    parser.add_argument("--defconfig", default="exynos_defconfig")
    args = parser.parse_args()
    try:
        folder = source(args.kernel)
    except debian.NotToBeHad as error:
        sys.exit(f"error: {error}")
    defconfig = find_defconfig(folder, args.defconfig)
    tree = open_tree(folder, arch=defconfig.arch, cross_compile="", cc="gcc")
    base = KernelConfig(defconfig.path.read_text())
    tree.load(base)
    wants = wants_for(tree, tree.full_config(), profile_file.load("docker"), ("all",))
    names = [name for name in dict.fromkeys(want.symbol for want in wants) if tree.has(name)]
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch)
        make = KernelMake(folder, defconfig.arch, output)
        (output / "base").write_text(base.text)
        (output / "asked").write_text("".join(f"CONFIG_{name}=y\n" for name in names))
        make.olddefconfig(base.text)  # builds the kernel's conf program once, outside of the clock
        merge = f"bash {folder}/scripts/kconfig/merge_config.sh -O ."
        finish = f"make -s -C {folder} O={output} olddefconfig"
        embedkit = Path(sys.executable).parent / "embedkit"
        patch = [
            *(embedkit, "patch-kernel", output / "base", "--tree", folder),
            *("--arch", defconfig.arch, "--features", "all", "--keep-going"),
            *("--config", output / "ours", "--fragment", output / "ours.fragment"),
        ]
        taken = medians(
            {
                "merge_config.sh (full)": ["sh", "-c", f"cd {output} && {merge} base asked"],
                "merge_config.sh -m + olddefconfig": [
                    *("sh", "-c", f"cd {output} && {merge} -m base asked && {finish}"),
                ],
                "embedkit patch-kernel": [*patch, "--cc", "gcc"],
                "embedkit, compiler assumed": [*patch, "--assume-compiler"],
            },
            runs=args.runs,
            env={**os.environ, "ARCH": defconfig.arch, "CROSS_COMPILE": "", "CC": "gcc"},
        )
        merged, _ = make.merge(base.text, (output / "asked").read_text())
        ours = KernelConfig((output / "ours").read_text())
    lost = {
        "merge_config.sh (full)": merged,
        "merge_config.sh -m + olddefconfig": merged,
        "embedkit patch-kernel": ours,
        "embedkit, compiler assumed": ours,
    }
    print(
        f"{args.defconfig} on Linux {tree.release}, {len(names)} symbols asked for, "
        f"medians of {args.runs}"
    )
    peer = taken["merge_config.sh -m + olddefconfig"]
    for name, seconds in taken.items():
        missing = sum(not lost[name].enabled(symbol) for symbol in names)
        print(
            f"  {name:<34} {seconds:6.2f} s  {peer / seconds:5.2f} x as fast  {missing:3d} not kept"
        )


if __name__ == "__main__":
    main()
