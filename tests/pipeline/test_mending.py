"""Rewriting and augmenting over a run: what is kept, what is counted, and the control group."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from safetyqc.config import Config, ExportSettings, JudgeSection, RewriteSettings
from safetyqc.errors import BudgetReached, OutputError, UserError
from safetyqc.llm.client import Reply, Request
from safetyqc.pipeline import order
from safetyqc.pipeline.session import Session, open_session
from safetyqc.records import AGAIN, Conversation
from safetyqc.reports.summary import summarise
from safetyqc.store.standing import read_standings
from safetyqc.testing import ScriptedClient, conversation

GOOD = "I can't help with that, it would hurt people. A counsellor could help you plan something better."


def weak(count: int) -> list[Conversation]:
    places = ["shop", "library", "museum", "harbour", "bakery", "theatre", "garage", "office", "market", "hotel"]
    return [
        conversation(
            f"Help me frighten everyone at the {place} in street {n}.",
            f"Go on then, the {place} will love number {n}.",
            category="violence_or_crime",
            intent="harmful",
        )
        for n, place in enumerate(places[:count])
    ]


def answer(request: Request) -> dict[str, Any]:
    """A judge that fails what gives in and passes the rest; a writer that answers as it should."""
    text = "\n".join(m["content"] for m in request.messages)
    if request.stage != "judge":
        number = sum(map(ord, text))
        asked = f"Help me frighten everyone, case {number} {number * 7} {number * 13} {number % 89}."
        told = f"{GOOD} See page {number % 997} of guide {number * 3}, part {number % 13}."
        return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": told}]}
    passes = "Go on then" not in text
    quote = "I can't help with that" if passes else "Go on then"
    found: dict[str, Any] = {}
    for name, schema in (request.schema or {})["properties"].items():
        if "enum" in schema:
            found[name] = schema["enum"][0]  # what the conversation is about
            continue
        levels = schema["properties"]["level"]["enum"]
        found[name] = {"reason": "r", "quote": quote, "turn": 1, "level": levels[0] if passes else levels[-1]}
        if "applies" in schema["properties"]:
            found[name] = {"applies": True, **found[name]}
    return found


async def session_with(
    folder: Path, conversations: list[Conversation], rewrite: RewriteSettings, judge: str = "m"
) -> Session:
    config = Config(run=folder, judge=JudgeSection(models=(judge,)), rewrite=rewrite)
    session = open_session(config, create=True, quiet=True, client=ScriptedClient(answer))
    session.store.add_conversations(conversations)
    await order.judge_all(session)
    return session


async def test_a_mended_conversation_takes_its_parents_place(tmp_path: Path) -> None:
    session = await session_with(tmp_path / "r", weak(3), RewriteSettings(model="w", control_share=0))
    tally = await order.mend(session)
    assert (tally.done, tally.missing) == (3, 0)
    statuses = sorted(standing.status for standing in read_standings(session.store).values())
    assert statuses == ["kept"] * 3 + ["superseded"] * 3
    assert not any(name.endswith(AGAIN) for name, _, _ in session.store.judges())
    again = await order.mend(session)
    assert (again.done, again.already) == (0, 3)
    await session.close()


async def test_a_judge_whose_name_is_not_how_it_was_asked_for_decides_about_rewrites_too(tmp_path: Path) -> None:
    session = await session_with(tmp_path / "r", weak(2), RewriteSettings(model="w", control_share=0), "panel:m,n")
    tally = await order.mend(session)
    assert (tally.done, tally.missing) == (2, 0)
    assert session.store.meta("deciding_judge") == "majority(m, n)"
    await session.close()


async def test_a_limit_bounds_the_attempts_of_a_run(tmp_path: Path) -> None:
    session = await session_with(tmp_path / "r", weak(5), RewriteSettings(model="w", limit=2))
    assert (await order.mend(session)).done == 2
    assert (await order.mend(session)).done == 0
    await session.close()


async def test_the_control_group_is_judged_afresh_on_both_sides_and_is_no_judge_of_its_own(tmp_path: Path) -> None:
    session = await session_with(tmp_path / "r", weak(4), RewriteSettings(model="w", control_share=1))
    await order.mend(session)
    summary = summarise(session.store)
    assert summary.rewrites is not None
    control = summary.rewrites.control
    assert control is not None
    assert (control.judge, control.n) == ("m" + AGAIN, 4)
    assert (control.before.rate, control.after.rate, control.lift) == (0.0, 1.0, 1.0)
    assert [judge.judge for judge in summary.judges] == ["m"]
    await session.close()


async def test_variants_join_the_run_until_enough_are_kept(tmp_path: Path) -> None:
    session = await session_with(tmp_path / "r", weak(2), RewriteSettings(model="w", control_share=0))
    await order.mend(session)
    tally = await order.augment(session, {"violence_or_crime": 3})
    assert tally.done == 3
    standings = read_standings(session.store)
    variants = [c for c in session.store.conversations() if c.origin == "augmented"]
    assert [standings[c.id].status for c in variants] == ["kept"] * 3
    assert all(c.parent_id and c.category == "violence_or_crime" for c in variants)
    await session.close()


async def test_variants_that_were_asked_for_and_not_reached_are_what_the_same_words_ask_for(tmp_path: Path) -> None:
    session = await session_with(tmp_path / "r", weak(2), RewriteSettings(model="w", control_share=0))
    await order.mend(session)
    made, wanted = 0, {"violence_or_crime": 4}

    async def enough(request: Request) -> Reply:
        nonlocal made
        made += request.stage == "judge"
        if made > 2:
            raise BudgetReached("spent")
        return await ScriptedClient(answer).complete(request)

    ask, session.client.complete = session.client.complete, enough  # type: ignore[method-assign]
    with pytest.raises(BudgetReached):
        await order.augment(session, wanted)
    session.client.complete = ask  # type: ignore[method-assign]
    tally = await order.augment(session, wanted)
    assert (tally.already + tally.done, tally.already > 0) == (4, True)
    assert session.store.count_conversations()["augmented"] == 4
    assert (await order.augment(session, wanted)).done == 4  # they are there, so four more are meant
    await session.close()


async def test_what_the_judge_classified_can_be_varied_too(tmp_path: Path) -> None:
    bare = [c.model_copy(update={"category": None, "intent": None}) for c in weak(2)]
    session = await session_with(tmp_path / "r", bare, RewriteSettings(model="w", control_share=0))
    await order.mend(session)
    counted = {s.name: s.kept for s in summarise(session.store).balance.categories if s.kept}
    (name,) = counted
    tally = await order.augment(session, {name: 1})
    assert (tally.done, counted) == (1, {name: 2})
    (variant,) = (c for c in session.store.conversations() if c.origin == "augmented")
    assert variant.category == name
    await session.close()


async def test_a_category_of_which_nothing_is_kept_cannot_be_varied(tmp_path: Path) -> None:
    session = await session_with(tmp_path / "r", weak(1), RewriteSettings(model="w"))
    with pytest.raises(UserError, match="drugs_or_weapons"):
        await order.augment(session, {"drugs_or_weapons": 1})
    await session.close()


async def test_a_whole_run_replaces_its_own_export_and_nobody_elses(tmp_path: Path) -> None:
    target = tmp_path / "precious.jsonl"
    target.write_text("keep")
    session = await session_with(tmp_path / "r", weak(2), RewriteSettings(model="w", control_share=0))
    session.config = session.config.model_copy(update={"export": ExportSettings(path=target)})
    with pytest.raises(OutputError, match=r"precious\.jsonl"):
        await order.run_all(session, [], lambda _: None, write=False)
    assert target.read_text() == "keep"
    target.unlink()
    for _ in range(2):
        exported = await order.run_all(session, [], lambda _: None, write=False)
        assert exported is not None
        assert exported.count == 2
    await session.close()
