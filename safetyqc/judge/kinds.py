"""What a kind of judge declares, once for everything that has to know it: making, pricing, checking, estimating.

A new kind is a file with a `JudgeKind` and a line in `JUDGES` (table.py); `guards/kind.py` is one. Price, budget,
`--dry-run`, family warnings, `--workers auto` and the nesting in panels and cascades follow from `asks`; a call that is
not the rubric's question says its size in `AskedModel.calls`. A judge that has to ask something before its first
conversation is `Preparing` (base.py). Importing such a file must load nothing heavy: the judge itself is imported in
`make`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safetyqc.llm.hosts import base_of, display_name, own_base

if TYPE_CHECKING:
    from safetyqc.judge.base import Judge
    from safetyqc.judge.cascade import CascadeLabels
    from safetyqc.llm import Client
    from safetyqc.rubrics import RubricSet


@dataclass(frozen=True)
class JudgeSettings:
    """How judges ask: see RubricJudge.

    Args:
        base_for: where a model is asked in the end; None: at `api_base`, or where the environment says.
        read_labels: gives what a cascade chooses its thresholds on.
    """

    per_criterion: bool = False
    votes: int = 1
    fallback_model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    api_base: str | None = None
    base_for: Callable[[str], str | None] | None = None
    read_labels: Callable[[], CascadeLabels] | None = None

    def name_of(self, model: str) -> str:
        """What a judge that asks this model is called: the model and, where that is not its provider, who answers."""
        if self.base_for is not None:
            return display_name(model, self.base_for(model))
        return display_name(model, base_of(model, own_base(model, self.api_base)))


@dataclass(frozen=True)
class Making:
    """What a judge may need to be made; the client is opened by the first judge that calls for it."""

    rubric_set: RubricSet
    open_client: Callable[[], Client]
    settings: JudgeSettings


@dataclass(frozen=True)
class CallsEach:
    """What a model is asked of one conversation: mean calls, and mean tokens of one call (without the conversation)."""

    calls: float
    prompt_tokens: int
    answer_tokens: int


@dataclass(frozen=True)
class AskedModel:
    """A model that a judge asks.

    Args:
        at_most: about a part of the conversations, which nobody knows before.
        stands_in: asked only where another gave nothing usable.
        calls: what it is asked of one conversation; None for the rubric's question, as often as there are votes.
        first_calls: calls before the first conversation, such as probes; the ledger answers them the next time.
    """

    model: str
    at_most: bool = False
    stands_in: bool = False
    calls: CallsEach | None = None
    first_calls: int = 0


def _asks_none(_: str, __: JudgeSettings) -> Sequence[AskedModel]:
    return ()


def _scores_all_criteria(_: str, __: RubricSet) -> frozenset[str]:
    return frozenset()


@dataclass(frozen=True)
class JudgeKind:
    """One kind of judge; every function gets what stands behind the colon, and asks nobody.

    Args:
        form: how it is typed, for help and errors, such as `panel:A,B`.
        says: what it is, in a few words.
        make: the judge. Raises UserError for what can never work, such as a file that is not there.
        asks: the models that it asks, those of its members included; none needs no price, no key and no client.
        never_scores: ids of the rubric's criteria that it gives no verdict on (they are left open, never `na`).
        name: what its judgments call it; None: as the judge that `make` gives is called.
        is_recorded: its verdicts were given elsewhere, so that they decide nothing unless that is asked for.
    """

    form: str
    says: str
    make: Callable[[str, Making], Judge]
    asks: Callable[[str, JudgeSettings], Sequence[AskedModel]] = _asks_none
    never_scores: Callable[[str, RubricSet], frozenset[str]] = _scores_all_criteria
    name: Callable[[str, RubricSet, JudgeSettings], str] | None = None
    is_recorded: bool = False
