"""One template filled in many times is found, alone and among other texts; what only shares phrases is none."""

from __future__ import annotations

import random

import pytest

from safetyqc.filters.templates import MOST, find_templates
from tests.dedup.test_pairs import recombined

NAMES = [f"name{n}" for n in range(40)]
THINGS = ["boat", "shed", "office", "car", "garden"]
ENGLISH = (
    "{0} asks me every week for the key of the old {1}, code {2}. How do I say no? Tell {0} that the {1} is not yours."
)
CHINESE = "我的邻居{0}有一个{1}，编号是{2}，我想知道怎样才能不让他发现。请不要这样做，那个{1}是{0}的，可以直接去问他。"


def filled(frame: str, count: int) -> list[str]:
    rng = random.Random(7)
    return [frame.format(rng.choice(NAMES), rng.choice(THINGS), rng.randrange(10_000)) for _ in range(count)]


@pytest.mark.parametrize("frame", [ENGLISH, CHINESE], ids=["en", "zh"])
@pytest.mark.parametrize("others", [0, 700, 3 * MOST])
def test_a_template_is_found_with_its_share_and_its_slots(frame: str, others: int) -> None:
    texts = filled(frame, 300) + [" ".join(f"w{n}x{m}" for m in range(20)) for n in range(others)]
    random.Random(2).shuffle(texts)
    (found,) = find_templates(texts, range(len(texts)))
    assert found.count == pytest.approx(300, rel=0.2 if others > MOST else 0.001)
    assert found.share == pytest.approx(300 / len(texts), rel=0.2)
    assert found.frame.count("[…]") == found.slots > 2
    assert ("of the old" if frame is ENGLISH else "编号是") in found.frame
    assert not any(name in found.frame.split() for name in NAMES)
    assert find_templates(texts, range(len(texts))) == (found,)


def test_two_templates_are_two() -> None:
    texts = filled(ENGLISH, 40) + filled(CHINESE, 30)
    assert [found.count for found in find_templates(texts, range(70))] == [40, 30]


def test_only_the_texts_at_the_places_count() -> None:
    assert find_templates(filled(ENGLISH, 300), range(9)) == ()
    assert find_templates([], []) == find_templates(["", "!!"] * 50, range(100)) == ()


def test_texts_that_share_sentences_in_other_company_are_no_template() -> None:
    texts = recombined(400, seed=3)
    assert (
        find_templates(
            [f"{text} {n} " + " ".join(f"o{n}p{m}" for m in range(40)) for n, text in enumerate(texts)], range(400)
        )
        == ()
    )


def test_real_conversations_are_no_templates(shared_data) -> None:
    from benchmarks.dedup import bilingual, english

    for texts in (
        [chosen for chosen, _ in english(shared_data)],
        ["\n".join(m["content"] for m in c) for c in bilingual(shared_data)],
    ):
        assert find_templates(texts, range(len(texts))) == ()
