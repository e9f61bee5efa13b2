"""Turns a run's conversations into the data that the page's conversation browser reads.

Compressed and base64: a third of the size, and no character in it can end a script element or a string, whatever a
conversation holds. Characters that hide or reorder text are shown by their code. The word diff of
a rewrite is computed here, not in the browser, so that the page needs no diff library.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

from safetyqc.reports.seen import seen_language
from safetyqc.reports.snapshot import Snapshot
from safetyqc.text import reveal

if TYPE_CHECKING:
    from safetyqc.records import Conversation, Judgment, Label, Score

_TOKEN = re.compile(r"\s+|[^\W\d_]+|\d+|.", re.DOTALL)
_CONTROLS = re.compile(r"\\(?:u00[01]|[bf])")
_ESCAPE = re.compile(r"\\(?:u00([01][0-9a-f])|.)")
_LONGEST_DIFF = 4_000
"""Tokens of a message beyond which a word diff would take seconds; such messages are shown whole, old and new."""


def browser_data(snapshot: Snapshot) -> dict[str, Any]:
    """Everything that the browser shows, as plain JSON values."""
    keys = list(snapshot.judgments)
    groups = {m: i for i, g in enumerate(snapshot.groups) for m in (g.kept, *(d.conversation_id for d in g.dropped))}
    labels: dict[str, list[Label]] = {}
    for label in snapshot.labels:
        labels.setdefault(label.conversation_id, []).append(label)
    children: dict[str, list[str]] = {}
    for rewrite in snapshot.rewrites:
        if rewrite.child_id:
            children.setdefault(rewrite.parent_id, []).append(rewrite.child_id)
    return {
        "judges": [
            {"name": name, "rubric": rubric[:8], "deciding": (name, rubric) == snapshot.judge} for name, rubric in keys
        ],
        "groups": [
            {"kept": g.kept, "dropped": [[d.conversation_id, round(d.similarity, 4), d.exact] for d in g.dropped]}
            for g in snapshot.groups
        ],
        "conversations": [
            _facts(snapshot, c)
            | {
                "verdicts": [_verdict(said.get(key)) for key in keys],
                "labels": [[x.criterion, x.outcome, x.annotator] for x in labels.get(c.id, ())],
                "group": groups.get(c.id),
                "children": children.get(c.id, []),
            }
            for c, said in snapshot.all_whole()
        ],
    }


def pack(data: dict[str, Any]) -> str:
    """Gzip and base64 of the data's JSON; equal data gives equal text."""
    text = reveal(json.dumps(data, ensure_ascii=False, separators=(",", ":")))
    if _CONTROLS.search(text):
        text = _ESCAPE.sub(_reveal_control, text)
    return base64.b64encode(gzip.compress(text.encode("utf-8", "replace"), 6, mtime=0)).decode("ascii")


def _reveal_control(escape: re.Match[str]) -> str:
    """JSON has escaped the ASCII control characters, so they are found as escapes; any other escape stays."""
    code = escape[1] or {"b": "08", "f": "0c"}.get(escape[0][1])
    return f"⟨U+00{code.upper()}⟩" if code else escape[0]


def _facts(snapshot: Snapshot, conversation: Conversation) -> dict[str, Any]:
    standing = snapshot.standings[conversation.id]
    source = conversation.source
    parent = snapshot.whole(conversation.parent_id) if conversation.parent_id in snapshot.by_id else None
    return {
        "id": conversation.id,
        "category": snapshot.category_of(conversation),
        "intent": snapshot.intent_of(conversation),
        "language": seen_language(conversation),
        "origin": conversation.origin,
        "author": conversation.author,
        "source": f"{conversation.file}:{source.line or source.index + 1}" if source else None,
        "status": standing.status,
        "reason": standing.reason,
        "instead": standing.instead,
        "parent": conversation.parent_id,
        "turns": [[m.role, m.content] for m in conversation.messages],
        "diff": _diff(parent, conversation) if parent else None,
    }


def _verdict(judgment: Judgment | None) -> dict[str, Any] | None:
    if judgment is None:
        return None
    return {"passed": judgment.passed, "scores": [_score(s) for s in judgment.scores]}


def _score(score: Score) -> dict[str, Any]:
    """Only what is set: most scores are a criterion and an outcome."""
    fields = {
        "criterion": score.criterion,
        "outcome": score.outcome,
        "level": score.level,
        "probability": None if score.probability is None else round(score.probability, 4),
        "reason": score.reason or score.unscored_reason,
        "quote": score.quote,
        "turn": score.turn,
    }
    return {name: value for name, value in fields.items() if value not in (None, "")}


def _diff(parent: Conversation, child: Conversation) -> list[list[list[str]]]:
    """Per message of the child a list of [what, text], what being same, gone or new."""
    old = [m.content for m in parent.messages]
    return [_word_diff(old[i] if i < len(old) else "", message.content) for i, message in enumerate(child.messages)]


def _word_diff(old: str, new: str) -> list[list[str]]:
    if old == new:
        return [["same", new]]
    before, after = _TOKEN.findall(old), _TOKEN.findall(new)
    if max(len(before), len(after)) > _LONGEST_DIFF:
        return [["gone", old], ["new", new]]
    parts = []
    for what, i, j, k, m in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if what == "equal":
            parts.append(["same", "".join(before[i:j])])
            continue
        parts += [[name, text] for name, text in (("gone", "".join(before[i:j])), ("new", "".join(after[k:m]))) if text]
    return parts
