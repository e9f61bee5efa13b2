"""A prompt that somebody brought -> a conversation whose last answer a model wrote.

What comes before the last request stays as it is, a system message of the prompt's own included. An answer comes back
whole or not at all; what goes wrong is a ModelError of a typed kind.
"""

from __future__ import annotations

from dataclasses import dataclass

from safetyqc.errors import ModelError
from safetyqc.generate.author import STAGE, Voice, keep_refusal
from safetyqc.generate.dialogue import whole_sentences
from safetyqc.generate.entries import Language
from safetyqc.generate.turns import clean, why_not_an_answer
from safetyqc.llm.client import Request, check_finish
from safetyqc.prompts import prompt_hash, render
from safetyqc.records import Conversation, Intent, Message, Source, content_hash, conversation_id, stable_id
from safetyqc.text import guess_language

_NAMES = {"en": "English", "zh": "Chinese"}
_SMALL_TOKENS = 220
"""Room for a small model's answer, which may be a loop."""
_ANY = Language(name="en", title="any")
"""An answer is packaged alike in every language."""
_PROMPTS = {True: ("author_small",), False: ("author_answer", "rewrite_rules")}


@dataclass(frozen=True)
class Prompted:
    """Messages that end with a request, and what their file says of them."""

    messages: tuple[Message, ...]
    system: str | None = None
    category: str | None = None
    intent: Intent | None = None
    language: str | None = None
    source: Source | None = None

    @property
    def id(self) -> str:
        """Of what is asked, wherever it stands: the same prompt of two files is answered once."""
        return stable_id("q", [self.system, *(m.content for m in self.messages)])


class Answerer:
    """Answers prompts with one model."""

    def __init__(self, voice: Voice) -> None:
        self.voice = voice

    async def answer(self, prompt: Prompted) -> Conversation:
        """Write the answer; costs one call.

        Raises:
            ModelError: filtered_by_provider, truncated, bad_structure or provider_error. Declining is an answer.
        """
        code = prompt.language or guess_language(" ".join(m.content for m in prompt.messages))
        text, is_cut = await self._ask(prompt, code)
        messages = (*prompt.messages, Message(role="assistant", content=text))
        hashes = [prompt_hash(name) for name in _PROMPTS[self.voice.small]]
        meta = {"mode": "answer", "prompt": prompt.id, "prompt_hash": content_hash(hashes)[:16]}
        return Conversation(
            id=conversation_id(messages, salt=f"{prompt.id}/{self.voice.model}", system=prompt.system),
            messages=messages,
            system=prompt.system,
            category=prompt.category,
            intent=prompt.intent,
            language=code,
            origin="generated",
            author=self.voice.model,
            source=prompt.source,
            meta={**meta, **({"cut_short": [len(prompt.messages)]} if is_cut else {})},
        )

    async def _ask(self, prompt: Prompted, code: str) -> tuple[str, bool]:
        """The answer, and whether it was cut after a whole sentence."""
        told = self._instructions(prompt, _NAMES.get(code, "the language of the conversation"))
        turns = [{"role": m.role, "content": m.content} for m in prompt.messages]
        most = self.voice.max_tokens
        request = Request(
            model=self.voice.model,
            messages=({"role": "system", "content": told}, *turns),
            temperature=self.voice.temperature,
            max_tokens=min(_SMALL_TOKENS, most) if self.voice.small else most,
            seed=int(content_hash(prompt.id)[:7], 16),
            api_base=self.voice.api_base,
            stage=STAGE,
        )
        reply = keep_refusal(await self.voice.client.complete(request))
        text = clean(reply.text, "assistant", _ANY)
        is_cut = self.voice.small and reply.finish_reason == "length" and bool(text := whole_sentences(text))
        if not is_cut:
            check_finish(reply)
        if why := why_not_an_answer(text, told):
            raise ModelError("bad_structure", f"the answer cannot be used: {why}")
        return text, is_cut

    def _instructions(self, prompt: Prompted, language: str) -> str:
        if self.voice.small:
            told = render("author_small", intent=prompt.intent or "harmful", language_title=language)
        else:
            told = render("author_answer", intent=prompt.intent, language=language, ascii=False)
        return f"{prompt.system}\n\n{told}" if prompt.system else told
