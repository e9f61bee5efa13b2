"""Draws a probe as one HTML file that opens offline: the picture, all figures, and answers side by side, masked.

Every prompt and answer is hostile: text goes through jinja's autoescape, the content policy lets nothing load and lets
no script but our own few lines act. The picture is an inline SVG whose numbers are made here. Needs jinja2.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import degrees
from typing import TYPE_CHECKING

from safetyqc.reports.html import page_asset, page_environment, page_policy
from safetyqc.results.probe import KINDS, LESS_IS_BETTER, OUTCOMES, TITLES, Answer, ArmName, Point, ProbeResult, Prompt

if TYPE_CHECKING:
    from collections.abc import Sequence

_ORDER: tuple[ArmName, ...] = ("before", "model", "control")
_LEFT, _TOP, _SIZE = 60.0, 20.0, 360.0


@dataclass(frozen=True)
class Dot:
    """An arm in the picture, in its coordinates; the ellipse as half axes and a turn in degrees."""

    name: str
    x: float
    y: float
    ellipse: tuple[float, float, float] | None


@dataclass(frozen=True)
class Row:
    """One prompt with the answers of every arm; `differs` marks what the arms' outcomes differ on."""

    prompt: Prompt
    answers: dict[ArmName, Answer | None]
    differs: bool


def probe_html(found: ProbeResult) -> str:
    """Render the page of a probe."""
    style, script = page_asset("probe.css"), page_asset("probe.js")
    return (
        page_environment()
        .get_template("probe.html.j2")
        .render(
            found=found,
            arms=[name for name in _ORDER if name in found.arms],
            titles=TITLES,
            measured={name for arm in found.arms.values() for name in arm.measures},
            outcomes=OUTCOMES,
            kinds=KINDS,
            less_is_better=LESS_IS_BETTER,
            dots=dots(found),
            arrows=arrows(found),
            rows=rows(found),
            ticks=[(number / 4, _LEFT + _SIZE * number / 4, _TOP + _SIZE * (1 - number / 4)) for number in range(5)],
            policy=page_policy([style], [script]),
            style=style,
            script=script,
        )
    )


def dots(found: ProbeResult) -> list[Dot]:
    """Every arm that has a place."""
    return [
        _dot(name, point) for name in _ORDER if name in found.arms and (point := found.arms[name].point) is not None
    ]


def _dot(name: str, point: Point) -> Dot:
    ellipse = None
    if point.ellipse is not None:
        longer, shorter, turn = point.ellipse
        ellipse = longer * _SIZE, shorter * _SIZE, -degrees(turn)  # the picture's y grows downwards
    return Dot(name, _LEFT + _SIZE * point.x, _TOP + _SIZE * (1 - point.y), ellipse)


def arrows(found: ProbeResult) -> list[tuple[str, float, float, float, float]]:
    """From before to after, and to the control: (to which, x, y, x, y), shortened so that the heads can be seen."""
    places = {dot.name: dot for dot in dots(found)}
    start = places.get("before")
    drawn = []
    for name in ("model", "control"):
        end = places.get(name)
        if start is None or end is None:
            continue
        away = ((end.x - start.x) ** 2 + (end.y - start.y) ** 2) ** 0.5
        if away > 14:
            part = (away - 9) / away
            x, y = start.x + (end.x - start.x) * part, start.y + (end.y - start.y) * part
            drawn.append((name, start.x, start.y, x, y))
    return drawn


def rows(found: ProbeResult) -> list[Row]:
    """Prompts with their first answer in every arm, those that changed first."""
    first: dict[str, dict[ArmName, Answer]] = {}
    for arm, answers in found.answers.items():
        for answer in answers:
            first.setdefault(answer.prompt, {}).setdefault(arm, answer)
    made = []
    for prompt in found.prompts:
        answers_of = {arm: first.get(prompt.id, {}).get(arm) for arm in _ORDER if arm in found.arms}
        outcomes = {outcome_of(answer, found.judges) for answer in answers_of.values()}
        made.append(Row(prompt, answers_of, len(outcomes) > 1))
    return sorted(made, key=lambda row: not row.differs)


def outcome_of(answer: Answer | None, judges: Sequence[str]) -> str:
    """The deciding judge's outcome of an answer."""
    verdict = answer.verdicts.get(judges[0]) if answer else None
    return verdict.outcome if verdict else "unscored"
