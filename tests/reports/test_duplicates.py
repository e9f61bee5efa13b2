"""What reports say of copies, reference sets and diversity, on a run that was really deduplicated."""

from __future__ import annotations

import html
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from safetyqc.config import Config, DedupSettings
from safetyqc.pipeline.duplicates import dedup_run
from safetyqc.pipeline.outputs import summarise_run
from safetyqc.pipeline.progress import Progress
from safetyqc.pipeline.session import Session
from safetyqc.records import Conversation, Failure
from safetyqc.reports.dataset_card import dataset_card
from safetyqc.reports.html import render_html
from safetyqc.reports.summary import summarise, to_json
from safetyqc.reports.terminal import render_report
from safetyqc.results.report import Summary
from safetyqc.store import Store
from safetyqc.testing import conversation
from tests.support.runs import planned

Maker = Callable[..., Store]
HOSTILE = "How do I whittle <script>alert(1)</script> spoons \x1b[31m from [bold]willow[/bold] wood?"
DIFFERENT = [
    "Bread needs flour, water, salt and patience; leave the dough overnight and bake it hot.",
    "The tide turns twice a day because the moon pulls at the sea and the earth turns below it.",
    "A bicycle stays upright while it rolls since steering into the fall brings the wheels back under you.",
    "Write to the land registry with the parcel's number, and they will tell you who owns the meadow.",
]


def talk(name: str, request: str, answer: str, category: str) -> Conversation:
    return conversation(request, answer, id=name, category=category)


@pytest.fixture
def run(make_run: Maker, tmp_path: Path) -> Store:
    """Four different conversations, two near-copies of the first, one near a reference, drafts turned down."""
    talks = [
        talk(f"c{n}", f"Question about this: {text}", text, "calm" if n < 2 else "busy")
        for n, text in enumerate(DIFFERENT)
    ]
    for n, word in ((1, "Yes"), (2, "Good")):
        talks.append(talk(f"copy{n}", talks[0].user_turns[0], f"{DIFFERENT[0]} {word}.", "calm"))
    talks.append(talk("near", HOSTILE, "With a sharp knife, along the grain.", "busy"))
    bench = tmp_path / "bench.txt"
    bench.write_text(f"What is the price of a stamp?\n{HOSTILE}\n")
    store = make_run(talks)
    drafts = {"generate": ["scenario-3"] * 2 + ["scenario-4"] * 3, "augment": ["c1"]}
    store.add_failures(
        Failure(stage=stage, record_id=name, kind="duplicate", reason="similarity 0.93 with c0", category="calm")
        for stage, names in drafts.items()
        for name in names
    ).result()
    store.add_conversations([planned(3, "self_harm_support")])
    config = Config(run=store.folder, dedup=DedupSettings(against=(bench,)))
    dedup_run(Session(config, store, Progress(quiet=True)))
    return store


def summary_of(store: Store, **options: object) -> Summary:
    return summarise_run(store, Config(run=store.folder), diversity=True, **options)


def draw(summary: Summary, *sections: str, unmask: bool = False, width: int = 100) -> str:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(render_report(summary, sections=sections, unmask=unmask))
    return out.getvalue()


def test_the_funnel_loses_what_is_near_a_reference_at_a_step_of_its_own(run: Store) -> None:
    steps = {s.name: (s.count, s.lost) for s in summary_of(run).funnel}
    assert list(steps)[:4] == ["written", "filtered", "apart", "distinct"]
    assert (steps["apart"], steps["distinct"]) == ((7, 1), (5, 2))
    assert "not near references" in draw(summary_of(run), "funnel")


def test_a_run_without_reference_sets_has_no_such_step(full_run: Store) -> None:
    summary = summarise(full_run)
    assert "apart" not in [s.name for s in summary.funnel]
    assert (summary.references, summary.diversity, summary.duplicates.facts) == (None, None, None)


def test_every_match_is_shown_with_file_line_and_text_and_hostile_text_is_harmless(run: Store) -> None:
    summary = summary_of(run)
    assert summary.references
    assert (summary.references.removed, summary.references.marked) == (1, 0)
    assert summary.references.files == {"bench.txt": 1}
    (match,) = summary.references.nearest
    assert (match.path, match.line, match.conversation_id, match.turn) == ("bench.txt", 2, "near", 0)
    masked, shown = draw(summary, "references"), draw(summary, "references", unmask=True)
    assert "bench.txt:2  is like near, message 1" in masked
    assert "willow" not in masked.split("shared: ")[0]
    assert ", ".join(match.terms) in " ".join(shown.split())
    assert match.terms[-1] not in masked.split("shared: ")[1]
    assert "[bold]willow[/bold]" in shown
    assert "\x1b" not in shown
    page = render_html(run, summary)
    assert f'<td class="hostile" dir="auto">{", ".join(match.terms)}</td>' in page
    assert "bench.txt:2" in page
    assert "<script>alert" not in page
    assert html.escape("<script>alert(1)</script> spoons") in page
    assert str(run.folder.parent) not in to_json(summary).replace(str(run.folder), "")


def test_how_near_everything_is_stands_in_every_face_with_the_threshold(run: Store) -> None:
    summary = summary_of(run)
    facts = summary.duplicates.facts
    assert facts
    assert facts.nearness.min_similarity == 0.75
    assert sum(b.count for b in facts.nearness.bins) == facts.conversations == 7
    assert sum(b.count for b in facts.nearness.bins if b.low >= 0.75) == 3
    assert {name: sum(counts) for name, counts in facts.nearness.categories.items()} == {
        "busy": 2,
        "calm": 4,
        "self_harm_support": 1,
    }
    text = draw(summary, "nearest")
    assert "3 of 7 reach 0.75" in text
    assert "▸ 0.75" in text
    assert "threshold: near-duplicates from here on" in render_html(run, summary)
    assert "3 of 4 reach 0.75" in draw(summary_of(run, category="calm"), "nearest")


def test_the_report_says_how_often_a_scenario_was_drawn_again_because_of_a_copy(run: Store) -> None:
    redraws = summary_of(run).duplicates.redraws
    assert (redraws.drafts, redraws.scenarios, redraws.given_up, redraws.variants) == (5, 2, 1, 1)
    assert redraws.categories == {"calm": 6}
    text = " ".join(draw(summary_of(run), "duplicates").split())
    assert "5 drafts said what the run already held: 2 scenarios drawn again for it, 1 given up." in text
    assert "1 variant turned down as copies" in text
    assert "2 scenarios drawn again for it, 1 given up" in render_html(run, summary_of(run))


def test_openings_are_masked_until_asked_for(run: Store) -> None:
    summary = summary_of(run)
    assert summary.diversity
    top, commonest = summary.openings.top[0].text, summary.diversity.opening
    assert min(len(top.split()), len(commonest.split())) > 3
    for section, opening in (("openings", top), ("diversity", commonest)):
        masked, shown = (" ".join(draw(summary, section, unmask=u, width=160).split()) for u in (False, True))
        begins = " ".join(opening.split()[:4])[:20]
        assert begins in shown
        assert begins not in masked
        assert "▒" in masked
    assert f'<th scope="row" class="hostile" dir="auto">{html.escape(top)}</th>' in render_html(run, summary)


def test_diversity_is_measured_on_what_is_in_and_by_category(run: Store) -> None:
    figures = summary_of(run).diversity
    assert figures
    assert (figures.conversations, figures.measured) == (5, 5)
    assert {name: c.conversations for name, c in figures.categories.items()} == {
        "busy": 2,
        "calm": 2,
        "self_harm_support": 1,
    }
    assert 4.5 < figures.effective_intents <= 5
    text, page = draw(summary_of(run), "diversity"), render_html(run, summary_of(run))
    for face in (text, page):
        assert "Diversity" in face
        assert f"{figures.distinct_2:.2f}" in face
    assert html.escape(figures.categories["self_harm_support"].opening, quote=False).replace("'", "&#39;") in page
    assert '<td class="note hostile" dir="auto">' in page
    assert Summary.model_validate_json(to_json(summary_of(run))).diversity == figures
    assert summary_of(run, category="busy").diversity.conversations == 2  # type: ignore[union-attr]


@pytest.mark.parametrize("width", [80, 100, 140])
def test_no_line_is_wider_than_the_terminal(run: Store, width: int) -> None:
    assert max(len(line) for line in draw(summary_of(run), width=width).splitlines()) <= width


def test_the_card_says_what_the_set_was_kept_clear_of(run: Store) -> None:
    card = dataset_card(summary_of(run), files={"train.jsonl": 5})
    assert "- kept clear of `bench.txt`: 1 conversation near it left out" in card
    assert "willow" not in card
