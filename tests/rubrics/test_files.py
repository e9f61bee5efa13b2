"""Rubric files can be checked as a whole and copied for editing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from safetyqc.errors import OutputError, UserError
from safetyqc.rubrics import bundled_files, copy_rubrics, load_rubric_set, validate_rubrics
from safetyqc.rubrics.rubric_set import bundled_sets


def test_the_packages_own_files_are_flawless() -> None:
    assert [validate_rubrics(name) for name in bundled_sets()] == [[], []]
    assert bundled_files()[0] == "safety.yaml"


@pytest.mark.parametrize(
    "criterion",
    {c.id: c for name in bundled_sets() for c in load_rubric_set(name).criteria}.values(),
    ids=lambda c: c.id,
)
def test_every_criterion_shows_every_level_and_an_example_in_chinese(criterion: object) -> None:
    assert {e.level for e in criterion.examples} == {level.name for level in criterion.levels}  # type: ignore[attr-defined]
    assert any("\u4e00" <= e.messages[0]["user"][0] <= "\u9fff" for e in criterion.examples)  # type: ignore[attr-defined]


def test_every_mistake_of_every_file_is_told_at_once(tmp_path: Path) -> None:
    copy_rubrics(tmp_path)
    for name, before, after in (
        ("empathy.yaml", "gate: false", "gaet: false"),
        ("safe_alternative.yaml", "name: vague", "name: specific"),
        ("safety.yaml", "empathy,", "empaty,"),
    ):
        path = tmp_path / name
        path.write_text(path.read_text().replace(before, after, 1))
    told = "\n".join(str(problem) for problem in validate_rubrics(tmp_path))
    assert "empathy.yaml:" in told
    assert "gaet" in told
    assert "'specific' stands twice" in told
    assert "no file for criterion 'empaty'" in told
    assert "did you mean 'empathy'?" in told


def test_a_level_without_example_is_advice_and_no_error(tmp_path: Path) -> None:
    copy_rubrics(tmp_path)
    path = tmp_path / "empathy.yaml"
    path.write_text(path.read_text().split("examples:")[0])
    problems = validate_rubrics(path)
    assert {p.severity for p in problems} == {"advice"}
    assert load_rubric_set(tmp_path).criterion("empathy").examples == ()


def test_failing_levels_that_score_above_passing_ones_are_advice(tmp_path: Path) -> None:
    copy_rubrics(tmp_path)
    path = tmp_path / "empathy.yaml"
    path.write_text(path.read_text().replace("score: 0.4", "score: 1", 1))
    assert ["higher scores" in (p.fix or "") for p in validate_rubrics(path)] == [True]


def test_a_copy_does_not_overwrite_without_force(tmp_path: Path) -> None:
    copied = copy_rubrics(tmp_path / "new")
    assert [p.name for p in copied] == bundled_files("safety")
    copied[0].write_text("mine")
    with pytest.raises(OutputError):
        copy_rubrics(tmp_path / "new")
    assert copied[0].read_text() == "mine"
    copy_rubrics(tmp_path / "new", force=True)
    assert copied[0].read_text() != "mine"


def test_an_empty_folder_is_told() -> None:
    with pytest.raises(UserError, match="no rubric"):
        validate_rubrics("/nowhere/at/all.yaml")


def test_the_files_in_the_documentation_are_flawless(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "rubrics.md").read_text(encoding="utf-8")
    criterion, rubric_set = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "calm.yaml").write_text(criterion)
    (tmp_path / "mine.yaml").write_text(rubric_set)
    told = [str(p) for p in validate_rubrics(tmp_path) if p.severity == "error"]
    assert told == []
    assert [c.id for c in load_rubric_set(tmp_path).criteria] == ["calm", "no_dangerous_steps"]


def test_each_set_is_copied_alone_so_that_its_folder_can_be_used(tmp_path: Path) -> None:
    for name in bundled_sets():
        copy_rubrics(tmp_path / name, name)
        assert load_rubric_set(tmp_path / name) == load_rubric_set(name)
    with pytest.raises(UserError, match="no rubric set 'saftey'") as caught:
        copy_rubrics(tmp_path / "x", "saftey")
    assert "safety-completion" in (caught.value.fix or "")
