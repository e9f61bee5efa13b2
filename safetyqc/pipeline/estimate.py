"""Says what a run will take before anything is paid: calls, tokens and, where prices are known, money.

Counts what is still missing, so a resumed run is estimated by what is left. Tokens are estimates from text lengths;
an unknown price is said to be unknown. How many conversations will need a rewrite is not
known before anybody judged, so that line says "at most" and is left out of the sum.

What a judge is asked is worded as the rubric judge would word it, so any rubric is estimated by its own length; with
one call a criterion the number of calls depends on what a conversation is about, as not every criterion applies to it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from safetyqc.config import DEFAULT_COUNT
from safetyqc.judge.canaries import slip_in
from safetyqc.judge.kinds import AskedModel, CallsEach
from safetyqc.judge.table import asked_by, judge_name
from safetyqc.llm.hosts import is_in_process, is_nanochat
from safetyqc.llm.prices import CallsEstimate, count_messages
from safetyqc.pipeline.choices import (
    author_mode,
    author_model,
    judge_models,
    judge_settings,
    places_of,
    price_table,
    rewriter_model,
)
from safetyqc.pipeline.plan import PLAN, as_planned, deal_of
from safetyqc.pipeline.roles import place_of
from safetyqc.pipeline.stages import eligible
from safetyqc.records import PASSES_LATER, Conversation, Intent, Message
from safetyqc.rubrics import load_rubric_set
from safetyqc.store.roles import read_cast
from safetyqc.text import counted

if TYPE_CHECKING:
    from safetyqc.config import Config
    from safetyqc.formats.readers import ReadResult
    from safetyqc.judge.question import Fact
    from safetyqc.pipeline.session import Session
    from safetyqc.rubrics import RubricSet

_EXCHANGE_TOKENS = 150
"""A request and its answer, where none is written yet to be measured."""
_EXCHANGES = 2.2
"""Mean exchanges of a conversation by the bundled taxonomy's weights."""
_PROMPT_TOKENS = {"oneshot": 900, "turn": 600, "rewrite": 900}
_ANSWER_TOKENS = 30
_ANSWER_TOKENS_PER_CRITERION = 100
"""A reason, a quote and a level."""
_SAMPLE = 100
"""Conversations that stand for all where it matters what they are about."""


@dataclass(frozen=True)
class StageEstimate:
    """One stage: how many conversations it still has to ask about, whom, and what that takes."""

    stage: str
    model: str
    left: int
    already: int
    estimate: CallsEstimate
    at_most: bool = False


def estimate_run(session: Session, inputs: Sequence[ReadResult] = (), *, decide: bool = False) -> list[StageEstimate]:
    """Estimate every stage of a whole run that asks a model; asks none itself.

    Args:
        inputs: files to quality-control; none when conversations are to be generated.
        decide: the first configured judge decides from now on, so who decided is not asked too.
    """
    store = session.store
    config = as_planned(store, session.config)
    texts = [c.as_messages() for r in inputs for c in r.conversations]
    size = sum(map(count_messages, texts)) // len(texts) if texts else round(_EXCHANGES * _EXCHANGE_TOKENS)
    planned = (store.meta(PLAN) or {}).get("count", 0)  # a plan only grows: a smaller -n still finishes all of it
    count = len(texts) or max(config.generate.count or 0, planned, _kept(config)) or DEFAULT_COUNT
    lines = []
    if not inputs:
        written = min(len(store.written_scenarios()), count)
        lines.append(_writing(config, count - written, written, size))
    held = eligible(store)
    new = {c.id for r in inputs for c in r.conversations} - store.conversation_ids()
    count = len(held) + (len(new) if inputs else max(count - len(store.written_scenarios()), 0))
    if config.judge.canaries and not any(place.origin == "canary" for place in store.placed()):
        count += len(slip_in([], config.generate.seed))
    kinds = _kinds(config, inputs, count, store.meta(PLAN))
    rubric = load_rubric_set(config.judge.rubric)
    for name, spec in _judges(session, rubric, decide=decide).items():
        found = store.judged(name, rubric.hash)
        judged = sum(key in held and PASSES_LATER.isdisjoint(one.unscored) for key, one in found.items())
        lines += _judging(config, spec, kinds, count - judged, judged, size)
    rewriter, limit = rewriter_model(config), config.rewrite.limit
    most = count * config.rewrite.rounds if limit is None else min(count * config.rewrite.rounds, limit)
    if most and rewriter:
        lines.append(_line(config, "rewrite", rewriter, most, 0, size, size, at_most=True))
        # An original and its rewrite are judged afresh in a share of the attempts
        afresh = 1 + 2 * config.rewrite.control_share
        again = _judging(config, judge_models(config)[0], kinds, round(most * afresh), 0, size)
        lines += [replace(line, stage="judge again", at_most=True) for line in again if line.estimate.calls]
    return lines


def check_keys(session: Session, lines: Iterable[StageEstimate]) -> None:
    """Find out that a key is missing before the stage that comes first is paid for, not when its model is reached.

    Raises:
        FatalModelError: a model has calls to come at its provider's own URL, and no key.
    """
    places = places_of(session.config)
    asked = dict.fromkeys(line.model for line in lines if line.estimate.calls and not line.at_most)
    hosted = [
        model
        for model in asked
        if not (is_in_process(model) or is_nanochat(model) or places.base(model) or places.headers(model))
    ]
    if hosted and session.client_override is None and session.batch_folder is None:
        from safetyqc.llm.litellm_client import refuse_missing_key

        for model in hosted:
            refuse_missing_key(model)


def _kept(config: Config) -> int:
    """How many conversations `--kept` takes at least: each may be drawn again."""
    from safetyqc.generate.taxonomy import load_taxonomy
    from safetyqc.pipeline.plan import kept_counts

    settings = config.generate
    return sum(kept_counts(load_taxonomy(settings.taxonomy), settings).values()) if settings.kept else 0


def _judges(session: Session, rubric: RubricSet, *, decide: bool) -> dict[str, str]:
    """Who is asked, by name: the configured judges, and before them who goes on deciding in this run."""
    config = session.config
    asked = [(spec, config.base_of_role("decider")) for spec in judge_models(config)]
    known = read_cast(session.store).roles.get("decider")
    if known and not decide:
        asked.insert(0, (known.model, place_of(known, config)))
    return {judge_name(spec, rubric, judge_settings(config, base)): spec for spec, base in asked}


def estimate_judging(
    config: Config, spec: str, conversations: Sequence[Conversation], parts: Sequence[tuple[str, int, bool]]
) -> list[StageEstimate]:
    """Estimate judgments of conversations like these by one judge, for several purposes.

    Args:
        parts: what for, how many judgments, and whether that is the most there can be.
    """
    kinds = [Kind(c.category, c.intent) for c in conversations][:_SAMPLE]
    size = sum(count_messages(c.as_messages()) for c in conversations) // max(len(conversations), 1)
    return [
        replace(line, stage=stage, at_most=line.at_most or at_most)
        for stage, count, at_most in parts
        for line in _judging(config, spec, kinds, count, 0, size)
        if count
    ]


def _kinds(config: Config, inputs: Sequence[ReadResult], count: int, before: Mapping[str, Any] | None) -> list[Kind]:
    """What the conversations are about, which decides what a judge is asked: of the files, or as planned."""
    from safetyqc.generate.scenarios import plan
    from safetyqc.generate.taxonomy import load_taxonomy

    if inputs:
        return [Kind(c.category, c.intent) for r in inputs for c in r.conversations][:_SAMPLE]
    settings = config.generate
    planned = plan(load_taxonomy(settings.taxonomy), min(count, _SAMPLE), settings.seed, deal_of(before, settings))
    return [Kind(s.category, s.intent) for s in planned]


def _judging(
    config: Config, spec: str, kinds: Sequence[Kind], left: int, already: int, size: int
) -> list[StageEstimate]:
    """A line for each model that a judge asks; one for a judge that asks none."""
    question = question_of(config, kinds)
    question = replace(question, calls=question.calls * config.judge.votes)
    asked = asked_by(spec, judge_settings(config))
    lines = [_asking(config, each, each.calls or question, left, already, size) for each in asked]
    return lines or [StageEstimate("judge", spec, left, already, CallsEstimate())]


def _asking(config: Config, asked: AskedModel, each: CallsEach, left: int, already: int, size: int) -> StageEstimate:
    calls = round(left * each.calls) + (asked.first_calls if left else 0)
    expected = _estimate(config, asked.model, calls, each.prompt_tokens + size, each.answer_tokens)
    return StageEstimate("judge", asked.model, left, already, expected, asked.at_most)


def _writing(config: Config, left: int, already: int, size: int) -> StageEstimate:
    model = author_model(config)
    if author_mode(config) == "oneshot":
        return _line(config, "generate", model, left, already, 0, size, prompt="oneshot")
    calls = round(2 * _EXCHANGES)
    expected = _estimate(config, model, left * calls, _PROMPT_TOKENS["turn"] + size // 2, size // calls)
    return StageEstimate("generate", model, left, already, expected)


def _line(
    config: Config,
    stage: str,
    model: str,
    left: int,
    already: int,
    shown: int,
    written: int,
    *,
    prompt: str = "",
    at_most: bool = False,
) -> StageEstimate:
    """Estimate one call a conversation that shows the model `shown` tokens and has it write `written`."""
    expected = _estimate(config, model, left, _PROMPT_TOKENS[prompt or stage] + shown, written)
    return StageEstimate(stage, model, left, already, expected, at_most)


def _estimate(config: Config, model: str, calls: int, prompt_tokens: int, completion_tokens: int) -> CallsEstimate:
    base = places_of(config).base(model)
    return price_table(config).estimate(
        model, calls=calls, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, api_base=base
    )


def render_estimate(lines: Sequence[StageEstimate]) -> str:
    """Word an estimate as a small table in plain text."""
    rows = [_row(line) for line in lines]
    total = _sum([line.estimate for line in lines if not line.at_most])
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    table = [
        "  " + "  ".join((row[0].ljust(widths[0]), row[1].ljust(widths[1]), row[2].rjust(widths[2]), row[3]))
        for row in rows
    ]
    more = "; what is done at most comes on top" if any(line.at_most and line.left for line in lines) else ""
    return "\n".join(["Estimate before anything is asked:", *table, f"  in all: {_money(total)}{more}"])


def _row(line: StageEstimate) -> tuple[str, str, str, str]:
    told = f"{line.left:,} to do" + (
        f", {line.already:,} of {line.left + line.already:,} already done" if line.already else ""
    )
    return (line.stage, line.model, ("at most " if line.at_most else "") + told, _money(line.estimate))


def _money(estimate: CallsEstimate) -> str:
    if not estimate.calls:
        return "no calls"
    tokens = f"{counted(estimate.calls, 'call')}, about {estimate.prompt_tokens + estimate.completion_tokens:,} tokens"
    if estimate.cost_usd is None:
        return f"{tokens}, price unknown for {', '.join(estimate.unpriced)}"
    return f"{tokens}, " + ("free" if estimate.cost_usd == 0 else f"about ${estimate.cost_usd:.2f}")


def _sum(estimates: Sequence[CallsEstimate]) -> CallsEstimate:
    return sum(estimates, start=CallsEstimate())


# ---- what a judge is asked, worded as the rubric judge words it -----------------------------------------------------


class Kind(NamedTuple):
    """What a conversation is about; None where the judge has to say it."""

    category: str | None
    intent: Intent | None


def question_of(config: Config, kinds: Sequence[Kind]) -> CallsEach:
    """The mean over conversations of these kinds; at least one call each."""
    calls = [call for kind in kinds for call in _calls(config.judge.rubric, kind, config.judge.per_criterion)]
    if not calls:
        return CallsEach(1, 0, 0)
    prompts, answers = zip(*calls, strict=True)
    return CallsEach(len(calls) / len(kinds), round(sum(prompts) / len(calls)), round(sum(answers) / len(calls)))


_loaded = cache(load_rubric_set)
"""An estimate words a question for every kind of conversation; the files do not change meanwhile."""


@cache
def _calls(rubric_name: str, kind: Kind, per_criterion: bool) -> list[tuple[int, int]]:
    """(prompt tokens without the conversation, answer tokens) of every call about such a conversation."""
    rubric = _loaded(rubric_name)
    criteria = tuple(c.id for c in rubric.applicable(kind.category, kind.intent))
    facts: tuple[Fact, ...] = tuple(fact for fact in ("category", "intent") if getattr(kind, fact) is None)
    if not per_criterion:
        return [_call(rubric_name, kind, criteria, facts)] if criteria or facts else []
    classifying = [_call(rubric_name, kind, (), facts)] if facts else []
    return classifying + [_call(rubric_name, kind, (name,), ()) for name in criteria]


@cache
def _call(rubric_name: str, kind: Kind, criteria: tuple[str, ...], facts: tuple[Fact, ...]) -> tuple[int, int]:
    from safetyqc.judge.question import Question

    rubric = _loaded(rubric_name)
    messages = (Message(role="user", content="?"), Message(role="assistant", content="."))
    conversation = Conversation(
        id="any", messages=messages, origin="imported", category=kind.category, intent=kind.intent
    )
    question = Question(rubric, tuple(rubric.criterion(name) for name in criteria), conversation, facts, messages)
    prompt = count_messages(question.messages()) + len(json.dumps(question.schema)) // 4
    return prompt, _ANSWER_TOKENS + _ANSWER_TOKENS_PER_CRITERION * len(criteria)
