"""A similarity index that grows: near texts for each new one, without comparing the old ones again.

For checks while conversations are being generated, and for adding a thousand conversations to a million at about a
thousandth of the cost of a full search. Measure and bounds are those of `pairs.py`, with an idf that never changes:
that of a frozen vocabulary, or none at all (`weights="tf"`), because a run that starts empty has nothing to count
yet.

Texts are kept in segments, each an index of its own; a new batch becomes a segment, and a segment at most twice as
large as its successor is merged with it. So a text is moved about log2(n) times in all, and a query asks few
segments. The surprising thing: it numbers features in the order in which it met them, the first batch by frequency;
any fixed order is exact, a good one is only faster. Not safe to call from several threads at once. Loads numpy:
import it late.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from safetyqc.dedup.backend import Backend, BackendName, choose_backend, in_order
from safetyqc.dedup.pairs import MARGIN, check_similarity
from safetyqc.dedup.rows import Array, Counted, Found, Lists, Rows, Tails, cuts_of
from safetyqc.dedup.tokens import Analyzer
from safetyqc.dedup.vectors import Weights, features_of
from safetyqc.dedup.vocabulary import FrozenVocabulary, smooth_idf
from safetyqc.errors import UserError

_FORMAT = 2
_COMPILE_FROM = 5_000_000  # characters in the index or the batch: below it the plain backend answers in milliseconds
_ALL = 1 << 62


@dataclass(frozen=True)
class Near:
    """An indexed text (its number in the order of adding) near the one asked about; cosine rounded to six decimals."""

    index: int
    similarity: float


@dataclass(frozen=True)
class _Segment:
    first: int
    rows: Rows
    tails: Tails
    lists: Lists


class SimilarityIndex:
    """Texts that can be asked which of them are near another text.

    Args:
        min_similarity: the lowest cosine that counts as near; fixed, because the index is built for it.
        weights: `tf` needs nothing; `tfidf` needs the vocabulary that a run was frozen with.
        backend: `auto` starts without a compiler and changes over when the index has grown to five million characters.

    Raises:
        UserError: a threshold outside 0..1, or tfidf without a vocabulary.
    """

    def __init__(
        self,
        min_similarity: float,
        *,
        weights: Weights = "tf",
        vocabulary: FrozenVocabulary | None = None,
        backend: BackendName = "auto",
    ) -> None:
        check_similarity(min_similarity)
        if weights == "tfidf" and vocabulary is None:
            raise UserError("an index with weights 'tfidf' needs a frozen vocabulary", fix="pass one, or weights='tf'")
        self.min_similarity, self.weights, self.vocabulary = min_similarity, weights, vocabulary
        self.analyzer: Analyzer = vocabulary.analyzer if vocabulary else "word"
        self._auto = backend == "auto"
        self._compiled = backend == "compiled"
        self._worker: Backend = choose_backend("plain" if self._auto else backend, 0, self.analyzer)
        self._table = self._worker.table()
        self._idf, self._known = np.empty(0), 0
        self._high = max(min_similarity - 1.5e-6, 0.0)
        self._numbers = np.empty(0, np.int64)
        self._segments: list[_Segment] = []
        self._seen: dict[bytes, int] = {}
        self._size = self._characters = 0

    def __len__(self) -> int:
        return self._size

    def near(self, text: str) -> list[Near]:
        """Indexed texts near this one, the nearest first; an equal text stands for all its copies.

        A text without a word is near nothing but an equal one.
        """
        return self.near_all([text])[0]

    def near_all(self, texts: Sequence[str]) -> list[list[Near]]:
        """Ask about many texts at once; cheaper than one by one."""
        self._change_over(texts)
        found = Found.joined([self._ask(self._rows(texts), segment) for segment in self._segments])
        equal = [self._seen.get(_digest(text)) for text in texts]
        return self._answers(len(texts), found, equal)

    def add(self, texts: Sequence[str]) -> list[list[Near]]:
        """Add texts; for each, the near ones among those added before it (in this batch too), the nearest first.

        A copy of an earlier text names only the first of them, and is not indexed again.
        """
        self._change_over(texts)
        equal = [self._seen.setdefault(_digest(text), self._size + place) for place, text in enumerate(texts)]
        fresh = [place for place, first in enumerate(equal) if first == self._size + place]
        copies = [first if first != self._size + place else None for place, first in enumerate(equal)]
        found = self._join(texts, np.array(fresh, np.int64)) if fresh else Found.joined([])
        self._size += len(texts)
        self._characters += sum(map(len, texts))
        return self._answers(len(texts), found, copies)

    def save(self, folder: Path) -> None:
        """Write the index to a folder of arrays, which `load` maps instead of reading."""
        folder.mkdir(parents=True, exist_ok=True)
        head = {
            "format": _FORMAT,
            "min_similarity": self.min_similarity,
            "weights": self.weights,
            "compiled": self._compiled,
            "size": self._size,
            "characters": self._characters,
            "segments": [segment.first for segment in self._segments],
        }
        for name, array in self._arrays():
            np.save(folder / f"{name}.npy", array)
        if self.vocabulary:
            (folder / "vocabulary.npz").write_bytes(self.vocabulary.to_bytes())
        (folder / "index.json").write_text(json.dumps(head), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> SimilarityIndex:
        """Open a saved index; its arrays stay in the files until they are used, and the files are never written to.

        Raises:
            UserError: no index there, or one of another version.
        """
        try:
            head = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"no similarity index ({error})", where=str(folder), fix="build it again") from error
        if head["format"] != _FORMAT:
            raise UserError(f"index of format {head['format']}", where=str(folder), fix="build it again")
        stored = folder / "vocabulary.npz"
        vocabulary = FrozenVocabulary.from_bytes(stored.read_bytes()) if stored.exists() else None
        backend: BackendName = "compiled" if head["compiled"] else "plain"
        index = cls(head["min_similarity"], weights=head["weights"], vocabulary=vocabulary, backend=backend)
        index._auto, index._size, index._characters = True, head["size"], head["characters"]
        index._restore(folder, head["segments"])
        return index

    def _arrays(self) -> Iterator[tuple[str, Array]]:
        for name, array in self._table.state().items():
            yield f"table-{name}", array
        yield "idf", self._idf[: len(self._table)]
        yield "numbers", self._numbers
        yield "seen-digests", np.frombuffer(b"".join(self._seen), np.uint8).reshape(-1, 16)
        yield "seen-texts", np.fromiter(self._seen.values(), np.int64, len(self._seen))
        for place, segment in enumerate(self._segments):
            for part, kind in _PARTS.items():
                for item in fields(kind):
                    yield f"segment{place}-{part}-{item.name}", getattr(getattr(segment, part), item.name)

    def _restore(self, folder: Path, firsts: list[int]) -> None:
        stored: dict[str, Array] = {
            path.stem: np.load(path, mmap_mode="c", allow_pickle=False) for path in folder.glob("*.npy")
        }
        prefix = "table-"
        self._table.restore({name.removeprefix(prefix): stored[name] for name in stored if name.startswith(prefix)})
        self._idf, self._known, self._numbers = stored["idf"], len(stored["idf"]), stored["numbers"]
        digests, texts = stored["seen-digests"], stored["seen-texts"].tolist()
        self._seen = {digest.tobytes(): text for digest, text in zip(digests, texts, strict=True)}
        for place, first in enumerate(firsts):
            parts = {
                part: kind(**{item.name: stored[f"segment{place}-{part}-{item.name}"] for item in fields(kind)})
                for part, kind in _PARTS.items()
            }
            self._segments.append(_Segment(first, **parts))

    def _join(self, texts: Sequence[str], fresh: Array) -> Found:
        """Index the fresh texts and return what is near them: left a text's number, right a place in `texts`."""
        rows = self._rows([texts[place] for place in fresh])
        parts = [self._ask(rows, segment) for segment in self._segments]
        self._segments.append(self._segment(len(self._numbers), rows))
        self._numbers = np.concatenate([self._numbers, self._size + fresh])
        parts.append(self._ask(rows, self._segments[-1], own=True))
        self._merge()
        found = Found.joined(parts)
        return Found(found.left, fresh[found.right], found.cosine)

    def _rows(self, texts: Sequence[str]) -> Rows:
        """Weigh texts with the features' fixed idf; features are kept even when no other text has them yet."""
        blocks = [texts[start : start + 1000] for start in range(0, len(texts), 1000)]
        counted = list(in_order(self._worker.workers, self._worker.count, blocks))
        if not len(self._table) and len(texts) > 1:
            self._order(counted)
        numbered = [self._numbered(block) for block in counted]
        self._learn_idf()
        parts = []
        features = features_of(np.arange(len(self._table)), self._idf[: len(self._table)])
        for block in numbered:
            size, length = len(block.bounds) - 1, len(block.features)
            out = Rows(block.bounds.copy(), np.empty(length, np.uint32), np.empty(length, np.float32), np.zeros(size))
            self._worker.weigh(block, features, len(self._table), out, 0)
            parts.append(out)
        return Rows.joined(parts)

    def _numbered(self, counted: Counted) -> Counted:
        once = np.ones(len(counted.bounds) - 1, np.int32)
        return Counted(counted.bounds, self._table.number(counted, once), counted.counts, counted.fingerprints)

    def _order(self, counted: list[Counted]) -> None:
        """Number the features of the first batch by how common they are in it."""
        for block in counted:
            self._numbered(block)
        hashes, (ranks, _) = self._table.hashes(), self._table.order()
        ordered = np.empty_like(hashes)
        ordered[ranks] = hashes
        self._table = self._worker.table()
        self._number(ordered)

    def _number(self, hashes: Array) -> None:
        """Give features their numbers in this order."""
        for place in range(0, len(hashes), 1_000_000):
            part = hashes[place : place + 1_000_000]
            one_each = np.arange(len(part) + 1, dtype=np.int64)
            self._numbered(Counted(one_each, part, np.ones(len(part), np.int32), np.empty((0, 2), np.uint64)))

    def _learn_idf(self) -> None:
        """Look up the idf of features that were not met before."""
        known, size = self._known, len(self._table)
        if size > len(self._idf):
            longer = np.ones(max(size, len(self._idf) * 3 // 2))
            longer[:known] = self._idf[:known]
            self._idf = longer
        if self.vocabulary and self.weights == "tfidf" and size > known:
            fresh = self._table.hashes()[known:size]
            self._idf[known:size] = smooth_idf(self.vocabulary.frequencies_of(fresh), self.vocabulary.texts)
        self._known = size

    def _segment(self, first: int, rows: Rows) -> _Segment:
        cuts = cuts_of(rows, self._groups(), max(self._high - MARGIN, 0.0))
        tails = self._worker.tails(rows, self._groups(), cuts, self._high)
        lists = self._worker.lists(tails, 0, len(rows), every_rank=False)
        return _Segment(first, rows, tails, lists)

    def _groups(self) -> Array:
        """Every feature is a group of its own: which features go together is not known before the texts are."""
        return np.arange(len(self._table), dtype=np.uint32)

    def _merge(self) -> None:
        """Merge the last segments as long as one is not twice as large as its successor."""
        while len(self._segments) > 1 and len(self._segments[-2].rows) < 2 * len(self._segments[-1].rows):
            last, before = self._segments.pop(), self._segments.pop()
            self._segments.append(self._segment(before.first, Rows.joined([before.rows, last.rows])))

    def _ask(self, rows: Rows, segment: _Segment, *, own: bool = False) -> Found:
        """Rows near those of a segment; with `own` the rows are the segment's, and each meets those before it."""
        tails = segment.tails if own else self._worker.tails(rows, self._groups(), segment.tails.cuts, self._high)
        size, least = len(segment.rows), self.min_similarity - 5e-7

        groups = self._groups()

        def probe(first: int) -> Found:
            last = min(first + 2048, len(rows))
            return self._worker.probe(
                rows, groups, tails, first, last, segment.lists, segment.rows, segment.tails, 0, size, own, least,
                _ALL,
            )  # fmt: skip

        found = Found.joined(list(in_order(self._worker.workers, probe, range(0, len(rows), 2048))))
        return Found(self._numbers[segment.first + found.left], found.right, found.cosine)

    def _answers(self, size: int, found: Found, copies: list[int | None]) -> list[list[Near]]:
        out: list[list[Near]] = [[] if first is None else [Near(first, 1.0)] for first in copies]
        for left, right, cosine in zip(found.left.tolist(), found.right.tolist(), found.cosine.tolist(), strict=True):
            similarity = min(round(cosine, 6), 1.0)
            if copies[right] is None or copies[right] != left:
                out[right].append(Near(left, similarity))
        for near in out:
            near.sort(key=lambda item: (-item.similarity, item.index))
        return out[:size]

    def _change_over(self, texts: Sequence[str]) -> None:
        """Go on with the compiled backend once the index has outgrown the plain one."""
        if self._compiled or not self._auto or self._characters + sum(map(len, texts)) < _COMPILE_FROM:
            return
        self._auto = False
        if not importlib.util.find_spec("numba"):
            return
        hashes, self._compiled, self._worker = self._table.hashes(), True, choose_backend("compiled", 0, self.analyzer)
        self._table = self._worker.table()
        self._number(hashes)
        self._segments = [self._segment(segment.first, segment.rows) for segment in self._segments]


_PARTS: dict[str, Any] = {"rows": Rows, "tails": Tails, "lists": Lists}


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
