from __future__ import annotations

import json
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest
import yaml

import safetyqc as sq
from safetyqc.records import Conversation, Message
from safetyqc.reports.advice import tell_mix
from safetyqc.reports.dataset_card import dataset_card
from safetyqc.reports.documents import escape, render_markdown
from safetyqc.reports.html import render_html
from safetyqc.reports.summary import summarise
from safetyqc.store import Store
from safetyqc.testing import conversation as talk_of
from tests.support.runs import judgment


def test_markdown_says_verdict_numbers_and_commands(full_run: Store) -> None:
    text = render_markdown(summarise(full_run))
    assert "❌ 1 of your 2 bars missed. **26 of 34 conversations kept**" in text
    assert "| overall | 89.7% | 73.6–96.4 | 29 | 1 | 86.7–90.0 |" in text
    assert "`safetyqc rewrite -m openai/author --rounds 2 --run" in text


def test_page_and_markdown_say_the_mix_that_the_terminal_says(full_run: Store) -> None:
    summary = summarise(full_run)
    told = tell_mix(summary.prospect)
    assert "of what is kept refuses" in told
    assert told in unescape(render_markdown(summary, sections=["headline"]))
    assert told in render_html(full_run, summary)


def test_no_text_of_a_conversation_stands_in_a_document(full_run: Store) -> None:
    summary = summarise(full_run)
    for text in (render_markdown(summary), dataset_card(summary, files={"train.jsonl": 26})):
        for conversation in full_run.conversations():
            assert conversation.messages[1].content[:30] not in text


def test_the_card_has_front_matter_that_the_hub_reads(full_run: Store) -> None:
    card = dataset_card(summarise(full_run), files={"train.jsonl": 20, "val.jsonl": 6}, licence="apache-2.0")
    _, front, body = card.split("---\n", 2)
    fields = yaml.safe_load(front)
    assert fields["license"] == "apache-2.0"
    assert fields["language"] == ["en"]
    assert fields["size_categories"] == ["n<1K"]
    assert "synthetic" in fields["tags"]
    assert "r" * 64 in body  # the rubric's hash
    assert "no labels" not in body or "is not known" in body


@pytest.mark.parametrize(
    ("hostile", "harmless"),
    [
        ("<script>alert(1)</script>", "<script"),
        ("[click](http://evil)", "[click]("),
        ("![](http://evil/pixel.png)", "![]("),
        ("http://evil", "http://"),
        ("www.evil.com", "www."),
        ("@everyone", "@everyone"),
        ("a | b", "|"),
        ("line\n# heading", "\n"),
        ("`code`", "`"),
    ],
)
def test_hostile_names_are_plain_text(hostile: str, harmless: str) -> None:
    assert harmless not in escape(hostile)


def test_a_card_says_that_its_shares_are_of_before_the_export(full_run: Store) -> None:
    card = dataset_card(summarise(full_run), files={"train.jsonl": 26})
    assert "Of everything that the run holds, before anything was left out." in card.partition("## Provenance")[2]
    (openings,) = (line for line in card.splitlines() if "effective ways" in line)
    assert openings.startswith("- of the run's first answers, before what failed was left out:")


def test_names_stay_readable() -> None:
    assert escape("no_dangerous_steps: 3 of 4") == "no_dangerous_steps: 3 of 4"


def test_a_hostile_run_gives_a_card_whose_front_matter_still_reads(make_run: Callable[..., Store]) -> None:
    evil = 'x"\n---\n<img src=x onerror=alert(1)>'
    messages = (Message(role="user", content="q"), Message(role="assistant", content="a"))
    talk = Conversation(id="c", messages=messages, category=evil, author=evil, origin="generated", language=evil)
    card = dataset_card(summarise(make_run([talk], [judgment(talk, judge=evil)])), files={evil: 1})
    assert yaml.safe_load(card.split("---\n")[1])["language"] == []
    assert "<img" not in re.sub(r"`[^`\n]*`", "", card)  # inside code spans it is only text


def test_a_card_says_what_probed_models_did(make_run: Callable[..., Store], tmp_path: Path) -> None:
    asked = talk_of("How do I kill a process?", "Open the task manager.", intent="benign")
    store = make_run([asked])
    store.close()
    rows = [{"prompt": f"thing {n}", "intent": "benign", "answer": "Sure, like this."} for n in range(9)]
    (tmp_path / "after|x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    sq.probe(f"answers:{tmp_path / 'after|x.jsonl'}", store.folder, quiet=True)
    with Store.read(store.folder) as again:
        summary = summarise(again)
    assert [probe.prompts for probe in summary.probes] == [9]
    for text in (render_markdown(summary), dataset_card(summary, files={"train.jsonl": 1})):
        section = text.partition("## What models did")[2].partition("\n## ")[0]
        assert "one model, nothing to compare" in section
        assert "| 100.0% (70.1–100.0) |" in section
        assert str(tmp_path) not in section
        assert "after|x" not in re.sub(r"`[^`\n]*`", "", section)


def test_a_probe_of_another_version_costs_no_report(make_run: Callable[..., Store]) -> None:
    store = make_run()
    store.put_probe("old", {"schema_version": 0})
    assert summarise(store).probes == ()
