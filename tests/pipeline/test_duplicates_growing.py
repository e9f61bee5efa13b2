"""A dedup that only searches for what is new says what one that looks at everything says, after any change of a run."""

from __future__ import annotations

import io
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from safetyqc.config import Config, DedupSettings
from safetyqc.dedup import FrozenVocabulary, compared_text, find_pairs
from safetyqc.errors import UserError
from safetyqc.pipeline.duplicates import Deduplicated, dedup_run, rank
from safetyqc.pipeline.progress import Progress
from safetyqc.pipeline.session import Session
from safetyqc.records import Conversation, DuplicateGroup, Rejection, Rewrite
from safetyqc.store import Store, Verdict
from safetyqc.store.standing import stand
from tests.dedup.test_pairs import recombined
from tests.pipeline.test_duplicates import conversations
from tests.support.grouping import group_pairs
from tests.support.runs import judgment

pytestmark = pytest.mark.compiled

OUT = {"rejected", "discarded", "superseded", "canary"}
TEXTS = recombined(400, seed=3)
TEXTS[40] = TEXTS[200] = TEXTS[7]
TEXTS[41] = TEXTS[8].upper() + "!"
TEXTS[50] = TEXTS[150] = "🙂🙂"


class Growing:
    """A run that is deduplicated after every change, and held against a dedup of everything."""

    def __init__(self, folder: Path) -> None:
        self.store = Store.create(folder)
        self.added = 0

    def dedup(self, **settings: Any) -> Deduplicated:
        config = Config(run=self.store.folder, dedup=DedupSettings(**settings))
        found = dedup_run(Session(config, self.store, Progress(quiet=True)))
        assert_same(found, self.store, config.dedup)
        return found

    def add(self, count: int) -> None:
        self.store.add_conversations(conversations(TEXTS[self.added : self.added + count], first=self.added))
        self.added += count

    def reject(self, *names: str) -> None:
        self.store.put_rejections([Rejection(conversation_id=n, filter="f", reason="r") for n in names], names)

    def accept(self, *names: str) -> None:
        self.store.put_rejections([], names)

    def judge(self, names: Iterable[str], judge: str = "local", **outcomes: Any) -> None:
        held = {c.id: c for c in self.store.conversations()}
        self.store.put_judgments(judgment(held[name], judge=judge, **outcomes) for name in names).result()

    def rewrite(self, parent: str, *, kept: bool, text: str) -> None:
        child = conversations([text])[0].model_copy(
            update={"id": f"{parent}-again", "origin": "rewritten", "parent_id": parent}
        )
        self.store.add_conversations([child])
        self.store.put_rewrite(
            Rewrite(parent_id=parent, child_id=child.id, revision=1, kept=kept, reason="r", judge="local")
        )


def whole(store: Store, settings: DedupSettings) -> tuple[tuple[DuplicateGroup, ...], list[Conversation], Any]:
    """What a dedup finds that reads and compares everything, by the count that is frozen with the run."""
    everything = list(store.conversations())
    standings = stand(store.placed(), {}, rejections=store.rejections(), rewrites=store.rewrites())
    removed = {match.conversation_id for match in store.matches() if match.removed}
    items = [c for c in everything if standings[c.id].status not in OUT and c.id not in removed]
    verdicts = {j.conversation_id: Verdict.of(j) for j in store.judgments(store.meta("deciding_judge"))}
    pairs = find_pairs(
        [compared_text(c, settings.on) for c in items],
        settings.min_similarity,
        weights=settings.weights,
        vocabulary=FrozenVocabulary.from_bytes(store.packed(f"vocabulary {settings.on}") or b""),
        backend="reference",
    )
    result = group_pairs(
        items,
        pairs,
        min_similarity=settings.min_similarity,
        on=settings.on,
        rank=lambda c: rank(verdicts.get(c.id)),
        within_category=settings.within_category,
        linkage=settings.linkage,
    )
    return result.groups, items, pairs


def assert_same(found: Deduplicated, store: Store, settings: DedupSettings) -> None:
    groups, items, pairs = whole(store, settings)
    assert shown(found.groups) == shown(groups)
    near = [d.similarity for group in groups for d in group.dropped]
    assert [d.similarity for g in found.groups for d in g.dropped] == near
    drops = [drop for group in groups for drop in group.dropped]
    counts = found.counts
    assert (counts.groups, counts.dropped) == (len(groups), len(drops))
    assert counts.exact == sum(drop.exact for drop in drops)
    assert (found.facts.conversations, found.facts.pairs) == (len(items), len(pairs))
    for b in found.facts.nearness.bins:
        if b.low >= settings.min_similarity:
            inside = [near for near in pairs.nearest() if b.low <= near < b.high or near == b.low == 1]
            assert b.count == len(inside)
    assert sum(map(sum, found.facts.nearness.categories.values())) == len(items)


def shown(groups: Iterable[DuplicateGroup]) -> list[Any]:
    return [(g.kept, [(d.conversation_id, d.exact, d.terms) for d in g.dropped]) for g in groups]


@pytest.fixture(params=["by the reference", "compiled"])
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Growing]:
    """A run that is searched by scikit-learn, and one that counts as large."""
    if request.param == "compiled":
        monkeypatch.setattr("safetyqc.dedup.search._REFERENCE_CHARACTERS", 0)
    made = Growing(tmp_path / "r")
    yield made
    made.store.close()


def kept_and_dropped(found: Deduplicated) -> tuple[str, str]:
    """The kept one and a dropped one of the largest group."""
    largest = max(found.groups, key=lambda group: len(group.dropped))
    return largest.kept, largest.dropped[-1].conversation_id


# ---- one change at a time --------------------------------------------------------------------------------------------


def test_conversations_that_come_go_and_come_back(run: Growing) -> None:
    run.add(60)
    run.dedup()
    run.add(20)
    kept, dropped = kept_and_dropped(run.dedup())
    for names in ((kept,), (dropped,), (kept, dropped, "c7", "c50")):
        run.reject(*names)
        run.dedup()
        run.add(3)
        run.dedup()
        run.accept(*names)
        run.dedup()


def test_verdicts_that_change_who_is_kept(run: Growing) -> None:
    run.add(80)
    run.store.set_meta("deciding_judge", "local")
    kept, dropped = kept_and_dropped(run.dedup())
    run.judge([f"c{n}" for n in range(0, 80, 2)])
    run.dedup()
    run.judge([kept], empathy="fail")
    run.judge([dropped])
    assert kept not in {group.kept for group in run.dedup().groups}
    run.judge([dropped], empathy="fail")  # replaces the latest verdict of all
    run.judge([kept])
    assert kept in {group.kept for group in run.dedup().groups}
    run.judge([dropped], judge="other")
    run.dedup()
    run.store.set_meta("deciding_judge", "other")
    assert dropped in {group.kept for group in run.dedup().groups}


def test_rewrites_that_replace_what_they_came_from(run: Growing) -> None:
    run.add(80)
    kept, dropped = kept_and_dropped(run.dedup())
    run.rewrite(kept, kept=True, text=TEXTS[5])
    run.dedup()
    run.rewrite(dropped, kept=False, text=TEXTS[6])
    run.dedup()


def test_other_settings_and_back(run: Growing) -> None:
    run.add(120)
    run.dedup()
    for settings in (
        {"min_similarity": 0.9},
        {"min_similarity": 0.65},
        {"linkage": "complete"},
        {"within_category": True},
        {"on": "answers"},
        {"weights": "tf", "min_similarity": 0.85},
        {"min_similarity": 0.5},
    ):
        run.dedup(**settings)
        run.add(5)
        run.dedup(**settings)
        run.dedup()
    run.dedup(refit=True)
    run.add(5)
    run.dedup()


def test_other_settings_and_back_with_ids_that_hold_ends_of_lines(run: Growing) -> None:
    named = [c.model_copy(update={"id": f"{c.id}\u2028\x85\n"}) for c in conversations(TEXTS[:60])]
    run.store.add_conversations(named)
    for least in (0.5, 0.95, 0.5, 0.75, 0.5, 0.95):
        run.dedup(min_similarity=least)


def test_what_is_near_a_reference_takes_no_part(run: Growing, tmp_path: Path) -> None:
    run.add(60)
    bench = tmp_path / "bench.txt"
    bench.write_text("\n".join(TEXTS[n][: len(TEXTS[n]) // 2] for n in (3, 7)))
    run.dedup()
    assert run.dedup(against=(bench,)).matches
    run.add(10)
    assert run.dedup().matches
    assert not run.dedup(against=()).matches


@pytest.mark.parametrize("seed", range(4))
def test_any_order_of_changes(run: Growing, seed: int) -> None:
    rng = random.Random(seed)
    run.store.set_meta("deciding_judge", "local")
    run.add(50)
    settings: dict[str, Any] = {}

    def some(most: int) -> list[str]:
        return [f"c{n}" for n in rng.sample(range(run.added), rng.randint(1, most))]

    changes: list[Callable[[], object]] = [
        lambda: run.add(rng.choice((1, 7, 20))),
        lambda: run.reject(*some(8)),
        lambda: run.accept(*some(run.added)),
        lambda: run.judge(some(20)),
        lambda: run.judge(some(6), empathy="fail"),
        lambda: run.rewrite(some(1)[0], kept=rng.random() < 0.7, text=rng.choice(TEXTS[:100])),
        lambda: settings.update(linkage=rng.choice(("single", "complete"))),
        lambda: settings.update(min_similarity=rng.choice((0.7, 0.75, 0.9))),
    ]
    for _ in range(14):
        for change in rng.sample(changes, rng.randint(0, 2)):
            change()
        run.dedup(**settings)


def test_with_little_memory_texts_wait_in_a_file(run: Growing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safetyqc.formats.spooled._CHARACTER_BYTES", 1e6)
    monkeypatch.setattr("safetyqc.dedup.evidence._AT_ONCE", 5)
    for settings in ({}, {}, {"min_similarity": 0.9}, {"refit": True}, {"linkage": "complete"}):
        run.add(60)
        run.dedup(memory="100MB", **settings)


# ---- what is not done ------------------------------------------------------------------------------------------------


def only_dedup(run: Growing, **settings: Any) -> Deduplicated:
    """Without the comparison, which reads everything."""
    config = Config(run=run.store.folder, dedup=DedupSettings(**settings))
    return dedup_run(Session(config, run.store, Progress(quiet=True)))


@pytest.mark.parametrize("memory", [None, "100MB"])
def test_each_conversation_is_read_once(
    run: Growing, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, memory: str | None
) -> None:
    read = Counter[str]()
    parse = Conversation.model_validate_json

    def noted(body: str) -> Conversation:
        found = parse(body)
        read[found.id] += 1
        return found

    if memory:
        monkeypatch.setattr("safetyqc.formats.spooled._CHARACTER_BYTES", 1e6)
    monkeypatch.setattr(Conversation, "model_validate_json", noted)
    bench = tmp_path / "bench.txt"
    bench.write_text(TEXTS[3][: len(TEXTS[3]) // 2])
    for settings in ({}, {"min_similarity": 0.9}, {"linkage": "complete"}, {"against": (bench,)}, {"refit": True}):
        run.add(30)
        read.clear()
        found = only_dedup(run, memory=memory, **settings)
        assert found.counts.conversations == run.added
        assert set(read.values()) == {1}, "what the store still holds of an earlier reading is not read again"


@pytest.mark.parametrize("name", ["pairs all tfidf", "vocabulary all"])
def test_nothing_is_searched_again_or_counted_anew_without_need(run: Growing, name: str) -> None:
    run.add(100)
    run.dedup()
    before = run.store.packed(name)
    run.dedup(min_similarity=0.9, linkage="complete")
    assert run.store.packed(name) == before


# ---- what older versions left ----------------------------------------------------------------------------------------


def test_an_index_and_arrays_of_older_versions_are_removed_and_the_run_is_searched_by_its_count(run: Growing) -> None:
    run.add(60)
    run.dedup()
    folder = run.store.folder / "dedup" / "all-tfidf"
    folder.mkdir(parents=True)
    (folder / "3f.segment").write_bytes(b"x")
    for name in ("roster", "grouped", "evidence"):
        run.store.put_packed(name, b"x")
    count = run.store.packed("vocabulary all")
    run.store.put_packed("pairs all tfidf", pairs_of_format_2(run.store))
    run.add(40)
    assert run.dedup().told[0].startswith("searched 100 conversations")
    assert not (run.store.folder / "dedup").exists()
    assert [run.store.packed(name) for name in ("roster", "grouped", "evidence")] == [None] * 3
    assert run.store.packed("vocabulary all") == count


def pairs_of_format_2(store: Store) -> bytes:
    """What was stored before: numbers of conversations, and the name of an index."""
    with np.load(io.BytesIO(store.packed("pairs all tfidf") or b"")) as now:
        arrays = {name: now[name] for name in now.files}
    head = json.loads(arrays.pop("head").tobytes())
    arrays["numbers"] = np.arange(1, len(head.pop("ids")) + 1)
    head |= {"format": 2, "index": "3f"}
    buffer = io.BytesIO()
    np.savez(buffer, head=np.frombuffer(json.dumps(head).encode(), np.uint8), **arrays)
    return buffer.getvalue()


# ---- when something goes wrong ---------------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("what", ["forget_packed", "put_packed", "replace_duplicates", "replace_matches", "set_meta"])
def test_killed_anywhere_the_next_dedup_is_right(run: Growing, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    run.add(60)
    run.dedup()
    run.add(20)
    with monkeypatch.context() as patched:
        patched.setattr(f"safetyqc.store.Store.{what}", killed)
        with pytest.raises(Killed):
            only_dedup(run)
    run.dedup()
    run.add(20)
    run.dedup()


def test_pairs_that_were_lost_are_found_again_among_what_is_left(run: Growing) -> None:
    run.add(80)
    kept, _ = kept_and_dropped(run.dedup())
    run.store.put_packed("pairs all tfidf", b"")
    run.reject(kept)
    run.dedup()


def test_too_many_pairs_from_below_leave_those_asked_for(run: Growing, monkeypatch: pytest.MonkeyPatch) -> None:
    run.add(60)
    run.dedup()
    template = " ".join(TEXTS[90:96])
    run.store.add_conversations(conversations([f"{template} {n} n{n} a{n} b{n}" for n in range(30)], first=900))
    monkeypatch.setattr("safetyqc.dedup.pairs._MOST_PAIRS", 200)
    groups = run.store.duplicate_groups()
    for _ in range(2):
        with pytest.raises(UserError, match="more than 200 pairs"):
            only_dedup(run)
        assert run.store.duplicate_groups() == groups
    told = run.dedup(min_similarity=0.999).told
    assert told[0].startswith("searched 90 conversations from a similarity of 0.999 on")
