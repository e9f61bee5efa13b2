"""Weak conversation and its Judgment in, mended conversation out; and variants of good ones.

It reads judgments, never judges: judging the result again, and deciding in which order, is the pipeline's business.
The user's first message is put back word for word after a rewrite, unless a finding is about
a user's turn, so that a rewriter cannot mend an answer by changing what was asked.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import yaml

from safetyqc.errors import ModelError, NotComparableError
from safetyqc.generate.dialogue import SCHEMA, read_messages, whole_sentences
from safetyqc.llm import Request, check_finish
from safetyqc.llm.structured import ask_json
from safetyqc.prompts import fence, number_turns, prompt_hash, render
from safetyqc.records import Conversation, Message, content_hash, conversation_id
from safetyqc.rubrics import load_rubric_set
from safetyqc.text import fold_to_ascii, guess_language, normalise, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from safetyqc.llm import Client
    from safetyqc.records import Judgment, Score
    from safetyqc.rubrics import RubricSet

_LANGUAGES = {"en": "English", "zh": "Chinese"}
_PROMPTS = {
    "rewrite": ("rewrite_system", "rewrite_rules", "rewrite_user"),
    "answer": ("author_small",),
    "augment": ("augment_system", "rewrite_rules", "augment_user"),
}


class Rewriter:
    """Mends conversations that failed.

    Args:
        rubric_set: words the findings; None for the package's.
    """

    def __init__(
        self,
        client: Client,
        model: str,
        *,
        rubric_set: RubricSet | None = None,
        temperature: float = 0.7,
        max_tokens: int = 2048,
        api_base: str | None = None,
    ) -> None:
        self.client, self.model, self.rubric_set = client, model, rubric_set or load_rubric_set()
        self._writer = _Writer(client, model, temperature, max_tokens, api_base, "rewrite")

    async def rewrite(self, conversation: Conversation, judgment: Judgment, *, attempt: int = 0) -> Conversation:
        """Write the conversation again so that what the judge found is mended; costs one call, two to mend a bad reply.

        Args:
            attempt: 0 for the first try; each further one is another call, not an answer from the ledger.

        Raises:
            ModelError: refused_by_model, filtered_by_provider, truncated, bad_json, bad_structure or provider_error.
        """
        findings = [s for s in judgment.scores if s.outcome == "fail"]
        count = len(conversation.messages)
        marker, fenced = fence(number_turns(conversation.messages, conversation.system), salt=judgment.rubric_hash)
        told = "\n".join(self._finding(score) for score in findings) or "It was found weak as a whole."
        # The judge's reasons and quotes repeat what a hostile text said, so they are fenced like the text itself
        findings_marker, findings_fenced = fence(told, salt=f"findings {judgment.rubric_hash}")
        system = render("rewrite_system", count=count, **_voice(conversation))
        user = render(
            "rewrite_user",
            marker=marker,
            fenced=fenced,
            findings_marker=findings_marker,
            findings=findings_fenced,
            count=count,
        )
        is_user_flawed = any(s.turn is not None and s.turn % 2 == 0 for s in findings)

        def check(messages: tuple[Message, ...]) -> tuple[Message, ...]:
            if not is_user_flawed:
                messages = (conversation.messages[0], *messages[1:])
            if _answers(messages) == _answers(conversation.messages):
                raise ValueError("the assistant's messages are unchanged; the findings are not mended")
            return messages

        messages = await self._writer.write(system, user, conversation, attempt, check)
        return _child(
            conversation, messages, self.model, "rewrite", attempt, {"findings": [s.criterion for s in findings]}
        )

    def _finding(self, score: Score) -> str:
        criterion = next((c for c in self.rubric_set.criteria if c.id == score.criterion), None)
        asked = f"- {score.criterion}" + (f" ({criterion.question})" if criterion else "")
        level = criterion.level(score.level) if criterion and score.level else None
        parts = [f"{asked}: failed" + (f", because: {level.meaning}" if level else "")]
        if score.reason:
            parts.append(f"  The judge says: {_one_line(score.reason)}")
        if score.quote:
            parts.append(f"  About turn [{score.turn}]: {_one_line(score.quote)}")
        return "\n".join(parts)


class AnswerRewriter:
    """Mends conversations with a model too small to write one as JSON: the user's turns stay, each is answered anew.

    The judge's findings do not reach the model, which could not follow them; what the answer has to be like is said in
    a few plain sentences by intent. An endless answer is cut after a whole sentence, and `meta["cut_short"]` says so.
    """

    def __init__(self, client: Client, model: str, *, temperature: float = 0.7, max_tokens: int = 160) -> None:
        self.client, self.model, self.temperature, self.max_tokens = client, model, temperature, max_tokens

    async def rewrite(self, conversation: Conversation, judgment: Judgment, *, attempt: int = 0) -> Conversation:
        """Answer every user turn anew; costs a call a turn. `attempt` and errors are those of `Rewriter.rewrite`."""
        voice = _voice(conversation)
        intent = conversation.intent or judgment.intent or "harmful"
        prompt = render("author_small", intent=intent, language_title=voice["language"])
        prompt = f"{conversation.system}\n\n{prompt}" if conversation.system else prompt
        messages: tuple[Message, ...] = ()
        cut_short: list[int] = []
        for question in conversation.user_turns:
            messages += (Message(role="user", content=question),)
            text, is_cut = await self._answer(prompt, messages, attempt)
            cut_short += [len(messages)] if is_cut else []
            answer = Message(role="assistant", content=text)
            messages += (_folded(answer) if voice["ascii"] else answer,)
        meta = {"findings": [s.criterion for s in judgment.scores if s.outcome == "fail"]}
        return _child(
            conversation,
            messages,
            self.model,
            "answer",
            attempt,
            meta | ({"cut_short": cut_short} if cut_short else {}),
        )

    async def _answer(self, prompt: str, messages: tuple[Message, ...], attempt: int) -> tuple[str, bool]:
        turns = [{"role": m.role, "content": m.content} for m in messages]
        request = Request(
            model=self.model,
            messages=({"role": "system", "content": prompt}, *turns),
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            seed=attempt,
            repeat=attempt,
            stage="rewrite",
        )
        reply = await self.client.complete(request)
        text = printable(reply.text).strip()
        is_cut = reply.finish_reason == "length" and bool(text := whole_sentences(text))
        if not is_cut:
            check_finish(reply)
        if not text:
            raise ModelError("bad_structure", f"messages[{len(messages)}] has no text")
        return text, is_cut


@dataclass(frozen=True)
class Acceptance:
    """Whether a rewrite is better than what it came from, by two judgments of one judge."""

    kept: bool
    reason: str
    mended: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()


def accept(before: Judgment, after: Judgment) -> Acceptance:
    """Keep a rewrite only if a failed criterion passes now, and nothing that did not fail fails or is unscored now.

    Raises:
        NotComparableError: the judgments are of different judges or rubrics.
    """
    if (before.judge, before.rubric_hash) != (after.judge, after.rubric_hash):
        what = f"{before.judge} by rubric {before.rubric_hash} against {after.judge} by rubric {after.rubric_hash}"
        raise NotComparableError(what, fix="judge the rewrite with the judge and rubric that judged its parent")
    pairs = [(old, after.score(old.criterion)) for old in before.scores]
    mended = tuple(old.criterion for old, new in pairs if old.outcome == "fail" and new and new.outcome == "pass")
    broken = tuple(old.criterion for old, new in pairs if _is_broken(old, new))
    if broken:
        told = ", ".join(f"{name} ({_said(after.score(name))})" for name in broken)
        return Acceptance(False, f"no longer good: {told}", mended, broken)
    if not mended:
        return Acceptance(False, "no failed criterion passes now")
    return Acceptance(True, f"mended: {', '.join(mended)}", mended)


def _is_broken(old: Score, new: Score | None) -> bool:
    """A criterion that starts to apply and fails is broken too; one that no longer applies is not."""
    now = new.outcome if new else "unscored"
    return (old.outcome == "pass" and now in ("fail", "unscored")) or (old.outcome == "na" and now == "fail")


def _said(score: Score | None) -> str:
    return score.outcome if score else "not judged"


class Augmenter:
    """Writes variants of good conversations in other tones, scenes and wordings (`prompts/augment_variations.yaml`)."""

    def __init__(
        self,
        client: Client,
        model: str,
        *,
        temperature: float = 0.9,
        max_tokens: int = 2048,
        api_base: str | None = None,
    ) -> None:
        self.client, self.model = client, model
        self._writer = _Writer(client, model, temperature, max_tokens, api_base, "augment")

    async def augment(self, conversation: Conversation, variant: int) -> Conversation:
        """Write one variant; the same conversation and number draw the same tone, scene and wording.

        Costs one call, two to mend a bad reply. The variant keeps category, intent and language, and is to be
        filtered, judged and compared with what is there like any other conversation.

        Raises:
            ModelError: refused_by_model, filtered_by_provider, truncated, bad_json, bad_structure or provider_error.
        """
        drawn = draw_variation(conversation.id, variant)
        count = len(conversation.messages)
        marker, fenced = fence(number_turns(conversation.messages, conversation.system), salt="augment")
        system = render("augment_system", count=count, **drawn, **_voice(conversation))
        user = render("augment_user", marker=marker, fenced=fenced, count=count)
        known = {normalise(m.content) for m in conversation.messages}

        def check(messages: tuple[Message, ...]) -> tuple[Message, ...]:
            copied = [i for i, m in enumerate(messages) if normalise(m.content) in known]
            if copied:
                raise ValueError(f"messages[{copied[0]}] is a copy; write other sentences")
            return messages

        messages = await self._writer.write(system, user, conversation, variant, check)
        return _child(conversation, messages, self.model, "augment", variant, {"variation": drawn})


def draw_variation(conversation_id: str, variant: int) -> dict[str, str]:
    """Draw tone, scene and wording from (conversation, number) alone."""
    rng = random.Random(f"{conversation_id}/{variant}")
    return {name: rng.choice(choices) for name, choices in _variations().items()}


@cache
def _variations() -> dict[str, list[str]]:
    from importlib.resources import files

    loaded: dict[str, list[str]] = yaml.safe_load(
        (files("safetyqc.prompts") / "augment_variations.yaml").read_text(encoding="utf-8")
    )
    return loaded


@dataclass(frozen=True)
class _Writer:
    """Asks a model for a conversation of a given length."""

    client: Client
    model: str
    temperature: float
    max_tokens: int
    api_base: str | None
    stage: str

    async def write(
        self,
        system: str,
        user: str,
        parent: Conversation,
        repeat: int,
        check: Callable[[tuple[Message, ...]], tuple[Message, ...]],
    ) -> tuple[Message, ...]:
        request = Request(
            model=self.model,
            messages=({"role": "system", "content": system}, {"role": "user", "content": user}),
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            schema=SCHEMA,
            api_base=self.api_base,
            repeat=repeat,
            stage=self.stage,
        )
        is_ascii = _is_ascii(parent)

        def parse(value: dict[str, Any]) -> tuple[Message, ...]:
            messages = read_messages(value)
            if len(messages) != len(parent.messages):
                raise ValueError(f"{len(messages)} messages where {len(parent.messages)} were asked for")
            return check(tuple(_folded(m) for m in messages) if is_ascii else messages)

        return (await ask_json(self.client, request, parse)).value


def _child(
    parent: Conversation, messages: tuple[Message, ...], model: str, stage: str, number: int, meta: dict[str, Any]
) -> Conversation:
    is_rewrite = stage != "augment"
    return Conversation(
        id=conversation_id(messages, salt=f"{parent.id}/{stage}/{number}", system=parent.system),
        messages=messages,
        system=parent.system,
        category=parent.category,
        intent=parent.intent,
        language=parent.language,
        origin="rewritten" if is_rewrite else "augmented",
        author=model,
        scenario=parent.scenario,
        parent_id=parent.id,
        revision=parent.revision + 1 if is_rewrite else 0,
        meta={"prompt_hash": content_hash([prompt_hash(name) for name in _PROMPTS[stage]])[:16], **meta},
    )


def _voice(conversation: Conversation) -> dict[str, Any]:
    """Intent, language and character set that the new text has to keep."""
    language = conversation.language or guess_language(" ".join(m.content for m in conversation.messages))
    return {
        "intent": conversation.intent,
        "language": _LANGUAGES.get(language, "the language of the conversation"),
        "ascii": _is_ascii(conversation),
    }


def _is_ascii(conversation: Conversation) -> bool:
    return all(m.content.isascii() for m in conversation.messages)


def _folded(message: Message) -> Message:
    return Message(role=message.role, content=fold_to_ascii(message.content) or message.content)


def _answers(messages: Iterable[Message] | Sequence[Message]) -> list[str]:
    return [normalise(m.content) for m in messages if m.role == "assistant"]


def _one_line(text: str) -> str:
    return " ".join(text.split())
