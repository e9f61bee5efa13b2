"""Runs to report on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from safetyqc.records import Conversation, Judgment
from safetyqc.store import Store
from tests.support.runs import fill_with_everything


@pytest.fixture(scope="session")
def full_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A small run in which everything happened at least once; read only."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    with Store.create(folder) as store:
        fill_with_everything(store)
    with Store.read(folder) as store:
        yield store


@pytest.fixture
def make_run(tmp_path: Path) -> Iterator[Callable[..., Store]]:
    """Make a run from conversations, judgments and meta values, closed when the test ends."""
    opened: list[Store] = []

    def make(conversations: Iterable[Conversation] = (), judgments: Iterable[Judgment] = (), **meta: Any) -> Store:
        store = Store.create(tmp_path / f"run{len(opened)}")
        opened.append(store)
        store.add_conversations(conversations)
        store.put_judgments(judgments).result()
        for key, value in meta.items():
            store.set_meta(key, value)
        return store

    yield make
    for store in opened:
        store.close()
