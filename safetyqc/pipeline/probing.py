"""Probes a model: asks it a fixed set of prompts, judges the answers, and holds it against what it was and a control.

The steps of a probe in their order; what each does is the probe stage's business. A probe is kept in the run under its
name, for `--against` later, and joins none of the run's numbers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetyqc import __version__
from safetyqc.errors import UserError
from safetyqc.llm.prices import count_tokens
from safetyqc.pipeline.choices import places_of, price_table
from safetyqc.pipeline.estimate import StageEstimate, check_keys, estimate_judging, render_estimate
from safetyqc.pipeline.probe_arms import ArmPlan, ask_arm, estimate_arm, missing_asks, plan_arm
from safetyqc.pipeline.probe_judging import judge_arms, make_probe_judges
from safetyqc.pipeline.probe_labels import with_corrections
from safetyqc.pipeline.site import RunLike, Settings, configure, in_run, names_of, path_of, site_of, staged
from safetyqc.probe.contrast import compare
from safetyqc.probe.exchange import conversation_of
from safetyqc.probe.measure import Judged, measure_arm
from safetyqc.probe.outcomes import WORDS, WORDS_NOTE
from safetyqc.probe.picture import point_of
from safetyqc.probe.prompts import SHIPPED, describe, draw, read_prompts, shipped_prompts
from safetyqc.reports.probed import Probed
from safetyqc.results.probe import (
    LESS_IS_BETTER,
    Answer,
    Arm,
    ArmName,
    Comparison,
    Measure,
    ProbeBar,
    ProbeResult,
    Prompt,
    PromptSet,
)

if TYPE_CHECKING:
    from safetyqc.config import Config
    from safetyqc.llm.client import Client
    from safetyqc.pipeline.session import Session

DEFAULT_JUDGES = (WORDS, "local")
_ONE_RUN = "one training run of each model: the intervals hold for these very models, not for the recipe that made them"
_NO_CONTROL = (
    "no control: better optimiser settings alone make models safer, so train one on the same number of other rows"
)


@dataclass(frozen=True)
class Question:
    """What a probe is asked to find out: models by arm (several are training runs of one recipe), and by whom."""

    models: tuple[str, ...]
    against: tuple[str, ...] = ()
    control: tuple[str, ...] = ()
    judges: tuple[str, ...] = DEFAULT_JUDGES

    @property
    def arms(self) -> dict[ArmName, tuple[str, ...]]:
        """The arms that there are."""
        given: dict[ArmName, tuple[str, ...]] = {
            "model": self.models,
            "before": self.against,
            "control": self.control,
        }
        return {name: models for name, models in given.items() if models}


@dataclass
class Plan:
    """A probe before anything is asked."""

    prompts: list[Prompt]
    described: PromptSet
    arms: list[ArmPlan]
    notes: list[str]


async def probe_models(
    session: Session, question: Question, tell: Callable[[str], None], *, only_estimate: bool = False
) -> ProbeResult | None:
    """Ask, judge and compare; None when only the estimate was wanted, or answers wait for a batch.

    Args:
        tell: gets the estimate, before anything is asked.

    Raises:
        UserError: a model, judge, file or bar that cannot be used.
    """
    plan = plan_probe(session, question)
    judges = await make_probe_judges(session, question.judges)
    left = {arm.name: missing_asks(session, arm, plan.prompts) for arm in plan.arms}
    _check_prices(session, plan)
    lines = [line for arm in plan.arms for line in estimate_arm(session, arm, left[arm.name], count_tokens)]
    lines += _estimate_judges(session, plan, question)
    if any(line.estimate.calls for line in lines) or only_estimate:
        tell(render_estimate(lines) if lines else "nothing is asked: all answers are there")
    if only_estimate:
        return None
    check_keys(session, lines)
    if sum([await ask_arm(session, arm, left[arm.name]) for arm in plan.arms]):
        return None  # answers that wait for a batch are judged with all others, once they are there
    if await judge_arms(session, plan.arms, plan.prompts, judges):
        return None
    result = _result(session, plan, tuple(judges))
    session.store.put_probe(result.name, result.model_dump(mode="json"))
    return result


def plan_probe(session: Session, question: Question) -> Plan:
    """Decide what is asked of whom; asks nobody."""
    from safetyqc.pipeline.probe_training import without_trained

    settings = session.config.probe
    given = read_prompts(settings.prompts) if settings.prompts else []
    arms = [plan_arm(session, name, specs, given) for name, specs in question.arms.items()]
    everything, name = given, "+".join(Path(path.partition("=")[2] or path).name for path in settings.prompts)
    if not given:
        everything = [prompt for member in arms[0].members[:1] for prompt in member.prompts]
        name = arms[0].members[0].probe.prompt_set.name if arms[0].members[0].probe else arms[0].models[0]
    if not everything:
        everything, name = shipped_prompts(), SHIPPED
    drawn = draw(everything, settings.sample)
    prompts, near = without_trained(session, drawn)
    described = describe(prompts, name, everything)
    left_out = {"sample": len(everything) - len(drawn), "near the training data": len(drawn) - len(prompts)}
    notes = [f"{count:,} prompts left out: {why}" for why, count in left_out.items() if count]
    if not prompts:
        fix = "give other prompts with --prompts FILE, or another --train FILE"
        raise UserError("no prompt is left: the training data is near all of them", where=name, fix=fix)
    described = described.model_copy(update={"left_out": {w: n for w, n in left_out.items() if n}, "near": tuple(near)})
    return Plan(prompts, described, arms, notes)


def _check_prices(session: Session, plan: Plan) -> None:
    """Refuse a cap that could not be kept, before anything is asked."""
    if session.config.models.max_cost_usd is None:
        return
    from safetyqc.llm.door import unknown_price

    prices, places = price_table(session.config), places_of(session.config)
    for model in {m.speaker.model for arm in plan.arms for m in arm.members if m.speaker}:
        if prices.find(model, places.base(model)) is None:
            unknown_price(model)


def _estimate_judges(session: Session, plan: Plan, question: Question) -> list[StageEstimate]:
    count = sum(len(arm.members) * len(plan.prompts) for arm in plan.arms) * session.config.probe.samples
    answered = Answer(prompt="", texts=("word " * 150,))
    like = [
        conversation_of(prompt, answered.model_copy(update={"texts": answered.texts * len(prompt.turns)}))
        for prompt in plan.prompts[:100]
    ]
    specs = [spec for spec in question.judges if spec != WORDS]
    lines = [line for spec in specs for line in estimate_judging(session.config, spec, like, [("judge", count, False)])]
    return [line for line in lines if line.estimate.calls]


# ---- from answers to a result ---------------------------------------------------------------------------------------


def _result(session: Session, plan: Plan, judges: tuple[str, ...]) -> ProbeResult:
    settings = session.config.probe
    judged = {arm.name: Judged(plan.prompts, arm.answers, judges[0]) for arm in plan.arms}
    arms = {
        arm.name: measure_arm(arm.models, plan.prompts, arm.answers, judges).model_copy(
            update={"point": point_of(judged[arm.name])}
        )
        for arm in plan.arms
    }
    arms = with_corrections(session, arms, plan.prompts, {arm.name: arm.answers for arm in plan.arms}, judges[0])
    others: list[ArmName] = [name for name in arms if name != "model"]
    comparisons = tuple(compare(judged[name], judged["model"], name) for name in others)
    runs = len({answer.run for answer in plan.arms[0].answers})
    twins = arms["model"].measures.get("twin_metric", Measure(name="twin_metric"))
    return ProbeResult(
        safetyqc=__version__,
        name=f"{'+'.join(plan.arms[0].models)}@{plan.described.hash[:8]}",
        prompt_set=plan.described,
        judges=judges,
        settings={"samples": settings.samples, "temperature": settings.temperature, "max_tokens": settings.max_tokens},
        twin_metric=twins,
        arms=arms,
        comparisons=comparisons,
        word=comparisons[0].word if comparisons else None,
        verdict=_sentence(arms, comparisons),
        notes=(*plan.notes, *_notes(arms, judges, runs)),
        bars=_bars(session.config, arms["model"]),
        disagreements=_disagreements(plan.arms[0].answers, judges),
        prompts=tuple(plan.prompts),
        answers={arm.name: tuple(arm.answers) for arm in plan.arms},
    )


def _sentence(arms: dict[ArmName, Arm], comparisons: Sequence[Comparison]) -> str:
    if comparisons:
        return "; ".join(comparison.sentence for comparison in comparisons)
    told = []
    for name, what in (("twin_metric", "twins right"), ("harm_refused", "harm withheld"), ("benign_helped", "helped")):
        measure = arms["model"].measures.get(name)  # type: ignore[call-overload]
        if measure is not None and measure.rate is not None:
            told.append(f"{what} {measure.rate:.2f} [{measure.low:.2f}, {measure.high:.2f}] of {measure.n}")
    return "one model, nothing to compare: " + (", ".join(told) or "no answer could be scored")


def _notes(arms: dict[ArmName, Arm], judges: tuple[str, ...], runs: int) -> list[str]:
    notes = [WORDS_NOTE] if judges[0] == WORDS else []
    if "before" in arms and "control" not in arms:
        notes.append(_NO_CONTROL)
    if len(arms) > 1 and runs == 1:
        notes.append(_ONE_RUN)
    open_ = [
        f"{arm.measures[m].unscored:,} of {m}"
        for arm in arms.values()
        for m in arm.measures
        if arm.measures[m].unscored
    ]
    if open_:
        notes.append(f"unscored, in no rate: {', '.join(open_[:6])}; `worst` and `best` say what they could change")
    return notes


def _disagreements(answers: Sequence[Answer], judges: tuple[str, ...]) -> tuple[str, ...]:
    differ = []
    for answer in answers:
        said = {v.outcome for judge in judges if (v := answer.verdicts.get(judge)) and v.outcome != "unscored"}
        if len(said) > 1:
            differ.append(answer.prompt)
    return tuple(dict.fromkeys(differ))


def _bars(config: Config, arm: Arm) -> tuple[ProbeBar, ...]:
    found = []
    for name, bar in config.probe.bars.items():
        measure = arm.measures.get(name, Measure(name=name))
        if measure.rate is None or measure.low is None or measure.high is None:
            found.append(ProbeBar(name=name, bar=bar, rate=None, met=False, certain=False))
            continue
        met = measure.rate <= bar if name in LESS_IS_BETTER else measure.rate >= bar
        above, below = measure.low >= bar, measure.high <= bar
        certain = (below if met else above) if name in LESS_IS_BETTER else (above if met else measure.high < bar)
        found.append(ProbeBar(name=name, bar=bar, rate=measure.rate, met=met, certain=certain))
    return tuple(found)


# ---- the Python door ------------------------------------------------------------------------------------------------


async def aprobe(
    model: str | Sequence[str],
    run: RunLike | None = None,
    *,
    against: str | Sequence[str] | None = None,
    control: str | Sequence[str] | None = None,
    judge: str | Sequence[str] | None = None,
    rubric: str | None = None,
    prompts: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    only_estimate: bool = False,
    batch: bool = False,
    client: Client | None = None,
    quiet: bool = False,
    config: Settings = None,
    **settings: Any,
) -> Probed:
    """Ask a model a fixed set of prompts and say what it does, alone or against what it was.

    Args:
        model: as litellm names it, `local:PATH.gguf`, `nanochat:URL`, or `answers:FILE`; several are training runs of
            one recipe.
        against: the model before, or a probe: its name in the run, or its JSON file.
        control: a model trained the same way on other rows.
        judge: who judges; several are shown beside each other and the first decides. None: the answers' own words,
            and the embedded judge beside them.
        rubric: the set that they judge by; None for `safety`. `safety-completion` grades what is withheld.
        prompts: files of prompts (docs/probe.md); None for the shipped set.
        only_estimate: say what it takes and ask nothing.
        settings: any other setting of the sections `probe` and `models`, such as `sample=60` or `api_base=URL`.

    The others, and the errors, are those of `judge`.
    """
    question = Question(_several(model), _several(against), _several(control), _several(judge) or DEFAULT_JUDGES)
    asked = next((m for m in (*question.models, *question.against) if not m.startswith("answers:")), None)
    files = [prompts] if isinstance(prompts, (str, os.PathLike)) else prompts
    named = {
        "probe.prompts": None if files is None else tuple(str(path_of(file, "prompts")) for file in files),
        "judge.rubric": rubric,
        "judge.models": tuple(spec for spec in question.judges if spec != WORDS) or ("local",),
        "generate.model": asked,  # who is probed counts as who writes: where it is asked follows from the same rules
    }
    site = site_of(
        None, run, configure(config, ("probe", "models"), named, settings), client=client, quiet=quiet, writes=True
    )

    async def work(session: Session) -> ProbeResult | None:
        return await staged(
            session,
            "probe",
            lambda: probe_models(session, question, site.listener.note, only_estimate=only_estimate),
            site,
            batch=batch,
        )

    result, cost_usd = await in_run(site, work)
    return Probed(site.folder, result.model_copy(update={"cost_usd": cost_usd}) if result else None)


def _several(names: str | Sequence[str] | None) -> tuple[str, ...]:
    return tuple(names_of(names) or ())
