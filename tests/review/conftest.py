"""A small judged run to label, and desks at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from safetyqc.review.desk import Desk
from safetyqc.review.opening import Wanted, open_desk
from safetyqc.rubrics import load_rubric_set
from safetyqc.store import Store
from tests.support.runs import judgment, planned

COUNT = 30
RUBRIC = load_rubric_set("safety")

OpenDesk = Callable[..., Desk]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Thirty harmful requests, judged by two by the shipped rubric; they differ on two answers."""
    talks = [planned(i, "cybercrime_or_hacking", intent="harmful") for i in range(COUNT)]
    with Store.create(tmp_path / "run") as store:
        store.add_conversations(talks)
        store.set_meta("rubric", {"id": "safety", "hash": RUBRIC.hash, "criteria": []})
        for judge, failing in (("local", ()), ("openai/gpt", (3, 7))):
            said: list[Any] = [
                judgment(c, judge=judge, safe_alternative="fail" if i in failing else "pass")
                for i, c in enumerate(talks)
            ]
            store.put_judgments(j.model_copy(update={"rubric_hash": RUBRIC.hash}) for j in said).result()
    return tmp_path / "run"


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
