"""What does the work of a search: two backends, which is taken for how much text, and what each has to offer.

The plain one ends before the compiled one has started where texts are few; both give the same pairs. The surprising
thing: a backend is chosen by name and loaded only then, because one takes numba and the other not even a compiler.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar, cast

from safetyqc.errors import UserError, choose_from

if TYPE_CHECKING:
    from safetyqc.dedup.rows import Array, Counted, Found, Lists, Rows, Tails
    from safetyqc.dedup.tokens import Analyzer

A = TypeVar("A")
B = TypeVar("B")
BACKENDS: dict[str, tuple[str, str]] = {
    "plain": ("safetyqc.dedup.plain", "Plain"),
    "compiled": ("safetyqc.dedup.compiled", "Compiled"),
}
"""Name of each backend, and the module and class that implement `Backend`."""

BackendName = Literal["auto", "plain", "compiled"]
_PLAIN_CHARACTERS = 2_000_000  # below it the plain backend ends before the compiled one has started


class Table(Protocol):
    """Numbers features and counts in how many texts each stands."""

    def __len__(self) -> int: ...
    def number(self, counted: Counted, copies: Array) -> Array:
        """Return the number of each feature of the texts; text r counts `copies[r]` times."""

    def hashes(self) -> Array:
        """The features' hashes, by number."""

    def frequencies(self) -> Array:
        """In how many texts each feature stands, by number."""

    def find(self, hashes: Array) -> Array:
        """Return the number of each of these features; of those that it does not hold, its length."""

    def take_shared(self, other: Table) -> None:
        """Take over the features that stand in more than one text of another table, which holds none of its own."""

    def order(self) -> tuple[Array, Array]:
        """The rank of each feature, from the most common to the rarest, and the group of each rank (ascending).

        A group is a run of ranks whose features mostly stand in the same texts. Features of one text only come last;
        they need no group.
        """

    def state(self) -> dict[str, Array]:
        """The arrays that `restore` makes the table from again."""

    def restore(self, state: dict[str, Array]) -> None:
        """Take over stored arrays."""


class Backend(Protocol):
    """One way to do the work; all give the same result. `plain.py` and `compiled.py` hold the two there are."""

    workers: int
    analyzer: Analyzer

    def table(self) -> Table:
        """A fresh table of features."""

    def count(self, texts: Sequence[str]) -> Counted:
        """Tokenise texts and count their features."""

    def weigh(self, counted: Counted, features: Array, indexed: int, out: Rows, first: int) -> None:
        """Write unit rows to `out`, from row `first` on, without ranks from `indexed` on.

        `features` holds `rank` and `idf` of each feature, by number (see `features_of`).
        """

    def tails(self, rows: Rows, groups: Array, cuts: Array, high: float) -> Tails:
        """Find the indexed part of each row; `groups` names the group of each rank, `high` the norm to start from."""

    def lists(self, tails: Tails, first: int, last: int, *, every_rank: bool = True) -> Lists:
        """Index the tails of the rows first..last; without `every_rank` only ranks that have entries get a list."""

    def probe(
        self, rows: Rows, groups: Array, tails: Tails, first: int, last: int, lists: Lists, others: Rows,
        other_tails: Tails, base: int, size: int, own: bool, least: float, most: int,
    ) -> Found:  # fmt: skip
        """Find the indexed rows near each of the rows first..last."""


def would_compile(characters: float = float("inf")) -> bool:
    """Whether `auto` takes the compiled backend for so many; without a number, whether it is there at all."""
    return characters > _PLAIN_CHARACTERS and importlib.util.find_spec("numba") is not None


def characters_of(texts: Sequence[str]) -> int:
    """How long texts are together, counted as far as the choice of a backend depends on it."""
    total = 0
    for text in texts:
        total += len(text)
        if total > _PLAIN_CHARACTERS:
            break
    return total


def choose_backend(name: str, characters: int, analyzer: Analyzer = "word") -> Backend:
    """Load a backend; `auto` takes the compiled one when the texts are long enough to repay loading it."""
    if name == "auto":
        name = "compiled" if would_compile(characters) else "plain"
    if name not in BACKENDS:
        raise UserError(f"no backend {name!r}", fix=choose_from(name, ["auto", *BACKENDS]))
    module, attribute = BACKENDS[name]
    return cast("Backend", getattr(importlib.import_module(module), attribute)(analyzer))


def in_order(workers: int, function: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """Map over items in threads, yielding results in the items' order, with only a few of them waiting at a time."""
    if workers < 2:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        remaining = iter(items)
        waiting: list[Future[B]] = [pool.submit(function, item) for item in islice(remaining, 2 * workers)]
        while waiting:
            yield waiting.pop(0).result()
            waiting += [pool.submit(function, item) for item in islice(remaining, 1)]
