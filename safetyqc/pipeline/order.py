"""The order of the stages, and the loop of rewriting and judging again; the only file that knows either.

What a stage does to one record is its own business, how it runs over a run is `stages`' and `mending`'s. The one
surprising thing: a command of its own and the whole run call the same functions here, so `safetyqc run` can never do
something else than the commands it stands for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from safetyqc.errors import OutputError
from safetyqc.llm.hosts import EMBEDDED
from safetyqc.pipeline import mending, stages
from safetyqc.pipeline.choices import (
    author_mode,
    author_model,
    filter_settings,
    is_rewriter,
    judge_models,
    judge_settings,
    rewriter_model,
    second_judge,
)
from safetyqc.pipeline.duplicates import dedup_run, has_frozen_count
from safetyqc.pipeline.outputs import Exported, export_run
from safetyqc.pipeline.plan import close_top_ups, settle_plan
from safetyqc.pipeline.stages import Tally
from safetyqc.records import Conversation, conversation_id
from safetyqc.store.standing import read_standings

if TYPE_CHECKING:
    from safetyqc.config import Config
    from safetyqc.formats.readers import ReadResult
    from safetyqc.judge.attack import AttackRow
    from safetyqc.judge.base import Judge
    from safetyqc.pipeline.session import Session
    from safetyqc.rubrics import RubricSet, Trial

Tell = Callable[[Tally], None]
_EXPORTED_TO = "exported_to"
"""Where an earlier call of the whole run exported to: that file may be replaced."""


async def generate(session: Session, wanted: Mapping[str, int] | None = None) -> Tally:
    """Write what the plan still lacks.

    Args:
        wanted: further conversations by category, on top of the plan so far (see `plan.settle_plan`).
    """
    from safetyqc.generate.author import Author, Voice
    from safetyqc.generate.taxonomy import load_taxonomy

    settings = session.config.generate
    taxonomy = load_taxonomy(settings.taxonomy)
    scenarios = settle_plan(session.store, taxonomy, settings, wanted)
    model = author_model(session.config)

    def voice(name: str) -> Voice:
        return Voice(
            session.client,
            name,
            temperature=settings.temperature,
            max_tokens=settings.max_tokens,
            small=name == EMBEDDED,
        )

    author = Author(
        taxonomy,
        voice(model),
        assistant=voice(settings.assistant) if settings.assistant else None,
        mode=author_mode(session.config),
    )
    tally = await stages.write_conversations(session, scenarios, author, taxonomy, settings.redraws)
    if not tally.missing and not tally.waiting:
        close_top_ups(session.store)
    return tally


def import_conversations(session: Session, name: str, read: ReadResult) -> tuple[Tally, list[Conversation]]:
    """Add a file's conversations to the run.

    Returns:
        What was new, and the conversations in input order as the run knows them: an id that the run already uses for
        another text is made unique.
    """
    known = {c.id: c for c in session.store.conversations({c.id for c in read.conversations})}
    conversations = [_distinct(c, known) for c in read.conversations]
    added = session.store.add_conversations(conversations)
    return Tally(f"import {name}", len(conversations) - added, added), conversations


def _distinct(conversation: Conversation, known: Mapping[str, Conversation]) -> Conversation:
    other = known.get(conversation.id)
    if other is None or other.messages == conversation.messages:
        return conversation
    own = conversation_id(conversation.messages).removeprefix("c_")
    return conversation.model_copy(update={"id": f"{conversation.id}~{own}"})


def filter_conversations(session: Session) -> Tally:
    """Apply the configured cheap rules to the whole run."""
    return stages.filter_run(session, filter_settings(session.config))


def settle_rubric(session: Session) -> RubricSet:
    """Load the configured rubric, and remember with the run what decides and by which rule."""
    from safetyqc.rubrics import load_rubric_set

    rubric = load_rubric_set(session.config.judge.rubric)
    store = session.store
    criteria = [{"id": c.id, "title": c.title, "gate": c.gate} for c in rubric.criteria]
    store.set_meta("rubric", {"id": rubric.id, "hash": rubric.hash, "criteria": criteria})
    store.set_meta("bars", dict(session.config.bars))
    return rubric


async def make_judges(session: Session, rubric: RubricSet, names: Sequence[str]) -> list[Judge]:
    """Make judges by name with the configured settings; a cascade judges its labelled conversations to be made.

    Raises:
        UserError: a judge that cannot be made, such as a cascade without labels.
    """
    from safetyqc.judge.table import make_judge, prepare

    settings = judge_settings(session.config)
    judges = [make_judge(name, rubric, lambda: session.client, settings) for name in names]
    await prepare(judges)
    return judges


async def judge_all(session: Session, only: Sequence[str] | None = None) -> list[Tally]:
    """Have every configured judge score the run; the first one's verdicts decide from now on.

    Args:
        only: ids to restrict it to; None for all that no filter rejected.
    """
    rubric = settle_rubric(session)
    judges = await make_judges(session, rubric, judge_models(session.config))
    session.store.set_meta("deciding_judge", judges[0].name)
    session.store.set_meta("deciding_spec", judge_models(session.config)[0])
    planted = _plant_canaries(session) if session.config.judge.canaries else []
    only = [*only, *planted] if only is not None else None
    return [await stages.judge_run(session, judge, only) for judge in judges]


def _plant_canaries(session: Session) -> list[str]:
    """Add known good and known bad conversations; their origin keeps them out of every rate and export."""
    from safetyqc.judge.canaries import slip_in

    canaries = slip_in([], session.config.generate.seed)
    session.store.add_conversations(canaries)
    return [c.id for c in canaries]


async def mend(session: Session) -> Tally:
    """Rewrite what failed, judge it again, keep what got better; up to the configured rounds for each."""
    from safetyqc.generate.rewrite import AnswerRewriter, Rewriter

    model = rewriter_model(session.config) or author_model(session.config)
    make = AnswerRewriter if model == EMBEDDED else Rewriter
    rewriter = make(session.client, model)
    return await mending.rewrite_run(session, rewriter, await _referees(session), filter_settings(session.config))


async def augment(session: Session, wanted: Mapping[str, int]) -> Tally:
    """Write variants of kept conversations: filtered, judged, and no duplicates of what is there.

    Args:
        wanted: how many more to keep, by category.
    """
    from safetyqc.generate.rewrite import Augmenter

    augmenter = Augmenter(session.client, rewriter_model(session.config) or author_model(session.config))
    return await mending.augment_run(
        session, augmenter, await _referees(session), filter_settings(session.config), wanted
    )


async def _referees(session: Session) -> mending.Referees:
    """The deciding judge, and another one to confirm it where the deciding judge is the rewriter itself."""
    from safetyqc.judge.rubric import RubricJudge

    rubric = settle_rubric(session)
    store = session.store
    # A judge's name does not tell how to make it: `trained:PATH` is named by the file's stem, a panel by its members
    deciding = store.meta("deciding_spec") or store.meta("deciding_judge") or judge_models(session.config)[0]
    names = [deciding]
    if is_rewriter(session.config, deciding) and (second := second_judge(session.config)):
        names.append(second)
    judges = await make_judges(session, rubric, names)
    first = judges[0]
    store.set_meta("deciding_judge", first.name)
    # Other kinds of judges answer the same every time: asking them again would measure nothing
    again = first.again() if isinstance(first, RubricJudge) else None
    return mending.Referees(first, judges[1] if len(judges) > 1 else None, again)


async def attack_judges(session: Session, attacks: Sequence[str] | None = None) -> list[AttackRow]:
    """Try to talk the configured judges round with known-bad conversations; none of them joins the run."""
    from safetyqc.judge.attack import attack_judge
    from safetyqc.rubrics import load_rubric_set

    rubric = load_rubric_set(session.config.judge.rubric)
    judges = await make_judges(session, rubric, judge_models(session.config))
    return [row for judge in judges for row in await attack_judge(judge, rubric, attacks=attacks)]


def family_warnings(config: Config) -> list[str]:
    """Say which judges would judge the work of their own model family."""
    from safetyqc.judge.family import family_warning
    from safetyqc.judge.table import asked_by

    others = {"author": config.generate.model, "rewriter": rewriter_model(config)}
    asked = [a.model for judge in judge_models(config) for a in asked_by(judge, judge_settings(config))]
    found = [family_warning(model, others) for model in dict.fromkeys(asked)]
    return [warning for warning in found if warning]


async def try_rubric(session: Session) -> list[Trial]:
    """Have the configured judge score the examples that stand in the configured rubric."""
    from safetyqc.rubrics import load_rubric_set, test_rubric

    rubric = load_rubric_set(session.config.judge.rubric)
    judges = await make_judges(session, rubric, judge_models(session.config)[:1])
    return await test_rubric(judges[0], rubric.criteria)


async def run_all(
    session: Session, inputs: Sequence[tuple[str, ReadResult]], tell: Tell, *, write: bool | None = None
) -> Exported | None:
    """Do everything in order; what earlier calls have done is not done again.

    Args:
        inputs: files (name, content) to quality-control.
        tell: called with what each stage did.
        write: also generate by the plan; None for only when there are no inputs.

    Returns:
        What was exported; None when nothing is kept.

    Raises:
        OutputError: before anything is paid, when the file to export to is there and not of this run's making.
    """
    target = session.config.export.path
    is_own = target is None or session.store.meta(_EXPORTED_TO) == str(target.absolute())
    if target is not None and target.exists() and not is_own and not session.config.export.force:
        raise OutputError("is there already", where=str(target), fix="give another --export, or remove it first")
    for name, read in inputs:
        tell(import_conversations(session, name, read)[0])
    if write or (write is None and not inputs):
        tell(await generate(session))
    tell(filter_conversations(session))
    for tally in await judge_all(session):
        tell(tally)
    counted_before = has_frozen_count(session)
    tell(dedup_run(session).tally)
    if session.config.rewrite.rounds and rewriter_model(session.config):
        tell(await mend(session))
        # A rewrite may say what another conversation says; and what rewrites have in common must not count as rare
        tell(dedup_run(session, refit=not counted_before).tally)
    if not any(standing.status == "kept" for standing in read_standings(session.store).values()):
        return None
    exported = export_run(session.store, session.config, folder=session.store.folder / "export", force=is_own)
    if target is not None:
        session.store.set_meta(_EXPORTED_TO, str(target.absolute()))
    return exported
