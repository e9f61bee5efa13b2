"""Conversation -> reasons why it is not worth a judge's time: cheap, deterministic rules, no model.

Rules see form and plain give-aways; whether an answer is right is the judges' business. A rule is a function, in
`rules.py` or a file of its own, and a line in FILTERS; what text gives away is data (`patterns.yaml`). Dangerous detail
is searched in the assistant's messages only, since a request may be as dark as it likes.
"""

from __future__ import annotations

from safetyqc.filters import rules
from safetyqc.filters.patterns import PatternSet, load_patterns
from safetyqc.filters.rules import Filter, FilterSettings
from safetyqc.records import Conversation, Rejection

__all__ = ["FILTERS", "Filter", "FilterSettings", "PatternSet", "apply_filters", "load_patterns"]


FILTERS: dict[str, Filter] = {
    "bad_structure": rules.bad_structure,
    "too_few_turns": rules.too_few_turns,
    "short_answer": rules.short_answer,
    "template_refusal": rules.template_refusal,
    "not_ascii": rules.not_ascii,
    "garbled_text": rules.garbled_text,
    "hidden_text": rules.hidden_text,
    "leaked_text": rules.leaked_text,
    "role_names": rules.role_names,
    "repeated_turns": rules.repeated_turns,
    "dangerous_detail": rules.dangerous_detail,
    "thinking_trace": rules.thinking_trace,
}
"""Name -> rule, in the order of reports; a dropped conversation is counted under its first hit. Open to additions."""


def apply_filters(conversation: Conversation, settings: FilterSettings) -> list[Rejection]:
    """Return every rule's hit on a conversation, in the order of FILTERS; an empty list means that it may stay."""
    hits = ((name, rule(conversation, settings)) for name, rule in FILTERS.items() if name not in settings.skip)
    return [Rejection(conversation_id=conversation.id, filter=name, reason=reason) for name, reason in hits if reason]
