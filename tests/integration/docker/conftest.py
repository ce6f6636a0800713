"""Boards for deployments; each is ended with all that runs on it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.debian import NotToBeHad, give_up
from support.dockerboard import Board

Boards = Callable[..., Board]


@pytest.fixture
def boards(tmp_path: Path) -> Iterator[Boards]:
    """Makes boards that are switched off at the end."""
    made: list[Board] = []

    def make(**options: Any) -> Board:
        try:
            board = Board(tmp_path / f"board{len(made)}", **options)
        except NotToBeHad as reason:
            give_up(str(reason))
            raise
        made.append(board)
        return board

    yield make
    for board in made:
        with contextlib.suppress(Exception):
            board.power_off()
