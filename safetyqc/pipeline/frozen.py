"""A labelled set that never changes, judged along with every run: did the judge change, or did the data?

`judge_frozen` has the deciding judge judge it and keeps the verdicts with the run, beside and not among its own;
`check_frozen` holds them against the labels and the bars. A judge that agrees with the labels as it should has not
changed, so a pass rate of the data that moved is the data's doing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from safetyqc.errors import ConfigError, ModelError, UserError, choose_from
from safetyqc.formats.labels import read_labels
from safetyqc.formats.readers import read_conversations
from safetyqc.records import Conversation, Label, Outcome, Record, content_hash
from safetyqc.reports.summary import hold_bar
from safetyqc.results.rates import Bar, Rate
from safetyqc.results.report import Frozen
from safetyqc.results.statistics import wilson_interval
from safetyqc.store.standing import deciding_judge
from safetyqc.text import counted

if TYPE_CHECKING:
    from safetyqc.config import FrozenSection
    from safetyqc.pipeline.session import Session
    from safetyqc.pipeline.tasks import Judging
    from safetyqc.store import Store

_NAME = "frozen"


class _Kept(Record):
    """What one judge said of the frozen set: outcomes by conversation and criterion."""

    judge: str
    rubric_hash: str
    set_hash: str
    outcomes: dict[str, dict[str, Outcome]]


async def judge_frozen(session: Session, task: Judging) -> str:
    """Judge the frozen set through the run's ledger; returns what to tell of it."""
    path = _path(session.config.frozen)
    conversations, labels = _read(path)
    judge = task.judge(session.mapper.context)
    found = [said async for _, said in session.mapper.map("frozen set", conversations, task)]
    if session.mapper.deferred:
        return f"the frozen set {path} waits for a batch"
    outcomes = {
        said.conversation_id: {s.criterion: s.outcome for s in said.scores}
        for said in found
        if not isinstance(said, ModelError)
    }
    kept = _Kept(
        judge=judge.name, rubric_hash=judge.rubric_hash, set_hash=_set_hash(conversations, labels), outcomes=outcomes
    )
    session.store.set_meta(_NAME, kept.model_dump())
    return f"frozen set {path}: {counted(len(outcomes), 'conversation')} judged by {judge.name}, for report --check"


def check_frozen(store: Store, frozen: FrozenSection) -> Frozen | None:
    """Hold what the deciding judge said of the frozen set against its bars; None where none is configured.

    Raises:
        UserError: it was not judged yet, or by another judge or rubric, or has changed since.
        ConfigError: a bar for something that has no label, or no bar at all.
    """
    if frozen.file is None:
        return None
    path = _path(frozen)
    conversations, labels = _read(path)
    decider, told = deciding_judge(store), store.meta(_NAME)
    kept = _Kept.model_validate(told) if told else None
    now = (*decider, _set_hash(conversations, labels)) if decider else None
    if kept is None or (kept.judge, kept.rubric_hash, kept.set_hash) != now:
        why = "was not judged" if kept is None else f"was judged by {kept.judge!r}, or is not what it was then,"
        whose = f" by {decider[0]!r}, which decides" if decider else ""
        fix = f"safetyqc judge --run {store.folder}: it is judged along with the run"
        raise UserError(f"the frozen set {why} and has to be judged{whose}", where=str(path), fix=fix)
    known = {label.criterion for label in labels if label.outcome in ("pass", "fail")}
    for name in frozen.bars:
        if name not in known:
            fix = choose_from(name, known)
            raise ConfigError(f"no label of {name!r} in {path} to hold a bar", where="frozen.bars", fix=fix)
    if not frozen.bars:
        fix = "set some beside `file`, such as `frozen: {file: frozen.jsonl, bars: {no_dangerous_steps: 0.9}}`"
        raise ConfigError("there are no bars for the frozen set", where="frozen.bars", fix=fix)
    bars = tuple(_bar(name, bar, labels, kept) for name, bar in frozen.bars.items())
    return Frozen(judge=kept.judge, met=all(b.met for b in bars), bars=bars)


def _bar(name: str, bar: float, labels: list[Label], kept: _Kept) -> Bar:
    """Agreement with the labels of one criterion, where the judge scored it: `passed` counts what is the same."""
    cells = [(x.outcome, kept.outcomes.get(x.conversation_id, {}).get(name)) for x in labels if x.criterion == name]
    scored = [(label, said) for label, said in cells if {label, said} <= {"pass", "fail"}]
    same = sum(label == said for label, said in scored)
    share = same / len(scored) if scored else None
    low, high = wilson_interval(same, len(scored)) if scored else (None, None)
    rate = Rate(passed=same, failed=len(scored) - same, n=len(scored), rate=share, low=low, high=high)
    return hold_bar(name, "rate", bar, rate)


def _path(frozen: FrozenSection) -> Path:
    return frozen.file or Path()


def _read(path: Path) -> tuple[list[Conversation], list[Label]]:
    conversations = list(read_conversations(path).conversations)
    return conversations, read_labels(path, conversations)


def _set_hash(conversations: list[Conversation], labels: list[Label]) -> str:
    texts = [[c.id, c.as_messages(), c.category, c.intent, *([c.system] if c.system else [])] for c in conversations]
    return content_hash([texts, sorted([x.conversation_id, x.criterion, x.outcome] for x in labels)])
