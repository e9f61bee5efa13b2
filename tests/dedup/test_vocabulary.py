from contextlib import suppress

import numpy as np
import pytest

from safetyqc.dedup import FrozenVocabulary, find_pairs
from safetyqc.dedup.tokens import ANALYZERS, feature_hash
from safetyqc.errors import UserError


@pytest.fixture
def vocabulary() -> FrozenVocabulary:
    return find_pairs(["a b c", "a b", "a d", "a d"], 0.5).vocabulary


def test_it_counts_texts_copies_included_and_leaves_out_what_stands_in_one(vocabulary):
    hashes = np.array([feature_hash(name) for name in ("a", "d", "a d", "b", "a b", "c", "never")], np.uint64)
    assert vocabulary.frequencies_of(hashes).tolist() == [4, 2, 2, 2, 2, 1, 1]
    assert len(vocabulary.hashes) == 5


def test_idf_is_that_of_scikit_learn(vocabulary):
    assert vocabulary.idf("a") == pytest.approx(1.0)
    assert vocabulary.idf("b") == pytest.approx(np.log(5 / 3) + 1)


@pytest.mark.parametrize("analyzer", ANALYZERS)
def test_it_survives_storing(analyzer):
    vocabulary = find_pairs(["a b c d", "a b c e"], 0.5, analyzer=analyzer).vocabulary
    again = FrozenVocabulary.from_bytes(vocabulary.to_bytes())
    assert again.analyzer == analyzer
    assert again.texts == vocabulary.texts
    assert np.array_equal(again.hashes, vocabulary.hashes)
    assert np.array_equal(again.frequencies, vocabulary.frequencies)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 not a zip", b"\x93NUMPY"])
def test_other_bytes_are_refused(data):
    with pytest.raises(UserError, match="vocabulary"):
        FrozenVocabulary.from_bytes(data)


def test_bytes_with_any_one_bit_flipped_are_read_or_refused_and_never_crash(vocabulary):
    whole = vocabulary.to_bytes()
    for place in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        with suppress(UserError):
            FrozenVocabulary.from_bytes(bytes(damaged))
