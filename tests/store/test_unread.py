"""A sequence of conversations that are read as they are looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from safetyqc.store import Store, unread
from safetyqc.store.unread import Unread
from safetyqc.testing import conversation


def test_the_conversations_at_these_places_come_in_the_order_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unread, "_AT_A_TIME", 3)
    with Store.create(tmp_path / "run") as store:
        put = [conversation(f"request {n}", f"answer {n}") for n in range(10)]
        store.add_conversations(put)
        wanted = [c for n, c in enumerate(put) if n % 3]
        found = Unread(store, [1 + put.index(c) for c in wanted])
        assert (len(found), list(found)) == (len(wanted), wanted)
        assert (list(found[:2]), list(found[2:]), found[-1]) == (wanted[:2], wanted[2:], wanted[-1])
        assert found.ids() == [c.id for c in wanted]
        assert not Unread(store, [])
