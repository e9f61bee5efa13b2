"""The order of the stages, and the loop of rewriting and judging again; the only file that knows either.

What a stage does to one record is its task's business, how it runs over a run is `stages`' and `mending`'s. A command
of its own and the whole run call the same functions here, so `safetyqc run` can never do something else than the
commands it stands for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from safetyqc.errors import BudgetReached, OutputError
from safetyqc.pipeline import mending, stages
from safetyqc.pipeline.choices import (
    author_model,
    is_rewriter,
    judge_models,
    rewriter_model,
    second_judge,
)
from safetyqc.pipeline.duplicates import dedup_run, has_frozen_count
from safetyqc.pipeline.importing import import_conversations
from safetyqc.pipeline.keeping import look
from safetyqc.pipeline.known import Known
from safetyqc.pipeline.outputs import EXPORT_FORMAT, Exported, export_run
from safetyqc.pipeline.plan import as_planned, close_top_ups, names_worn, settle_kept, settle_plan, taxonomy_of
from safetyqc.pipeline.roles import author_roles, decider_role, place_of, rewriter_roles
from safetyqc.pipeline.stages import Tally
from safetyqc.pipeline.tasks import Filtering, Judging, Mending, Varying, Writing, afresh
from safetyqc.pipeline.waves import Waves
from safetyqc.store.roles import read_cast
from safetyqc.store.standing import deciding_judge, read_standings

if TYPE_CHECKING:
    from pathlib import Path

    from safetyqc.formats.readers import ReadResult
    from safetyqc.judge.attack import AttackRow
    from safetyqc.pipeline.session import Session
    from safetyqc.records import Scenario
    from safetyqc.rubrics import RubricSet, Trial
    from safetyqc.store import Store

Tell = Callable[[Tally], None]
_EXPORTED_TO = "exported_to"
"""Where an earlier call of the whole run exported to: that file may be replaced."""


async def generate(session: Session, wanted: Mapping[str, int] | None = None) -> Tally:
    """Write what the plan still lacks.

    Args:
        wanted: further conversations by category, on top of the plan so far (see `plan.settle_plan`).
    """
    store = session.store
    config = as_planned(store, session.config)
    taxonomy = taxonomy_of(store, config.generate)
    scenarios = settle_plan(store, taxonomy, config.generate, wanted)
    task = Writing(config, taxonomy)
    todo = stages.unwritten(store, task, scenarios)
    tally = await _write(session, task, todo, already=len(scenarios) - len(todo), redraws=config.generate.redraws)
    if not tally.missing and not tally.waiting:
        close_top_ups(store)
    return tally


async def _write(session: Session, task: Writing, todo: Sequence[Scenario], *, already: int, redraws: int = 0) -> Tally:
    config, store = session.config, session.store
    store.set_roles(author_roles(config))
    known = Known(config, store.conversations())
    waves = Waves(store, config.models.concurrency) if names_worn(store, config) else None
    return await stages.write_conversations(
        store, session.mapper, todo, task, known, waves=waves, already=already, redraws=redraws
    )


async def filter_conversations(session: Session) -> Tally:
    """Apply the configured cheap rules to the whole run."""
    return await stages.filter_run(session.store, session.mapper, Filtering(session.config))


def settle_rubric(session: Session) -> RubricSet:
    """Load the configured rubric, and remember with the run what decides and by which rule."""
    from safetyqc.rubrics import load_rubric_set

    rubric = load_rubric_set(session.config.judge.rubric)
    store = session.store
    criteria = [{"id": c.id, "title": c.title, "gate": c.gate} for c in rubric.criteria]
    store.set_meta("rubric", {"id": rubric.id, "hash": rubric.hash, "criteria": criteria})
    store.set_meta("bars", session.config.model_dump(mode="json", include={"bars"}, exclude_none=True)["bars"])
    return rubric


async def make_judges(
    session: Session, rubric: RubricSet, names: Sequence[str], base: str | None = None
) -> list[Judging]:
    """Make judges by name with the configured settings; a cascade judges its labelled conversations first.

    Args:
        base: where their models are asked; None for where nothing says otherwise.

    Raises:
        UserError: a judge that cannot be made, such as a cascade without labels.
    """
    from safetyqc.judge.table import prepare

    tasks = [Judging(name, rubric, session.config, base) for name in names]
    await prepare(task.judge(session.mapper.context) for task in tasks)
    return tasks


async def judge_all(
    session: Session, only: Sequence[str] | None = None, *, decide: bool = False, with_decider: bool = False
) -> list[Tally]:
    """Have every configured judge score the run. The run's first judge decides, and goes on to, until told otherwise.

    Args:
        only: ids to restrict it to; None for all that no filter rejected.
        decide: the first configured judge decides from now on.
        with_decider: the judge that goes on deciding is asked too, where it is none of those configured.
    """
    from safetyqc.judge.table import never_scored

    rubric, store, mapper = settle_rubric(session), session.store, session.mapper
    base = session.config.base_of_role("decider")
    judges = await make_judges(session, rubric, judge_models(session.config), base)
    if with_decider and not decide and (deciding := await _own_decider(session, rubric)):
        known = {judge.judge(mapper.context).name for judge in judges}
        judges = judges if deciding.judge(mapper.context).name in known else [deciding, *judges]
    before = deciding_judge(store)
    settle_decider(session, judges, decide=decide)
    planted = _plant_canaries(session) if session.config.judge.canaries else []
    only = [*only, *planted] if only is not None else None
    silent = [never_scored(judge.spec, rubric) for judge in judges]
    retry = session.config.judge.retry_unscored
    fresh = session.config.models.fresh and not retry
    tallies = [await stages.judge_run(store, mapper, judge, only=only, fresh=fresh, retry=retry) for judge in judges]
    names = [judge.judge(mapper.context).name for judge in judges]
    if told := _who_decides(store, before[0] if before else None, names):
        tallies[0] = replace(tallies[0], told=(*tallies[0].told, told))
    tallies = await _with_frozen(session, judges, tallies)
    if len(names) > 1:  # else nobody could tell whose line is whose
        tallies = [replace(tally, stage=f"judge {name}") for tally, name in zip(tallies, names, strict=True)]
    return [_with_never_scored(t, n, s, rubric) for t, n, s in zip(tallies, names, silent, strict=True)]


async def _with_frozen(session: Session, judges: Sequence[Judging], tallies: list[Tally]) -> list[Tally]:
    """Have the deciding judge judge the frozen set too, where there is one."""
    from safetyqc.pipeline.frozen import judge_frozen

    decider = deciding_judge(session.store)
    if session.config.frozen.file is None or decider is None:
        return tallies
    context = session.mapper.context
    return [
        replace(t, told=(*t.told, await judge_frozen(session, judge))) if judge.judge(context).name == decider[0] else t
        for t, judge in zip(tallies, judges, strict=True)
    ]


async def named_judge(session: Session) -> str | None:
    """The first configured judge, as its verdicts name it; None where it has given none."""
    rubric, base = settle_rubric(session), session.config.base_of_role("decider")
    [first] = await make_judges(session, rubric, judge_models(session.config)[:1], base)
    name = first.judge(session.mapper.context).name
    return name if any(used == name for used, _, _ in session.store.judges()) else None


def settle_decider(session: Session, judges: Sequence[Judging], *, decide: bool = False) -> None:
    """Remember who decides: with `decide` the first of these, else the first that gives verdicts of its own, where
    nobody decides yet. Verdicts that were recorded elsewhere decide only where that is asked for."""
    store = session.store
    own = [judge for judge in judges if decide or not judge.is_recorded]
    if own and (decide or store.meta("deciding_judge") is None):
        store.set_meta("deciding_judge", own[0].judge(session.mapper.context).name)
        store.set_meta("deciding_spec", own[0].spec)
        store.set_roles(decider_role(own[0].spec, own[0].config, own[0].base))


def _who_decides(store: Store, before: str | None, names: Sequence[str]) -> str | None:
    """Say what a change of the deciding judge changed, or what another judge would keep; None when neither is so."""
    now = deciding_judge(store)
    if before is None or now is None:
        return None
    if now[0] != before:
        total = sum(place.origin != "canary" for place in store.placed())
        kept, was_kept = _kept(store, now[0]), _kept(store, before)
        return f"{now[0]} decides now: {kept:,} of {total:,} are kept; by {before}, before: {was_kept:,}"
    if now[0] in names:
        return None
    judged = {name for name, _, _ in store.judges()}
    rival = next((name for name in names if name in judged), None)
    would = f"; by {rival}: {_kept(store, rival):,} (--decide has {names[0]} decide)" if rival else ""
    return f"{now[0]} still decides: {_kept(store, now[0]):,} are kept{would}"


def _kept(store: Store, judge: str) -> int:
    return sum(standing.status == "kept" for standing in read_standings(store, judge).values())


def _with_never_scored(tally: Tally, judge: str, silent: Collection[str], rubric: RubricSet) -> Tally:
    """Say what a judge never scores, which no number of its verdicts shows."""
    names = ", ".join(c.id for c in rubric.criteria if c.id in silent)
    if not names or not (tally.done or tally.waiting):
        return tally
    told = f"{judge} cannot judge {names}: left open, in no rate, and never counted as passed"
    return replace(tally, told=(*tally.told, told))


def _plant_canaries(session: Session) -> list[str]:
    """Add known good and known bad conversations; their origin keeps them out of every rate and export."""
    from safetyqc.judge.canaries import slip_in

    canaries = slip_in([], session.config.generate.seed)
    session.store.add_conversations(canaries)
    return [c.id for c in canaries]


async def mend(session: Session) -> Tally:
    """Rewrite what failed, judge it again, keep what got better; up to the configured rounds for each."""
    config = session.config
    deciding, second = await _referees(session)
    model = rewriter_model(config) or author_model(config)
    session.store.set_roles(rewriter_roles(config))
    base = config.base_of_role("rewriter")
    task = Mending(model, deciding, Filtering(config), second, afresh(deciding), base)
    return await mending.rewrite_run(session.store, session.mapper, task, config.rewrite)


async def augment(session: Session, wanted: Mapping[str, int]) -> Tally:
    """Write variants of kept conversations: filtered, judged, and no duplicates of what is there.

    Args:
        wanted: how many more to keep, by category.
    """
    config, store = session.config, session.store
    store.set_roles(rewriter_roles(config))
    base = config.base_of_role("rewriter")
    task = Varying(rewriter_model(config) or author_model(config), Filtering(config), base)
    deciding, _ = await _referees(session)
    known = Known(config, store.conversations())
    return await mending.augment_run(store, session.mapper, task, deciding, wanted, known)


async def _own_decider(session: Session, rubric: RubricSet) -> Judging | None:
    """The judge that decides in this run, asked where it was; None while there is none.

    A judge's name does not tell how to make it: `trained:PATH` is named by the file's stem, a panel by its members.
    """
    known = read_cast(session.store).roles.get("decider")
    if known is None:
        return None
    [made] = await make_judges(session, rubric, [known.model], place_of(known, session.config))
    return made


async def _referees(session: Session) -> tuple[Judging, Judging | None]:
    """The deciding judge, and another one to confirm it where the deciding judge is the rewriter itself."""
    config, rubric = session.config, settle_rubric(session)
    deciding = await _own_decider(session, rubric)
    if deciding is None:
        [deciding] = await make_judges(session, rubric, judge_models(config)[:1], config.base_of_role("decider"))
    settle_decider(session, [deciding])
    if is_rewriter(config, deciding.spec) and (second := second_judge(config)):
        return deciding, (await make_judges(session, rubric, [second], config.models.api_base))[0]
    return deciding, None


async def attack_judges(session: Session, attacks: Sequence[str] | None = None) -> list[AttackRow]:
    """Try to talk the configured judges round with known-bad conversations; none of them joins the run."""
    from safetyqc.judge.attack import attack_judge
    from safetyqc.rubrics import load_rubric_set

    rubric = load_rubric_set(session.config.judge.rubric)
    judges = await make_judges(session, rubric, judge_models(session.config), session.config.models.api_base)
    made = [task.judge(session.mapper.context) for task in judges]
    return [row for judge in made for row in await attack_judge(judge, rubric, attacks=attacks)]


async def try_rubric(session: Session) -> list[Trial]:
    """Have the configured judge score the examples that stand in the configured rubric."""
    from safetyqc.rubrics import load_rubric_set, test_rubric

    rubric = load_rubric_set(session.config.judge.rubric)
    judges = await make_judges(session, rubric, judge_models(session.config)[:1], session.config.models.api_base)
    return await test_rubric(judges[0].judge(session.mapper.context), rubric.criteria)


async def keep(session: Session, tell: Tell, *, decide: bool = False) -> None:
    """Write, check and draw again until so many conversations of each category are kept as the settings ask for.

    Raises:
        BudgetReached: after telling how far it came.
    """
    store = session.store
    config = as_planned(store, session.config)
    taxonomy = taxonomy_of(store, config.generate)
    wanted, scenarios = settle_kept(store, taxonomy, config.generate)
    task = Writing(config, taxonomy)
    goal, why = look(store, task, scenarios, wanted), None
    try:
        if goal.candidates:  # what an earlier call left in its midst
            await _check(session, tell, decide=decide)
            goal = look(store, task, scenarios, wanted)
        while goal.todo and why is None:
            before = goal.candidates
            written = await _write(session, task, goal.todo, already=goal.kept.total())
            tell(written)
            await _check(session, tell, decide=decide)
            goal = look(store, task, scenarios, wanted)
            if goal.candidates == before:
                why = "nothing could be written: the same command goes on"
    except BudgetReached:
        tell(look(store, task, scenarios, wanted).tell("--max-cost reached"))
        raise
    tell(goal.tell(why))


async def _check(session: Session, tell: Tell, *, decide: bool) -> None:
    """Filter, judge, deduplicate and mend what the run holds."""
    tell(await filter_conversations(session))
    for tally in await judge_all(session, decide=decide, with_decider=True):
        tell(tally)
    counted_before = has_frozen_count(session)
    tell(dedup_run(session).tally)
    if session.config.rewrite.rounds and rewriter_model(session.config):
        tell(await mend(session))
        # A rewrite may say what another conversation says; and what rewrites have in common must not count as rare
        tell(dedup_run(session, refit=not counted_before).tally)


async def run_all(
    session: Session,
    inputs: Sequence[tuple[str, ReadResult]],
    tell: Tell,
    *,
    write: bool | None = None,
    decide: bool = False,
) -> Exported | None:
    """Do everything in order; what earlier calls have done is not done again.

    Args:
        inputs: files (name, content) to quality-control.
        tell: called with what each stage did.
        write: also generate by the plan; None for only when there are no inputs.
        decide: see `judge_all`.

    Returns:
        What was exported; None when nothing is kept.

    Raises:
        OutputError: before anything is paid, when the file to export to is there and not of this run's making.
    """
    target = session.config.export.folder or session.config.export.path
    is_own = target is None or session.store.meta(_EXPORTED_TO) == str(target.absolute())
    if target is not None and _is_taken(target) and not is_own and not session.config.export.force:
        raise OutputError("is there already", where=str(target), fix="give another --export, or remove it first")
    for name, read in inputs:
        tell(import_conversations(session, name, read)[0])
    writes = write or (write is None and not inputs)
    if writes and session.config.generate.kept:
        await keep(session, tell, decide=decide)
    else:
        if writes:
            tell(await generate(session))
        await _check(session, tell, decide=decide)
    if not any(standing.status == "kept" for standing in read_standings(session.store).values()):
        return None
    exported = export_run(
        session.store, session.config, folder=session.store.folder / "export", force=is_own, diversity=True
    )
    session.store.set_meta(EXPORT_FORMAT, exported.format)
    if target is not None:
        session.store.set_meta(_EXPORTED_TO, str(target.absolute()))
    return exported


def _is_taken(target: Path) -> bool:
    return any(target.iterdir()) if target.is_dir() else target.exists()
