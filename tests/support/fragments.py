"""The hand-usable kernel fragments, read with their reasons."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from embedkit import data
from embedkit.kernel.config import parse_line

_NEEDED = "Needed by "


@dataclass(frozen=True)
class Line:
    """One assignment and the comment that stands right above it."""

    symbol: str
    value: str
    reason: str

    @property
    def needed_by(self) -> tuple[str, ...]:
        """The symbols of ``Needed by A, B and C.``; empty for any other reason."""
        if not self.reason.startswith(_NEEDED):
            return ()
        words = self.reason.removeprefix(_NEEDED).removesuffix(".")
        return tuple(words.replace(" and ", ", ").split(", "))


@dataclass(frozen=True)
class Fragment:
    """One file; ``title`` is the comment at its top."""

    name: str
    path: Path
    title: str
    lines: tuple[Line, ...]

    @property
    def text(self) -> str:
        return self.path.read_text()


def read(path: Path) -> Fragment:
    """The fragment in ``path``. Raises ValueError for a line that is neither."""
    lines = []
    comment: list[str] = []
    title = ""
    for number, text in enumerate(path.read_text().splitlines(), 1):
        parsed = parse_line(text)
        if parsed is not None:
            lines.append(Line(*parsed, " ".join(comment)))
            comment = []
        elif text.startswith("### "):
            assert not comment, f"{path}:{number}: a comment without an assignment"
        elif text.startswith("# "):
            comment.append(text[2:])
        elif not text:
            if comment and not lines and not title:
                title, comment = " ".join(comment), []
            assert not comment, f"{path}:{number}: a comment without an assignment"
        else:
            raise ValueError(f"{path}:{number}: {text}")
    name = f"{path.parent.name}/{path.name}"
    return Fragment(name, path, title, tuple(lines))


def every() -> tuple[Fragment, ...]:
    """All that embedkit ships, by name."""
    folder = data.shipped_folder("kernel_fragments")
    return tuple(read(path) for path in sorted(folder.glob("*/*.config")))
