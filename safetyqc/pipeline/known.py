"""Tells at once whether a new conversation says what the run already holds, while the run is being written.

Uses term frequencies alone, because there is no finished corpus yet to weigh words by; `dedup` has the last word. Words
are told apart by a hash of 21 bits, so a similarity may be off in its fourth digit. Of a group of copies only the first
is remembered, so the group never grows in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from safetyqc.records import Conversation, Duplicate
from safetyqc.text import normalise

if TYPE_CHECKING:
    from safetyqc.config import Config

_MIN_TF_SIMILARITY = 0.85
"""Without idf common words count fully: different Chinese conversations reach 0.70 (docs/dedup.md)."""
_COLUMNS = 1 << 21


class Known:
    """The texts of a run, to be asked before each addition."""

    def __init__(self, config: Config, conversations: Iterable[Conversation]) -> None:
        import numpy as np
        from sklearn.feature_extraction.text import HashingVectorizer

        self._on = config.dedup.on
        self._least = max(config.dedup.min_similarity, _MIN_TF_SIMILARITY)
        self._vectorizer = HashingVectorizer(analyzer=_said, n_features=_COLUMNS, norm=None, alternate_sign=False)
        first_of = dict[str, str]()
        for c in conversations:
            if c.origin != "canary":
                first_of.setdefault(self._text(c), c.id)
        self._ids = list(first_of.values())
        # Nearly all is asked by lists of the texts that hold each word; the last few texts, of which making lists would
        # cost more than reading them, by a dense vector
        self._lists = self._rows(list(first_of)).T.tocsr()
        self._last: Any = None
        self._dense = np.zeros(_COLUMNS)

    def add(self, conversation: Conversation) -> Duplicate | None:
        """Name what the run already holds that says nearly the same; otherwise remember this one and return None."""
        from scipy.sparse import hstack, vstack

        row = self._rows([self._text(conversation)])
        if near := self._nearest(row):
            return near
        self._ids.append(conversation.id)
        self._last = row if self._last is None else vstack([self._last, row], "csr")
        if self._last.shape[0] > max(64, len(self._ids) // 64):
            self._lists, self._last = hstack([self._lists, self._last.T.tocsr()], "csr"), None
        return None

    def _nearest(self, row: Any) -> Duplicate | None:
        import numpy as np

        found = (row @ self._lists).toarray().ravel()
        if self._last is not None:
            self._dense[row.indices] = row.data
            found = np.concatenate([found, self._last @ self._dense])
            self._dense[row.indices] = 0.0
        similarity = min(round(float(found.max(initial=0.0)), 6), 1.0)
        if similarity < self._least:
            return None
        return Duplicate(conversation_id=self._ids[int(found.argmax())], similarity=similarity)

    def _rows(self, texts: Sequence[str]) -> Any:
        import numpy as np
        from scipy.sparse import csr_matrix
        from sklearn.preprocessing import normalize

        if not texts:
            return csr_matrix((0, _COLUMNS))
        rows = self._vectorizer.transform(texts)
        rows.data = 1.0 + np.log(rows.data)
        return normalize(rows, copy=False)

    def _text(self, conversation: Conversation) -> str:
        from safetyqc.dedup.groups import compared_text

        return compared_text(conversation, self._on)


def _said(text: str) -> list[str]:
    """The words of a text and the pairs of them, or, where it has none, its characters as one."""
    from safetyqc.dedup.tokens import token_pairs, tokens

    found = tokens(text)
    return found + token_pairs(found) if found else [normalise(text)]
