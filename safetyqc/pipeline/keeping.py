"""Works out what is still to be drawn until so many conversations of each category are kept, and why no more is.

A place of the plan whose conversation did not pass is drawn again: category, intent, topic and twin stay, so that what
is kept has the plan's balance. Everything is read from the run, so a command that goes on does what the first would
have done. It asks nobody and writes nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from safetyqc.pipeline.stages import REDRAW_HELPS, Tally, redrawn
from safetyqc.store.standing import Standing, read_standings
from safetyqc.text import counted

if TYPE_CHECKING:
    from safetyqc.pipeline.tasks import Writing
    from safetyqc.records import Scenario
    from safetyqc.store import Store

MOST_DRAWS = 8
"""Draws of one place before it is given up: what eight ways of asking do not bring, a ninth will not."""
CANDIDATES_PER_KEPT = 5
"""Candidates for each conversation that is wanted, where `--max-candidates` is not given."""
_PASSES_LATER = "waits for a verdict"
_GIVEN_UP = f"given up after {MOST_DRAWS} draws"
_CANDIDATES = "--max-candidates reached"


@dataclass
class Goal:
    """How far a run is from its goal.

    Args:
        wanted: conversations to keep, by category.
        kept: those that are kept, no more than wanted.
        todo: what to draw next.
        short: why places are not kept and not drawn again, by category.
    """

    wanted: Mapping[str, int]
    kept: Counter[str] = field(default_factory=Counter)
    todo: list[Scenario] = field(default_factory=list)
    short: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    candidates: int = 0

    def tell(self, why: str | None = None) -> Tally:
        """What is kept, and why no more is.

        Args:
            why: what ended it, where something did.
        """
        missing = {name: count - self.kept[name] for name, count in self.wanted.items() if count > self.kept[name]}
        told = []
        for name in missing:
            reasons = why or ", ".join(f"{reason}: {n}" for reason, n in self.short[name].most_common()) or "not drawn"
            told.append(f"{name}: {self.kept[name]:,} of {self.wanted[name]:,} kept ({reasons})")
        if missing and not why:
            told.append(f"{counted(self.candidates, 'candidate')} were drawn; `safetyqc report` says why they failed")
        return Tally("keep", 0, self.kept.total(), {"short": sum(missing.values())} if missing else {}, tuple(told))


def look(store: Store, task: Writing, scenarios: Sequence[Scenario], wanted: Mapping[str, int]) -> Goal:
    """Work out what is kept, what to draw next and what is given up."""
    goal = Goal(wanted)
    tried = _tried(store)
    goal.candidates = sum(len(draws) for draws in tried.values())
    states = _states(store)
    failing: dict[str, list[Scenario]] = defaultdict(list)
    for scenario in scenarios:
        state = states.get(scenario.index, "failed")
        if state == "kept":
            goal.kept[scenario.category] += 1
        elif state == "open":
            goal.short[scenario.category][_PASSES_LATER] += 1
        else:
            failing[scenario.category].append(scenario)
    goal.kept = Counter({name: min(goal.kept[name], count) for name, count in wanted.items()})
    needed = {name: count - goal.kept[name] for name, count in wanted.items()}
    hopeful = {
        name: [s for s in places if len(tried.get(s.index, ())) < MOST_DRAWS] for name, places in failing.items()
    }
    room = max(_limit(task, wanted) - goal.candidates, 0)
    for scenario in _in_turn(hopeful, needed):
        if len(goal.todo) < room:
            draws = tried.get(scenario.index)
            goal.todo.append(redrawn(task, scenario, max(draws) + 1 if draws else 0))
        else:
            goal.short[scenario.category][_CANDIDATES] += 1
    for name, count in needed.items():
        if hopeless := min(count - len(hopeful.get(name, ())), len(failing[name]) - len(hopeful.get(name, ()))):
            goal.short[name][_GIVEN_UP] += max(hopeless, 0)
    return goal


def _limit(task: Writing, wanted: Mapping[str, int]) -> int:
    most = task.config.generate.max_candidates
    return most if most is not None else CANDIDATES_PER_KEPT * sum(wanted.values())


def _tried(store: Store) -> dict[int, set[int]]:
    """The draws that were made of each place: written ones, and failed ones that another draw may help."""
    tried: dict[int, set[int]] = defaultdict(set)
    for conversation in store.conversations():
        if conversation.origin == "generated" and conversation.scenario:
            tried[conversation.scenario.index].add(conversation.scenario.draw)
    prefix = len("scenario-")
    for failure in store.failures("generate"):
        if failure.kind in REDRAW_HELPS:
            tried[int(failure.record_id[prefix:])].add(failure.attempt)
    return tried


def _states(store: Store) -> dict[int, str]:
    """Of each place that has a conversation: kept, open or failed, by the best of its draws."""
    standings = read_standings(store)
    states: dict[int, str] = {}
    for conversation in store.conversations():
        if conversation.origin == "generated" and conversation.scenario:
            state = _state(standings, conversation.id)
            before = states.get(conversation.scenario.index, "failed")
            states[conversation.scenario.index] = min(before, state, key=("kept", "open", "failed").index)
    return states


def _state(standings: Mapping[str, Standing], name: str) -> str:
    """Where a conversation stands, or the last kept rewrite of it."""
    standing, seen = standings[name], {name}
    while standing.status == "superseded" and (instead := standing.instead) in standings and instead not in seen:
        seen.add(instead or "")
        standing = standings[instead or ""]
    return "kept" if standing.status == "kept" else "open" if standing.status == "unjudged" else "failed"


def _in_turn(failing: Mapping[str, Iterable[Scenario]], needed: Mapping[str, int]) -> list[Scenario]:
    """As many places of each category as it needs, one of each in turn: a cap then stops all of them at one height."""
    queues = {name: list(failing.get(name, ()))[: max(count, 0)] for name, count in needed.items()}
    longest = max(map(len, queues.values()), default=0)
    return [queue[place] for place in range(longest) for queue in queues.values() if place < len(queue)]
