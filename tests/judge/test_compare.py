from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from sklearn.metrics import cohen_kappa_score, precision_recall_fscore_support

from safetyqc.errors import NotComparableError, UserError
from safetyqc.formats.labels import read_labels, read_recorded
from safetyqc.judge.compare import compare, disagreements
from safetyqc.records import Conversation, Judgment, Label, Outcome, Score
from safetyqc.results.compare import OVERALL, POOLED, Comparison
from safetyqc.results.statistics import wilson_interval
from safetyqc.testing import conversation

NAMES: dict[str, Outcome] = {"p": "pass", "f": "fail", "n": "na", "u": "unscored"}


def judged(judge: str, *cells: str, **fields: object) -> list[Judgment]:
    """Judgments of conversations c0, c1, ...: one string of p, f, n, u for each criterion a, b, ..."""
    found = []
    for n, row in enumerate(zip(*cells, strict=True)):
        scores = tuple(
            Score(
                criterion="abcdef"[k],
                outcome=NAMES[o],
                unscored_reason="bad_json" if o == "u" else None,
                reason=f"{judge} on c{n}",
            )
            for k, o in enumerate(row)
        )
        passed = False if "f" in row else None if "u" in row else True
        values = {"rubric": "r", "rubric_hash": "h", "scores": scores, "passed": passed, **fields}
        found.append(Judgment.model_validate({"conversation_id": f"c{n}", "judge": judge, **values}))
    return found


def labelled(cells: str, annotator: str = "human", criterion: str = "a") -> list[Label]:
    return [
        Label.model_validate(
            {"conversation_id": f"c{n}", "criterion": criterion, "outcome": NAMES[o], "annotator": annotator}
        )
        for n, o in enumerate(cells)
        if o in "pfn"
    ]


def texts(n: int) -> list[Conversation]:
    return [conversation(f"question {i}", f"answer {i}", id=f"c{i}") for i in range(n)]


def test_unscored_bounds_the_pass_rate_and_is_in_no_other_number() -> None:
    found = compare([*judged("x", "ppffuun"), *judged("y", "ppffppn")]).criterion("a")
    assert found is not None
    x, y = found.counts
    assert (x.applicable, x.passed, x.failed, x.unscored, x.na) == (6, 2, 2, 2, 1)
    assert x.unscored_by_reason == {"bad_json": 2}
    assert x.coverage == pytest.approx(4 / 6)
    assert x.pass_rate is not None
    assert (x.pass_rate.value, x.pass_rate.low, x.pass_rate.high) == (0.5, *wilson_interval(2, 4))
    assert (x.worst, x.best) == (pytest.approx(2 / 6), pytest.approx(4 / 6))
    assert (y.worst, y.best) == (pytest.approx(4 / 6), pytest.approx(4 / 6))
    assert (found.agreements[0].n, found.agreements[0].agreement) == (4, 1.0)


def test_an_unscored_judge_has_no_rate_rather_than_nought() -> None:
    found = compare(judged("x", "uuu")).criterion("a")
    assert found is not None
    assert (found.counts[0].pass_rate, found.counts[0].worst, found.counts[0].best) == (None, 0.0, 1.0)


def test_turning_verdicts_into_failures_to_judge_moves_no_kappa() -> None:
    rng = random.Random(0)
    x, y = ("".join(rng.choice("ppf") for _ in range(60)) for _ in range(2))
    gaps = "".join("u" if n % 3 == 0 else o for n, o in enumerate(x))
    rest = [n for n in range(60) if n % 3]
    kept = compare([*judged("x", "".join(x[n] for n in rest)), *judged("y", "".join(y[n] for n in rest))])
    holed = compare([*judged("x", gaps), *judged("y", y)])
    assert kept.criteria[0].agreements == holed.criteria[0].agreements


def test_accuracy_is_scikit_learns_with_fail_as_the_positive_class() -> None:
    rng = random.Random(1)
    truth = "".join(rng.choice("ppf") for _ in range(120))
    said = "".join(o if rng.random() < 0.8 else rng.choice("pf") for o in truth)
    found = compare(judged("x", said), labelled(truth)).criterion("a")
    assert found is not None
    (x,) = found.accuracies
    precision, recall, f1, _ = precision_recall_fscore_support(list(truth), list(said), pos_label="f", average="binary")
    assert (x.precision_fail, x.recall_fail, x.f1_fail) == pytest.approx((precision, recall, f1))
    assert x.kappa is not None
    assert x.kappa.value == pytest.approx(cohen_kappa_score(list(truth), list(said)))
    assert x.majority_baseline == pytest.approx(truth.count("p") / 120)


def test_the_confusion_table_shows_where_every_labelled_cell_went() -> None:
    found = compare(judged("x", "pfunpfunpp"), labelled("ppppffffn-")).criterion("a")
    assert found is not None
    assert found.accuracies[0].confusion == {
        "pass": {"pass": 1, "fail": 1, "na": 1, "unscored": 1},
        "fail": {"pass": 1, "fail": 1, "na": 1, "unscored": 1},
        "na": {"pass": 1, "fail": 0, "na": 0, "unscored": 0},
    }
    assert found.accuracies[0].n == 4


def test_cells_that_only_one_calls_not_applicable_are_counted_apart() -> None:
    found = compare([*judged("x", "ppnnu"), *judged("y", "pnpnn")]).criterion("a")
    assert found is not None
    assert (found.agreements[0].n, found.agreements[0].na_conflicts) == (1, 2)


def test_mcnemar_compares_pass_rates_and_who_is_right() -> None:
    truth = "p" * 20 + "f" * 20
    x = truth
    y = "p" * 12 + "f" * 8 + "f" * 12 + "p" * 8
    (pair,) = compare([*judged("x", x), *judged("y", y)], labelled(truth)).criteria[0].agreements
    assert pair.mcnemar_p == 1.0
    assert pair.more_often_right_p == pytest.approx(2 / 2**16)


def test_overall_and_pooled_stand_beside_the_criteria() -> None:
    found = compare([*judged("x", "ppf", "pff"), *judged("y", "ppp", "ppf")], labelled("ppf"))
    assert [c.criterion for c in found.criteria] == ["a", "b", OVERALL, POOLED]
    pooled, overall = found.criterion(POOLED), found.criterion(OVERALL)
    assert pooled is not None
    assert overall is not None
    assert [c.applicable for c in pooled.counts[:2]] == [6, 6]
    assert [c.passed for c in overall.counts[:2]] == [1, 2]


def test_a_criterion_that_one_judge_was_never_asked_is_not_in_the_pool() -> None:
    found = compare([*judged("x", "ppf", "pff"), *judged("y", "ppf")])
    assert [c.criterion for c in found.criteria] == ["a", "b", OVERALL]
    assert [c.rater for c in found.criteria[1].counts] == ["x"]
    assert found.criteria[1].agreements == ()


def test_prices_are_per_thousand_and_unknown_ones_are_counted() -> None:
    priced = judged("x", "pp", cost_usd=0.002, latency_s=0.5)
    found = compare([*priced, *judged("y", "pp")])
    x, y = found.prices
    assert (x.cost_usd_per_1000, x.latency_s_per_1000, x.unpriced) == (pytest.approx(2.0), pytest.approx(500), 0)
    assert (y.cost_usd_per_1000, y.latency_s_per_1000, y.unpriced) == (None, None, 2)


def test_two_people_give_the_human_ceiling() -> None:
    labels = [*labelled("ppff" * 10, "anna"), *labelled("ppfp" * 10, "ben"), *labelled("ppff" * 10)]
    found = compare(judged("x", "ppff" * 10), labels).criterion("a")
    assert found is not None
    assert [(a.first, a.second, a.agreement) for a in found.human_ceiling] == [("anna", "ben", 0.75)]
    assert [a.rater for a in found.accuracies] == ["x", "anna", "ben"]


def test_annotators_are_not_measured_against_their_own_majority() -> None:
    labels = [*labelled("ppff", "anna"), *labelled("ppfp", "ben")]
    found = compare(judged("x", "ppff"), labels)
    assert found.truth == "majority"
    assert [a.rater for a in found.criteria[0].accuracies] == ["x"]
    assert len(found.criteria[0].human_ceiling) == 1


def test_adding_a_judge_does_not_move_the_others() -> None:
    rng = random.Random(2)
    x, y, z = ("".join(rng.choice("pfu") for _ in range(50)) for _ in range(3))
    two = compare([*judged("x", x), *judged("y", y)], labelled(x.replace("u", "p")))
    three = compare([*judged("x", x), *judged("y", y), *judged("z", z)], labelled(x.replace("u", "p")))
    assert two.criteria[0].agreements == three.criteria[0].agreements[:1]
    assert two.criteria[0].accuracies == three.criteria[0].accuracies[:2]


def test_calibration_is_there_for_judges_with_probabilities() -> None:
    sure = judged("x", "pf" * 20)
    scores = [s.scores[0].model_copy(update={"probability": 0.8 if s.passed else 0.2}) for s in sure]
    sure = [j.model_copy(update={"scores": (s,)}) for j, s in zip(sure, scores, strict=True)]
    found = compare([*sure, *judged("y", "pf" * 20)], labelled("pf" * 20)).criterion("a")
    assert found is not None
    x, y = found.accuracies
    assert x.calibration is not None
    assert (x.calibration.brier, x.calibration.ece) == (pytest.approx(0.04), pytest.approx(0.2))
    assert y.calibration is None


def test_labels_on_a_part_correct_the_pass_rate_of_the_whole() -> None:
    found = compare(judged("x", "pppf" * 50), labelled("ppff" * 15)).criterion("a")
    assert found is not None
    (x,) = found.corrected
    assert x.judge_rate == 0.75
    assert x.rate is not None
    assert x.rate.value == pytest.approx(0.5)
    assert 0.3 < x.rate.low < 0.5 < x.rate.high < 0.75


def test_a_comparison_survives_json() -> None:
    found = compare([*judged("x", "ppfun"), *judged("y", "pfpfn")], labelled("pff"))
    assert Comparison.model_validate(json.loads(found.model_dump_json())) == found
    assert "NaN" not in found.model_dump_json()


def test_other_rubrics_are_refused() -> None:
    with pytest.raises(NotComparableError, match="used rubric"):
        compare([*judged("x", "pp"), *judged("y", "pp", rubric_hash="other")])


def test_disagreements_show_both_sides_and_contradicted_labels_first() -> None:
    judgments = [*judged("x", "pppp", "pppp"), *judged("y", "fppf", "pfpp")]
    found = disagreements(judgments, texts(4), labelled("ppfp"), limit=None)
    assert [(d.conversation.id, d.criterion) for d in found] == [("c0", "a"), ("c2", "a"), ("c3", "a"), ("c1", "b")]
    assert [(s.rater, s.outcome, s.is_label) for s in found[0].sides] == [
        ("x", "pass", False),
        ("y", "fail", False),
        ("human", "pass", True),
    ]
    assert found[0].sides[1].reason == "y on c0"


def test_a_short_list_of_disagreements_shows_every_criterion() -> None:
    judgments = [*judged("x", "pppp", "pppp"), *judged("y", "ffff", "fppp")]
    assert [d.criterion for d in disagreements(judgments, texts(4), limit=2)] == ["a", "b"]
    assert len(disagreements(judgments, texts(4), limit=2, criterion="a")) == 2


def test_unscored_and_not_applicable_are_no_disagreement() -> None:
    assert disagreements([*judged("x", "ppnu"), *judged("y", "nufn")], texts(4), labelled("pnuu")) == []


def test_an_unknown_criterion_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match="no judge scored criterion 'aa'"):
        disagreements(judged("x", "pp"), texts(2), criterion="aa")


@pytest.mark.parametrize("partial", ["pass", "fail"])
def test_recorded_xstest_judges_and_people_get_the_kappa_of_scikit_learn(shared_data: Path, partial: str) -> None:
    path = shared_data / "xstest_dev.jsonl"
    found = compare(read_recorded(path, partial=partial), read_labels(path, partial=partial))  # type: ignore[arg-type]
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    classes = {"1_full_compliance": "fail", "2_full_refusal": "pass", "3_partial_refusal": partial}
    raters = {
        **{name: [r["recorded"][name] for r in rows] for name in ("gpt4", "string_match")},
        **{name: [r["human"][name] for r in rows] for name in ("annotator_1", "annotator_2")},
    }
    measured = {a.rater: a for a in found.criteria[0].accuracies}
    assert measured.keys() == raters.keys()
    for rater, cells in raters.items():
        pairs = [(classes[c], classes[r["human"]["final"]]) for c, r in zip(cells, rows, strict=True) if c in classes]
        plain = cohen_kappa_score([a for a, _ in pairs], [b for _, b in pairs])
        accuracy = measured[rater]
        assert accuracy.kappa is not None
        assert accuracy.n == len(pairs)
        assert accuracy.kappa.value == pytest.approx(plain, abs=1e-12)
        assert accuracy.kappa.low < plain < accuracy.kappa.high


def test_a_recorded_judges_own_refusal_is_unscored_not_a_class(shared_data: Path, tmp_path: Path) -> None:
    lines = (shared_data / "xstest_dev.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    for row in rows[::60]:
        row["recorded"]["gpt4"] = "I'm sorry, but I can't assist with that request."
    path = tmp_path / "refusing.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    found = compare(read_recorded(path), read_labels(path)).criteria[0]
    refused = len(rows[::60])
    gpt4, plain = found.counts[0], [r for n, r in enumerate(rows) if n % 60]
    assert (gpt4.rater, gpt4.unscored, gpt4.unscored_by_reason) == ("gpt4", refused, {"refused_by_model": refused})
    assert (gpt4.passed + gpt4.failed, found.accuracies[0].n) == (len(plain), len(plain))
    is_pass = [
        [cell != "1_full_compliance" for cell in cells]
        for cells in (
            [r["recorded"]["gpt4"] for r in plain],
            [r["human"]["final"] for r in plain],
        )
    ]
    assert found.accuracies[0].kappa is not None
    assert found.accuracies[0].kappa.value == pytest.approx(cohen_kappa_score(*is_pass))
