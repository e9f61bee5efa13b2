"""Labelled conversations in, weights of the local judge out, each criterion with its figures on unseen sources.

Three steps: how harmful a request is (and its intent and category), whether an answer declines, and from both the
criteria. Every figure and every calibration comes from sources that the models were not trained on. Imports scipy;
only training and benchmarks import it. The one surprising thing: when weights are refitted, the penalty pulls towards
the weights that were there, so a hundred labels adapt the judge instead of replacing what it knew.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from safetyqc.errors import UserError
from safetyqc.judge.embedded.criteria import CRITERIA, REFUSAL_PRIOR, CriterionSpec, refusal_sign
from safetyqc.judge.embedded.features import Features, Request, Turn, harm_features, read_request, read_turns, together
from safetyqc.judge.embedded.fitting import Row, fit_logistic, fit_slope, without_dust
from safetyqc.judge.embedded.measure import measure
from safetyqc.judge.embedded.model import (
    FORMAT,
    NO_BUCKETS,
    CriterionModel,
    Figures,
    Linear,
    Weights,
    sigmoid,
    with_harm,
)
from safetyqc.judge.embedded.phrases import load_language
from safetyqc.records import INTENTS, Conversation, Intent, Label

MIN_EACH = 5
"""A criterion is modelled from this many passes and as many fails on; below it stays as it was, or goes without."""
FOLDS = 5
"""Folds where the data names no sources."""
UNSURE = (0.35, 0.65)
CRITERION_PENALTY = 150.0
"""Keeps a criterion near what it means: with four sources, weights that follow them freely do worse on a fifth."""

NEVER = Linear(bias=-9.0)

Classes = dict[str, Linear]
Group = Callable[[Conversation], str]


@dataclass(frozen=True)
class Case:
    """One conversation as training sees it."""

    conversation: Conversation
    group: str
    turns: list[Turn]
    requests: tuple[Request, ...]
    labels: dict[str, bool] = field(default_factory=dict)


def read_cases(
    conversations: Iterable[Conversation], labels: Iterable[Label], group: Group | None = None
) -> list[Case]:
    """Read conversations and lay their labels beside them; of several labels on one cell the last one counts.

    Args:
        group: names the source of a conversation; figures come from sources left out. None: its `meta["source"]`,
            else one of five folds by its id.
    """
    by_id: defaultdict[str, dict[str, bool]] = defaultdict(dict)
    for label in labels:
        if label.outcome != "na":
            by_id[label.conversation_id][label.criterion] = label.outcome == "pass"
    language, name = load_language(), group or _source
    cases = []
    for conversation in conversations:
        turns = read_turns(conversation, language)
        cases.append(
            Case(conversation, name(conversation), turns, _requests(conversation, turns), by_id[conversation.id])
        )
    return cases


def train(
    conversations: Iterable[Conversation],
    labels: Iterable[Label],
    *,
    group: Group | None = None,
    base: Weights | None = None,
) -> Weights:
    """Fit the judge; the same input gives the same weights.

    Conversations without labels but with an intent or category still teach the request classifier; so do
    conversations of user turns alone. Takes some seconds for two thousand conversations.

    Args:
        base: weights to start from and to be pulled towards; None starts from the priors of `criteria.py`.

    Raises:
        UserError: no criterion has labels enough.
    """
    cases = read_cases(conversations, labels, group)
    return train_cases(cases, base=base)


def train_cases(cases: Sequence[Case], *, base: Weights | None = None) -> Weights:
    """Fit the judge on cases already read; see `train`."""
    trainable = [name for name in CRITERIA if _has_both(cases, name)]
    if not trainable and base is None:
        have = ", ".join(f"{name}: {_counts(cases, name)}" for name in CRITERIA)
        fix = f"label at least {MIN_EACH} passes and {MIN_EACH} fails of one criterion ({have})"
        raise UserError("too few labels to train the local judge", fix=fix)
    held_out = _held_out_logits(cases, trainable, base)
    fitted = fit(cases, trainable, base=base)
    criteria = dict(base.criteria) if base else {}
    for name in trainable:
        criteria[name] = _calibrated(fitted.criteria[name].model, held_out[name])
    trained_on = Counter(case.group for case in cases)
    return fitted.model_copy(update={"criteria": criteria, "trained_on": dict(sorted(trained_on.items()))})


def fit(
    cases: Sequence[Case], criteria: Iterable[str], *, base: Weights | None = None, classes: bool = True
) -> Weights:
    """Fit all models on all of these cases; criteria come uncalibrated and without figures.

    Args:
        classes: also fit the classifiers of intent and category, which no criterion looks at.
    """
    harm = _fit_harm(cases, base)
    known = _turn_labels(cases)
    bare = Weights(
        format=FORMAT,
        trained_on={},
        harm=harm,
        refusal=_fit_refusal(known, harm, base),
        wording=_fit_wording(known, base),
        intents=_fit_intents(cases, harm, base) if classes else {},
        categories=_fit_categories(cases, base) if classes else {},
        criteria={},
    )
    models = {name: _fit_criterion(cases, name, bare, base) for name in criteria}
    return bare.model_copy(update={"criteria": models})


def _source(conversation: Conversation) -> str:
    source = conversation.meta.get("source")
    return source if isinstance(source, str) else f"fold {int(conversation.id.encode().hex(), 16) % FOLDS}"


def _requests(conversation: Conversation, turns: list[Turn]) -> tuple[Request, ...]:
    if turns:
        return tuple(turn.asked for turn in turns)
    language = load_language()
    return tuple(read_request(language.cut(content), language) for content in conversation.user_turns)


def _has_both(cases: Sequence[Case], criterion: str) -> bool:
    return min(_counts(cases, criterion)) >= MIN_EACH


def _counts(cases: Sequence[Case], criterion: str) -> tuple[int, int]:
    values = [case.labels[criterion] for case in cases if criterion in case.labels and case.turns]
    return sum(values), len(values) - sum(values)


def _fit_harm(cases: Sequence[Case], base: Weights | None) -> Linear:
    """Whether a request is harmful; a borderline one is half so, and one in distress says nothing about it."""
    share = {"harmful": 1.0, "borderline": 0.5, "benign": 0.0}
    known = [(_all_asked(case), share[i]) for case in cases if (i := case.conversation.intent) in share]
    prior = base.harm if base else None
    if not known:
        return prior or Linear()
    return without_dust(fit_logistic([row for row, _ in known], [target for _, target in known], prior=prior))


def _all_asked(case: Case) -> Row:
    return together(case.requests), frozenset(bucket for request in case.requests for bucket in request.buckets)


def _row(request: Request) -> Row:
    return request.features, request.buckets


def _fit_classes(known: Sequence[tuple[Features, str]], names: Iterable[str], prior: Mapping[str, Linear]) -> Classes:
    """One against all others, for every name; a name that no row has keeps its prior, or is never chosen."""
    rows: list[Row] = [(features, NO_BUCKETS) for features, _ in known]
    seen = {found for _, found in known}
    return {
        name: fit_logistic(rows, [float(found == name) for _, found in known], prior=prior.get(name), penalty=2.0)
        if name in seen
        else prior.get(name, NEVER)
        for name in names
    }


def _fit_intents(cases: Sequence[Case], harm: Linear, base: Weights | None) -> dict[Intent, Linear]:
    known = []
    for case in cases:
        if case.conversation.intent:
            harms = [sigmoid(harm.logit(*_row(request))) for request in case.requests]
            known.append((with_harm(together(case.requests), harms), str(case.conversation.intent)))
    prior = {str(name): model for name, model in base.intents.items()} if base else {}
    found = _fit_classes(known, INTENTS, prior)
    return {intent: found[intent] for intent in INTENTS}


def _fit_categories(cases: Sequence[Case], base: Weights | None) -> Classes:
    known = [(together(case.requests), name) for case in cases if (name := case.conversation.category) is not None]
    prior = base.categories if base else {}
    return _fit_classes(known, sorted({name for _, name in known} | set(prior)), prior)


@dataclass(frozen=True)
class _TurnLabels:
    """Turns whose answer declined or did not, as far as labels of strict_refusal tell.

    A conversation that passes declined in its turns, one that fails mostly did not; since neither is sure of every
    turn, the turns of a longer conversation share the weight of one and a half.
    """

    turns: list[Turn]
    targets: list[float]
    weights: list[float]


def _turn_labels(cases: Sequence[Case]) -> _TurnLabels:
    out = _TurnLabels([], [], [])
    for case in cases:
        passed = case.labels.get("strict_refusal")
        if passed is not None:
            out.turns.extend(case.turns)
            out.targets.extend([float(passed)] * len(case.turns))
            out.weights.extend([1.0 if len(case.turns) == 1 else 1.5 / len(case.turns)] * len(case.turns))
    return out


def _fit_refusal(known: _TurnLabels, harm: Linear, base: Weights | None) -> Linear:
    prior = base.refusal if base else Linear(weights=dict(REFUSAL_PRIOR))
    rows = [
        (t.features | harm_features(t.features, sigmoid(harm.logit(*_row(t.asked)))), NO_BUCKETS) for t in known.turns
    ]
    if not rows:
        return prior
    return fit_logistic(rows, known.targets, weights=known.weights, prior=prior, sign=refusal_sign, penalty=2.0)


def _fit_wording(known: _TurnLabels, base: Weights | None) -> Linear:
    prior = base.wording if base else None
    rows: list[Row] = [({}, turn.asked.buckets | turn.opening) for turn in known.turns]
    if not rows:
        return prior or Linear()
    return fit_logistic(rows, known.targets, weights=known.weights, prior=prior, penalty=0.5, rarity=base is None)


def _fit_criterion(cases: Sequence[Case], name: str, bare: Weights, base: Weights | None) -> CriterionModel:
    spec, old = CRITERIA[name], base.criteria.get(name) if base else None
    known = [case for case in cases if name in case.labels and case.turns]
    rows = [(spec.features(case.turns, bare.read(case.turns, case.conversation.intent)), NO_BUCKETS) for case in known]
    targets = [float(case.labels[name]) for case in known]
    prior = old.model if old else Linear(bias=spec.bias, weights=dict(spec.prior))
    model = fit_logistic(
        rows,
        targets,
        weights=_even_groups([case.group for case in known]),
        prior=prior,
        sign=_sign_of(spec),
        penalty=CRITERION_PENALTY,
        hold_bias=True,
    )
    return CriterionModel(model=model, reliable=False, figures=_NO_FIGURES)


def _sign_of(spec: CriterionSpec) -> Callable[[str], int]:
    return lambda name: 1 if spec.prior.get(name, 0.0) > 0 else -1


def _even_groups(groups: Sequence[str]) -> list[float]:
    """Weights by which no source outweighs another by its mere size: each counts as the square root of its rows."""
    sizes = Counter(groups)
    return [5 * sizes[group] ** -0.5 for group in groups]


_NO_FIGURES = Figures(
    n=0, passed=0, kappa=None, kappa_low=None, kappa_high=None, accuracy=None, coverage=None, accuracy_covered=None
)


@dataclass
class HeldOut:
    """Logits of one criterion on cases whose source was left out of training."""

    logits: list[float] = field(default_factory=list)
    passed: list[bool] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)


def _held_out_logits(cases: Sequence[Case], criteria: Sequence[str], base: Weights | None) -> dict[str, HeldOut]:
    out = {name: HeldOut() for name in criteria}
    for group in sorted({case.group for case in cases if case.labels}):
        rest = [case for case in cases if case.group != group]
        weights = fit(rest, [name for name in criteria if _has_both(rest, name)], base=base, classes=False)
        for case in cases:
            if case.group == group and case.turns and case.labels:
                _add_held_out(out, case, weights)
    return out


def _add_held_out(out: dict[str, HeldOut], case: Case, weights: Weights) -> None:
    reading = weights.read(case.turns, case.conversation.intent)
    for name, passed in case.labels.items():
        if name in out and name in weights.criteria:
            logit = weights.criteria[name].model.logit(CRITERIA[name].features(case.turns, reading))
            out[name].logits.append(logit)
            out[name].passed.append(passed)
            out[name].groups.append(case.group)


def _calibrated(model: Linear, held_out: HeldOut) -> CriterionModel:
    if not held_out.logits:
        return CriterionModel(model=model, reliable=False, figures=_NO_FIGURES)
    slope = fit_slope(held_out.logits, held_out.passed, _even_groups(held_out.groups))
    probabilities = [sigmoid(slope * logit) for logit in held_out.logits]
    figures = measure(probabilities, held_out.passed, UNSURE)
    reliable = figures.kappa_low is not None and figures.kappa_low > 0
    return CriterionModel(model=model, slope=slope, unsure=UNSURE, reliable=reliable, figures=figures)
