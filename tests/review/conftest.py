"""A small judged run to label, and desks at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from safetyqc.review.desk import Desk
from safetyqc.review.opening import Wanted, open_desk
from safetyqc.store import Store
from tests.support.runs import fill_for_review

OpenDesk = Callable[..., Desk]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Thirty conversations that two judged by the shipped rubric."""
    return fill_for_review(tmp_path)


@pytest.fixture
def desk(run: Path) -> Iterator[OpenDesk]:
    """Open desks at the run, as the command does; each with a store of its own, as other processes have."""
    stores: list[Store] = []

    def open_one(annotator: str = "ann", queue: str | None = None, **more: Any) -> Desk:
        stores.append(Store.beside(run))
        return open_desk(stores[-1], "safety", Wanted(annotator, queue, **more))[0]

    yield open_one
    for store in stores:
        store.close()
