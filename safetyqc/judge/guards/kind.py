"""How a guard is typed after `-m`, and what the rest of the program has to know about it: whom it asks, and how often.

guard:NAME            the guard, served under its usual name
guard:NAME@MODEL      as MODEL, such as guard:llamaguard3@groq/meta-llama/llama-guard-3-8b
guard:NAME+strict     a middle level (Controversial) fails; +loose: it passes; without either it is unscored
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from safetyqc.errors import UserError, choose_from
from safetyqc.judge.kinds import AskedModel, CallsEach, JudgeKind, JudgeSettings, Making
from safetyqc.llm.hosts import own_base

if TYPE_CHECKING:
    from safetyqc.judge.base import Judge
    from safetyqc.judge.guards.file import Guard
    from safetyqc.judge.guards.judge import Mode
    from safetyqc.rubrics import RubricSet

_MODES: tuple[Mode, ...] = ("strict", "loose")
_EXCHANGES = 2
"""Answers of a conversation that nobody has seen yet."""
_POLICY_CRITERIA = 3
"""Of the bundled rubric's five, as many apply to a conversation."""


class Typed(NamedTuple):
    """What stands behind `guard:`, taken apart."""

    guard: Guard
    mode: Mode | None
    model: str


def take_apart(argument: str) -> Typed:
    """Read `NAME+MODE@MODEL`.

    Raises:
        UserError: an unknown guard or mode; says which is nearest.
    """
    from safetyqc.judge.guards.file import load_guard

    told, at, model = argument.partition("@")
    name, _, mode = told.partition("+")
    guard = load_guard(name.strip())
    if at and not model.strip():
        raise UserError(f"guard:{argument} names no model", fix=f"guard:{told} asks its usual one, {guard.usual}")
    if "+" in told and mode not in _MODES:
        raise UserError(f"no mode {mode!r} of a guard", where=f"guard:{argument}", fix=choose_from(mode, _MODES))
    return Typed(guard, next((m for m in _MODES if m == mode), None), model.strip() or guard.usual)


def _make(argument: str, making: Making) -> Judge:
    from safetyqc.judge.guards.judge import GuardJudge

    typed = take_apart(argument)
    return GuardJudge(
        making.open_client(),
        typed.guard,
        typed.model,
        making.rubric_set,
        mode=typed.mode,
        api_base=own_base(typed.model, making.settings.api_base),
        asked_as=making.settings.name_of(typed.model),
    )


def _asks(argument: str, _: JudgeSettings) -> list[AskedModel]:
    """A call an answer and question, and three probes before them."""
    from safetyqc.judge.guards.selfcheck import PROBES
    from safetyqc.llm.prices import count_tokens

    guard, _mode, model = take_apart(argument)
    questions = _POLICY_CRITERIA if guard.policy else max(len(guard.questions), 1)
    own = sum(count_tokens(t) for m in guard.messages if not isinstance(m, str) for t in m.values())
    calls = questions * (_EXCHANGES if guard.unit == "last_turn" else 1)
    probes = len(guard.probes or PROBES) * max(len(guard.questions), 1)
    return [AskedModel(model, calls=CallsEach(calls, own, min(guard.max_tokens, 40)), first_calls=probes)]


def _never_scored(argument: str, rubric_set: RubricSet) -> frozenset[str]:
    guard = take_apart(argument).guard
    return frozenset(c.id for c in rubric_set.criteria if guard.says_of(c.id) is None)


GUARD = JudgeKind("guard:NAME@MODEL", "a guard model, see `safetyqc judge guards`", _make, _asks, _never_scored)
