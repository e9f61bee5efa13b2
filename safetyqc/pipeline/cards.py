"""The cards that a run keeps of its judges, by name: written when one is made, read where judges are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safetyqc.results.card import JudgeCard

if TYPE_CHECKING:
    from safetyqc.store import Store

_NAME = "judge_cards"


def keep_card(store: Store, card: JudgeCard) -> None:
    """Remember a card with the run, in place of an earlier one of that judge."""
    store.set_meta(_NAME, (store.meta(_NAME) or {}) | {card.judge: card.model_dump(mode="json")})


def read_cards(store: Store) -> dict[str, JudgeCard]:
    """The cards of a run, by judge."""
    return {name: JudgeCard.model_validate(card) for name, card in (store.meta(_NAME) or {}).items()}
