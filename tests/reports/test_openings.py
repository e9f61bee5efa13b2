"""How answers begin can be read; what they are about cannot."""

from __future__ import annotations

import pytest

from safetyqc.reports.openings import mask_opening


@pytest.mark.parametrize(
    ("opening", "shown"),
    [
        ("thank you for telling me that", "thank you for telling me that"),
        ("i'm sorry, but i can't help", "i'm sorry, but i can't help"),
        ("i can't help with making explosives", "i can't help with ▒▒▒▒▒▒ ▒▒▒▒▒▒▒▒▒▒"),
        ("first, take the detonator and wire", "first, take the ▒▒▒▒▒▒▒▒▒ and ▒▒▒▒"),
        ("我 不 能 帮 你 这", "我不能帮你这"),
        ("枪 支 的 组 装 很", "枪支的▒▒很"),
    ],
)
def test_courtesy_and_grammar_are_shown_and_every_other_word_behind_the_third_is_not(opening: str, shown: str) -> None:
    assert mask_opening(opening) == shown
