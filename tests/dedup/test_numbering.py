"""Features counted in parts are the same features with the same counts as those counted at once."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest

from safetyqc.dedup.compiled import Compiled, Table
from safetyqc.dedup.numbering import Numbered, Numbering
from tests.dedup.test_pairs import recombined

pytestmark = pytest.mark.compiled

TEXTS = recombined(240, seed=5)


def counted(limit_bytes: float) -> tuple[Numbering, Numbered]:
    worker = Compiled()
    numbering = Numbering(worker, limit_bytes)
    for start in range(0, len(TEXTS), 50):
        block = TEXTS[start : start + 50]
        numbering.add(worker.count(block))
    return numbering, numbering.finish(None)


def shared(found: Numbered) -> dict[int, int]:
    often = found.table.frequencies() > 1
    return dict(zip(found.table.hashes()[often].tolist(), found.table.frequencies()[often].tolist(), strict=True))


@pytest.mark.parametrize(("limit_bytes", "parts"), [(1e9, 1), (100_000, 4), (1000, 64)])
def test_any_number_of_parts_counts_the_same(limit_bytes: float, parts: int) -> None:
    _, whole = counted(inf)
    numbering, found = counted(limit_bytes)
    assert numbering.parts == parts
    assert len(list(found.spool.blocks(release=True))) == 5
    assert shared(found) == shared(whole)
    assert len(found.table) == len(shared(whole))


def test_what_stands_in_one_text_gets_one_number_together() -> None:
    _, whole = counted(inf)
    _, found = counted(1000)
    assert found.rare_frequencies.tolist() == [1]
    hashes, often = whole.table.hashes(), whole.table.frequencies() > 1
    names = dict(enumerate(found.table.hashes().tolist()))
    for one, other in zip(whole.spool.blocks(), found.spool.blocks(release=True), strict=True):
        expected = np.where(often[one.features], hashes[one.features], np.uint64(0))
        assert [names.get(number, 0) for number in other.features.tolist()] == expected.tolist()
        assert other.counts.tolist() == one.counts.tolist()


def test_a_table_finds_what_it_holds() -> None:
    worker = Compiled()
    table = Table()
    block = worker.count(TEXTS[:20])
    numbers = table.number(block)
    assert table.find(block.features).tolist() == numbers.tolist()
    unknown = np.array([3, 5], np.uint64)
    assert table.find(unknown).tolist() == [len(table)] * 2
    assert Table().find(unknown).tolist() == [0, 0]
