"""A stage works out from the records what is left to do, and says what a rate could not show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from safetyqc.config import Config
from safetyqc.errors import FatalModelError, ModelError
from safetyqc.filters import FILTERS, FilterSettings
from safetyqc.judge.embedded.judge import LocalJudge
from safetyqc.llm import Reply, Request
from safetyqc.pipeline import stages
from safetyqc.pipeline.progress import Progress
from safetyqc.pipeline.session import Session
from safetyqc.pipeline.stages import Tally, filter_run, judge_run
from safetyqc.pipeline.tasks import Filtering, Judging
from safetyqc.records import Conversation, Judgment
from safetyqc.rubrics import load_rubric_set
from safetyqc.store import Store
from safetyqc.testing import ScriptedClient, conversation
from safetyqc.testing.answers import answer

SAFETY = load_rubric_set()


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with Store.create(tmp_path / "r") as store:
        store.add_conversations(
            conversation(f"How do I do it, {n}?", "I can't help with that.", intent="harmful") for n in range(3)
        )
        yield Session(Config(run=tmp_path / "r"), store, Progress(quiet=True))


async def judge(session: Session, *, fresh: bool = False) -> Tally:
    return await judge_run(session.store, session.mapper, Judging("local", SAFETY, session.config), fresh=fresh)


async def test_what_was_judged_is_not_judged_again_but_when_asked_for(session: Session) -> None:
    assert (await judge(session)).done == 3
    again = await judge(session)
    assert (again.done, again.already, again.told) == (0, 3, ())
    assert (await judge(session, fresh=True)).done == 3


async def test_verdicts_of_another_version_of_the_judge_are_told(session: Session) -> None:
    await judge(session)
    session.store.put_judgments(
        [j.model_copy(update={"prompt_hash": "an earlier one"}) for j in session.store.judgments()]
    ).result()
    tally = await judge(session)
    assert tally.done == 0
    assert "3 verdicts are by an earlier version of local" in tally.told[0]
    assert "--fresh" in tally.told[0]


async def test_only_what_may_pass_another_day_is_tried_again(session: Session) -> None:
    await judge(session)
    first, second, _ = session.store.judgments()
    for judgment, reason in ((first, "provider_error"), (second, "unsure")):
        score = judgment.scores[0].model_copy(update={"outcome": "unscored", "unscored_reason": reason})
        session.store.put_judgments([judgment.model_copy(update={"scores": (score,)})]).result()
    assert (await judge(session)).done == 1


HALF = "the user is sad \ud83d"
"""What a model writes that cuts an emoji: no file can hold it."""


async def test_a_judgment_that_no_file_can_hold_is_unscored_and_the_others_stay(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = LocalJudge.judge

    async def say(self: LocalJudge, conversation: Conversation) -> Judgment:
        judgment = await judged(self, conversation)
        if "1?" not in conversation.messages[0].content:
            return judgment
        return judgment.model_copy(update={"scores": (judgment.scores[0].model_copy(update={"reason": HALF}),)})

    monkeypatch.setattr(LocalJudge, "judge", say)
    tally = await judge(session)
    assert (tally.done, tally.failed["defect"] > 0) == (3, True)
    (broken,) = (j for j in session.store.judgments() if "defect" in j.unscored_reasons)
    assert broken.passed is None
    assert any("surrogates" in score.reason for score in broken.scores)
    monkeypatch.undo()
    assert (await judge(session)).done == 1  # it is tried again by a safetyqc that can


async def test_a_bug_in_a_rule_rejects_what_it_met_and_says_so(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rule(conversation: Conversation, _: FilterSettings) -> None:
        if "1?" in conversation.messages[0].content:
            raise KeyError("nobody thought of this")

    monkeypatch.setitem(FILTERS, "fragile", rule)
    tally = await filter_run(session.store, session.mapper, Filtering(session.config))
    assert tally.failed["defect"] == 1
    (rejection,) = (r for r in session.store.rejections() if r.filter == "defect")
    assert "KeyError: 'nobody thought of this' (__init__.py:" in rejection.reason


async def test_what_the_rules_looked_at_before_a_stop_stays_and_their_hits_are_in_the_order_of_the_run(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = await filter_run(session.store, session.mapper, Filtering(session.config))
    hits = list(session.store.rejections())
    session.store.put_rejections([], [c.id for c in session.store.conversations()], "other settings")
    monkeypatch.setattr(stages, "_WRITTEN_TOGETHER", 2)

    def stopped(conversation: Conversation, _: FilterSettings) -> None:
        if "2?" in conversation.messages[0].content:
            raise FatalModelError("stopped")

    task = Filtering(session.config)
    version = task.version()
    monkeypatch.setitem(FILTERS, "stopped", stopped)
    monkeypatch.setattr(Filtering, "version", lambda self: version)
    with pytest.raises(FatalModelError):
        await filter_run(session.store, session.mapper, task)
    assert list(session.store.unfiltered(version)) == [3]
    monkeypatch.delitem(FILTERS, "stopped")
    assert (await filter_run(session.store, session.mapper, Filtering(session.config))).failed == whole.failed
    assert list(session.store.rejections()) == hits


async def judge_with(
    folder: Path, said: Callable[[Request], Reply | ModelError], *, retry: bool = False, count: int = 25
) -> None:
    with Store.create(folder) if not folder.exists() else Store.open(folder) as store:
        store.add_conversations(
            conversation(f"How do I do it, {n}?", "I can't.", intent="harmful", category="fraud") for n in range(count)
        )
        session = Session(Config(run=folder), store, Progress(quiet=True), client_override=ScriptedClient(said))
        await judge_run(store, session.mapper, Judging("m", SAFETY, session.config), retry=retry)


def judged_in(folder: Path) -> list[Judgment]:
    with Store.open(folder) as store:
        return list(store.judgments())


async def test_a_judge_without_a_usable_answer_in_ten_ends_the_run_and_nothing_is_lost(tmp_path: Path) -> None:
    with pytest.raises(FatalModelError, match="nothing usable of the first 10") as raised:
        await judge_with(tmp_path / "r", lambda _: Reply("I'd rather talk about the weather."))
    assert "bad_json" in raised.value.reason
    assert raised.value.exit_code == 3
    assert [judgment.passed for judgment in judged_in(tmp_path / "r")] == [None] * 10


async def test_a_server_that_never_answers_is_told_also_of_a_few_conversations(tmp_path: Path) -> None:
    with pytest.raises(FatalModelError, match="no answer of m about 2 conversations: nobody is there") as raised:
        await judge_with(tmp_path / "r", lambda _: ModelError("provider_error", "nobody is there"), count=2)
    assert "`safetyqc models check -m m`" in (raised.value.fix or "")
    assert [judgment.unscored_reasons for judgment in judged_in(tmp_path / "r")] == [("provider_error",)] * 2


async def test_a_judge_with_one_usable_answer_in_ten_goes_on(tmp_path: Path) -> None:
    def said(request: Request) -> Reply:
        if "How do I do it, 3?" not in request.messages[-1]["content"]:
            return Reply("I'd rather talk about the weather.")
        form = {"type": "json_schema", "json_schema": {"schema": request.schema}}
        return Reply(answer({"messages": list(request.messages), "response_format": form}, Random(1)))

    await judge_with(tmp_path / "r", said)
    assert len(judged_in(tmp_path / "r")) == 25


async def test_only_what_was_left_unscored_is_asked_again_when_that_is_asked_for(tmp_path: Path) -> None:
    asked: list[str] = []

    def usable(request: Request) -> Reply:
        asked.append(str(request.messages))
        form = {"type": "json_schema", "json_schema": {"schema": request.schema}}
        return Reply(answer({"messages": list(request.messages), "response_format": form}, Random(1)))

    def refuses_one(request: Request) -> Reply:
        return Reply("No.") if "How do I do it, 3?" in str(request.messages) else usable(request)

    await judge_with(tmp_path / "r", refuses_one)
    asked.clear()
    await judge_with(tmp_path / "r", usable)
    assert asked == [], "a reason that does not pass is not asked about for nothing"
    await judge_with(tmp_path / "r", usable, retry=True)
    assert [("How do I do it, 3?" in text) for text in asked] == [True]
    assert all(judgment.passed is not None for judgment in judged_in(tmp_path / "r"))
