"""What the map stages do to one item: frozen, picklable tasks, which any engine can run in any process.

A task holds names and settings and makes its author, judge or rules where it runs. It reads and writes no run: what
comes back is written, and what needs the whole run (copies among drafts, failures so far, what is left to do) is
decided, by `stages` and `mending`.
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from safetyqc import __version__
from safetyqc.llm.hosts import EMBEDDED, own_base
from safetyqc.pipeline.choices import author_mode, author_model, filter_settings, judge_settings
from safetyqc.records import Conversation, Judgment, Rejection, Scenario, content_hash

if TYPE_CHECKING:
    from safetyqc.config import Config
    from safetyqc.generate.author import Author, Voice
    from safetyqc.generate.rewrite import Acceptance, AnswerRewriter, Augmenter, Rewriter
    from safetyqc.generate.taxonomy import Taxonomy
    from safetyqc.judge.base import Judge
    from safetyqc.judge.wordings import Wording
    from safetyqc.pipeline.engine import Context
    from safetyqc.rubrics import RubricSet


@dataclass(frozen=True)
class Writing:
    """Scenario in, conversation out."""

    config: Config
    taxonomy: Taxonomy

    asks = True

    async def do(self, item: Scenario, context: Context) -> Conversation:
        """See Task; costs what `Author.write` costs."""
        return await context.made(self, lambda: self._author(context)).write(item)

    @property
    def model(self) -> str:
        """The model that counts as the conversations' author."""
        assistant = self.config.generate.assistant
        return assistant if assistant and author_mode(self.config) == "dialogue" else author_model(self.config)

    def _author(self, context: Context) -> Author:
        from safetyqc.generate.author import Author

        assistant = self.config.generate.assistant
        return Author(
            self.taxonomy,
            self._voice(author_model(self.config), "author", context),
            assistant=self._voice(assistant, "assistant", context) if assistant else None,
            mode=author_mode(self.config),
        )

    def _voice(self, model: str, role: str, context: Context) -> Voice:
        from safetyqc.generate.author import Voice

        settings = self.config.generate
        return Voice(
            context.client,
            model,
            temperature=settings.temperature,
            max_tokens=settings.max_tokens,
            api_base=own_base(model, self.config.base_of_role(role)),
            small=model == EMBEDDED,
        )


@dataclass(frozen=True)
class Filtering:
    """Conversation in, the rules that it breaks out."""

    config: Config

    asks = False

    async def do(self, item: Conversation, context: Context) -> tuple[Rejection, ...]:
        """See Task."""
        return self.hits(item, context)

    def version(self) -> str:
        """What the hits depend on: the settings, the patterns, and the rules themselves."""
        from safetyqc.filters import FILTERS, patterns

        section = self.config.filters
        modules = sorted({sys.modules[rule.__module__].__file__ or "" for rule in FILTERS.values()})
        files = [*modules, Path(patterns.__file__).with_name("patterns.yaml"), section.patterns or ""]
        texts = [Path(path).read_text(encoding="utf-8") for path in files if path]
        return content_hash([__version__, section.model_dump(mode="json"), list(FILTERS), texts])[:16]

    def hits(self, conversation: Conversation, context: Context) -> tuple[Rejection, ...]:
        """The rules that a conversation breaks."""
        from safetyqc.filters import apply_filters

        settings = context.made(self, lambda: filter_settings(self.config))
        return tuple(apply_filters(conversation, settings))


@dataclass(frozen=True)
class Judging:
    """Conversation in, judgment out.

    Args:
        spec: the judge, as it is typed.
        base: where its models are asked, those of hosted providers apart; None: at their providers' own.
        afresh: asked anew, for its own noise (`RubricJudge.again`).
        wording: asked in other words (`RubricJudge.reworded`).
    """

    spec: str
    rubric: RubricSet
    config: Config
    base: str | None = None
    afresh: bool = False
    wording: Wording | None = None

    @property
    def models(self) -> list[str]:
        """The models that it asks, stand-ins last."""
        from safetyqc.judge.table import asked_by

        return [asked.model for asked in asked_by(self.spec, judge_settings(self.config))]

    @property
    def asks(self) -> bool:
        """See Task."""
        return bool(self.models)

    @property
    def is_recorded(self) -> bool:
        """Whether its verdicts were given elsewhere."""
        from safetyqc.judge.table import is_recorded

        return is_recorded(self.spec)

    async def do(self, item: Conversation, context: Context) -> Judgment:
        """See Task; costs what the judge costs."""
        return await self.judge(context).judge(item)

    def judge(self, context: Context) -> Judge:
        """The judge, as it is made in this process."""
        return context.made(self, lambda: self._make(context))

    def _make(self, context: Context) -> Judge:
        from safetyqc.judge.rubric import RubricJudge
        from safetyqc.judge.table import make_judge

        judge = make_judge(self.spec, self.rubric, lambda: context.client, judge_settings(self.config, self.base))
        if not isinstance(judge, RubricJudge):
            return judge
        judge = judge.reworded(self.wording) if self.wording else judge
        return judge.again() if self.afresh else judge


@dataclass(frozen=True)
class Attempt:
    """A conversation to write anew: what its judge said of it, and how often it was tried before."""

    parent: Conversation
    judgment: Judgment
    number: int


@dataclass(frozen=True)
class Mended:
    """What an attempt gave: the rewrite, and either the rules that it breaks or judgments and the verdict on them."""

    child: Conversation
    hits: tuple[Rejection, ...] = ()
    judgments: tuple[Judgment, ...] = ()
    verdict: Acceptance | None = None


@dataclass(frozen=True)
class Mending:
    """A conversation that failed in; its rewrite, filtered and judged, out.

    Args:
        deciding: judges every rewrite.
        second: has to agree, where the deciding judge is the rewriter itself: a model likes its own text.
        again: the deciding judge asked afresh about a sample of originals and their rewrites. The originals that it
            then passes are the control group: chance alone would have "mended" as many.
        base: where the rewriter is asked.
    """

    model: str
    deciding: Judging
    filtering: Filtering
    second: Judging | None = None
    again: Judging | None = None
    base: str | None = None

    asks = True

    async def do(self, item: Attempt, context: Context) -> Mended:
        """See Task."""
        from safetyqc.generate.rewrite import accept

        rewriter = context.made(self, lambda: self._rewriter(context))
        child = await rewriter.rewrite(item.parent, item.judgment, attempt=item.number)
        if hits := self.filtering.hits(child, context):
            return Mended(child, hits)
        judgments = [await self.deciding.do(child, context)]
        verdict = accept(item.judgment, judgments[0])
        if verdict.kept and self.second is not None:
            pair = await self._both(self.second, item.parent, child, context)
            verdict = accept(*pair)
            judgments += pair
        if self.again is not None and self._is_sampled(item.parent):
            judgments += await self._both(self.again, item.parent, child, context)
        return Mended(child, (), tuple(judgments), verdict)

    def _rewriter(self, context: Context) -> Rewriter | AnswerRewriter:
        from safetyqc.generate.rewrite import AnswerRewriter, Rewriter

        if self.model == EMBEDDED:
            return AnswerRewriter(context.client, self.model)
        return Rewriter(context.client, self.model, api_base=own_base(self.model, self.base))

    async def _both(
        self, judging: Judging, parent: Conversation, child: Conversation, context: Context
    ) -> tuple[Judgment, Judgment]:
        return await judging.do(parent, context), await judging.do(child, context)

    def _is_sampled(self, parent: Conversation) -> bool:
        """Whether original and rewrite are judged afresh, kept or not, so that luck is not sold as mending."""
        return random.Random(f"control/{parent.id}").random() < self.deciding.config.rewrite.control_share


@dataclass(frozen=True)
class Wish:
    """A variant to be written: of what, and the how manieth."""

    source: Conversation
    number: int


@dataclass(frozen=True)
class Varied:
    """A variant, and the rules that it breaks."""

    variant: Conversation
    hits: tuple[Rejection, ...]


@dataclass(frozen=True)
class Varying:
    """A conversation that passed in, a variant of it out; judging it is a task of its own, once it is no copy."""

    model: str
    filtering: Filtering
    base: str | None = None

    asks = True

    async def do(self, item: Wish, context: Context) -> Varied:
        """See Task."""
        variant = await context.made(self, lambda: self._augmenter(context)).augment(item.source, item.number)
        return Varied(variant, self.filtering.hits(variant, context))

    def _augmenter(self, context: Context) -> Augmenter:
        from safetyqc.generate.rewrite import Augmenter

        return Augmenter(context.client, self.model, api_base=own_base(self.model, self.base))


def afresh(judging: Judging) -> Judging | None:
    """The same judge asked anew; None for one that answers the same every time: asking it would measure nothing."""
    return replace(judging, afresh=True) if judging.asks else None
