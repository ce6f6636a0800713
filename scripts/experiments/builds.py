"""Builds one kernel for each variant, beginning each from a copy of the same built tree."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from support import armkernels, linux_trees

from embedkit.kernel.config import KernelConfig
from experiments.variants import Variant, without


@dataclass(frozen=True)
class Built:
    """A variant's kernel; ``fell`` are the symbols that went off with those taken away, ``rose``
    those that had to be turned on for it."""

    image: Path
    config: Path
    fell: tuple[str, ...]
    rose: tuple[str, ...]


class Builder:
    """Works in one folder and goes on where it was interrupted."""

    def __init__(self, work: Path, jobs: int) -> None:
        self._work = work
        self._jobs = jobs
        self._tree = work / "tree"
        self._images = work / "kernels"
        self._images.mkdir(parents=True, exist_ok=True)

    def prepare(self) -> None:
        """The source, the patched config and its complete build. Raises debian.NotToBeHad."""
        if not self._tree.exists():
            part = self._tree.with_name(".tree")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            armkernels.unpack_source(part)
            part.rename(self._tree)
        if not self._config("docker").exists():
            configs = self._work / "configs"
            shutil.rmtree(configs, ignore_errors=True)
            for name, path in armkernels.configs(configs).items():
                shutil.copyfile(path, self._config(name))
        if not self._image("docker").exists():
            image = armkernels.build(self._tree, self._config("docker"), self._whole, self._jobs)
            self._keep(image, "docker")

    def built(self, variant: Variant) -> Built | None:
        """The variant's kernel, where it is built already."""
        name = without(variant)
        if not self._image(name).exists():
            return None
        fell, rose = self._difference(name, variant.off)
        return Built(self._image(name), self._config(name), fell, rose)

    def build(self, variant: Variant) -> Built:
        """The variant's kernel, now."""
        name = without(variant)
        if (done := self.built(variant)) is not None:
            return done
        config = self._images / f".{name}.config"
        self._configure(variant.off, config)
        # Always under the same name, since make compares the commands that it ran.
        place = self._work / "build"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self._whole, place, symlinks=True)
        image = armkernels.build(self._tree, config, place, self._jobs)
        config.rename(self._config(name))
        self._keep(image, name)
        done = self.built(variant)
        assert done is not None
        return done

    def alone(self, shared: Built, variant: Variant) -> Built:
        """What ``shared`` would be without these symbols only; it is not built for that."""
        config = self._images / f"{'+'.join(variant.off)}.config"
        if not config.exists():
            self._configure(variant.off, config)
        fell, rose = self._difference(config.stem, variant.off)
        return Built(shared.image, config, fell, rose)

    def _configure(self, off: tuple[str, ...], config: Path) -> None:
        words = [word for symbol in off for word in ("--disable", symbol)]
        armkernels.embedkit(
            "patch-kernel", self._config("docker"), "--tree", linux_trees.source(armkernels.SERIES),
            "--cross-compile", armkernels.CROSS, "--profile", "none", *words, "--config", config,
        )  # fmt: skip

    @property
    def _whole(self) -> Path:
        return self._work / "whole"

    def _image(self, name: str) -> Path:
        return self._images / f"{name}.zImage"

    def _config(self, name: str) -> Path:
        return self._images / f"{name}.config"

    def _keep(self, image: Path, name: str) -> None:
        part = self._images / f".{name}.zImage"
        shutil.copyfile(image, part)
        part.rename(self._image(name))

    def _difference(self, name: str, off: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
        before = _on(self._config("docker"))
        after = _on(self._config(name))
        return tuple(sorted(before - after - set(off))), tuple(sorted(after - before))


def _on(path: Path) -> set[str]:
    values = KernelConfig.from_bytes(path.read_bytes()).values
    return {name for name, value in values.items() if value in ("y", "m")}
