"""What a model proposes is cleaned, kept in pairs, and never what is there already."""

from __future__ import annotations

from typing import Any

import pytest

from safetyqc.errors import ModelError
from safetyqc.generate.entries import Language
from safetyqc.generate.expansion import Expander, Wanted
from safetyqc.generate.taxonomy import load_taxonomy
from safetyqc.testing import ScriptedClient

TAXONOMY = load_taxonomy()
CATEGORY = TAXONOMY.category("general_safety")
ENGLISH = TAXONOMY.language("en")
KNOWN = CATEGORY.topics[0].pool("en", "harmful")[0]


def topic(title: str, *sets: dict[str, str]) -> dict[str, Any]:
    return {"title": title, "severity": 2, "openers": {"en": list(sets)}}


def three(n: int, **changes: str) -> dict[str, str]:
    return {kind: f"{kind} number {n}" for kind in ("harmful", "benign", "borderline")} | changes


async def proposed(*topics: dict[str, Any]) -> list[dict[str, Any]]:
    client = ScriptedClient([{"topics": list(topics)}] * 2)
    found = await Expander(TAXONOMY, client, "m").topics(CATEGORY, [ENGLISH], Wanted())
    assert found["name"] == CATEGORY.name
    return list(found["topics"])


async def test_a_proposed_topic_is_named_by_its_title_and_holds_openers_by_intent() -> None:
    [found] = await proposed(topic("Ice & snow", three(1), three(2, benign="It\u2019s  fine")))
    assert found["name"] == "ice_snow"
    assert found["openers"]["en"]["harmful"] == ["harmful number 1", "harmful number 2"]
    assert found["openers"]["en"]["benign"] == ["benign number 1", "It's fine"]


async def test_a_set_goes_whole_where_one_of_it_is_known_or_empty() -> None:
    [found] = await proposed(topic("Ice", three(1), three(2, harmful=KNOWN), three(3, benign="  ")))
    assert found["openers"]["en"] == {k: [f"{k} number 1"] for k in ("harmful", "benign", "borderline")}


async def test_a_topic_that_is_there_is_left_out_and_nothing_new_is_a_failure() -> None:
    there = topic("Dares", three(1))
    with pytest.raises(ModelError, match="no topic among them is new"):
        await proposed(there, topic("Empty"))


async def test_the_prompt_names_what_is_there_and_forbids_detail() -> None:
    client = ScriptedClient([{"topics": [topic("Ice", three(1))]}])
    await Expander(TAXONOMY, client, "m").topics(CATEGORY, [ENGLISH], Wanted(topics=7))
    prompt = client.requests[0].messages[-1]["content"]
    assert all(f"- {known.title}" in prompt for known in CATEGORY.topics)
    assert "Propose 7" in prompt
    assert "Never any operational detail" in prompt


async def test_another_language_gets_openers_for_every_topic_and_none_twice() -> None:
    french = Language(name="fr", title="French")
    pools = {kind: ["Bonjour ?", "Bonjour ?", "Comment ?"] for kind in CATEGORY.active_intents}
    client = ScriptedClient([{t.name: pools for t in CATEGORY.topics}])
    found = await Expander(TAXONOMY, client, "m").language(CATEGORY, french)
    assert [t["name"] for t in found["topics"]] == [t.name for t in CATEGORY.topics]
    assert found["topics"][0]["openers"]["fr"]["harmful"] == ["Bonjour ?", "Comment ?"]
    assert KNOWN in client.requests[0].messages[-1]["content"]


async def test_a_language_that_is_complete_asks_nobody() -> None:
    client = ScriptedClient([])
    assert await Expander(TAXONOMY, client, "m").language(CATEGORY, ENGLISH) == {}
    assert client.requests == []
