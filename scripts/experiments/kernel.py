"""The kernel experiment: symbol by symbol, what a profile promises against what is seen.

``build`` makes one kernel for each variant, ``boot`` boots each and writes down what it says,
``table`` holds that against the profile. ``build`` and ``boot`` may run side by side; both go on
where they were interrupted.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from pathlib import Path

from support import debian

from embedkit.emulate.machine import BootFailed
from embedkit.errors import EmbedkitError
from experiments.builds import Builder
from experiments.observe import Line, Seen, observe
from experiments.variants import CONTROLS, VARIANTS, Variant


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("build", "boot", "table"))
    parser.add_argument("--work", type=Path, default=debian.cache() / "kernel-experiment")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these variants")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--again", action="store_true", help="boot what was booted already")
    args = parser.parse_args()
    builder = Builder(args.work, args.jobs)
    chosen = _chosen(args.only)
    if args.what == "build":
        _build(builder, chosen)
    elif args.what == "boot":
        _boot(args.work, builder, chosen, args.again)
    else:
        _table(args.work, builder, chosen)


def _chosen(names: list[str] | None) -> list[Variant]:
    everything = [*CONTROLS, *VARIANTS]
    if not names:
        return everything
    unknown = set(names) - {variant.name for variant in everything}
    if unknown:
        sys.exit(f"no such variant: {', '.join(sorted(unknown))}")
    return [variant for variant in everything if variant.name in names]


def _build(builder: Builder, variants: list[Variant]) -> None:
    begun = time.monotonic()
    builder.prepare()
    print(f"{time.monotonic() - begun:6.0f} s  the patched kernel", flush=True)
    for variant in variants:
        begun = time.monotonic()
        built = builder.build(variant)
        fell = ", ".join(built.fell) or "nothing"
        print(f"{time.monotonic() - begun:6.0f} s  {variant.name}; fell: {fell}", flush=True)


def _boot(work: Path, builder: Builder, variants: list[Variant], again: bool) -> None:
    from experiments.bench import Bench

    bench = Bench(work)
    results = work / "results.jsonl"
    done = {} if again else _read(results)
    for variant in variants:
        built = builder.built(variant)
        if variant.name in done or built is None:
            continue
        begun = time.monotonic()
        try:
            with bench.booted(built.image) as machine, machine.target() as target:
                seen = observe(target, variant, bench.reference.busybox)
        except BootFailed as error:
            seen = Seen(variant.name, "", "", False, (), (("the board boots", "failed"),),
                        (Line("embedkit emulate", str(error)),), 0.0)  # fmt: skip
        except EmbedkitError as error:  # says nothing of the kernel: to be tried again
            print(f"         {variant.name}: {error}", flush=True)
            continue
        with results.open("a") as file:
            file.write(json.dumps(dataclasses.asdict(seen)) + "\n")
        broken = [title for title, state in seen.checks if state == "failed"]
        taken = time.monotonic() - begun
        print(f"{taken:6.0f} s  {variant.name}: {', '.join(broken) or 'all works'}", flush=True)


def _read(results: Path) -> dict[str, Seen]:
    """What was seen, the newest of each variant."""
    found = {}
    for text in results.read_text().splitlines() if results.exists() else []:
        value = json.loads(text)
        value["concerns"] = tuple(value["concerns"])
        value["checks"] = tuple((title, state) for title, state in value["checks"])
        value["lines"] = tuple(Line(**line) for line in value["lines"])
        found[value["variant"]] = Seen(**value)
    return found


def _table(work: Path, builder: Builder, variants: list[Variant]) -> None:
    from experiments.judge import finding, table

    seen = _read(work / "results.jsonl")
    control = builder.built(CONTROLS[0])
    findings = []
    for variant in variants:
        built = builder.built(variant)
        usual = seen.get(f"control-{variant.cgroups}")
        if variant.off and control and built and usual and variant.name in seen:
            rows = [dataclasses.replace(variant, off=(name,)) for name in variant.off]
            for row in rows if variant.apart else [variant]:
                own = builder.alone(built, row) if variant.apart else built
                findings.append(finding(row, own, control, seen[variant.name], usual))
    print(table(findings), end="")


if __name__ == "__main__":
    main()
