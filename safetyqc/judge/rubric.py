"""The rubric judge: asks a model about a conversation, by a rubric set, and turns what it says into a Judgment.

One call a conversation (or one a criterion); one re-ask when an answer cannot be used; then a fallback model; then
unscored, with the typed reason. The tool, not the model, decides what does not apply. When
an answer is good for some criteria and not for others, the good scores are kept and only the rest is asked again
of the fallback.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from safetyqc.errors import Deferred, FatalModelError, ModelError
from safetyqc.judge.answer import Problem, Reading, read_answer
from safetyqc.judge.base import give_judgment
from safetyqc.judge.question import Fact, Question, cut_with_system
from safetyqc.judge.votes import merge_votes, sum_usage, total
from safetyqc.judge.wordings import SHIPPED, Wording
from safetyqc.llm import Request
from safetyqc.llm.hosts import base_of, display_name, own_base
from safetyqc.llm.structured import Unusable, ask_json
from safetyqc.records import AGAIN, Judgment, Score

if TYPE_CHECKING:
    from safetyqc.llm import Client, Reply
    from safetyqc.records import Conversation, Intent
    from safetyqc.rubrics import Criterion, RubricSet

TOKENS_PER_CRITERION = 200
"""Room for one criterion's reason, quote and level; an answer that is cut off is asked again with twice as much."""
CONVERSATION_TOKENS = 12_000
"""Longer conversations are cut; a conversation of training data hardly ever is."""
_AFRESH = 1_000
"""Votes from this number on are never asked for otherwise."""
VOTING_TEMPERATURE = 0.7
"""Votes at temperature 0 would all be the same vote."""
_FACTS: tuple[Fact, ...] = ("category", "intent")


class RubricJudge:
    """Scores conversations by a rubric set with one model.

    Args:
        name: what its judgments call it; None: the model, and who answers where that is not its provider.
        per_criterion: one call a criterion (and one to classify, where that is needed) instead of one for all.
        fallback_model: asked about the criteria that the first model gave no usable score for.
        votes: how often each conversation is judged; the majority counts, a tie is unscored.
        temperature: None means 0 for a single vote and 0.7 for several.
        max_tokens: room for an answer; None for 200 a criterion.
        max_conversation_tokens: longer conversations are cut in the middle of their longest turns, and say so.
        max_reason_chars: put into the schema where a grammar enforces it; keeps weak models from rambling.
        with_examples: show one example a level.
        first_vote: number of the first vote; votes of other numbers are other calls, not answers from the ledger.
    """

    def __init__(
        self,
        client: Client,
        model: str,
        rubric_set: RubricSet,
        *,
        name: str | None = None,
        per_criterion: bool = False,
        fallback_model: str | None = None,
        votes: int = 1,
        temperature: float | None = None,
        api_base: str | None = None,
        max_tokens: int | None = None,
        max_conversation_tokens: int = CONVERSATION_TOKENS,
        max_reason_chars: int | None = None,
        with_examples: bool = True,
        first_vote: int = 0,
    ) -> None:
        self.client, self.model, self.rubric_set = client, model, rubric_set
        self.name = name or display_name(model, base_of(model, api_base))
        self.rubric_hash, self.version = rubric_set.hash, SHIPPED.hash
        self.wording = SHIPPED
        self.per_criterion, self.fallback_model, self.votes = per_criterion, fallback_model, max(votes, 1)
        self.temperature = temperature if temperature is not None else VOTING_TEMPERATURE if self.votes > 1 else 0.0
        self.api_base, self.max_tokens = api_base, max_tokens
        self.max_conversation_tokens, self.max_reason_chars = max_conversation_tokens, max_reason_chars
        self.with_examples = with_examples
        self.first_vote = first_vote

    def again(self) -> RubricJudge:
        """The same judge asked afresh: what it now says differently is its own noise."""
        twin = copy(self)
        twin.name, twin.first_vote = self.name + AGAIN, self.first_vote + _AFRESH
        return twin

    def reworded(self, wording: Wording) -> RubricJudge:
        """The same judge asked in other words, or in another order."""
        twin = copy(self)
        twin.wording, twin.version = wording, wording.hash
        return twin

    async def judge(self, conversation: Conversation) -> Judgment:
        """Score one conversation, `votes` times; a vote costs one call, and more for answers that cannot be used.

        Raises:
            FatalModelError: every further call would fail the same way.
        """
        return await self.judge_only(conversation, None)

    async def judge_only(self, conversation: Conversation, only: Collection[str] | None) -> Judgment:
        """Do what `judge` does for the criteria of these ids alone (None: all); the Judgment holds no others."""
        judgments: list[Judgment] = []
        known = conversation
        deferred: Deferred | None = None
        for vote in range(self.first_vote, self.first_vote + self.votes):
            case = _Case(known, vote)
            try:
                await self._hear(case, only)
            except Deferred as error:
                if None in (known.category, known.intent):
                    raise  # the votes after one that classifies depend on what it says
                deferred = error
                continue
            judgments.append(self._judgment(case, conversation, only))
            known = case.conversation  # the first vote that classifies does so for all
        if deferred is not None:
            raise deferred
        return judgments[0] if self.votes == 1 else merge_votes(judgments, self.rubric_set)

    async def _hear(self, case: _Case, only: Collection[str] | None) -> None:
        system, shown, case.left_out_chars = cut_with_system(case.conversation, self.max_conversation_tokens)
        asked = tuple(c for c in self._applicable(case) if only is None or c.id in only)
        question = Question(
            self.rubric_set,
            asked[::-1] if self.wording.reverse == "questions" else asked,
            case.conversation,
            tuple(fact for fact in _FACTS if getattr(case.conversation, fact) is None),
            shown,
            self.with_examples,
            self.max_reason_chars,
            self.wording,
            system,
        )
        await self._ask(case, question, self.model)
        if self.fallback_model and case.problems and case.deferred is None:
            case.fallback_for = {name: problem.kind for name, problem in case.problems.items()}
            await self._ask(case, self._still_open(case, question), self.fallback_model)
        if case.deferred is not None:
            raise case.deferred

    def _applicable(self, case: _Case) -> tuple[Criterion, ...]:
        return self.rubric_set.applicable(case.conversation.category, case.conversation.intent)

    def _still_open(self, case: _Case, question: Question) -> Question:
        """The question without what is answered, or was found not to apply, by now."""
        applicable = self._applicable(case)
        return replace(
            question,
            conversation=case.conversation,
            criteria=tuple(c for c in question.criteria if c.id not in case.scores and c in applicable),
            classify=tuple(fact for fact in question.classify if getattr(case.conversation, fact) is None),
        )

    async def _ask(self, case: _Case, question: Question, model: str) -> None:
        """Ask in one call, or in one a criterion, and gather what comes back."""
        if not self.per_criterion:
            await self._call(case, question, model)
            return
        await self._call(case, replace(question, criteria=()), model)
        for criterion in self._still_open(case, question).criteria:
            await self._call(case, replace(self._still_open(case, question), criteria=(criterion,), classify=()), model)

    async def _call(self, case: _Case, question: Question, model: str) -> None:
        if not question.criteria and not question.classify:
            return
        reader = _Reader(question)
        request = Request(
            model=model,
            messages=question.messages(),
            temperature=self.temperature,
            max_tokens=self.max_tokens or TOKENS_PER_CRITERION * (len(question.criteria) + 1),
            # Another vote has to be another request to the server too, or its cache would answer
            seed=case.vote if self.votes > 1 or self.first_vote else None,
            schema=question.schema,
            format="json_schema",
            api_base=self.api_base if model == self.model else own_base(model, self.api_base),
            repeat=case.vote,
            stage="judge",
        )
        try:
            answered = await ask_json(self.client, request, reader)
            case.gather(answered.value, answered.replies)
        except Deferred as error:
            if question.classify:
                raise  # what is asked next depends on what the conversation is about
            case.deferred = error
        except FatalModelError:
            raise
        except ModelError as error:
            case.gather(reader.best_after(error), error.replies if isinstance(error, Unusable) else ())

    def _judgment(self, case: _Case, original: Conversation, only: Collection[str] | None) -> Judgment:
        told = case.conversation
        scores = tuple(self._score(case, c) for c in self.rubric_set.criteria if only is None or c.id in only)
        return give_judgment(
            self.name,
            self.rubric_set,
            original.id,
            scores,
            category=told.category,
            intent=told.intent,
            classified=(told.category, told.intent) != (original.category, original.intent),
            prompt_hash=self.version,
            model=self.model,
            settings=self._settings(case),
            reply="\n".join(reply.text for reply in case.replies) if case.replies else None,
            usage=sum_usage([reply.usage for reply in case.replies]),
            cost_usd=total([reply.cost_usd for reply in case.replies]),
            latency_s=sum(reply.latency_s for reply in case.replies),
        )

    def _score(self, case: _Case, criterion: Criterion) -> Score:
        told = case.conversation
        if criterion.applicability(told.category, told.intent) == "never":
            return _not_applicable(criterion.id, told.intent)
        if score := case.scores.get(criterion.id):
            return score if score.outcome == "fail" or not case.left_out_chars else _not_shown(score, case)
        problem = case.problems.get(criterion.id) or case.unclassified()
        return Score(criterion=criterion.id, outcome="unscored", reason=problem.reason, unscored_reason=problem.kind)

    def _settings(self, case: _Case) -> dict[str, Any]:
        settings: dict[str, Any] = {"temperature": self.temperature, "votes": self.votes}
        if self.per_criterion:
            settings["per_criterion"] = True
        if case.left_out_chars:
            settings["left_out_chars"] = case.left_out_chars
        if case.fallback_for:
            settings["fallback"] = {"model": self.fallback_model, "because": case.fallback_for}
        return settings


def _not_shown(score: Score, case: _Case) -> Score:
    """What was found is found; that nothing was found says nothing about what the judge was not shown."""
    reason = f"{case.left_out_chars:,} characters were too many to be shown; in the rest: {score.reason}"
    return Score(criterion=score.criterion, outcome="unscored", reason=reason, unscored_reason="not_shown")


@lru_cache(maxsize=256)
def _not_applicable(criterion: str, intent: Intent | None) -> Score:
    """The same for all conversations of an intent, so it is made once."""
    return Score(criterion=criterion, outcome="na", reason=f"does not apply to {intent} conversations")


@dataclass
class _Case:
    """What is known about one conversation in one vote."""

    conversation: Conversation
    vote: int
    scores: dict[str, Score] = field(default_factory=dict)
    problems: dict[str, Problem] = field(default_factory=dict)
    replies: list[Reply] = field(default_factory=list)
    fallback_for: Mapping[str, str] = field(default_factory=dict)
    left_out_chars: int = 0
    deferred: Deferred | None = None
    """A call whose answer comes with a batch; the case's other calls are asked all the same, to go with it."""

    def gather(self, reading: Reading, replies: Sequence[Reply]) -> None:
        """Add what one call gave; a fact that is known already stays as it is."""
        self.replies.extend(replies)
        self.scores.update(reading.scores)
        self.problems = {
            name: problem for name, problem in {**self.problems, **reading.problems}.items() if name not in self.scores
        }
        said = {"category": reading.category, "intent": reading.intent}
        facts = {fact: value for fact, value in said.items() if value and getattr(self.conversation, fact) is None}
        if facts:
            self.conversation = self.conversation.model_copy(update=facts)

    def unclassified(self) -> Problem:
        """Why a criterion was never asked: the call that should have said category and intent failed."""
        first = next(iter(self.problems.values()), None)
        return first or Problem("bad_json", "the judge did not say what the conversation is about")


class _Reader:
    """Reads answers for `ask_json`: the first one with a problem is sent back, the next is taken as it is."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.best: Reading | None = None

    def __call__(self, answer: dict[str, Any]) -> Reading:
        reading = read_answer(answer, self.question)
        is_first, before = self.best is None, self.best
        self.best = reading if before is None else reading.or_else(before)
        if is_first:
            reading.raise_first()
        return self.best

    def best_after(self, error: ModelError) -> Reading:
        """What can be used although the call failed; all criteria without a score carry the error's kind."""
        best = self.best or Reading()
        problem = Problem(error.kind, error.reason)
        missing = {c.id: problem for c in self.question.criteria if c.id not in best.scores}
        return replace(best, problems={**missing, **best.problems})
