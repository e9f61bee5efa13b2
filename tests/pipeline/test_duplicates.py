"""What a run remembers of its dedups: pairs, the frozen vocabulary, reference sets; and what that does to its set."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from safetyqc.config import Config, DedupSettings, GenerateSettings, ModelSettings
from safetyqc.dedup import FrozenVocabulary
from safetyqc.dedup.search import Search
from safetyqc.errors import InputError, UserError
from safetyqc.llm.client import Request
from safetyqc.pipeline.duplicates import Deduplicated, dedup_conversations, dedup_run
from safetyqc.pipeline.order import generate
from safetyqc.pipeline.progress import Progress
from safetyqc.pipeline.session import Session
from safetyqc.records import Conversation, Message
from safetyqc.reports.summary import summarise
from safetyqc.store import Store
from safetyqc.store.standing import read_standings
from safetyqc.testing import ScriptedClient
from tests.dedup.test_groups import CHINESE, ENGLISH
from tests.dedup.test_pairs import recombined
from tests.support.runs import judgment

Cli = Callable[..., Any]


def conversations(texts: Iterable[str], first: int = 0) -> list[Conversation]:
    """A conversation for each text: its first half asks, the other answers."""
    return [
        Conversation(
            id=f"c{n}",
            messages=(
                Message(role="user", content=text[: len(text) // 2]),
                Message(role="assistant", content=text[len(text) // 2 :]),
            ),
            category=f"category {n % 3}",
        )
        for n, text in enumerate(texts, first)
    ]


TEXTS = recombined(120, seed=5)
EVERYTHING = conversations(TEXTS)
PROMPT = "How do I get a grand piano up a narrow winding staircase?"
EVERYTHING[7] = EVERYTHING[7].model_copy(
    update={"messages": (Message(role="user", content=PROMPT), EVERYTHING[7].messages[1])}
)


class Run:
    """A run in a folder, deduplicated with the given settings."""

    def __init__(self, folder: Path) -> None:
        self.store = Store.create(folder)

    def dedup(self, **settings: Any) -> Deduplicated:
        config = Config(run=self.store.folder, dedup=DedupSettings(**settings))
        found = dedup_run(Session(config, self.store, Progress(quiet=True)))
        assert len(found.groups) == found.counts.groups  # read now, before another dedup changes them
        return found

    def pairs(self) -> dict[tuple[str, str], float]:
        """Every pair that the run remembers, by ids."""
        vocabulary = FrozenVocabulary.from_bytes(self.store.packed("vocabulary all") or b"")
        found = Search.from_bytes(self.store.packed("pairs all tfidf") or b"", vocabulary)
        assert found
        return {(found.ids[a], found.ids[b]): similarity for a, b, similarity in found.pairs.links()}

    def statuses(self) -> dict[str, str]:
        return {name: found.status for name, found in read_standings(self.store).items()}


@pytest.fixture
def run(tmp_path: Path) -> Iterable[Run]:
    made = Run(tmp_path / "r")
    yield made
    made.store.close()


# ---- thresholds ------------------------------------------------------------------------------------------------------


def test_a_higher_threshold_reuses_the_pairs_and_gives_what_a_new_search_gives(run: Run, tmp_path: Path) -> None:
    run.store.add_conversations(EVERYTHING)
    assert run.dedup(min_similarity=0.7).told[0].startswith("searched 120 conversations from a similarity of 0.6")
    again = run.dedup(min_similarity=0.85)
    assert again.told[0].startswith("reused the pairs found before")
    assert again.groups == dedup_conversations(DedupSettings(min_similarity=0.85), EVERYTHING).groups
    assert again.groups
    assert len(again.groups) < len(run.dedup(min_similarity=0.65).groups)


def test_a_lower_threshold_than_was_searched_searches_anew(run: Run) -> None:
    run.store.add_conversations(EVERYTHING)
    run.dedup()
    assert run.dedup(min_similarity=0.5).told[0].startswith("searched 120 conversations from a similarity of 0.5")
    assert run.dedup(min_similarity=0.6).told[0].startswith("reused")


@pytest.mark.parametrize("changed", [{"on": "answers"}, {"weights": "tf"}, {"analyzer": "char"}, {"refit": True}])
def test_pairs_of_another_comparison_are_not_taken_but_kept(changed: dict[str, Any], run: Run) -> None:
    run.store.add_conversations(EVERYTHING)
    run.dedup()
    assert run.dedup(**changed).told[0].startswith("searched")
    assert run.dedup().told[0].startswith("reused")


def test_policy_needs_no_search(run: Run) -> None:
    run.store.add_conversations(EVERYTHING)
    run.dedup()
    for settings in ({"linkage": "complete"}, {"within_category": True}):
        assert run.dedup(**settings).told[0].startswith("reused")


# ---- conversations added later ---------------------------------------------------------------------------------------


def test_old_pairs_keep_their_similarity_to_the_last_bit_when_conversations_are_added(run: Run) -> None:
    run.store.add_conversations(EVERYTHING[:60])
    run.dedup()
    before = run.pairs()
    # words that were rare become common: with a new count every similarity would change
    run.store.add_conversations(conversations([TEXTS[0] + f" {n} {n}" for n in range(200)], first=500))
    run.store.add_conversations(EVERYTHING[60:])
    told = run.dedup().told
    assert told[0] == "searched 260 new conversations, 60 old ones reuse the pairs found before"
    assert "--refit counts anew" in told[1]
    after = run.pairs()
    assert before
    assert {pair: after.get(pair) for pair in before} == before
    run.dedup(refit=True)
    assert {pair: run.pairs().get(pair) for pair in before} != before


def test_adding_finds_what_a_whole_search_with_that_count_finds(run: Run) -> None:
    run.store.add_conversations(EVERYTHING[:70])
    run.dedup(min_similarity=0.7)
    vocabulary = run.store.packed("vocabulary all")
    run.store.add_conversations(EVERYTHING[70:])
    added = run.dedup(min_similarity=0.7)
    assert run.store.packed("vocabulary all") == vocabulary
    run.store.put_packed("pairs all tfidf", b"")  # forget the pairs, not the count
    whole = run.dedup(min_similarity=0.7)
    assert whole.told[0].startswith("searched 120 conversations")
    assert added.groups == whole.groups


def test_an_empty_run_freezes_nothing(run: Run) -> None:
    run.dedup()
    assert run.store.packed("vocabulary all") is None
    run.store.add_conversations(EVERYTHING)
    assert run.dedup().told[0].startswith("searched 120")


def test_what_is_remembered_survives_closing_and_what_is_damaged_is_found_again(tmp_path: Path) -> None:
    run = Run(tmp_path / "r")
    run.store.add_conversations(EVERYTHING)
    run.dedup()
    run.store.close()
    run = Run(tmp_path / "r")
    assert run.dedup(min_similarity=0.9).told[0].startswith("reused")
    run.store.put_packed("pairs all tfidf", b"damaged")
    assert run.dedup().told[0].startswith("searched 120")
    run.store.put_packed("vocabulary all", b"damaged")
    with pytest.raises(UserError, match="not a stored vocabulary"):
        run.dedup()
    assert run.dedup(refit=True).groups
    run.store.close()


# ---- reference sets --------------------------------------------------------------------------------------------------


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    path = tmp_path / "bench.csv"
    path.write_text(f"id,prompt\n1,What is the weight of a cloud of rain?\n2,{PROMPT.upper()}\n", encoding="utf-8")
    return path


def test_what_is_near_a_reference_is_out_with_its_file_and_line(run: Run, bench: Path) -> None:
    run.store.add_conversations(EVERYTHING[:40])
    found = run.dedup(against=(bench,))
    (match,) = [m for m in run.store.matches() if m.conversation_id == "c7"]
    assert (match.place, match.turn, match.removed) == ("bench.csv:3", 0, True)
    assert match.similarity > 0.95
    assert match.terms
    standing = read_standings(run.store)["c7"]
    assert (standing.status, standing.reason) == (
        "reference",
        f"near bench.csv:3 (similarity {match.similarity:.2f})",
    )
    assert "c7" not in {d for g in found.groups for d in (g.kept, *(x.conversation_id for x in g.dropped))}
    assert found.facts.against is not None
    assert (found.facts.against.files, found.facts.against.references) == (("bench.csv",), 2)
    assert found.tally.failed["reference"] == len(found.matches)


def test_marking_keeps_it_in(run: Run, bench: Path) -> None:
    run.store.add_conversations(EVERYTHING[:40])
    found = run.dedup(against=(bench,), against_mark=True)
    assert [m.removed for m in run.store.matches()] == [False] * len(found.matches)
    assert found.matches
    assert "reference" not in run.statuses().values()


def test_references_are_searched_again_until_they_are_forgotten(run: Run, bench: Path) -> None:
    run.store.add_conversations(EVERYTHING[:5])
    run.dedup(against=(bench,), against_min_similarity=0.8)
    assert "reference" not in run.statuses().values()
    run.store.add_conversations(EVERYTHING[5:40])
    assert run.dedup().told[-1] == "against bench.csv as before; --no-against forgets it"
    assert run.statuses()["c7"] == "reference"
    (match,) = run.store.matches()
    assert match.similarity >= 0.8
    run.dedup(against=())
    assert "reference" not in run.statuses().values()
    assert run.dedup().facts.against is None


def test_a_reference_set_that_went_away_is_told_and_nothing_changes(run: Run, bench: Path) -> None:
    run.store.add_conversations(EVERYTHING[:40])
    run.dedup(against=(bench,))
    bench.unlink()
    before = run.statuses()
    with pytest.raises(UserError, match=r"bench.csv.*is gone"):
        run.dedup()
    with pytest.raises(InputError, match=r"bench.csv"):
        run.dedup(against=(bench,))
    with pytest.raises(UserError, match="standard input"):
        run.dedup(against=(Path("-"),))
    assert run.statuses() == before


@pytest.mark.compiled
def test_a_training_mix_is_a_reference_and_copies_on_both_sides_stay_few(tmp_path: Path) -> None:
    mix = tmp_path / "mix.jsonl"
    items = conversations([ENGLISH[0]] * 3000 + [CHINESE[0]])
    line = json.dumps(items[0].as_messages())
    mix.write_text("\n".join([line] * 3000))
    found = dedup_conversations(DedupSettings(against=(mix,)), items)
    assert len(found.matches) == 3000
    assert {(m.place, m.similarity) for m in found.matches} == {("mix.jsonl:1", 1.0)}
    assert found.tally.done == 1


# ---- at the edges ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "stay"),
    [
        pytest.param(["the same text again and again"] * 500, 1, id="all identical"),
        pytest.param(["🙂🙂"] * 20 + ["!!??"] * 20, 2, id="no words at all"),
        pytest.param(["just one conversation"], 1, id="one"),
        pytest.param([], 0, id="none"),
        pytest.param(
            [" ".join(f"word{n % 5000}" for n in range(700_000)), "and a short one"],
            2,
            marks=pytest.mark.compiled,
            id="five megabytes",
        ),
    ],
)
def test_odd_sets(texts: list[str], stay: int) -> None:
    assert dedup_conversations(DedupSettings(), conversations(texts)).tally.done == stay


@pytest.mark.parametrize("memory", ["2MB", "4GB"])
def test_a_bound_on_memory_changes_nothing(memory: str) -> None:
    free = dedup_conversations(DedupSettings(min_similarity=0.7), EVERYTHING)
    bound = dedup_conversations(DedupSettings(min_similarity=0.7, memory=memory), EVERYTHING)
    assert bound.groups == free.groups
    assert free.groups
    assert bool(bound.told) is (memory == "2MB")
    assert not free.told


# ---- from the command line -------------------------------------------------------------------------------------------


def write(path: Path, items: Iterable[Conversation]) -> None:
    path.write_text("\n".join(json.dumps({"id": c.id, "messages": c.as_messages()}) for c in items), encoding="utf-8")


def test_the_command_says_what_it_removed_and_why(cli: Cli, tmp_path: Path, bench: Path) -> None:
    write(tmp_path / "data.jsonl", EVERYTHING[:40])
    ended = cli("dedup", "data.jsonl", "--against", "bench.csv", "--jsonl", "out.jsonl", "--memory", "500MB")
    assert ended.code == 0, ended.err
    assert "1 more removed as near a reference" in ended.out
    assert "bench.csv:3  is like c7, message 1" in ended.out
    assert "▒" in ended.out
    assert "threshold: near-duplicates from here on" in ended.out
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    (near,) = [line for line in lines if line.get("index") == 7]
    assert list(near) == ["index", "near", "similarity", "removed"]
    assert (near["near"]["path"], near["near"]["line"], near["removed"]) == ("bench.csv", 3, True)
    shown = cli("dedup", "data.jsonl", "--against", "bench.csv", "--against-mark", "--unmask").out
    assert "conversations marked" in shown
    assert "▒" not in shown


def test_the_settings_file_names_reference_sets_for_the_whole_run(cli: Cli, tmp_path: Path, bench: Path) -> None:
    write(tmp_path / "data.jsonl", EVERYTHING[:40])
    (tmp_path / "safetyqc.yaml").write_text(
        "dedup:\n  against: [bench.csv]\n  memory: 1GB\njudge:\n  models: [local]\nrewrite:\n  rounds: 0\n"
    )
    ended = cli("run", "data.jsonl")
    assert ended.code == 0, ended.err
    assert "reference 1" in ended.err
    with Store.read(tmp_path / "safetyqc-run") as store:
        assert read_standings(store)["c7"].status == "reference"


def test_the_export_leaves_out_what_is_near_a_reference(run: Run, cli: Cli, tmp_path: Path, bench: Path) -> None:
    run.store.add_conversations(EVERYTHING[:40])
    run.store.put_judgments(judgment(c) for c in EVERYTHING[:40]).result()
    run.dedup(against=(bench,))
    ended = cli("export", "--run", "r", "--format", "safetyqc", "out.jsonl")
    assert ended.code == 0, ended.err
    assert "reference 1" in ended.err
    left_out = json.loads((tmp_path / "out.manifest.json").read_text())["left_out"]
    assert {"conversation_id": "c7", "reason": "reference"} in left_out
    assert '"c7"' not in (tmp_path / "out.jsonl").read_text()


# ---- while writing ---------------------------------------------------------------------------------------------------


def stubborn_author(same: int) -> Callable[[Request], str]:
    """An author whose first `same` drafts say the same thing; it varies only afterwards."""
    drafts = iter(range(10_000))

    def write(request: Request) -> str:
        turns = int(re.search(r"exactly (\d+) messages", request.messages[-1]["content"])[1])  # type: ignore[index]
        number = next(drafts)
        word = 0 if number < same else number
        text = " ".join(f"thought{word}a{n}" for n in range(20))
        return json.dumps(
            {"messages": [{"role": ("user", "assistant")[n % 2], "content": f"{text} turn {n}"} for n in range(turns)]}
        )

    return write


async def test_a_scenario_that_says_what_the_run_holds_is_drawn_again_with_other_openers_and_the_report_says_how_often(
    tmp_path: Path,
) -> None:
    client = ScriptedClient(stubborn_author(same=4))
    settings = GenerateSettings(model="openai/test", count=9, turns=1, redraws=3)
    config = Config(run=tmp_path / "r", generate=settings, models=ModelSettings(concurrency=1))
    session = Session(config, Store.create(tmp_path / "r"), Progress(quiet=True), client_override=client)
    tally = await generate(session)
    assert (tally.done, tally.failed) == (9, {})
    copies = [f for f in session.store.failures("generate") if f.kind == "duplicate"]
    assert len(copies) == 3  # the first of the four same drafts is no copy
    redrawn = {c.scenario.index: c.scenario for c in session.store.conversations() if c.scenario and c.scenario.draw}
    assert redrawn
    asked = [r.messages[-1]["content"] for r in client.requests]
    assert len(set(asked)) == len(asked), "a scenario was asked for in the same words again"
    redraws = summarise(session.store).duplicates.redraws
    assert (redraws.drafts, redraws.scenarios, redraws.given_up) == (3, len(redrawn), 0)
    await session.close()


async def test_a_scenario_that_keeps_saying_the_same_is_given_up_and_told(tmp_path: Path) -> None:
    client = ScriptedClient(stubborn_author(same=10_000))
    settings = GenerateSettings(model="openai/test", count=9, turns=1, redraws=2)
    config = Config(run=tmp_path / "r", generate=settings, models=ModelSettings(concurrency=1))
    session = Session(config, Store.create(tmp_path / "r"), Progress(quiet=True), client_override=client)
    tally = await generate(session)
    assert (tally.done, tally.failed) == (1, {"duplicate": 8})
    redraws = summarise(session.store).duplicates.redraws
    assert (redraws.drafts, redraws.scenarios, redraws.given_up) == (24, 8, 8)
    await session.close()


def test_other_system_messages_make_other_examples_and_that_is_said() -> None:
    told = ["You help children.", "You help chemists.", "You help chemists.", None]
    rows = [
        c.model_copy(update={"id": f"c{n}", "system": system})
        for n, (c, system) in enumerate(zip(conversations([ENGLISH[0]] * 4), told, strict=True))
    ]
    found = dedup_conversations(DedupSettings(), rows)
    assert [(g.kept, [d.conversation_id for d in g.dropped]) for g in found.groups] == [("c1", ["c2"])]
    assert "2 conversations with the same messages under another system message: no copies" in found.told


def test_a_date_in_the_system_message_hides_no_copy() -> None:
    first, second = conversations([ENGLISH[0]] * 2)
    rows = [
        first.model_copy(update={"system": "Today is 2026-01-01."}),
        second.model_copy(update={"system": "Today is 2026-02-02."}),
    ]
    assert dedup_conversations(DedupSettings(), rows).counts.dropped == 1


def test_long_shared_system_messages_make_nothing_alike() -> None:
    rows = [
        c.model_copy(update={"system": "You are a careful helper of this house. " * 50})
        for c in conversations(ENGLISH[:4])
    ]
    assert dedup_conversations(DedupSettings(), rows).counts.dropped == 0
