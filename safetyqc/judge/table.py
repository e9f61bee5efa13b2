"""Judges by name: what may stand after `-m`, and how each kind is made.

    local                       the embedded scikit-learn judge
    trained:FILE                the embedded judge with weights of one's own (`safetyqc train-judge`)
    recorded:FILE               verdicts from a file (own lines, or a .yaml map of another judge's)
    panel:A,B,C                 majority of several judges; `any-fail:` and `mean:` likewise
    anything else               the rubric judge with that model (`local:PATH.gguf` runs in-process)

A new kind is one function and one line in `JUDGES`. Cascades need labels, so they are fitted (`make_cascade`), not
made. The one surprising thing: the client is opened by the first judge that needs one, so that an embedded or recorded
judge starts without loading any model library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetyqc.errors import UserError
from safetyqc.llm.hosts import EMBEDDED, is_in_process

if TYPE_CHECKING:
    from safetyqc.judge.base import Judge
    from safetyqc.judge.cascade import CascadeJudge
    from safetyqc.llm import Client
    from safetyqc.records import Conversation, Label
    from safetyqc.rubrics import RubricSet

_LOCAL_CONVERSATION_TOKENS = 2_500
"""In-process models share a small context between several requests."""
_LOCAL_REASON_CHARS = 160
"""Small models that cannot find an end repeat themselves until they are cut off; a grammar can stop them."""


@dataclass(frozen=True)
class JudgeSettings:
    """How rubric judges ask; see RubricJudge."""

    per_criterion: bool = False
    votes: int = 1
    fallback_model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    api_base: str | None = None


@dataclass(frozen=True)
class Making:
    """What a judge may need to be made."""

    rubric_set: RubricSet
    open_client: Callable[[], Client]
    settings: JudgeSettings


def _trained(argument: str, making: Making) -> Judge:
    from safetyqc.judge.embedded.judge import LocalJudge

    return LocalJudge(making.rubric_set, argument, name=f"trained:{Path(argument).stem}")


def _recorded(argument: str, making: Making) -> Judge:
    from safetyqc.judge.recorded import RecordedJudge

    return RecordedJudge(argument, making.rubric_set)


def _panel(rule: str) -> Callable[[str, Making], Judge]:
    def make(argument: str, making: Making) -> Judge:
        from safetyqc.judge.panel import PanelJudge

        members = [_make(name, making) for name in _names(argument, ",")]
        return PanelJudge(members, making.rubric_set, rule=rule)  # type: ignore[arg-type]

    return make


def _cascade(argument: str, _: Making) -> Judge:
    fix = "give --labels FILE: a cascade chooses its thresholds on labels, and promises nothing without them"
    raise UserError(f"cascade {argument!r} has no labels", fix=fix)


JUDGES: dict[str, Callable[[str, Making], Judge]] = {
    "trained": _trained,
    "recorded": _recorded,
    "panel": _panel("majority"),
    "any-fail": _panel("any-fail"),
    "mean": _panel("mean"),
    "cascade": _cascade,
}
"""Kinds of judges by the word before the colon."""


def make_judge(
    spec: str,
    rubric_set: RubricSet,
    client: Client | Callable[[], Client],
    settings: JudgeSettings | None = None,
) -> Judge:
    """Make a judge by name.

    Args:
        client: a client, or a function that opens one; called only for judges that ask a model.

    Raises:
        UserError: a panel or recording that cannot be made, or an empty name.
    """
    return _make(spec, Making(rubric_set, client if callable(client) else lambda: client, settings or JudgeSettings()))


def _make(spec: str, making: Making) -> Judge:
    spec = spec.strip()
    if not spec:
        raise UserError("a judge without a name", fix="-m local, or -m MODEL")
    if spec == EMBEDDED:
        from safetyqc.judge.embedded.judge import LocalJudge

        return LocalJudge(making.rubric_set)
    kind, colon, argument = spec.partition(":")
    if colon and kind in JUDGES:
        return JUDGES[kind](argument, making)
    return _rubric_judge(spec, making)


def _rubric_judge(model: str, making: Making) -> Judge:
    from safetyqc.judge.rubric import CONVERSATION_TOKENS, RubricJudge

    settings = making.settings
    return RubricJudge(
        making.open_client(),
        model,
        making.rubric_set,
        per_criterion=settings.per_criterion,
        fallback_model=settings.fallback_model,
        votes=settings.votes,
        temperature=settings.temperature,
        max_tokens=settings.max_tokens,
        api_base=settings.api_base,
        max_conversation_tokens=_LOCAL_CONVERSATION_TOKENS if is_in_process(model) else CONVERSATION_TOKENS,
        # A model on the CPU reads some 60 tokens a second: the examples would double the time of every judgment
        with_examples=not is_in_process(model),
        max_reason_chars=_LOCAL_REASON_CHARS if is_in_process(model) else None,
    )


async def make_cascade(
    spec: str,
    rubric_set: RubricSet,
    client: Client | Callable[[], Client],
    settings: JudgeSettings | None,
    *,
    labelled: Iterable[Conversation],
    labels: Iterable[Label],
    min_agreement: float = 0.9,
    confidence: float = 0.95,
    people: bool = False,
) -> CascadeJudge:
    """Make and fit the cascade `cascade:A>B` (or `A>B`); judges the labelled conversations to do so.

    Raises:
        UserError: a member that cannot be made, or no label fits.
        FatalModelError: a member's calls cannot work.
    """
    from safetyqc.judge.cascade import fit_cascade

    making = Making(rubric_set, client if callable(client) else lambda: client, settings or JudgeSettings())
    judges = [_make(name, making) for name in _names(spec.removeprefix("cascade:"), ">")]
    return await fit_cascade(
        judges, labelled, labels, rubric_set, min_agreement=min_agreement, confidence=confidence, people=people
    )


def _names(text: str, separator: str) -> list[str]:
    return [name.strip() for name in text.split(separator) if name.strip()]
