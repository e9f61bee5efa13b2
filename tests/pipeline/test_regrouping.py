"""A dedup that only looks at what is new says what one that looks at everything says, after any change of a run."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from safetyqc.config import Config, DedupSettings
from safetyqc.dedup import FrozenVocabulary, compared_text, find_pairs, group_pairs
from safetyqc.dedup.diversity import nearest_bins
from safetyqc.errors import OutputError, UserError
from safetyqc.pipeline.duplicates import Deduplicated, dedup_run
from safetyqc.pipeline.progress import Progress
from safetyqc.pipeline.roster import rank
from safetyqc.pipeline.searching import Texts
from safetyqc.pipeline.session import Session
from safetyqc.records import Conversation, DuplicateGroup, Rejection, Rewrite
from safetyqc.store import Store
from safetyqc.store.standing import stand
from tests.dedup.test_pairs import recombined
from tests.pipeline.test_duplicates import conversations
from tests.support.runs import judgment

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
    verdicts = {j.conversation_id: j for j in store.judgments(store.meta("deciding_judge"))}
    pairs = find_pairs(
        [compared_text(c, settings.on) for c in items],
        settings.min_similarity,
        weights=settings.weights,
        vocabulary=FrozenVocabulary.from_bytes(store.packed(f"vocabulary {settings.on}") or b""),
        backend="plain",
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
    assert [d.similarity for g in found.groups for d in g.dropped] == pytest.approx(near, abs=1.1e-6)
    drops = [drop for group in groups for drop in group.dropped]
    counts = found.counts
    assert (counts.groups, counts.dropped) == (len(groups), len(drops))
    assert counts.exact == sum(drop.exact for drop in drops)
    assert (found.facts.conversations, found.facts.pairs) == (len(items), len(pairs))
    edges = {"found_from": found.facts.nearness.found_from, "min_similarity": settings.min_similarity}
    above = [b.count for b in nearest_bins(pairs.nearest(), **edges) if b.low >= settings.min_similarity]
    assert [b.count for b in found.facts.nearness.bins if b.low >= settings.min_similarity] == above
    assert sum(map(sum, found.facts.nearness.categories.values())) == len(items)


def shown(groups: Iterable[DuplicateGroup]) -> list[Any]:
    return [(g.kept, [(d.conversation_id, d.exact, d.terms) for d in g.dropped]) for g in groups]


@pytest.fixture(params=["weighed again", "indexed"])
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Growing]:
    """A run so small that its texts are weighed again each time; and one that counts as large and keeps an index."""
    if request.param == "indexed":
        monkeypatch.setattr("safetyqc.dedup.backend._PLAIN_CHARACTERS", 0)
        monkeypatch.setattr("safetyqc.dedup.stored_index._SMALL", 2)
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


def test_with_little_memory_texts_are_read_as_they_are_looked_at(run: Growing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safetyqc.pipeline.searching._CHARACTER_BYTES", 1e6)
    monkeypatch.setattr("safetyqc.pipeline.searching._READ_AHEAD", 7)
    monkeypatch.setattr("safetyqc.pipeline.searching._READ_CHARACTERS", 1500)
    monkeypatch.setattr("safetyqc.dedup.evidence._AT_ONCE", 5)
    for settings in ({}, {}, {"min_similarity": 0.9}, {"refit": True}, {"linkage": "complete"}):
        run.add(60)
        run.dedup(memory="100MB", **settings)
    held = Texts(run.store, DedupSettings(memory="100MB")).of(np.arange(1, 40))
    assert not isinstance(held, list)
    expected = Texts(run.store, DedupSettings()).of(np.arange(1, 40))
    assert isinstance(expected, list)
    assert list(held) == expected
    assert held[5:9] == expected[5:9]
    backwards = Texts(run.store, DedupSettings(memory="100MB")).of(np.arange(39, 0, -1))
    assert list(backwards) == expected[::-1]
    assert [held[place] for place in (30, 2, 3, 38, 2)] == [expected[place] for place in (30, 2, 3, 38, 2)]


# ---- what is not done ------------------------------------------------------------------------------------------------


@pytest.fixture
def indexed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Growing]:
    """A run that keeps an index, of a hundred conversations that are deduplicated."""
    monkeypatch.setattr("safetyqc.dedup.backend._PLAIN_CHARACTERS", 0)
    made = Growing(tmp_path / "r")
    made.add(100)
    made.dedup()
    yield made
    made.store.close()


def only_dedup(run: Growing, **settings: Any) -> Deduplicated:
    """Without the comparison, which reads everything."""
    config = Config(run=run.store.folder, dedup=DedupSettings(**settings))
    return dedup_run(Session(config, run.store, Progress(quiet=True)))


def test_only_what_is_new_and_what_it_is_grouped_with_is_read(
    indexed: Growing, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Conversation] = []
    parse = Conversation.model_validate_json

    def noted(body: str) -> Conversation:
        read.append(found := parse(body))
        return found

    monkeypatch.setattr(Conversation, "model_validate_json", noted)
    only_dedup(indexed)
    assert read == []
    indexed.store.add_conversations(conversations([TEXTS[7], "nothing like it, anywhere, ever"], first=900))
    groups = only_dedup(indexed).groups
    (joined,) = [g for g in groups if any(d.conversation_id == "c900" for d in g.dropped)]
    assert {c.id for c in read} <= {"c900", "c901", joined.kept, *(d.conversation_id for d in joined.dropped)}
    assert {"c900", "c901"} <= {c.id for c in read}


def test_going_back_to_a_threshold_reads_no_text_again(indexed: Growing, monkeypatch: pytest.MonkeyPatch) -> None:
    only_dedup(indexed, min_similarity=0.95)
    only_dedup(indexed, min_similarity=0.85)
    monkeypatch.setattr("safetyqc.pipeline.searching.Texts.of", lambda _, numbers: [] if not len(numbers) else None)
    only_dedup(indexed, min_similarity=0.95)
    indexed_again = only_dedup(indexed)
    assert_same(indexed_again, indexed.store, DedupSettings())


def test_drops_that_stay_are_not_written_again(indexed: Growing, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    change = indexed.store.change_duplicates

    def noted(gone: Any, drops: Any, packed: Any) -> None:
        drops = list(drops)
        written.extend(dropped for _, dropped, _, _ in drops)
        change(gone, drops, packed)

    monkeypatch.setattr(indexed.store, "change_duplicates", noted)
    indexed.store.add_conversations(conversations([TEXTS[7]], first=900))
    only_dedup(indexed)
    assert written == ["c900"]


# ---- when something goes wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["removed", "cut short", "changed", "head changed"])
def test_an_index_that_is_gone_or_damaged_is_made_again_and_told(indexed: Growing, how: str) -> None:
    folder = indexed.store.folder / "dedup" / "all-tfidf"
    (segment,) = folder.glob("*.segment")
    (head,) = folder.glob("*.json")
    if how == "removed":
        segment.unlink()
    elif how == "head changed":
        head.write_bytes(head.read_bytes().replace(b"tfidf", b"tfid "))
    else:
        whole_file = segment.read_bytes()
        middle = len(whole_file) // 2
        changed = whole_file[:middle] + bytes([whole_file[middle] ^ 1]) + whole_file[middle + 1 :]
        segment.write_bytes(whole_file[:middle] if how == "cut short" else changed)
    indexed.add(20)
    told = indexed.dedup().told
    assert "the index of 100 old conversations was gone or damaged, and was made again" in told
    assert not segment.exists()
    indexed.add(20)
    assert not any("gone or damaged" in line for line in indexed.dedup().told)


def test_a_copied_run_keeps_its_index(indexed: Growing) -> None:
    for path in (indexed.store.folder / "dedup" / "all-tfidf").iterdir():
        path.write_bytes(path.read_bytes())  # other times, the same content
    indexed.add(20)
    assert not any("gone or damaged" in line for line in indexed.dedup().told)


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize(
    ("where", "what"),
    [
        ("safetyqc.pipeline.searching", "_remember"),
        ("safetyqc.dedup.stored_index.StoredIndex", "save"),
        ("safetyqc.dedup.stored_index.StoredIndex", "remove_others"),
        ("safetyqc.store.Store", "change_duplicates"),
        ("safetyqc.store.Store", "replace_matches"),
    ],
)
def test_killed_anywhere_it_goes_on_without_making_the_index_again(
    indexed: Growing, monkeypatch: pytest.MonkeyPatch, where: str, what: str
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    indexed.add(20)
    with monkeypatch.context() as patched:
        patched.setattr(f"{where}.{what}", killed)
        with pytest.raises(Killed):
            only_dedup(indexed)
    assert not any("gone or damaged" in line for line in indexed.dedup().told)
    indexed.add(20)
    assert not any("gone or damaged" in line for line in indexed.dedup().told)
    files = {path.suffix for path in (indexed.store.folder / "dedup" / "all-tfidf").iterdir()}
    assert files == {".json", ".segment"}
    assert len(list((indexed.store.folder / "dedup" / "all-tfidf").glob("*.json"))) == 1


def test_groups_that_something_else_wrote_are_made_anew(indexed: Growing) -> None:
    indexed.store.replace_duplicates([])
    assert indexed.dedup().groups


@pytest.mark.parametrize("name", ["roster", "grouped"])
def test_damaged_arrays_that_can_be_worked_out_are(indexed: Growing, name: str) -> None:
    indexed.store.put_packed(name, b"damaged")
    indexed.add(5)
    indexed.dedup()


def test_a_run_that_outgrows_weighing_again_gets_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Growing(tmp_path / "r")
    run.add(60)
    monkeypatch.setattr("safetyqc.dedup.backend._PLAIN_CHARACTERS", sum(map(len, TEXTS[:70])))
    run.dedup()
    assert not (tmp_path / "r" / "dedup").exists()
    run.add(20)
    run.dedup()
    assert list((tmp_path / "r" / "dedup" / "all-tfidf").glob("*.segment"))
    run.add(20)
    run.dedup()
    run.store.close()


def test_pairs_that_were_lost_are_found_again_among_what_is_left(run: Growing) -> None:
    run.add(80)
    kept, _ = kept_and_dropped(run.dedup())
    run.store.put_packed("pairs all tfidf", b"")
    run.reject(kept)
    run.dedup()


def test_where_no_index_can_be_written_it_is_told_and_nothing_of_it_is_left(
    indexed: Growing, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = indexed.store.folder / "dedup" / "all-tfidf"

    def full(path: Path, _: object) -> None:
        path.write_bytes(b"half of it")
        raise OutputError("the disk is full", where=str(path))

    with monkeypatch.context() as patched:
        patched.setattr("safetyqc.dedup.stored_index.write_arrays", full)
        for _ in range(2):
            indexed.add(20)
            assert any("no index" in line and "the disk is full" in line for line in indexed.dedup().told)
            assert not list(folder.iterdir())
        assert not any("no index" in line for line in indexed.dedup().told)
    indexed.add(20)
    indexed.dedup()
    assert list(folder.glob("*.segment"))
    indexed.add(20)
    assert not any("no index" in line or "gone" in line for line in indexed.dedup().told)


def test_folders_that_others_make_beside_the_index_stay(indexed: Growing) -> None:
    strange = indexed.store.folder / "dedup" / "all-tfidf" / "@eaDir"
    strange.mkdir()
    indexed.add(20)
    indexed.dedup()
    assert strange.is_dir()


def test_too_many_pairs_from_below_leave_those_asked_for(run: Growing, monkeypatch: pytest.MonkeyPatch) -> None:
    run.add(60)
    run.dedup()
    template = " ".join(TEXTS[90:96])
    run.store.add_conversations(conversations([f"{template} {n} n{n} a{n} b{n}" for n in range(30)], first=900))
    monkeypatch.setattr("safetyqc.dedup.pairs._MOST_PAIRS", 200)
    folder = run.store.folder / "dedup" / "all-tfidf"
    before = sorted(folder.glob("*"))
    for _ in range(2):
        with pytest.raises(UserError, match="more than 200 pairs"):
            only_dedup(run)
        assert sorted(folder.glob("*")) == before
    told = run.dedup(min_similarity=0.999).told
    assert told[0].startswith("searched 90 conversations from a similarity of 0.999 on")
