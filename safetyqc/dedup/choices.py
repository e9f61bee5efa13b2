"""What a search for copies may be told, and what holds where nobody says; settings and the search read it here."""

from __future__ import annotations

from typing import Literal

On = Literal["all", "requests", "answers"]
"""Which turns are compared."""
Linkage = Literal["single", "complete"]
"""How pairs become groups."""
Analyzer = Literal["word", "char"]
"""What a text is split into; the names are those of scikit-learn's `TfidfVectorizer`."""
Weights = Literal["tfidf", "tf"]
"""Whether rare words count for more; `tf` does not depend on the rest of the corpus."""
DEFAULT_MIN_SIMILARITY = 0.75
"""Chosen from the table of planted edits in docs/dedup.md."""
AGAINST_MIN_SIMILARITY = 0.6
"""Lower than for duplicates: letting a benchmark through costs more than losing one conversation."""
