"""Prompts that somebody brought -> answers in a run: `safetyqc generate --prompts FILE`.

What a file or a known benchmark says of its prompts (intent, category, language) goes along; nothing is guessed. A
prompt that this model has answered in the run is not asked again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetyqc.errors import InputError, ModelError
from safetyqc.generate.answering import Answerer, Prompted
from safetyqc.llm.hosts import EMBEDDED, own_base
from safetyqc.pipeline.choices import author_model
from safetyqc.pipeline.roles import author_roles
from safetyqc.pipeline.stages import Tally
from safetyqc.records import Conversation, Failure, Intent, Message, Source

if TYPE_CHECKING:
    from safetyqc.config import Config
    from safetyqc.formats.references import Reference
    from safetyqc.pipeline.engine import Context
    from safetyqc.pipeline.session import Session

_INTENTS: dict[str, Intent] = {"harmful": "harmful", "benign": "benign", "distress": "distress", "ordinary": "benign"}


def read_prompts(paths: Iterable[str | Path]) -> list[Prompted]:
    """Read files of prompts alone, or of conversations, whose last answers are then left out; each prompt once.

    What was said before a request, and its system message, go along.

    Raises:
        InputError: a file cannot be read, holds no prompt, or several requests in a row, which no model can answer.
    """
    from safetyqc.formats.references import read_requests
    from safetyqc.probe.prompts import fields_of, prompt_of

    found: dict[str, Prompted] = {}
    for path in paths:
        for index, (prompt, reference) in enumerate(prompt_of(read_requests(path))):
            told = fields_of(reference)
            category, language = (str(told[key]) if told.get(key) else None for key in ("category", "language"))
            if prompt:
                category, language = prompt.category, prompt.language
            made = _prompted(reference, index, (category, language, _INTENTS.get(prompt.kind) if prompt else None))
            found.setdefault(made.id, made)
    if not found:
        raise InputError("holds no prompt", path=str(next(iter(paths), "")), fix="give a file with one prompt a record")
    return list(found.values())


def _prompted(reference: Reference, index: int, facts: tuple[str | None, str | None, Intent | None]) -> Prompted:
    source = Source(path=reference.path, line=reference.line, index=index)
    category, language, intent = facts
    content = reference.content
    if reference.later:
        what = f"holds {len(reference.later) + 1} requests of one conversation and no answer between them"
        fix = "give the first alone, or messages with the answers before the last request"
        raise InputError(what, path=reference.path, line=reference.line, fix=fix)
    if isinstance(content, Conversation):
        last = content.intent or intent
        told = (content.category or category, last, content.language or language)
        asked = content.messages if content.messages[-1].role == "user" else content.messages[:-1]
        return Prompted(asked, content.system, *told, source)
    return Prompted((Message(role="user", content=content),), None, category, intent, language, source)


@dataclass(frozen=True)
class Answering:
    """Prompt in, conversation out."""

    config: Config

    asks = True

    async def do(self, item: Prompted, context: Context) -> Conversation:
        """See Task; costs one call."""
        return await context.made(self, lambda: self._answerer(context)).answer(item)

    def _answerer(self, context: Context) -> Answerer:
        from safetyqc.generate.author import Voice

        settings, model = self.config.generate, author_model(self.config)
        base = own_base(model, self.config.base_of_role("author"))
        voice = Voice(context.client, model, settings.temperature, settings.max_tokens, base, model == EMBEDDED)
        return Answerer(voice)


async def answer_prompts(session: Session, prompts: Sequence[Prompted]) -> Tally:
    """Have every prompt answered that the author has not answered in this run."""
    config, store = session.config, session.store
    store.set_roles(author_roles(config))
    model = author_model(config)
    done = {c.meta.get("prompt") for c in store.conversations() if c.origin == "generated" and c.author == model}
    todo = [prompt for prompt in prompts if prompt.id not in done]
    kinds: Counter[str] = Counter()
    written, already = 0, len(prompts) - len(todo)
    async for prompt, outcome in session.mapper.in_order("generate", todo, Answering(config), already=already):
        if isinstance(outcome, ModelError):
            kinds[outcome.kind] += 1
            store.add_failures([_failure(prompt, outcome, model)]).result()
        else:
            written += store.add_conversations([outcome])
    return Tally("generate", already, written, kinds, waiting=session.mapper.deferred)


def _failure(prompt: Prompted, error: ModelError, model: str) -> Failure:
    told = {"kind": error.kind, "reason": error.reason, "category": prompt.category, "model": model}
    return Failure.model_validate({"stage": "generate", "record_id": prompt.id, **told})
