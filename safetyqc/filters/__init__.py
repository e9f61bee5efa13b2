"""Conversation -> reasons why it is not worth a judge's time: cheap, deterministic rules, no model.

Rules see form and plain give-aways; whether an answer is right is the judges' business. A rule is a function of
`rules.py` and a line in FILTERS; what text gives away is data (`patterns.yaml`). The one surprising thing: dangerous
detail is searched in the assistant's messages only, since a request may be as dark as it likes.
"""

from __future__ import annotations

from safetyqc.filters.patterns import PatternSet, load_patterns
from safetyqc.filters.rules import FILTERS, Filter, FilterSettings
from safetyqc.records import Conversation, Rejection

__all__ = ["FILTERS", "Filter", "FilterSettings", "PatternSet", "apply_filters", "load_patterns"]


def apply_filters(conversation: Conversation, settings: FilterSettings) -> list[Rejection]:
    """Return every rule's hit on a conversation, in the order of FILTERS; an empty list means that it may stay."""
    hits = ((name, rule(conversation, settings)) for name, rule in FILTERS.items() if name not in settings.skip)
    return [Rejection(conversation_id=conversation.id, filter=name, reason=reason) for name, reason in hits if reason]
