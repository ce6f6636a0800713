"""Whether a bundle can run: on its own account, and on a given board. Told before copying."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from embedkit.docker.bundle import NEEDED, Bundle, Kind, Program
from embedkit.target.facts import Platform
from embedkit.target.preflight import Concern, Weight
from embedkit.units import format_size

# Programs of the second architecture that a kernel of the first one runs, too.
_ALSO_RUNS = {"arm64": ("arm",), "amd64": ("386",)}
_FETCH = "fetch one that fits: embedkit bundle fetch --arch ARCH --version VERSION"


@dataclass(frozen=True)
class Allowed:
    """What the user takes upon themselves: programs that need libraries of the board's own."""

    dynamic: bool = False


def check_bundle(bundle: Bundle, allowed: Allowed | None = None) -> tuple[Concern, ...]:
    """Everything that can be told without a board."""
    allowed = allowed or Allowed()
    found: list[Concern] = []
    for program in bundle.programs:
        found += _program(program)
    found += _static(bundle, allowed)
    found += _together(bundle)
    return tuple(found)


def check_fit(bundle: Bundle, platform: Platform) -> tuple[Concern, ...]:
    """Whether the programs are for that board."""
    return tuple(_fit(bundle, platform))


def _program(program: Program) -> Iterator[Concern]:
    header = program.header
    label = program.name
    if header is None:
        yield Concern(
            f"program-{label}",
            Weight.FAIL,
            label,
            "not an ELF program",
            "the board's kernel cannot start it",
            _FETCH,
        )
    elif program.cut_off:
        yield Concern(
            f"program-{label}",
            Weight.FAIL,
            label,
            f"cut off: {format_size(program.size_bytes)} of {format_size(header.end_bytes)}",
            "its headers speak of more than there is",
            "fetch or copy it again",
        )
    else:
        floats = {True: ", hard float", False: ", soft float", None: ""}[program.hard_float]
        yield Concern(
            f"program-{label}",
            Weight.OK,
            label,
            f"{program.arch}{floats}, {format_size(program.size_bytes)}",
        )


def _static(bundle: Bundle, allowed: Allowed) -> Iterator[Concern]:
    dynamic = [p for p in bundle.programs if p.header is not None and not p.header.static]
    if not dynamic:
        return
    loaders = sorted({p.header.interpreter for p in dynamic if p.header is not None})
    yield Concern(
        "static",
        Weight.WARN if allowed.dynamic else Weight.FAIL,
        "static programs",
        f"not: {', '.join(p.name for p in dynamic)}",
        f"they need {' and '.join(loaders)} and the same libraries on the board",
        "" if allowed.dynamic else "take a static bundle, or give --allow-dynamic",
    )


def _together(bundle: Bundle) -> Iterator[Concern]:
    archs = {p.arch for p in bundle.programs if p.header is not None}
    if len(archs) > 1:
        shown = ", ".join(f"{p.name} {p.arch}" for p in bundle.programs if p.header is not None)
        yield Concern(
            "one-arch", Weight.FAIL, "architecture", "mixed", shown, "put together one kind only"
        )
    missing = [name for name in NEEDED if name not in bundle.names]
    # Up to 1.10 one binary was everything; up to 18.06 the helpers had other names.
    old = bundle.major is not None and bundle.major < 18
    if missing and not old:
        single = bundle.kind is Kind.BINARY
        yield Concern(
            "complete",
            Weight.WARN if single else Weight.FAIL,
            "bundle",
            f"without {', '.join(missing)}",
            "no container starts without them"
            + ("; only Docker 1.10 and older is a single binary" if single else ""),
            "take the whole archive",
        )
    if not bundle.version:
        yield Concern(
            "version",
            Weight.WARN,
            "version",
            "unknown",
            "neither the file's name nor the daemon tells it",
            "name it with --bundle-version",
        )


def _fit(bundle: Bundle, platform: Platform) -> Iterator[Concern]:
    arch = bundle.arch
    if not arch or not platform.arch:
        yield Concern("arch", Weight.UNKNOWN, "bundle and board", "could not be compared")
        return
    shown = f"bundle for {arch}, board is {platform.arch}{platform.variant and '/'}"
    shown += platform.variant
    if arch != platform.arch and arch not in _ALSO_RUNS.get(platform.arch, ()):
        yield Concern(
            "arch",
            Weight.FAIL,
            "bundle and board",
            shown,
            "every program would end with 'Exec format error'",
            _FETCH.replace("ARCH", platform.static_arch or "ARCH"),
        )
        return
    if arch == "arm":
        problem = _arm(bundle, platform)
        if problem is not None:
            yield problem
            return
    weight = Weight.OK if arch == platform.arch else Weight.WARN
    detail = "" if weight is Weight.OK else "it runs there if the processor has 32-bit mode"
    yield Concern("arch", weight, "bundle and board", shown, detail)


def _arm(bundle: Bundle, platform: Platform) -> Concern | None:
    hard = any(p.hard_float for p in bundle.programs)
    vfp = any(feature.startswith("vfp") for feature in platform.features)
    if hard and platform.arch == "arm" and platform.features and not vfp:
        return Concern(
            "arch",
            Weight.FAIL,
            "bundle and board",
            "hard-float bundle, processor without VFP",
            "every program would end with an illegal instruction",
            _FETCH.replace("ARCH", "armel"),
        )
    # Docker 29's release notes: armhf packages are built for ARMv7 from then on.
    new = bundle.major is not None and bundle.major >= 29
    if hard and new and platform.arch == "arm" and platform.variant in ("v5", "v6"):
        return Concern(
            "arch",
            Weight.FAIL,
            "bundle and board",
            f"Docker {bundle.version} needs ARMv7, board is arm/{platform.variant}",
            "every program would end with an illegal instruction",
            "use Docker 28 or older there",
        )
    return None
