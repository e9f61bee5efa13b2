"""Writes the conversation of a scenario with a model: in one piece, or turn by turn with a model on each side.

A conversation comes back whole or not at all: what goes wrong is a ModelError of a typed kind, and trying again with
other openers is the caller's business. It judges nothing. In a dialogue an unusable user turn is
replaced by an opener or a follow-up of the taxonomy, and `meta["stand_ins"]` says where and why; with a small model the
taxonomy speaks for the user throughout, and `meta["user_model"]` is None.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, get_args

from safetyqc.errors import ConfigError, ModelError, choose_from
from safetyqc.generate.dialogue import SCHEMA, whole_sentences
from safetyqc.generate.entries import Language
from safetyqc.generate.taxonomy import Taxonomy
from safetyqc.generate.turns import clean, read_conversation, why_not_a_user_turn, why_not_an_answer
from safetyqc.llm.client import Client, Reply, Request, check_finish
from safetyqc.llm.structured import ask_json
from safetyqc.prompts import fence, number_turns, prompt_hash, render
from safetyqc.records import Conversation, Message, Scenario, content_hash, conversation_id

Mode = Literal["oneshot", "dialogue"]

STAGE = "generate"

_PROMPTS = {
    "oneshot": ("author_oneshot", "author_rules"),
    "dialogue": ("author_assistant", "author_rules", "author_small", "author_user", "author_next"),
}
_SMALL_TURN_TOKENS = 220
"""Room for a small model's turn: enough for the sentences it is asked for, and an early end to a loop."""


@dataclass(frozen=True)
class Voice:
    """A model that writes, and with which settings.

    Args:
        max_tokens: for a whole conversation in one piece, or for one turn of a dialogue, thinking included.
        small: a model of well under a billion parameters, which cannot play a user, keep many rules in mind or stop.
            In a dialogue it answers under a few plain sentences; an answer that runs on is cut after a whole sentence
            and named in `meta["cut_short"]`; the user's side is read from the taxonomy.
    """

    client: Client
    model: str
    temperature: float = 0.9
    max_tokens: int = 2048
    api_base: str | None = None
    small: bool = False


class Author:
    """Writes conversations.

    Args:
        voice: writes the whole conversation, or the user's side of a dialogue.
        assistant: answers in a dialogue; None for the same voice.

    Raises:
        ConfigError: an unknown mode.
    """

    def __init__(
        self, taxonomy: Taxonomy, voice: Voice, *, assistant: Voice | None = None, mode: Mode = "oneshot"
    ) -> None:
        if mode not in get_args(Mode):
            raise ConfigError(f"unknown mode {mode!r}", where="mode", fix=choose_from(mode, get_args(Mode)))
        self.taxonomy, self.voice, self.assistant, self.mode = taxonomy, voice, assistant or voice, mode

    @property
    def model(self) -> str:
        """The model that counts as the conversations' author: in a dialogue the one that answers."""
        return self.voice.model if self.mode == "oneshot" else self.assistant.model

    def calls(self, scenario: Scenario) -> int:
        """Model calls that a scenario costs when every answer is usable."""
        return 1 if self.mode == "oneshot" else scenario.turns * (1 if self.voice.small else 2)

    async def write(self, scenario: Scenario) -> Conversation:
        """Write one conversation; costs `calls`, in one piece up to three times that for mending.

        Raises:
            ModelError: refused_by_model, filtered_by_provider, truncated, bad_json, bad_structure or provider_error.
        """
        meta: dict[str, Any] = {"mode": self.mode, "prompt_hash": _prompts_hash(self.mode)}
        if self.mode == "oneshot":
            messages = await self._write_whole(scenario)
        else:
            messages, notes = await self._write_by_turns(scenario)
            meta |= {"user_model": None if self.voice.small else self.voice.model}
            meta |= {name: places for name, places in notes.items() if places}
        return Conversation(
            id=conversation_id(messages, salt=scenario.id),
            messages=messages,
            category=scenario.category,
            intent=scenario.intent,
            language=scenario.language,
            origin="generated",
            author=self.model,
            scenario=scenario,
            meta=meta,
        )

    async def _write_whole(self, scenario: Scenario) -> tuple[Message, ...]:
        language = self.taxonomy.language(scenario.language)
        prompt = render("author_oneshot", **self._values(scenario))
        request = self._request(self.voice, scenario, 0, {"role": "user", "content": prompt})
        answered = await ask_json(
            self.voice.client, replace(request, schema=SCHEMA), lambda value: read_conversation(value, language, prompt)
        )
        return answered.value

    async def _write_by_turns(self, scenario: Scenario) -> tuple[tuple[Message, ...], dict[str, list[Any]]]:
        language = self.taxonomy.language(scenario.language)
        messages: tuple[Message, ...] = ()
        notes: dict[str, list[Any]] = {"stand_ins": [], "cut_short": []}
        for _ in range(scenario.turns):
            text, why = await self._user_turn(scenario, messages, language)
            if why:
                notes["stand_ins"].append({"turn": len(messages), "reason": why})
            messages += (Message(role="user", content=text),)
            text, cut = await self._answer(scenario, messages, language)
            if cut:
                notes["cut_short"].append(len(messages))
            messages += (Message(role="assistant", content=text),)
        return messages, notes

    async def _user_turn(
        self, scenario: Scenario, messages: tuple[Message, ...], language: Language
    ) -> tuple[str, str | None]:
        """The user's next message, and why a stand-in took the author's place, if one did."""
        if self.voice.small:
            return self._stand_in(scenario, messages), None
        values = self._values(scenario)
        transcript = fence(number_turns(messages), salt=scenario.id)[1] if messages else ""
        number = len(messages) // 2 + 1
        step = values["steps"][number - 1] if values["steps"] else ""
        ask = render("author_next", transcript=transcript, number=number, turns=scenario.turns, step=step)
        request = self._request(
            self.voice,
            scenario,
            len(messages),
            {"role": "system", "content": render("author_user", **values)},
            {"role": "user", "content": ask},
        )
        try:
            text = clean(check_finish(await self.voice.client.complete(request)).text, "user", language)
        except ModelError as error:
            if error.kind == "provider_error":
                raise
            return self._stand_in(scenario, messages), f"{error.kind}: {error.reason}"
        why = why_not_a_user_turn(text, messages, language)
        return (self._stand_in(scenario, messages) if why else text), why

    def _stand_in(self, scenario: Scenario, messages: tuple[Message, ...]) -> str:
        """Choose what the taxonomy has for this place and the conversation has not used: an opener or a follow-up."""
        follow_ups = self.taxonomy.follow_ups.get(scenario.language, {}).get(scenario.intent, ())
        used = {message.content for message in messages}
        pool = [text for text in (follow_ups if messages else scenario.openers[:1]) if text not in used]
        pool = pool or [text for text in scenario.openers if text not in used]
        if not pool:
            raise ModelError("bad_structure", "the author wrote no usable user turn, and the taxonomy has no stand-in")
        return random.Random(f"{scenario.id}/{len(messages)}").choice(pool)

    async def _answer(self, scenario: Scenario, messages: tuple[Message, ...], language: Language) -> tuple[str, bool]:
        """The assistant's next message, and whether it was cut short."""
        name = "author_small" if self.assistant.small else "author_assistant"
        prompt = render(name, **self._values(scenario))
        turns = [{"role": message.role, "content": message.content} for message in messages]
        request = self._request(self.assistant, scenario, len(messages), {"role": "system", "content": prompt}, *turns)
        if self.assistant.small:
            request = replace(request, max_tokens=min(_SMALL_TURN_TOKENS, request.max_tokens))
        reply = keep_refusal(await self.assistant.client.complete(request))
        text = clean(reply.text, "assistant", language)
        cut = self.assistant.small and reply.finish_reason == "length" and bool(text := whole_sentences(text))
        if not cut:
            check_finish(reply)
        if why := why_not_an_answer(text, prompt):
            raise ModelError("bad_structure", f"messages[{len(messages)}]: {why}")
        return text, cut

    def _values(self, scenario: Scenario) -> dict[str, Any]:
        """What the prompts may name."""
        language = self.taxonomy.language(scenario.language)
        category, style = self.taxonomy.category(scenario.category), self.taxonomy.style(scenario.style)
        suits = scenario.intent in style.intents or not scenario.pair
        return {
            "category": category,
            "topic": next((topic.title for topic in category.topics if topic.name == scenario.topic), ""),
            "traits": scenario.traits,
            "answer": self.taxonomy.answer(scenario.answer).instruction if scenario.answer else "",
            "steps": _steps_by_turn(style.steps, scenario.turns) if scenario.intent in style.intents else [],
            "is_twin": bool(scenario.pair),
            "avoid": scenario.avoid,
            "intent": scenario.intent,
            "openers": scenario.openers,
            "turns": scenario.turns,
            "persona": scenario.persona,
            "style_instruction": style.instruction
            if suits
            else style.look_alike or self.taxonomy.styles[0].instruction,
            "language_title": language.title,
            "ascii": language.ascii,
        }

    def _request(self, voice: Voice, scenario: Scenario, turn: int, *messages: dict[str, str]) -> Request:
        # The seed comes from the scenario: two scenarios with the same opener must not share one paid answer
        seed = int(content_hash([scenario.id, turn])[:7], 16)
        return Request(
            model=voice.model,
            messages=messages,
            temperature=voice.temperature,
            max_tokens=voice.max_tokens,
            seed=seed,
            api_base=voice.api_base,
            stage=STAGE,
        )


def _steps_by_turn(steps: Sequence[str], turns: int) -> list[str]:
    """The step of every user message: the first one's is the first, the last one's the last."""
    if not steps or turns < 2:
        return []
    return [steps[round(turn * (len(steps) - 1) / (turns - 1))] for turn in range(turns)]


def keep_refusal(reply: Reply) -> Reply:
    """In the assistant's seat the API's refusal field is an answer like any other: declining is the job."""
    return replace(reply, text=reply.refusal, refusal=None) if reply.refusal and not reply.text else reply


@cache
def _prompts_hash(mode: Mode) -> str:
    return content_hash([prompt_hash(name) for name in _PROMPTS[mode]])[:16]
