"""What the user wants on a card, an image or a board with its artifacts, as one thing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.errors import InputError
from embedkit.media import bmap as bmaps
from embedkit.media.content import Content
from embedkit.media.precheck import check_image
from embedkit.media.stream import STDIN, Image, open_image
from embedkit.progress import Progress

if TYPE_CHECKING:
    from embedkit.media.layout import CardPlan


@dataclass(frozen=True)
class Request:
    """``source`` is a path, ``-``, a URL or a board; the rest are its options.

    ``chosen`` maps names of blobs and partitions to files; ``use_bmap`` lets a .bmap beside
    the image be taken when ``bmap`` names none; ``sha256`` is of the stored image.
    """

    source: str
    artifacts: Path | None = None
    chosen: Mapping[str, Path] = field(default_factory=dict)
    layout: str | None = None
    bmap: Path | None = None
    use_bmap: bool = True
    sha256: str | None = None

    @property
    def is_board(self) -> bool:
        """Whether ``source`` names a board. A file of that name goes first."""
        if self.source == STDIN or re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", self.source):
            return False
        path = Path(self.source)
        if path.is_dir():
            if (path / "board.toml").is_file():
                return True
            from embedkit import board as boards

            return self.source in boards.names()
        if path.is_file():
            return path.suffix == ".toml"
        # Neither is there: what looks like a file's name gets a file's error.
        return not re.search(r"[./]", self.source)


@dataclass(frozen=True)
class Subject:
    """An image that is ready to be written or compared, and what it promises."""

    title: str
    image: Image
    content: Content
    bmap: Path | None = None
    plan: CardPlan | None = None


def card_plan(request: Request, size_bytes: int) -> CardPlan:
    """The plan of a board's card of ``size_bytes``. Raises InputError."""
    # An image needs none of this: boards cost a tenth of flash's start.
    from embedkit import board as boards
    from embedkit.media.planner import plan

    return plan(
        boards.load(request.source),
        layout=request.layout,
        artifacts=request.artifacts,
        chosen=request.chosen,
        size_bytes=size_bytes,
    )


def check_options(request: Request) -> None:
    """Raises InputError for options that do not go with the kind of source."""
    if request.is_board:
        given = request.bmap is not None or request.sha256 is not None or not request.use_bmap
        if given:
            raise InputError("--bmap, --no-bmap and --sha256 belong to an image, not to a board")
    elif request.artifacts is not None or request.chosen or request.layout is not None:
        raise InputError(
            f"'{request.source}' is an image; --artifacts, --blob and --layout belong to a board",
            hint="embedkit boards list shows the boards",
        )


@contextmanager
def opened(request: Request, size_bytes: int | None, progress: Progress) -> Iterator[Subject]:
    """The subject for a device of ``size_bytes``; a board is composed into a temporary file.

    Raises InputError or LackError for everything that can be known to be wrong with it.
    """
    if not request.is_board:
        yield _image(request, size_bytes, progress)
        return
    assert size_bytes is not None, "a board's card needs to know the card"
    plan = card_plan(request, size_bytes)
    import tempfile

    from embedkit.media.compose import materialise

    # Not /tmp: that is often memory, and a card is large.
    folder = Path("/var/tmp") if Path("/var/tmp").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="embedkit-", dir=folder) as work:
        composed = materialise(plan, Path(work) / f"{plan.board}.img", progress=progress)
        image = open_image(str(composed.path))
        content = Content(
            composed.size_bytes,
            composed.mapped,
            kept=plan.kept,
            name_at=plan.region_at,
            # The plan says itself which gaps are to be zeros.
            zero_gaps=False,
        )
        yield Subject(f"{plan.board} ({plan.layout})", image, content, plan=plan)


def _image(request: Request, size_bytes: int | None, progress: Progress) -> Subject:
    image = open_image(request.source, sha256=request.sha256)
    path = request.bmap
    if path is None and request.use_bmap and image.info.path is not None:
        path = bmaps.beside(image.info.path)
    bmap = bmaps.read(path) if path is not None else None
    content = check_image(image, bmap, size_bytes, progress)
    return Subject(image.info.name, image, content, path)
