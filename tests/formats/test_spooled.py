"""What is in a temporary file is what was put there, however it is looked at."""

from __future__ import annotations

import pytest

from safetyqc.formats.spooled import Records, Texts


@pytest.mark.parametrize("most", [0, 1, 3, float("inf")])
def test_records_in_a_file_are_those_that_were_put_there(most: float) -> None:
    put = [{"n": n, "text": "\ud83d 中文 🙂" * n} for n in range(5)]
    records = Records[dict[str, object]](most)
    for record in put:
        records.add(record)
    assert (len(records), list(records), list(records.held)) == (5, put, put)
    assert [records[n] for n in (4, 0, -1, 2)] == [put[4], put[0], put[4], put[2]]
    assert list(records[1:3]) == put[1:3]
    assert [a == b for a, b in zip(records, records, strict=True)] == [True] * 5
    assert isinstance(records.held, tuple) == (most >= 5)
    with pytest.raises(IndexError):
        records[5]


def test_texts_in_a_file_are_those_that_were_put_there() -> None:
    put = ["", "\ud83d", "中文", "🙂" * 9]
    with Texts(4) as texts:
        for text in put:
            texts.add(text)
        assert (list(texts), texts[2], len(texts)) == (put, "中文", 4)
