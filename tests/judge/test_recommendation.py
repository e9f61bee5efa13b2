from __future__ import annotations

import pytest

from safetyqc.judge.recommendation import MIN_LABELLED, MIN_OF_EACH, recommend
from safetyqc.results.compare import Accuracy, CriterionComparison, Estimate, Price, RaterCounts

Kappa = tuple[float, float, float]


def basis(
    kappas: dict[str, Kappa | None], n: int = 200, coverage: dict[str, float] | None = None, fails: int = 20
) -> CriterionComparison:
    def estimate(kappa: Kappa | None) -> Estimate | None:
        return Estimate(value=kappa[0], low=kappa[1], high=kappa[2]) if kappa else None

    return CriterionComparison(
        criterion="a",
        counts=tuple(
            RaterCounts(
                rater=judge,
                applicable=n,
                passed=n,
                failed=0,
                unscored=0,
                na=0,
                coverage=(coverage or {}).get(judge, 1.0),
            )
            for judge in kappas
        ),
        accuracies=tuple(
            Accuracy(
                rater=j,
                n=n,
                conversations=n,
                confusion={"pass": {"pass": n - fails}, "fail": {"pass": fails - 1, "fail": 1}, "na": {"fail": 9}},
                kappa=estimate(k),
            )
            for j, k in kappas.items()
        ),
    )


def prices(**costs: float | None) -> list[Price]:
    return [Price(judge=judge, judged=10, cost_usd_per_1000=cost) for judge, cost in costs.items()]


GOOD, NEAR, POOR, CHANCE = (0.9, 0.85, 0.95), (0.88, 0.82, 0.93), (0.5, 0.4, 0.6), (0.1, -0.1, 0.3)


@pytest.mark.parametrize(
    ("kappas", "costs", "judge", "said"),
    [
        ({"x": GOOD, "y": POOR}, {"x": 9.0, "y": 1.0}, "x", "clear of y"),
        ({"x": GOOD, "y": NEAR}, {"x": 9.0, "y": 1.0}, "y", "$1.00 per 1,000 against $9.00"),
        ({"x": GOOD, "y": NEAR}, {"x": 1.0, "y": 9.0}, "x", "cheaper"),
        ({"x": GOOD, "y": NEAR}, {"x": 1.0, "y": 1.0}, None, "they cost the same"),
        ({"x": GOOD, "y": NEAR}, {"x": 1.0, "y": None}, None, "price is not known"),
        ({"x": GOOD, "y": NEAR, "z": NEAR}, {"x": 9.0, "y": 1.0, "z": 1.0}, None, "the cheapest cost the same"),
        ({"x": GOOD, "y": NEAR, "z": POOR}, {"x": 9.0, "y": 2.0, "z": 0.0}, "y", "not told apart from x"),
        ({"x": (0.43, 0.08, 0.71), "y": (0.52, -0.02, 0.85)}, {"x": 1.0, "y": 1.0}, None, "no winner"),
        ({"x": (0.43, 0.08, 0.71), "y": (0.52, -0.02, 0.85)}, {"x": 1.0, "y": 0.5}, None, "y, the cheapest, is not"),
        ({"x": (0.43, 0.08, 0.71), "y": (0.52, -0.02, 0.85)}, {"x": 0.5, "y": 1.0}, "x", "not told apart from y"),
        ({"x": CHANCE, "y": CHANCE}, {"x": 0.0, "y": 0.0}, None, "better than chance"),
        ({"x": None}, {"x": 0.0}, None, "better than chance"),
        ({"x": GOOD}, {"x": 2.5}, "x", "0.90 [0.85, 0.95] against the labels, at $2.50"),
    ],
)
def test_a_winner_needs_clear_intervals_or_a_lower_price(
    kappas: dict[str, Kappa | None], costs: dict[str, float | None], judge: str | None, said: str
) -> None:
    found = recommend(basis(kappas), prices(**costs))
    assert found.judge == judge
    assert said in found.reason


def test_a_judge_that_leaves_much_unscored_is_no_match() -> None:
    found = recommend(basis({"x": GOOD, "y": POOR}, coverage={"x": 0.4}), prices(x=1.0, y=1.0))
    assert found.judge == "y"
    assert "x scored 40%" in found.reason


def test_nobody_is_recommended_when_all_leave_much_unscored() -> None:
    found = recommend(basis({"x": GOOD}, coverage={"x": 0.5}), prices(x=1.0))
    assert (found.judge, "no judge scored 90%" in found.reason) == (None, True)


def test_few_labels_recommend_nobody() -> None:
    found = recommend(basis({"x": GOOD}, n=MIN_LABELLED - 1), prices(x=1.0))
    assert (found.judge, "too few labels: 29" in found.reason) == (None, True)


@pytest.mark.parametrize(("fails", "word"), [(MIN_OF_EACH - 1, "fail"), (200 - MIN_OF_EACH + 1, "pass")])
def test_few_labels_of_one_kind_recommend_nobody(fails: int, word: str) -> None:
    found = recommend(basis({"x": GOOD, "y": POOR}, fails=fails), prices(x=1.0, y=1.0))
    assert (found.judge, f"too few labels that say {word}: 4" in found.reason) == (None, True)


def test_agreement_alone_recommends_nobody() -> None:
    found = recommend(basis({}), prices(x=1.0, y=2.0))
    assert (found.judge, "safetyqc compare --labels labels.jsonl" in found.reason) == (None, True)


def test_annotators_are_measured_but_never_recommended() -> None:
    found = recommend(basis({"anna": GOOD, "x": POOR}), prices(x=1.0))
    assert found.judge == "x"
