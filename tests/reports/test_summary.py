from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from html import unescape
from math import log2
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from safetyqc.config import GenerateSettings
from safetyqc.errors import ConfigError, UserError
from safetyqc.generate.taxonomy import load_taxonomy
from safetyqc.pipeline.plan import settle_plan
from safetyqc.records import Duplicate, DuplicateGroup, Failure, Judgment, Outcome, Rejection, Rewrite, Source
from safetyqc.reports.browser import browser_data
from safetyqc.reports.documents import render_markdown
from safetyqc.reports.html import render_html
from safetyqc.reports.quality import count_rewrites
from safetyqc.reports.snapshot import read_snapshot
from safetyqc.reports.summary import summarise, to_json
from safetyqc.reports.terminal import render_report
from safetyqc.results.compare import OVERALL
from safetyqc.results.guesses import Measured
from safetyqc.results.rates import Rate, make_rate
from safetyqc.results.report import Summary
from safetyqc.results.statistics import wilson_interval
from safetyqc.store import Store, Timing
from safetyqc.store.standing import read_standings
from safetyqc.testing import conversation
from tests.support.runs import (
    CRITERIA,
    RUBRIC,
    fill_from_files,
    judgment,
    planned,
    stand_in_judgment,
)

Maker = Callable[..., Store]


def test_a_run_that_is_written_meanwhile_can_be_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.create(tmp_path / "r") as writing, Store.read(tmp_path / "r") as store:
        writing.add_conversations([conversation("How do I do it, 0?", "I can't.")])
        late = iter(range(1, 99))

        def and_one_more(read: Callable[..., Any]) -> Callable[..., Any]:
            def reading(*arguments: Any, **named: Any) -> Any:
                found = read(*arguments, **named)
                found = list(found) if isinstance(found, Iterator) else found
                new = conversation(f"How do I do it, {next(late)}?", "I can't.")
                writing.add_conversations([new])
                writing.put_judgments([judgment(new, judge="late")]).result()
                return found

            return reading

        monkeypatch.setattr("safetyqc.reports.snapshot.read_standings", and_one_more(read_standings))
        for name in ("conversations", "judges", "judgments", "rejections"):
            monkeypatch.setattr(store, name, and_one_more(getattr(store, name)))
        assert summarise(store).total in (1, 2)  # what came before the first look, and nothing behind it


@pytest.fixture(scope="module")
def full(full_run: Store) -> Summary:
    return summarise(full_run)


def criterion(summary: Summary, name: str) -> Rate:
    return next(c.overall for c in summary.criteria if c.id == name)


def test_the_funnel_says_where_every_conversation_was_lost(full: Summary) -> None:
    steps = [(s.name, s.count, s.lost) for s in full.funnel]
    assert steps == [
        ("planned", 36, 0),
        ("written", 34, 2),
        ("filtered", 33, 1),
        ("distinct", 31, 2),
        ("judged", 30, 1),
        ("scored", 29, 1),
        ("kept", 26, 3),
    ]
    assert full.funnel[-1].note == "1 of those kept by rewriting"
    assert (full.total, full.kept) == (34, 26)


def test_a_rewrite_counts_in_place_of_its_parent_and_canaries_not_at_all(full: Summary) -> None:
    overall = criterion(full, OVERALL)
    assert (overall.passed, overall.failed, overall.unscored) == (26, 3, 1)


def test_unscored_is_in_no_rate_but_in_the_bounds(full: Summary) -> None:
    empathy = criterion(full, "empathy")
    assert empathy.unscored == 1
    assert empathy.n == empathy.passed + empathy.failed
    assert empathy.worst == pytest.approx(empathy.passed / (empathy.n + 1))
    assert empathy.best == pytest.approx((empathy.passed + 1) / (empathy.n + 1))


def test_balance_stands_against_the_plan_and_tells_lost_from_open(full: Summary) -> None:
    rows = {s.name: (s.planned, s.written, s.kept, s.open, s.missing) for s in full.balance.categories}
    assert rows == {
        "self_harm_support": (12, 12, 9, 1, 2),  # one is not decided; a rejected one and a failed rewrite are lost
        "cybercrime_or_hacking": (12, 11, 9, 0, 3),
        "privacy_and_personal_data": (12, 11, 8, 2, 2),
    }


def test_imports_fill_no_place_of_the_plan(make_run: Maker) -> None:
    name = "privacy_and_personal_data"
    talks = [planned(i, name, origin="imported" if i else "generated") for i in range(5)]
    run = make_run(talks, [judgment(c) for c in talks], plan={"count": 3, "per_category": {name: 3}})
    (row,) = summarise(run).balance.categories
    assert (row.planned, row.kept, row.missing) == (3, 5, 2)


def test_what_was_never_written_is_told_by_its_last_failure(full: Summary) -> None:
    missing = {m.category: (m.attempts_failed, m.unwritten) for m in full.missing}
    assert missing["cybercrime_or_hacking"] == ({"refused_by_model": 1, "truncated": 1}, {"truncated": 1})
    assert missing["privacy_and_personal_data"] == ({"refused_by_model": 2, "truncated": 2}, {"truncated": 1})
    assert missing["self_harm_support"] == ({}, {})
    assert next(m.unscored for m in full.missing if m.unscored) == {"refused_by_model": 1}


def test_a_bar_is_met_or_not_and_says_whether_that_is_certain(full: Summary) -> None:
    assert full.verdict.met is False
    assert {b.name: (b.met, b.certain) for b in full.verdict.bars} == {
        "no_dangerous_steps": (False, False),  # 29 of 30: 0.99 lies inside the interval
        "overall": (True, True),
    }


def test_rewrites_are_a_ledger(full: Summary) -> None:
    assert full.rewrites is not None
    assert (full.rewrites.tried, full.rewrites.kept, full.rewrites.unusable) == (3, 1, 1)
    assert full.rewrites.mended == {"empathy": 1}
    assert full.rewrites.broken == {"strict_refusal": 1}


def test_lift_is_what_a_judge_sees_that_did_not_choose_the_weak_ones(make_run: Maker) -> None:
    talks = [planned(i, "privacy_and_personal_data") for i in range(10)]
    mended = [c.model_copy(update={"id": f"{c.id}_1", "origin": "rewritten", "parent_id": c.id}) for c in talks]
    first = [judgment(c, safe_alternative="fail") for c in talks] + [judgment(c) for c in mended]
    # the second judge failed only four of the ten before, and still fails one after
    second = [judgment(c, judge="gpt", **({"empathy": "fail"} if i < 4 else {})) for i, c in enumerate(talks)]
    second += [judgment(c, judge="gpt", **({"empathy": "fail"} if i < 1 else {})) for i, c in enumerate(mended)]
    run = make_run([*talks, *mended], [*first, *second], rubric=RUBRIC, deciding_judge="local")
    for old, new in zip(talks, mended, strict=True):
        run.put_rewrite(Rewrite(parent_id=old.id, child_id=new.id, revision=1, kept=True, reason="", judge="local"))
    rewrites = summarise(run).rewrites
    assert rewrites is not None
    assert rewrites.kept_rate.rate == 1.0  # to the judge that chose them
    assert rewrites.control is not None
    assert (rewrites.control.judge, rewrites.control.n) == ("gpt", 10)
    assert rewrites.control.lift == pytest.approx(0.3)
    assert rewrites.control.low < 0 < rewrites.control.high


def test_rates_before_selection_stand_beside_those_of_what_is_in(make_run: Maker) -> None:
    talks = [planned(i, "privacy_and_personal_data") for i in range(10)]
    copies = [c.model_copy(update={"id": f"{c.id}_copy"}) for c in talks[:4]]
    mended = [c.model_copy(update={"id": f"{c.id}_1", "origin": "rewritten", "parent_id": c.id}) for c in talks[4:6]]
    # the first of each pair of copies fails, the second passes and is kept; two more fail and are mended
    verdicts = [judgment(c, empathy="fail") for c in talks[:6]] + [judgment(c) for c in (*talks[6:], *copies, *mended)]
    again = [judgment(c, judge="local (again)", **({"empathy": "fail"} if not i else {})) for i, c in enumerate(mended)]
    run = make_run([*talks, *copies, *mended], [*verdicts, *again], rubric=RUBRIC, deciding_judge="local")
    for old, new in zip(talks[4:6], mended, strict=True):
        run.put_rewrite(Rewrite(parent_id=old.id, child_id=new.id, revision=1, kept=True, reason="", judge="local"))
    drop = {c.id: Duplicate(conversation_id=t.id, similarity=0.9) for t, c in zip(talks[:4], copies, strict=True)}
    run.replace_duplicates([DuplicateGroup(kept=kept, dropped=(dropped,)) for kept, dropped in drop.items()])
    summary = summarise(run)
    overall = summary.criteria[0]
    assert (overall.overall.passed, overall.overall.n) == (10, 10)
    assert (overall.before_selection.passed, overall.before_selection.n) == (4, 10)
    assert overall.before_categories["privacy_and_personal_data"] == overall.before_selection
    assert summary.judges[0].before_selection == overall.before_selection
    assert summary.rewrites is not None
    chosen = summary.rewrites.chosen
    assert (chosen.rates.n, chosen.judge, chosen.afresh) == (2, "local (again)", make_rate(1, 1))
    for text in (drawn(summary), render_markdown(summary), render_html(run, summary)):
        assert "before selection" in text
        assert "40.0%" in text
        assert "50.0% of the 2 that it saw" in " ".join(text.split())


def test_guessed_names_are_counted_as_guessed_wherever_balance_is_shown(make_run: Maker) -> None:
    told = [
        conversation(f"q {i}", "a", id=f"t{i}", category="fraud", intent="harmful", language="en") for i in range(2)
    ]
    untold = [conversation(f"r {i}", "a", id=f"u{i}") for i in range(3)]
    verdicts = [judgment(c).model_copy(update={"category": "fraud", "intent": "benign"}) for c in (*told, *untold)]
    run = make_run([*told, *untold], verdicts, rubric=RUBRIC)
    balance = summarise(run).balance
    assert [(s.name, s.written, s.guessed) for s in balance.categories] == [("fraud", 5, 3)]
    assert {s.name: s.guessed for s in balance.intents} == {"harmful": 0, "benign": 3}
    assert {s.name: s.guessed for s in balance.languages} == {"en": 3}
    summary, out = summarise(run), io.StringIO()
    Console(file=out, width=80).print(render_report(summary, sections=["balance"]))
    for text in (out.getvalue(), render_markdown(summary), render_html(run, summary)):
        assert text.count("3 of 5 guessed") >= 2
        # how often such guesses are right: measured for languages, and said to be not measured for this judge
        assert "3 languages are read from the letters: right for" in " ".join(text.split())
        assert "3 guessed, of intent by local: how often it is right was not measured" in " ".join(text.split())
    assert balance.measured["intent"] == ()
    assert {m.of for m in balance.measured["language"]} == {"en", "zh"}


def test_how_often_a_measured_judge_guesses_right_is_told_wherever_its_guesses_are_used(
    make_run: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = (Measured(fact="category", guesser="local", of="a set", n=40, right=26),)
    monkeypatch.setattr("safetyqc.results.guesses._measured", lambda: known)
    talks = [conversation(f"r {i}", "a", id=f"u{i}") for i in range(4)]
    verdicts = [judgment(c).model_copy(update={"category": "ab"[i % 2]}) for i, c in enumerate(talks)]
    run = make_run(talks, verdicts, rubric=RUBRIC)
    summary, out = summarise(run), io.StringIO()
    Console(file=out, width=300).print(render_report(summary))  # the report of one screen: categories are used there
    for text in (out.getvalue(), unescape(render_markdown(summary)), render_html(run, summary)):
        assert "4 guessed, of category by local: it was right for 26 of 40 labelled ones (50–78%)" in text
    assert summary.balance.measured["category"] == known


def test_what_nobody_chose_has_one_rate(make_run: Maker) -> None:
    talks = [planned(i, "privacy_and_personal_data") for i in range(3)]
    summary = summarise(make_run(talks, [judgment(c) for c in talks], rubric=RUBRIC))
    assert not summary.criteria[0].is_selected
    assert "before selection" not in drawn(summary).split("Judges")[0]


def drawn(summary: Summary) -> str:
    out = io.StringIO()
    Console(file=out, width=120).print(render_report(summary, sections=["rates", "rewrites", "judges"]))
    return out.getvalue()


def test_an_attempt_with_an_open_side_widens_the_lift(make_run: Maker) -> None:
    talks = [planned(i, "privacy_and_personal_data") for i in range(4)]
    mended = [c.model_copy(update={"id": f"{c.id}_1", "origin": "rewritten", "parent_id": c.id}) for c in talks]
    first = [judgment(c, empathy="fail") for c in talks] + [judgment(c) for c in mended]
    outcomes: list[tuple[Outcome, Outcome]] = [
        ("fail", "pass"),
        ("pass", "pass"),
        ("pass", "unscored"),
        ("unscored", "fail"),
    ]
    second = [judgment(c, judge="gpt", empathy=old) for c, (old, _) in zip(talks, outcomes, strict=True)]
    second += [judgment(c, judge="gpt", empathy=new) for c, (_, new) in zip(mended, outcomes, strict=True)]
    run = make_run([*talks, *mended], [*first, *second], rubric=RUBRIC, deciding_judge="local")
    for old, new in zip(talks, mended, strict=True):
        run.put_rewrite(Rewrite(parent_id=old.id, child_id=new.id, revision=1, kept=True, reason="", judge="local"))
    rewrites = summarise(run).rewrites
    assert rewrites is not None
    assert rewrites.control is not None
    found = rewrites.control
    assert (found.n, found.unscored, found.lift) == (2, 2, 0.5)
    assert (found.worst, found.best) == (-0.25, 0.25)


def test_no_second_judge_no_lift(full_run: Store) -> None:
    one_judge = read_snapshot(full_run)
    alone = replace(one_judge, judgments={k: v for k, v in one_judge.judgments.items() if k[0] == "local"})
    rewrites = count_rewrites(alone)
    assert rewrites is not None
    assert rewrites.control is None


def test_judges_show_agreement_beyond_chance_and_canaries(full: Summary) -> None:
    first, second = full.judges
    assert (first.judge, first.deciding, second.deciding) == ("local", True, False)
    assert first.canaries is not None
    assert (first.canaries.must_fail, first.canaries.caught, first.canaries.false_alarms) == (2, 1, 0)
    assert second.canaries is None
    refusal = next(a for a in full.agreements if a.criterion == "strict_refusal")
    assert refusal.agreement == pytest.approx(1 - 1 / refusal.n)
    assert refusal.kappa == pytest.approx(0.0)  # the second never fails it: no agreement beyond chance


def test_reasons_that_differ_in_quotes_are_one_and_carry_an_example(make_run: Maker) -> None:
    talks = [planned(i, "cybercrime_or_hacking") for i in range(4)]
    run = make_run(talks, [judgment(c, safe_alternative="fail") for c in talks])
    (reason,) = summarise(run).reasons
    assert (reason.criterion, reason.count, reason.share) == ("safe_alternative", 4, 1.0)
    assert reason.example.text in talks[0].messages[1].content
    assert reason.example.turn == 1


def test_reasons_that_a_model_words_anew_each_time_are_together_by_their_level(make_run: Maker) -> None:
    talks = [planned(i, "cybercrime_or_hacking") for i in range(5)]
    verdicts = [judgment(c, safe_alternative="fail") for c in talks]
    for i, verdict in enumerate(verdicts):
        scores = tuple(
            s.model_copy(update={"level": "dodges" if i < 3 else "gives_in", "reason": f"{'abcde'[i]} is what it does"})
            if s.criterion == "safe_alternative"
            else s
            for s in verdict.scores
        )
        verdicts[i] = verdict.model_copy(update={"scores": scores})
    reasons = summarise(make_run(talks, verdicts)).reasons
    assert [(r.level, r.count) for r in reasons] == [("dodges", 3), ("gives_in", 2)]
    assert reasons[0].reason == "a is what it does"


def test_money_and_time_are_per_stage_and_per_kept_conversation(full: Summary) -> None:
    stages = {s.stage: s for s in full.spent.stages}
    assert (stages["generate"].calls, stages["generate"].prompt_tokens) == (3, 300)
    assert stages["judge"].wall_s == pytest.approx(3.0)
    assert full.spent.cost_usd_per_kept == pytest.approx(0.003 / 26)


def test_every_action_has_a_command_that_names_the_run(full: Summary) -> None:
    assert full.actions[0].severity == "error"
    assert all(a.command.startswith("safetyqc ") and full.run.folder in a.command for a in full.actions)
    top_up = next(a.command for a in full.actions if "--top-up" in a.command)
    assert "--top-up cybercrime_or_hacking=3" in top_up


def unsure(verdict: Judgment, reason: str = "unsure") -> Judgment:
    scores = [s.model_copy(update={"unscored_reason": reason}) if s.unscored_reason else s for s in verdict.scores]
    return verdict.model_copy(update={"scores": tuple(scores)})


def test_the_way_out_of_unscored_conversations_depends_on_their_reason(make_run: Maker) -> None:
    def command(reason: str) -> str:
        talk = planned(0, "cybercrime_or_hacking")
        summary = summarise(make_run([talk], [unsure(judgment(talk, empathy="unscored"), reason)]))
        return next(a.command for a in summary.actions if "unscored" in a.problem)

    assert "judge -m local" in command("provider_error")
    assert "judge -m MODEL" in command("unsure")


def test_criteria_of_which_the_judge_never_said_anything_are_named_with_who_closes_them(make_run: Maker) -> None:
    first, second = planned(0, "self_harm_support"), planned(1, "self_harm_support")

    def problem(*empathy: Outcome) -> str:
        judged = [unsure(judgment(talk, empathy=said)) for talk, said in zip((first, second), empathy, strict=True)]
        return next(a.problem for a in summarise(make_run([first, second], judged)).actions if "unscored" in a.problem)

    assert "nothing was ever said of empathy (2 open): an LLM closes it" in problem("unscored", "unscored")
    assert "empathy" not in problem("unscored", "pass")


def test_a_report_names_files_without_the_users_folders(make_run: Maker) -> None:
    talk = conversation("q", "a", id="c", source=Source(path="/home/me/secret/data.jsonl", index=0))
    run = make_run([talk])
    summary = summarise(run)
    assert summary.run.sources == {"data.jsonl": 1}
    assert "secret" not in json.dumps(browser_data(read_snapshot(run)))


def test_one_category_is_counted_alone(full_run: Store, full: Summary) -> None:
    one = summarise(full_run, category="cybercrime_or_hacking")
    row = next(s for s in full.balance.categories if s.name == "cybercrime_or_hacking")
    assert one.balance.categories[0].kept == row.kept == one.kept
    assert one.funnel[0].count == 12


def test_another_judge_decides_when_asked(full_run: Store, full: Summary) -> None:
    other = summarise(full_run, "openai/gpt")
    assert other.run.judge == "openai/gpt"
    assert other.kept != full.kept


@pytest.mark.parametrize(("judge", "category", "near"), [("lokal", None, "local"), (None, "privacy", "valid:")])
def test_an_unknown_name_is_told_with_the_valid_ones(
    full_run: Store, judge: str | None, category: str | None, near: str
) -> None:
    with pytest.raises(UserError, match=near):
        summarise(full_run, judge, category)


def test_a_bar_for_an_unknown_criterion_is_an_error(make_run: Maker) -> None:
    run = make_run([planned(0, "cybercrime_or_hacking")], rubric=RUBRIC, bars={"no_dangerous_step": 0.9})
    with pytest.raises(ConfigError, match="did you mean 'no_dangerous_steps'"):
        summarise(run)


def test_a_bar_without_any_scored_conversation_is_not_met(make_run: Maker) -> None:
    run = make_run([planned(0, "cybercrime_or_hacking")], rubric=RUBRIC, bars={"empathy": 0.9})
    assert summarise(run).verdict.met is False


def test_bars_given_go_before_those_of_the_run(full_run: Store) -> None:
    assert summarise(full_run, bars={"overall": 0.5}).verdict.met is True
    assert summarise(full_run, bars={}).verdict.met is None


def test_chosen_ids_are_counted_alone_with_their_rewrites(full_run: Store) -> None:
    summary = summarise(full_run, only=["c_0003", "c_0010"])
    assert (summary.total, summary.kept) == (2, 2)  # the first by its rewrite


def test_an_empty_run_says_what_to_do(make_run: Maker) -> None:
    summary = summarise(make_run())
    assert (summary.total, summary.kept, summary.verdict.met) == (0, 0, None)
    assert summary.actions[0].command.startswith("safetyqc run")


def test_only_failures_still_make_a_summary(make_run: Maker) -> None:
    talks = [planned(i, "cybercrime_or_hacking") for i in range(3)]
    summary = summarise(make_run(talks, [judgment(c, no_dangerous_steps="fail") for c in talks]))
    assert summary.kept == 0
    assert criterion(summary, OVERALL).rate == 0
    assert summary.balance.categories[0].kept_share is None


def test_openings_of_equal_first_answers_have_no_entropy(make_run: Maker) -> None:
    same = [conversation(f"question {i}", "I’m sorry, but I can't do that.", id=f"c{i}") for i in range(8)]
    other = [conversation(f"question {i}", f"answer {i} is another", id=f"d{i}") for i in range(8)]
    collapsed, varied = summarise(make_run(same)).openings, summarise(make_run(other)).openings
    assert (collapsed.distinct, collapsed.entropy_bits, collapsed.top[0].share) == (1, 0.0, 1.0)
    assert varied.entropy_bits == pytest.approx(log2(8))
    assert varied.evenness == pytest.approx(1.0)


def test_json_is_ascii_and_reads_back(full_run: Store, full: Summary) -> None:
    text = to_json(full)
    assert text.isascii()
    assert Summary.model_validate_json(text) == full
    assert json.loads(text)["schema_version"] == 1


def test_no_rate_without_counts() -> None:
    assert make_rate(0, 0, na=3).rate is None
    assert make_rate(0, 0, na=3).low is None
    assert make_rate(9, 1).low == wilson_interval(9, 10)[0]


def test_numbers_of_real_conversations_equal_a_plain_recount(shared_data: Path, make_run: Maker) -> None:
    run = make_run()
    names = ("bilingual_conversations.jsonl", "xstest_dev.jsonl", "nanochat_safety_dev.jsonl")
    fill_from_files(run, [shared_data / name for name in names])
    talks = list(run.conversations())
    run.put_judgments(stand_in_judgment(c, "gpt") for c in talks[:500]).result()
    run.put_rejections([Rejection(conversation_id=c.id, filter="short", reason="x") for c in talks[5:25]], [])
    group = DuplicateGroup(kept=talks[0].id, dropped=(Duplicate(conversation_id=talks[1].id, similarity=0.9),))
    run.replace_duplicates([group])

    out = {c.id for c in talks[5:25]}
    passed = {c.id: stand_in_judgment(c).passed for c in talks}
    speaker = next((talks[i].id for i in (0, 1) if passed[talks[i].id]), talks[0].id)
    out.add(talks[1].id if speaker == talks[0].id else talks[0].id)
    scores = [s for c in talks if c.id not in out for s in stand_in_judgment(c).scores]
    counts = Counter((s.criterion, s.outcome) for s in scores)

    summary = summarise(run)
    assert summary.kept == sum(bool(passed[c.id]) for c in talks if c.id not in out)
    for name in CRITERIA:
        rate = criterion(summary, name)
        expected = [counts[name, outcome] for outcome in ("pass", "fail", "unscored", "na")]
        assert [rate.passed, rate.failed, rate.unscored, rate.na] == expected
        assert (rate.low, rate.high) == wilson_interval(expected[0], expected[0] + expected[1])
    by_category = Counter(c.category or "uncategorised" for c in talks)
    assert {s.name: s.written for s in summary.balance.categories} == by_category
    assert summary.shape.n == len(talks) - len(out)
    assert sum(summary.shape.languages.values()) == summary.shape.n
    for part in (summary.criteria, summary.missing, summary.reasons, summary.agreements, summary.openings.top):
        assert part


def test_stages_that_never_ran_are_not_shown_as_passed(tmp_path: Path) -> None:
    with Store.create(tmp_path) as store:
        store.add_conversations([conversation("a", "b"), conversation("c", "d")])
        notes = {step.name: step.note for step in summarise(store).funnel}
        assert (notes["filtered"], notes["distinct"]) == ("no filter has run", "not searched for")
        for stage in ("filter", "dedup"):
            store.add_timing(Timing(stage, 1.0, 2))
        notes = {step.name: step.note for step in summarise(store).funnel}
        assert (notes["filtered"], notes["distinct"]) == ("", "")


def test_a_plan_that_was_stopped_is_gone_on_with_and_not_topped_up(tmp_path: Path) -> None:
    with Store.create(tmp_path / "run") as store:
        scenarios = settle_plan(store, load_taxonomy(), GenerateSettings(count=9))
        one = {"origin": "generated", "category": scenarios[0].category, "scenario": scenarios[0]}
        store.add_conversations([conversation("What is it?", "Nothing that I would tell.", **one)])
        stopped = [a for a in summarise(store).actions if " generate " in a.command]
        gone = [
            Failure(
                stage="generate", record_id=f"scenario-{s.index}", kind="bad_json", reason="no", category=s.category
            )
            for s in scenarios[1:]
        ]
        store.add_failures(gone).result()
        lost = [a for a in summarise(store).actions if " generate " in a.command]
    assert stopped[0].problem == "8 of 9 planned conversations are still to be written"
    assert "--top-up" not in stopped[0].command
    assert "--top-up" in lost[0].command
