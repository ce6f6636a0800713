"""The house rules of the package, checked on its source: who may import whom, and what else.

Rooms are the first part of a module's name below ``embedkit``. Everything counts, also an
import inside a function or under TYPE_CHECKING: what is allowed late is allowed early.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

LONGEST = 400
# Bottom to top. A room may import from lower floors and from itself.
_GROUND = (
    "errors", "progress", "process", "data", "units", "schema", "files", "arguments", "elf",
)  # fmt: skip
_FLOORS = (
    _GROUND,
    ("target", "board"),
    ("docker", "oci", "media", "kernel", "emulate"),
    ("lab", "bringup"),
    ("commands",),
    ("cli",),
)
# Beside the house: fed by plain results, used by commands alone.
_SHOWING = ("report", "ui")
# Rooms of the ground floor know one another only so far.
_GROUND_USES = {
    "errors": (),
    "progress": (),
    "units": ("errors",),
    "files": ("errors",),
    "elf": (),
    "process": ("errors",),
    "data": ("errors",),
    "schema": ("errors", "data", "units"),
    "arguments": ("errors",),
}
# The exceptions, each with its reason.
_ALSO = {
    ("embedkit.docker.proof", "oci"): "makes its proof image",
}
# Modules that print: the terminal's own.
_PRINT = ("cli", "ui", "commands")
# Starting programs: the one room for it, and what it is called elsewhere.
_START = ("embedkit.process",)
_START_CALLS = ("system", "popen", "posix_spawn", "posix_spawnp", "fork", "forkpty", "startfile")


def module_name(path: Path, package: Path) -> str:
    """``embedkit.report.text`` for ``…/embedkit/report/text.py``."""
    parts = [package.name, *path.relative_to(package).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str:
    """``report`` for ``embedkit.report.text``; "" for the package itself."""
    return module.partition(".")[2].partition(".")[0]


def imported(tree: ast.Module, module: str, is_package: bool, known: set[str]) -> set[str]:
    """The package's own modules that ``tree`` imports."""
    found: set[str] = set()
    top = module.split(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                keep = len(parts) - node.level + (1 if is_package else 0)
                base = ".".join([*parts[:keep], *([base] if base else [])])
            names = [f"{base}.{alias.name}" for alias in node.names] + [base]
            # `from a import b` is about a.b where that is a module.
            if all(name in known for name in names[:-1]):
                names.pop()
        else:
            continue
        for name in names:
            while name.split(".")[0] == top and name not in known and "." in name:
                name = name.rpartition(".")[0]
            if name in known and name != module:
                found.add(name)
    return found


def _allowed(importer: str, target: str) -> bool:
    ours, theirs = room(importer), room(target)
    if ours == theirs or theirs == "" or ours == "":
        return ours == theirs or theirs == ""
    if (importer, theirs) in _ALSO:
        return True
    if ours in _GROUND:
        return theirs in _GROUND_USES[ours]
    if ours == "report":
        return theirs in _GROUND
    if ours == "ui":
        return theirs in (*_GROUND, "report")
    if theirs in _SHOWING:
        return ours in ("commands", "cli")
    floors = {name: floor for floor, names in enumerate(_FLOORS) for name in names}
    return ours in floors and theirs in floors and floors[theirs] < floors[ours]


def _cycles(graph: dict[str, set[str]]) -> Iterator[str]:
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> Iterator[str]:
        if module in path:
            yield "import cycle: " + " → ".join((*path[path.index(module) :], module))
        elif module not in done:
            for target in sorted(graph[module]):
                yield from visit(target, (*path, module))
            done.add(module)

    for module in sorted(graph):
        yield from visit(module, ())


def _habits(tree: ast.Module, module: str) -> Iterator[str]:
    prints = room(module) in _PRINT
    starts = module in _START
    for node in ast.walk(tree):
        place = f"{module}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id == "print" and not prints:
                yield f"{place}: print() belongs to {', '.join(_PRINT)}"
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = f"{node.value.id}.{node.attr}"
            if name in ("sys.stdout", "sys.stderr") and not prints:
                yield f"{place}: {name} belongs to {', '.join(_PRINT)}"
            started = node.attr in _START_CALLS or node.attr.startswith(("exec", "spawn"))
            if node.value.id == "os" and started and not starts:
                yield f"{place}: {name} belongs to process.py"
        elif isinstance(node, (ast.Import, ast.ImportFrom)) and not starts:
            names = [alias.name for alias in node.names]
            base = getattr(node, "module", None) or ""
            if "subprocess" in (*names, base) or base == "asyncio.subprocess":
                yield f"{place}: subprocess belongs to process.py"


# The tests look at many copies that differ in one file: what the others say is remembered.
@functools.cache
def _parsed(text: str, module: str) -> tuple[ast.Module, tuple[str, ...]]:
    """The import statements of ``text``, alone in a module, and its bad habits."""
    tree = ast.parse(text)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    return ast.Module(body=imports, type_ignores=[]), tuple(_habits(tree, module))


def problems(package: Path) -> list[str]:
    """Everything in the package folder that breaks a rule, one sentence each."""
    sources = {
        module_name(path, package): path
        for path in sorted(package.rglob("*.py"))
        if "_data" not in path.parts
    }
    found: list[str] = []
    graph: dict[str, set[str]] = {}
    for module, path in sources.items():
        text = path.read_text("utf-8")
        lines = len(text.splitlines())
        if lines > LONGEST:
            found.append(f"{module}: {lines} lines; {LONGEST} are the most")
        imports, habits = _parsed(text, module)
        graph[module] = imported(imports, module, path.name == "__init__.py", set(sources))
        found += [
            f"{module} may not import {target}"
            for target in sorted(graph[module])
            if not _allowed(module, target)
        ]
        found += habits
    return found + list(_cycles(graph))
