"""Turns a run's records into where every conversation stands: kept, or why not.

One answer for everybody who asks: export takes what is kept, rewrite what failed, the report counts all. Nothing here
reads a conversation's text or decides what a duplicate is. Being a duplicate goes before having failed: another copy
stands for it, so nobody pays to mend it. And a group's choice is looked at again: when the one it kept was since
rejected or failed by the deciding judge while another copy passed, that copy stands, so a group never vanishes because
an old choice went stale.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from safetyqc.errors import UserError, choose_from

if TYPE_CHECKING:
    from safetyqc.records import Conversation, Judgment, ReferenceMatch, Rejection, Rewrite
    from safetyqc.store import Drop, Placed, Store, Verdict

Status = Literal[
    "kept",  # passed by the deciding judge's rule, and nothing speaks against it: export takes it
    "failed",  # judged, and a criterion failed: rewrite takes it
    "unscored",  # judged, but the judge gave nothing usable on a criterion that decides
    "unjudged",  # the deciding judge has not seen it
    "duplicate",  # another copy stands for it
    "superseded",  # a kept rewrite replaced it
    "discarded",  # a rewrite that was not kept
    "rejected",  # a filter's hit
    "reference",  # near a reference set, such as a benchmark that a model will be measured on
    "canary",  # planted to measure judges; never data
]
STATUSES: tuple[Status, ...] = get_args(Status)

_CLAIM: dict[Status, int] = {
    "kept": 0,
    "failed": 1,
    "unscored": 1,
    "unjudged": 1,
    "superseded": 2,
    "discarded": 3,
    "rejected": 3,
}
"""Who speaks for a duplicate group: the lowest, and among equals the one that dedup kept."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one conversation stands, and why in one line; `instead` is the id that stands in its place, if any."""

    status: Status
    reason: str
    instead: str | None = None


def stand(
    conversations: Iterable[Placed],
    verdicts: Mapping[str, Verdict],
    judge: str = "",
    rejections: Iterable[Rejection] = (),
    drops: Iterable[Drop] = (),
    rewrites: Iterable[Rewrite] = (),
    matches: Iterable[ReferenceMatch] = (),
) -> dict[str, Standing]:
    """Say where every conversation stands, in their order.

    Args:
        conversations: all of the run.
        verdicts: those of the deciding judge alone, by the conversation's id.
        judge: the deciding judge's name, for the reason.
        rejections: the filters' hits; the first one of a conversation is its reason.
        drops: of the last dedup, in the order of their groups; may name conversations that are not given.
        rewrites: all attempts, in any order.
        matches: with reference sets; those that were only to be marked change nothing here.
    """
    attempts = list(rewrites)
    heirs = {r.parent_id: r.child_id for r in attempts if r.kept and r.child_id}
    results = {r.child_id: r for r in attempts if r.child_id}
    hits: dict[str, Rejection] = {}
    for rejection in rejections:
        hits.setdefault(rejection.conversation_id, rejection)
    passed = Standing("kept", f"passed by {judge}")
    standings = {}
    for c in conversations:
        standing = _set_aside(c, hits.get(c.id), heirs, results)
        standings[c.id] = standing or _judged(verdicts.get(c.id), passed)
    standings.update(_near_references(matches, standings))
    groups: dict[str, list[Drop]] = {}
    for drop in drops:
        groups.setdefault(drop.kept, []).append(drop)
    for kept, dropped in groups.items():
        standings.update(_duplicates(kept, dropped, standings, heirs))
    return standings


def read_standings(store: Store, judge: str | None = None) -> dict[str, Standing]:
    """Say where every conversation of a run stands by `judge`, or by the run's deciding judge; reads no text.

    Raises:
        UserError: no such judge in this run.
    """
    chosen = deciding_judge(store, judge)
    verdicts = store.verdicts(*chosen) if chosen else {}
    hits, drops, name = store.rejections(), store.drops(), chosen[0] if chosen else ""
    return stand(store.placed(), verdicts, name, hits, drops, store.rewrites(), store.matches())


def deciding_judge(store: Store, judge: str | None = None) -> tuple[str, str] | None:
    """Name the judge whose verdict decides and its rubric's hash: the one asked for, the run's, or the first used.

    None when nothing was judged yet. Of several rubrics that one judge used, the run's own counts, else the latest.

    Raises:
        UserError: no such judge in this run.
    """
    used = store.judges()
    name = (judge and _full_name(judge, store)) or store.meta("deciding_judge") or (used[0][0] if used else None)
    hashes = [rubric_hash for used_name, rubric_hash, _ in used if used_name == name]
    if judge and not hashes:
        names = {used_name for used_name, _, _ in used}
        fix = choose_from(judge, names) if names else "run `safetyqc judge` first"
        raise UserError(f"no judge {judge!r} in this run", where=str(store.path), fix=fix)
    if name is None or not hashes:
        return None
    own = (store.meta("rubric") or {}).get("hash")
    return name, own if own in hashes else hashes[-1]


def _full_name(judge: str, store: Store) -> str:
    """A judge's name where only its model was given: without the place at which it was asked.

    Raises:
        UserError: it was asked at several.
    """
    names = list(dict.fromkeys(name for name, _, _ in store.judges()))
    found = [name for name in names if name.partition(" at ")[0] == judge]
    if judge in names or not found:
        return judge
    if len(found) > 1:
        fix = "name one of them: " + ", ".join(map(repr, found))
        raise UserError(f"judge {judge!r} was asked at several places", where=str(store.path), fix=fix)
    return found[0]


def deciding_judgments(store: Store, judge: str | None = None) -> list[Judgment]:
    """Read the judgments of the deciding judge (see `deciding_judge`); empty when it has given none."""
    chosen = deciding_judge(store, judge)
    return list(store.judgments(*chosen)) if chosen else []


def replaced(rewrites: Iterable[Rewrite]) -> set[str]:
    """Ids that are out because of rewrites: superseded by one that was kept, or one that was not kept itself."""
    attempts = [rewrite for rewrite in rewrites if rewrite.child_id]
    results = {rewrite.child_id: rewrite for rewrite in attempts if rewrite.child_id}
    discarded = {child for child, rewrite in results.items() if not rewrite.kept}
    return discarded | {rewrite.parent_id for rewrite in attempts if rewrite.kept}


def classified(conversation: Conversation, verdict: Judgment | Verdict | None) -> Conversation:
    """A conversation with the plan's or the file's category and intent, else those that its judge saw."""
    if verdict is None or (conversation.category and conversation.intent):
        return conversation
    seen = {"category": verdict.category, "intent": verdict.intent}
    return conversation.model_copy(update={fact: getattr(conversation, fact) or word for fact, word in seen.items()})


def _set_aside(
    conversation: Placed, hit: Rejection | None, heirs: Mapping[str, str], results: Mapping[str, Rewrite]
) -> Standing | None:
    """Where a conversation stands whatever its verdict, before duplicates are looked at; None for by its verdict."""
    if conversation.origin == "canary":
        return Standing("canary", "planted to measure judges")
    attempt = results.get(conversation.id)
    if attempt and not attempt.kept:
        return Standing("discarded", f"rewrite not kept: {attempt.reason}", attempt.parent_id)
    if hit:
        return Standing("rejected", f"{hit.filter}: {hit.reason}")
    if conversation.id in heirs:
        return Standing("superseded", f"rewritten as {heirs[conversation.id]}", heirs[conversation.id])
    if conversation.origin == "rewritten" and attempt is None:
        return Standing("unjudged", "a rewrite that was not judged yet")
    return None


def _near_references(
    matches: Iterable[ReferenceMatch], standings: Mapping[str, Standing]
) -> Iterator[tuple[str, Standing]]:
    """What is out for another reason already keeps that reason."""
    for match in matches:
        found = standings.get(match.conversation_id)
        if match.removed and found and _CLAIM.get(found.status, 3) < _CLAIM["superseded"]:
            reason = f"near {match.place} (similarity {match.similarity:.2f})"
            yield match.conversation_id, Standing("reference", reason)


def _judged(verdict: Verdict | None, passed: Standing) -> Standing:
    if verdict is None:
        return Standing("unjudged", "not judged by the deciding judge")
    if verdict.passed:
        return passed
    named = ", ".join(verdict.undecided if verdict.passed is None else verdict.failed) or "the rubric's rule"
    return Standing("unscored", named) if verdict.passed is None else Standing("failed", f"failed {named}")


def _duplicates(
    kept: str, dropped: Sequence[Drop], standings: Mapping[str, Standing], heirs: Mapping[str, str]
) -> dict[str, Standing]:
    """The new standings of a group's members: all but the one that speaks for the group are duplicates."""
    members = [kept, *(drop.id for drop in dropped)]
    present = [m for m in dict.fromkeys(_last_heir(m, heirs) for m in members) if _claim(m, standings) is not None]
    if not present:
        return {}
    speaker = min(present, key=lambda m: _CLAIM[standings[m].status])  # min takes the first among equals
    similarity = {drop.id: f" (similarity {drop.similarity:.2f})" for drop in dropped}
    found = {m: similarity.get(m, "") if speaker == kept else "" for m in present if m != speaker}
    mendable = {m: text for m, text in found.items() if _CLAIM[standings[m].status] < _CLAIM["superseded"]}
    return {m: Standing("duplicate", f"duplicate of {speaker}{text}", speaker) for m, text in mendable.items()}


def _claim(conversation_id: str, standings: Mapping[str, Standing]) -> int | None:
    return _CLAIM.get(standings[conversation_id].status) if conversation_id in standings else None


def _last_heir(conversation_id: str, heirs: Mapping[str, str]) -> str:
    seen = {conversation_id}
    while (heir := heirs.get(conversation_id)) and heir not in seen:  # a damaged ledger must not hang the report
        seen.add(heir)
        conversation_id = heir
    return conversation_id
