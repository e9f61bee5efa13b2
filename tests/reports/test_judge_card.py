from __future__ import annotations

from io import StringIO

from rich.console import Console

from safetyqc.reports.judge_card import card_markdown, render_card
from safetyqc.results.card import AgreementRow, Flips, JudgeCard, PassRate, Probes, RiskPoint, Training
from safetyqc.results.compare import Estimate, Price, Spread

HOSTILE = "<img src=x>|[a](http://b) \x1b[31m@all"


def made(name: str = "openai/gpt-4o-mini", **more: object) -> JudgeCard:
    rate = Estimate(value=0.9, low=0.8, high=0.95)
    spread = Spread(n=40, low=0.71, high=0.93, wordings={"judge": 0.9, "plain": 0.71, "brief": 0.93})
    row = AgreementRow(
        by="criterion",
        name="a",
        criterion="a",
        labelled=50,
        scored=48,
        na=1,
        unscored=1,
        agreement=rate,
        wording=spread,
    )
    values = {
        "judge": name,
        "rubric": "safety",
        "rubric_hash": "h" * 16,
        "conversations": 60,
        "labelled": 50,
        "truth": "human",
        "rates": (PassRate(criterion="a", scored=48, rate=rate, wording=spread),),
        "agreement": (row, row.model_copy(update={"by": "category", "name": name})),
        "risk": (RiskPoint(criterion="a", min_certainty=None, spoken=48, coverage=0.96, accuracy=rate),),
        "probes": Probes(sample=40, repeats=(Flips(what="asked again", tried=40, flipped=2, silenced=0, share=rate),)),
        "training": Training(told="unknown"),
        "price": Price(judge=name, judged=60, cost_usd_per_1000=1.5),
    }
    return JudgeCard.model_validate(values | more)


def drawn(card: JudgeCard) -> str:
    out = StringIO()
    Console(file=out, width=80, highlight=False).print(render_card(card))
    return out.getvalue()


def test_every_rate_has_its_interval_and_its_spread_over_wordings_beside_it() -> None:
    for text in (drawn(made()), card_markdown(made())):
        lines = [line for line in text.splitlines() if "90.0%" in line and "80.0–95.0" in line]
        assert len([line for line in lines if "71.0–93.0" in line]) == 3


def test_a_card_fits_eighty_columns() -> None:
    assert max(map(len, drawn(made()).splitlines())) <= 80


def test_a_test_on_what_it_was_trained_on_is_said_first() -> None:
    card = made(training=Training(told="by source", sources={"xs": 9}, labelled_seen=7))
    assert "no test: 7" in "\n".join(drawn(card).splitlines()[:5])


def test_hostile_names_are_harmless_in_both_faces() -> None:
    assert "\x1b" not in drawn(made(HOSTILE))
    text = card_markdown(made(HOSTILE))
    assert "<img" not in text
    assert "](http" not in text
    assert "\x1b" not in text
