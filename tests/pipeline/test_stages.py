"""A stage works out from the records what is left to do, and says what a rate could not show."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from safetyqc.config import Config, ModelSettings
from safetyqc.judge.embedded.judge import LocalJudge
from safetyqc.pipeline.progress import Progress
from safetyqc.pipeline.session import Session
from safetyqc.pipeline.stages import judge_run
from safetyqc.rubrics import load_rubric_set
from safetyqc.store import Store
from safetyqc.testing import conversation

SAFETY = load_rubric_set()


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with Store.create(tmp_path / "r") as store:
        store.add_conversations(
            conversation(f"How do I do it, {n}?", "I can't help with that.", intent="harmful") for n in range(3)
        )
        yield Session(Config(), store, Progress(quiet=True))


async def test_what_was_judged_is_not_judged_again_but_when_asked_for(session: Session) -> None:
    judge = LocalJudge(SAFETY)
    assert (await judge_run(session, judge)).done == 3
    again = await judge_run(session, judge)
    assert (again.done, again.already, again.told) == (0, 3, ())
    session.config = Config(models=ModelSettings(fresh=True))
    assert (await judge_run(session, judge)).done == 3


async def test_verdicts_of_another_version_of_the_judge_are_told(session: Session) -> None:
    before, now = LocalJudge(SAFETY), LocalJudge(SAFETY)
    before.version = "an earlier one"
    await judge_run(session, before)
    tally = await judge_run(session, now)
    assert tally.done == 0
    assert "3 verdicts are by an earlier version of local" in tally.told[0]
    assert "--fresh" in tally.told[0]


async def test_only_what_may_pass_another_day_is_tried_again(session: Session) -> None:
    judge = LocalJudge(SAFETY)
    await judge_run(session, judge)
    first, second, _ = session.store.judgments()
    for judgment, reason in ((first, "provider_error"), (second, "unsure")):
        score = judgment.scores[0].model_copy(update={"outcome": "unscored", "unscored_reason": reason})
        session.store.put_judgments([judgment.model_copy(update={"scores": (score,)})]).result()
    assert (await judge_run(session, judge)).done == 1
