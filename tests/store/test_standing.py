from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from safetyqc.errors import UserError
from safetyqc.records import (
    Conversation,
    Duplicate,
    DuplicateGroup,
    Judgment,
    ReferenceMatch,
    Rejection,
    Rewrite,
    Score,
)
from safetyqc.store import Drop, Placed, Store, Verdict
from safetyqc.store.standing import STATUSES, Standing, deciding_judge, read_standings
from safetyqc.store.standing import stand as stand_by_columns
from safetyqc.testing import conversation


def talk(name: str, **fields: object) -> Conversation:
    return conversation(f"question {name}", f"answer {name}", id=name, **fields)


def verdict(name: str, passed: bool | None, *, judge: str = "local", rubric_hash: str = "h") -> Judgment:
    outcome = {True: "pass", False: "fail", None: "unscored"}[passed]
    return Judgment(
        conversation_id=name,
        judge=judge,
        rubric="safety",
        rubric_hash=rubric_hash,
        scores=(Score(criterion="empathy", outcome=outcome),),
        passed=passed,
    )


def stand(
    conversations: Iterable[Conversation],
    judgments: Iterable[Judgment],
    rejections: Iterable[Rejection] = (),
    groups: Iterable[DuplicateGroup] = (),
    rewrites: Iterable[Rewrite] = (),
    matches: Iterable[ReferenceMatch] = (),
) -> dict[str, Standing]:
    """Where these records would stand in a run."""
    placed = [Placed(c.id, c.origin, c.parent_id, None, c.category, c.intent) for c in conversations]
    verdicts = {j.conversation_id: Verdict.of(j) for j in judgments}
    drops = [Drop(g.kept, d.conversation_id, d.similarity) for g in groups for d in g.dropped]
    return stand_by_columns(placed, verdicts, "local", rejections, drops, rewrites, matches)


def group(kept: str, *dropped: str) -> DuplicateGroup:
    return DuplicateGroup(kept=kept, dropped=tuple(Duplicate(conversation_id=d, similarity=0.93) for d in dropped))


def rewrite(parent: str, child: str | None, *, kept: bool, revision: int = 1) -> Rewrite:
    return Rewrite(
        parent_id=parent, child_id=child, revision=revision, kept=kept, reason="broke empathy", judge="local"
    )


@pytest.mark.parametrize(
    ("passed", "status", "said"),
    [(True, "kept", "local"), (False, "failed", "failed empathy"), (None, "unscored", "empathy")],
)
def test_a_verdict_alone_decides(passed: bool | None, status: str, said: str) -> None:
    standing = stand([talk("a")], [verdict("a", passed)])["a"]
    assert standing.status == status
    assert said in standing.reason


def test_what_nobody_judged_is_unjudged() -> None:
    assert stand([talk("a")], [])["a"].status == "unjudged"


def test_of_two_verdicts_the_later_counts() -> None:
    assert stand([talk("a")], [verdict("a", False), verdict("a", True)])["a"].status == "kept"


def test_a_filter_hit_goes_before_a_passing_verdict_and_its_first_reason_is_told() -> None:
    hits = [Rejection(conversation_id="a", filter=name, reason="seen") for name in ("bad_structure", "other")]
    standing = stand([talk("a")], [verdict("a", True)], hits)["a"]
    assert (standing.status, standing.reason) == ("rejected", "bad_structure: seen")


def test_a_canary_is_never_data() -> None:
    assert stand([talk("a", origin="canary")], [verdict("a", True)])["a"].status == "canary"


def test_a_kept_rewrite_replaces_its_parent() -> None:
    standings = stand(
        [talk("a"), talk("b", origin="rewritten", parent_id="a")],
        [verdict("a", False), verdict("b", True)],
        rewrites=[rewrite("a", "b", kept=True)],
    )
    assert {i: s.status for i, s in standings.items()} == {"a": "superseded", "b": "kept"}
    assert standings["a"].instead == "b"


def test_a_kept_rewrite_that_still_fails_can_be_mended_again() -> None:
    standings = stand(
        [talk("a"), talk("b", origin="rewritten")],
        [verdict("a", False), verdict("b", False)],
        rewrites=[rewrite("a", "b", kept=True)],
    )
    assert standings["b"].status == "failed"


def test_a_rewrite_not_kept_is_discarded_even_when_a_filter_also_hit_it() -> None:
    standings = stand(
        [talk("a"), talk("b", origin="rewritten")],
        [verdict("a", False), verdict("b", True)],
        [Rejection(conversation_id="b", filter="too_short", reason="seen")],
        rewrites=[rewrite("a", "b", kept=False)],
    )
    assert {i: s.status for i, s in standings.items()} == {"a": "failed", "b": "discarded"}


def test_a_rewrite_that_was_interrupted_before_its_decision_is_not_exported() -> None:
    assert stand([talk("b", origin="rewritten")], [verdict("b", True)])["b"].status == "unjudged"


def test_a_duplicate_goes_before_a_failure_so_that_nobody_pays_to_mend_it() -> None:
    standings = stand([talk("a"), talk("b")], [verdict("a", True), verdict("b", False)], groups=[group("a", "b")])
    assert standings["a"].status == "kept"
    assert (standings["b"].status, standings["b"].instead) == ("duplicate", "a")
    assert standings["b"].reason == "duplicate of a (similarity 0.93)"


def test_when_the_kept_one_failed_since_the_copy_that_passed_stands() -> None:
    standings = stand(
        [talk("a"), talk("b"), talk("c")],
        [verdict("a", False), verdict("b", True), verdict("c", True)],
        groups=[group("a", "b", "c")],
    )
    assert {i: s.status for i, s in standings.items()} == {"a": "duplicate", "b": "kept", "c": "duplicate"}
    assert "0.93" not in standings["c"].reason  # that similarity was to a, not to b


def test_when_the_kept_one_was_rejected_since_the_next_copy_can_be_mended() -> None:
    standings = stand(
        [talk("a"), talk("b"), talk("c")],
        [verdict("b", False), verdict("c", False)],
        [Rejection(conversation_id="a", filter="bad_structure", reason="seen")],
        groups=[group("a", "b", "c")],
    )
    assert {i: s.status for i, s in standings.items()} == {"a": "rejected", "b": "failed", "c": "duplicate"}


def near(name: str, *, removed: bool = True) -> ReferenceMatch:
    return ReferenceMatch(conversation_id=name, path="folder/bench.csv", line=7, similarity=0.934, removed=removed)


@pytest.mark.parametrize("passed", [True, False, None])
def test_what_is_near_a_reference_is_out_whatever_the_judge_said_and_names_the_line(passed: bool | None) -> None:
    standing = stand([talk("a")], [verdict("a", passed)], matches=[near("a"), near("gone")])["a"]
    assert (standing.status, standing.reason) == ("reference", "near bench.csv:7 (similarity 0.93)")


def test_what_is_only_marked_stays() -> None:
    assert stand([talk("a")], [verdict("a", True)], matches=[near("a", removed=False)])["a"].status == "kept"


def test_a_copy_of_what_is_near_a_reference_stands_for_its_group() -> None:
    standings = stand(
        [talk("a"), talk("b")], [verdict("a", True), verdict("b", True)], groups=[group("a", "b")], matches=[near("a")]
    )
    assert {i: s.status for i, s in standings.items()} == {"a": "reference", "b": "kept"}


def test_what_a_filter_rejected_keeps_that_reason() -> None:
    hit = Rejection(conversation_id="a", filter="bad_structure", reason="seen")
    assert stand([talk("a")], [], [hit], matches=[near("a")])["a"].status == "rejected"


@pytest.mark.parametrize("members", [("a", "copy"), ("a", "child", "copy"), ("child", "a", "copy")])
def test_a_rewrite_stands_for_its_parents_group(members: tuple[str, ...]) -> None:
    standings = stand(
        [talk("a"), talk("copy"), talk("child", origin="rewritten")],
        [verdict("a", False), verdict("copy", False), verdict("child", True)],
        groups=[group(*members)],
        rewrites=[rewrite("a", "child", kept=True)],
    )
    assert {i: s.status for i, s in standings.items()} == {"a": "superseded", "copy": "duplicate", "child": "kept"}


def test_every_group_keeps_exactly_one_that_passes_when_any_does() -> None:
    names = ["a", "b", "c"]
    for passing in range(8):
        verdicts = [verdict(n, bool(passing >> i & 1)) for i, n in enumerate(names)]
        standings = stand([talk(n) for n in names], verdicts, groups=[group("a", "b", "c")])
        assert sum(s.status == "kept" for s in standings.values()) == (1 if passing else 0)


def test_a_ledger_that_goes_in_a_circle_does_not_hang() -> None:
    rewrites = [rewrite("a", "b", kept=True), rewrite("b", "a", kept=True)]
    standings = stand([talk("a"), talk("b"), talk("c")], [], groups=[group("a", "c")], rewrites=rewrites)
    assert set(standings) == {"a", "b", "c"}
    assert {s.status for s in standings.values()} <= set(STATUSES)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "run") as store:
        store.add_conversations([talk("a"), talk("b")])
        yield store


def test_without_a_judge_everything_is_unjudged(run: Store) -> None:
    assert deciding_judge(run) is None
    assert {s.status for s in read_standings(run).values()} == {"unjudged"}


def test_the_judge_asked_for_goes_before_the_runs_own_and_that_before_the_first_used(run: Store) -> None:
    run.put_judgments([verdict("a", True), verdict("a", False, judge="gpt")]).result()
    assert deciding_judge(run) == ("local", "h")
    run.set_meta("deciding_judge", "gpt")
    assert deciding_judge(run) == ("gpt", "h")
    assert read_standings(run)["a"].status == "failed"
    assert read_standings(run, "local")["a"].status == "kept"


def test_of_two_rubrics_of_one_judge_the_runs_own_counts_else_the_latest(run: Store) -> None:
    run.put_judgments([verdict("a", True), verdict("a", False, rubric_hash="new")]).result()
    assert deciding_judge(run) == ("local", "new")
    run.set_meta("rubric", {"id": "safety", "hash": "h", "criteria": []})
    assert deciding_judge(run) == ("local", "h")


def test_an_unknown_judge_is_told_with_the_nearest_name(run: Store) -> None:
    run.put_judgments([verdict("a", True)]).result()
    with pytest.raises(UserError, match="did you mean 'local'"):
        deciding_judge(run, "lokal")
