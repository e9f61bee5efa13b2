"""Judges by name: what may stand after `-m`, and everything that the rest of the program asks about such a name.

The word before the colon is looked up in `JUDGES`; what has none there is the name of a model, which the rubric judge
asks. Kinds declare themselves (kinds.py says how to add one), and this module asks them, through panels and cascades
of any depth: nothing else knows a kind by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, cast

from safetyqc.errors import UserError, choose_from
from safetyqc.judge.base import Preparing
from safetyqc.judge.guards.kind import GUARD
from safetyqc.judge.kinds import AskedModel, JudgeKind, JudgeSettings, Making
from safetyqc.llm.hosts import EMBEDDED, is_in_process, own_base

if TYPE_CHECKING:
    from safetyqc.judge.base import Judge
    from safetyqc.llm import Client
    from safetyqc.rubrics import RubricSet

_LOCAL_CONVERSATION_TOKENS = 2_500
"""In-process models share a small context between several requests."""
_LOCAL_REASON_CHARS = 160
"""Small models that cannot find an end repeat themselves until they are cut off; a grammar can stop them."""
_LIKE_A_KIND = 0.8


def make_judge(
    spec: str,
    rubric_set: RubricSet,
    client: Client | Callable[[], Client],
    settings: JudgeSettings | None = None,
) -> Judge:
    """Make a judge by name; asks nobody. One that is `Preparing` asks at its first conversation, or in `prepare`.

    Args:
        client: a client, or a function that opens one; called only for judges that ask a model.

    Raises:
        UserError: a judge that cannot be made, or an empty name.
    """
    return _make(spec, Making(rubric_set, client if callable(client) else lambda: client, settings or JudgeSettings()))


def check_judge(spec: str, rubric_set: RubricSet, settings: JudgeSettings) -> None:
    """Make a judge to see its files and names; it is never asked.

    Raises:
        UserError: it cannot be made.
    """
    make_judge(spec, rubric_set, lambda: cast("Client", None), settings)


def check_writer(model: str) -> None:
    """Refuse a judge where a model is to write: behind `-m` of `safetyqc run` it is easily taken for one.

    Raises:
        UserError: the name is a judge's and no model's.
    """
    word, colon, _ = model.partition(":")
    if colon and word in JUDGES and word != EMBEDDED:
        fix = "name it with --judge, and with -m a model that writes (`safetyqc judge -m` takes both)"
        raise UserError(f"{model!r} is a judge and writes nothing", fix=fix)


async def prepare(judges: Iterable[Judge]) -> None:
    """Have judges ask what they must know before the first conversation, such as a cascade its labelled ones."""
    for judge in judges:
        if isinstance(judge, Preparing):
            await judge.prepare()


def asked_by(spec: str, settings: JudgeSettings) -> list[AskedModel]:
    """The models that a judge asks, stand-ins last and once; none for the embedded judge and for recorded verdicts."""
    asked = _asks(spec, settings)
    stand_ins = dict.fromkeys(a for a in asked if a.stands_in)
    return [*(a for a in asked if not a.stands_in), *stand_ins]


def judge_name(spec: str, rubric_set: RubricSet, settings: JudgeSettings) -> str:
    """How judgments name the judge of this spec."""
    kind, argument = _kind(spec)
    if kind.name is not None:
        return kind.name(argument, rubric_set, settings)
    return kind.make(argument, Making(rubric_set, lambda: cast("Client", None), settings)).name


def is_recorded(spec: str) -> bool:
    """Whether a judge only repeats verdicts that were given elsewhere."""
    return _kind(spec)[0].is_recorded


def never_scored(spec: str, rubric_set: RubricSet) -> frozenset[str]:
    """Ids of the rubric's criteria that this judge gives no verdict on.

    Raises:
        UserError: a file that it is made of cannot be used.
    """
    kind, argument = _kind(spec)
    return kind.never_scores(argument, rubric_set)


def judge_forms() -> list[str]:
    """What may be typed for a judge, beside the name of a model."""
    return [kind.form for kind in JUDGES.values()]


def _kind(spec: str) -> tuple[JudgeKind, str]:
    spec = spec.strip()
    if not spec:
        raise UserError("a judge without a name", fix=f"valid: {', '.join(judge_forms())}, or a model")
    word, colon, argument = spec.partition(":")
    kind = JUDGES.get(word)
    if kind is None:
        # A model may have a colon in its name too, so only what looks like a slip is one
        if colon and "/" not in word and get_close_matches(word, JUDGES, n=1, cutoff=_LIKE_A_KIND):
            raise UserError(f"no kind of judge {word!r} in {spec!r}", fix=choose_from(word, JUDGES))
        return _MODEL, spec
    if not argument.strip() and ":" in kind.form:
        raise UserError(f"judge {spec!r} names nothing", fix=f"give {kind.form}: {kind.says}")
    return kind, argument.strip()


def _make(spec: str, making: Making) -> Judge:
    kind, argument = _kind(spec)
    return kind.make(argument, making)


def _asks(spec: str, settings: JudgeSettings) -> Sequence[AskedModel]:
    kind, argument = _kind(spec)
    return kind.asks(argument, settings)


# ---- the kinds of our own -------------------------------------------------------------------------------------------


def _make_embedded(argument: str, making: Making) -> Judge:
    from safetyqc.judge.embedded.judge import LocalJudge

    return _make_rubric(f"{EMBEDDED}:{argument}", making) if argument else LocalJudge(making.rubric_set)


def _make_trained(argument: str, making: Making) -> Judge:
    from safetyqc.judge.embedded.judge import LocalJudge

    return LocalJudge(making.rubric_set, argument, name=f"trained:{Path(argument).stem}")


def _never_shown(argument: str, rubric_set: RubricSet) -> frozenset[str]:
    from safetyqc.judge.embedded.model import load_weights

    shown = load_weights(argument or None).shown
    return frozenset(c.id for c in rubric_set.criteria if c.id not in shown)


def _make_recorded(argument: str, making: Making) -> Judge:
    from safetyqc.judge.recorded import RecordedJudge

    return RecordedJudge(argument, making.rubric_set)


def _make_rubric(model: str, making: Making) -> Judge:
    from safetyqc.judge.rubric import CONVERSATION_TOKENS, RubricJudge

    settings = making.settings
    return RubricJudge(
        making.open_client(),
        model,
        making.rubric_set,
        name=settings.name_of(model),
        per_criterion=settings.per_criterion,
        fallback_model=settings.fallback_model,
        votes=settings.votes,
        temperature=settings.temperature,
        max_tokens=settings.max_tokens,
        api_base=own_base(model, settings.api_base),
        max_conversation_tokens=_LOCAL_CONVERSATION_TOKENS if is_in_process(model) else CONVERSATION_TOKENS,
        # A model on the CPU reads some 60 tokens a second: the examples would double the time of every judgment
        with_examples=not is_in_process(model),
        max_reason_chars=_LOCAL_REASON_CHARS if is_in_process(model) else None,
    )


def _model_asked(model: str, settings: JudgeSettings) -> list[AskedModel]:
    fallback = settings.fallback_model
    return [AskedModel(model), *([AskedModel(fallback, at_most=True, stands_in=True)] if fallback else [])]


def _panel(rule: str, form: str, says: str) -> JudgeKind:
    """Declare a panel whose members stand behind the colon, with commas between them."""

    def make(argument: str, making: Making) -> Judge:
        from safetyqc.judge.panel import PanelJudge

        members = [_make(name, making) for name in _names(argument, ",")]
        return PanelJudge(members, making.rubric_set, rule=rule)  # type: ignore[arg-type]

    def name(argument: str, rubric_set: RubricSet, settings: JudgeSettings) -> str:
        return f"{rule}({', '.join(judge_name(member, rubric_set, settings) for member in _names(argument, ','))})"

    def asks(argument: str, settings: JudgeSettings) -> list[AskedModel]:
        return [asked for member in _names(argument, ",") for asked in _asks(member, settings)]

    return JudgeKind(form, says, make, asks, _none_of_them_scores(","), name)


def _make_cascade(argument: str, making: Making) -> Judge:
    from safetyqc.judge.cascade import CascadeJudge, Stage

    if making.settings.read_labels is None:
        fix = "give --labels FILE: a cascade chooses its thresholds on labels, and promises nothing without them"
        raise UserError(f"cascade {argument!r} has no labels", fix=fix)
    stages = [Stage(_make(name, making)) for name in _names(argument, ">")]
    if any(isinstance(stage.judge, CascadeJudge) for stage in stages):
        # Its promises would be chosen on the very labels that its own members' were
        raise UserError(f"cascade {argument!r} has a cascade as its judge", fix="name its judges: cascade:A>B>C")
    return CascadeJudge(stages, making.rubric_set, to_fit=making.settings.read_labels())


def _name_cascade(argument: str, rubric_set: RubricSet, settings: JudgeSettings) -> str:
    return f"cascade({' > '.join(judge_name(name, rubric_set, settings) for name in _names(argument, '>'))})"


def _cascade_asks(argument: str, settings: JudgeSettings) -> list[AskedModel]:
    """All conversations for the first judge; for the others those that it is not sure of."""
    first, *later = _names(argument, ">") or [""]
    escalated = [replace(asked, at_most=True) for name in later for asked in _asks(name, settings)]
    return [*_asks(first, settings), *escalated]


def _none_of_them_scores(separator: str) -> Callable[[str, RubricSet], frozenset[str]]:
    def criteria(argument: str, rubric_set: RubricSet) -> frozenset[str]:
        members = [never_scored(name, rubric_set) for name in _names(argument, separator)]
        return frozenset.intersection(*members) if members else frozenset()

    return criteria


def _names(text: str, separator: str) -> list[str]:
    return [name.strip() for name in text.split(separator) if name.strip()]


JUDGES: dict[str, JudgeKind] = {
    EMBEDDED: JudgeKind(
        EMBEDDED,
        "the embedded judge; with :PATH.gguf behind it a model run in this process",
        _make_embedded,
        lambda argument, settings: _model_asked(f"{EMBEDDED}:{argument}", settings) if argument else [],
        lambda argument, rubric_set: frozenset() if argument else _never_shown("", rubric_set),
    ),
    "trained": JudgeKind(
        "trained:FILE",
        "the embedded judge with weights of `safetyqc train-judge`",
        _make_trained,
        never_scores=_never_shown,
    ),
    "recorded": JudgeKind(
        "recorded:FILE",
        "verdicts from a file: own lines, or a .yaml map of another judge's",
        _make_recorded,
        is_recorded=True,
    ),
    "guard": GUARD,
    "panel": _panel("majority", "panel:A,B", "what most of several judges say"),
    "any-fail": _panel("any-fail", "any-fail:A,B", "several judges of whom one fail fails"),
    "mean": _panel("mean", "mean:A,B", "the mean of several judges"),
    "cascade": JudgeKind(
        "cascade:A>B",
        "A, and B where A is not sure enough by --labels",
        _make_cascade,
        _cascade_asks,
        _none_of_them_scores(">"),
        _name_cascade,
    ),
}
"""Kinds of judges by the word before the colon; open to additions."""

_MODEL = JudgeKind("MODEL", "the rubric judge with that model", _make_rubric, _model_asked)
"""What has no word of its own."""
