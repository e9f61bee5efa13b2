"""A run and the interval that is wanted -> which conversations people label, drawn and stored, and what to expect.

A plan that is made again takes the run's draw up again and makes it larger, by what the labels have shown meanwhile;
nothing that was drawn is taken back. What is drawn out of suspicion stands in `queues`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from safetyqc.errors import UserError, choose_from
from safetyqc.results.label_plan import LabelPlan, PlannedRate, PlannedStratum, Step
from safetyqc.results.report import UNCATEGORISED
from safetyqc.review import allocation
from safetyqc.review.allocation import Goal, Problem
from safetyqc.review.cells import NA, Words, read_words
from safetyqc.review.draws import PLAN, Draw, put_draw, read_draws
from safetyqc.review.items import BY_CHANCE
from safetyqc.store.standing import classified, deciding_judge, read_standings

if TYPE_CHECKING:
    from safetyqc.store import Store

BY = ("category",)
_CLASSES = 4
_CLASSES_OF_GROUP = 3
_CLASS_NAMES = {1: ("all",), 2: ("seldom", "often"), 3: ("seldom", "at times", "often")}
_FOUR_NAMES = ("seldom", "at times", "often", "most often")
_STEPS = (30, 50, 100, 200, 400, 800, 1600)
_IN_PLAY = frozenset({"kept", "failed", "unscored", "unjudged"})


@dataclass(frozen=True)
class Wanted:
    """What a plan is for: an interval's half-width or a number of labels, of which criteria, and for each of what."""

    half_width: float | None = None
    labels: int | None = None
    criteria: tuple[str, ...] = ()
    by: str | None = None
    seed: int = 0


def plan_labels(store: Store, wanted: Wanted) -> LabelPlan:
    """Draw so many conversations that every rate is expected to be known so well, and remember the draw.

    Raises:
        UserError: an unknown criterion or grouping, an impossible half-width, or a run without conversations.
    """
    _check(wanted)
    population = Population.read(store, wanted)
    draw = next((d for d in reversed(read_draws(store)) if (d.criteria, d.by) == (wanted.criteria, wanted.by)), None)
    if draw is None:
        number = 1 + sum(name.startswith(PLAN) for name in store.draws())
        draw = Draw(id=f"{PLAN}-{number}", criteria=wanted.criteria, by=wanted.by, seed=wanted.seed)
    draw, cells = population.drawn_in(draw)
    least = np.array([draw.strata[name].taken for name in cells.strata], np.int64)
    if wanted.half_width is not None:
        _refuse_impossible(cells, wanted.half_width)
    drawn, counts = allocation.best_allocation(
        cells.problem, cells.drawn, least, half_width=wanted.half_width, labels=wanted.labels or 0
    )
    cells = replace(cells, drawn=drawn)
    draw = draw.extended(dict(zip(cells.strata, map(int, counts), strict=True)))
    put_draw(store, draw)
    return population.tell(draw, cells, wanted)


def _check(wanted: Wanted) -> None:
    if wanted.by is not None and wanted.by not in BY:
        raise UserError(f"unknown value {wanted.by!r}", where="--by", fix=choose_from(wanted.by, BY))
    if wanted.half_width is not None and not 0.001 <= wanted.half_width < 0.5:
        raise UserError(
            f"no interval is {wanted.half_width:g} to each side of a rate",
            where="--for",
            fix="give half the width of the interval as a share, such as 0.03 for 3 points to each side",
        )


def _refuse_impossible(cells: _Cells, half_width: float) -> None:
    problem, everybody = cells.problem, cells.problem.strata_sizes.astype(np.float64)
    at_most = problem.half_widths(everybody)
    place = int(at_most.argmax())
    if at_most[place] <= half_width:
        return
    criterion, group = cells.rates[place]
    goal = problem.goals[place]
    n, of = int(problem.sizes[goal.within].sum()), f" of {group}" if group else ""
    none = np.zeros(len(everybody), np.int64)
    possible = ceil(120 * at_most[place]) / 100  # a fifth more than the least that can be had
    takes = int(allocation.allocate(problem, cells.drawn, possible, none).sum())
    raise UserError(
        f"{half_width:g} is not to be had: {criterion}{of} has {n:,} conversations, and labelling all of them leaves "
        f"{at_most[place]:.3f} to each side",
        where="--for",
        fix=f"--for {possible:g} takes {takes:,} labels; or bring in more conversations",
    )


@dataclass(frozen=True)
class _Cells:
    """Conversations grouped by all that is said of them: of what is planned, and in which stratum each group is."""

    problem: Problem
    drawn: allocation.Floats
    strata: list[str]
    rates: list[tuple[str, str | None]]


@dataclass(frozen=True)
class Population:
    """The conversations that rates are about, with what is known of each."""

    words: Words
    groups: dict[str, str | None]
    """Each conversation's category where the plan is for each category."""
    categories: dict[str, str]
    judge: str | None
    labelled: dict[str, set[str]]
    """Conversations with a label, by criterion."""
    known: int

    @classmethod
    def read(cls, store: Store, wanted: Wanted) -> Population:
        """Those of a run that are still in play, as its deciding judge and its labels know them."""
        judge = deciding_judge(store)
        standings = read_standings(store)
        verdicts = store.verdicts(*judge) if judge else {}
        found = [classified(c, verdicts.get(c.id)) for c in store.conversations() if standings[c.id].status in _IN_PLAY]
        if not found:
            raise UserError("the run holds no conversation to label", where=str(store.path), fix="import some first")
        judgments = list(store.judgments(rubric_hash=judge[1])) if judge else []
        labels = [label for label in store.labels() if label.queue in BY_CHANCE]
        labels = [x for x in labels if not judge or x.rubric_hash in (None, judge[1])]
        ids = [c.id for c in found]
        asked = dict.fromkeys(s.criterion for j in judgments if judge and j.judge == judge[0] for s in j.scores)
        for name in wanted.criteria:
            if asked and name not in (*asked, "overall"):
                fix = choose_from(name, [*asked, "overall"])
                raise UserError(f"no criterion {name!r} was judged in this run", where="--criterion", fix=fix)
        words = read_words(ids, judgments, judge[0] if judge else None, wanted.criteria, labels)
        labelled: dict[str, set[str]] = defaultdict(set)
        for label in labels:
            labelled[label.criterion].add(label.conversation_id)
        categories = {c.id: c.category or UNCATEGORISED for c in found}
        groups: dict[str, str | None] = {**categories} if wanted.by else dict.fromkeys(ids)
        known = sum(counter.total() for counter in words.labels.values())
        return cls(words, groups, categories, judge[0] if judge else None, dict(labelled), known)

    def drawn_in(self, draw: Draw) -> tuple[Draw, _Cells]:
        """The draw with a stratum for everybody, and the cells of those strata."""
        stratum_of = draw.stratum_of
        of_cell: dict[tuple[str | None, str | None, tuple[str, ...]], list[str]] = defaultdict(list)
        for identifier, words in self.words.said.items():
            if any(word != NA for word in words):
                of_cell[stratum_of.get(identifier), self.groups[identifier], words].append(identifier)
        keys = list(of_cell)
        sizes = np.array([len(of_cell[key]) for key in keys], np.int64)
        goals, rates = self._goals(keys)
        drawn = allocation.fractions(sizes, goals)
        names = self._strata(keys, drawn)
        members: dict[str, dict[str, str]] = defaultdict(dict)
        for key, name in zip(keys, names, strict=True):
            if key[0] is None:
                members[name].update({i: self.categories[i] for i in of_cell[key]})
        before = set(draw.strata)
        draw = draw.with_strata(members)
        added = dict(zip(members, (name for name in draw.strata if name not in before), strict=True))
        named = [added[name] if key[0] is None else name for key, name in zip(keys, names, strict=True)]
        order = list(dict.fromkeys(named))
        strata = np.array([order.index(name) for name in named], np.int64)
        together = np.bincount(strata, sizes * drawn) / np.bincount(strata, sizes)
        return draw, _Cells(Problem(sizes, strata, goals), together[strata], order, rates)

    def _goals(
        self, keys: Sequence[tuple[str | None, str | None, tuple[str, ...]]]
    ) -> tuple[list[Goal], list[tuple[str, str | None]]]:
        goals, rates = [], []
        for place, criterion in enumerate(self.words.criteria):
            own = [words[place] for _, _, words in keys]
            alike = {word: number for number, word in enumerate(dict.fromkeys(w.split(",")[0] for w in own))}
            chances = np.array([self.words.chance(criterion, word) for word in own])
            numbers = np.array([alike[word.split(",")[0]] for word in own], np.int64)
            for group in dict.fromkeys(group for _, group, _ in keys):
                within = np.array([g == group and w != NA for (_, g, _), w in zip(keys, own, strict=True)])
                if within.any():
                    goals.append(Goal(within, numbers, chances))
                    rates.append((criterion, group))
        return goals, rates

    def _strata(
        self, keys: Sequence[tuple[str | None, str | None, tuple[str, ...]]], drawn: allocation.Floats
    ) -> list[str]:
        """A name for the stratum of each cell: what the judge says, or for several criteria how often it is drawn."""
        if len(self.words.criteria) == 1:
            return [old or _named(group, words[0]) for old, group, words in keys]
        names = [old or "" for old, _, _ in keys]
        for group in dict.fromkeys(group for _, group, _ in keys):
            places = [n for n, (old, g, _) in enumerate(keys) if old is None and g == group]
            if not places:
                continue
            most = _CLASSES if group is None else _CLASSES_OF_GROUP
            classes = allocation.in_classes(drawn[places], most)
            titles = _CLASS_NAMES.get(int(classes.max()) + 1, _FOUR_NAMES)
            for place, number in zip(places, classes, strict=True):
                names[place] = _named(group, titles[number])
        return names

    def tell(self, draw: Draw, cells: _Cells, wanted: Wanted) -> LabelPlan:
        """What is to be expected of a draw."""
        problem, order = cells.problem, cells.strata
        counts = np.array([draw.strata[name].taken for name in order], np.float64)
        everybody = problem.strata_sizes.astype(np.float64)
        asked = wanted.half_width
        done = Counter(item.stratum for item in draw.items if self._is_labelled(item.conversation_id))
        least = np.zeros(len(order), np.int64)
        totals = [n for n in _STEPS if n < problem.n] + [problem.n]
        steps = {n: allocation.of_total(problem, cells.drawn, n, least) for n in totals}
        return LabelPlan(
            draw=draw.id,
            criteria=self.words.criteria,
            by=wanted.by,
            judge=self.judge,
            half_width=asked,
            conversations=problem.n,
            to_label=len(draw.items),
            labelled=done.total(),
            even_draw=None if asked is None else allocation.even_total(problem, asked),
            labels_alone=None if asked is None else allocation.alone_total(problem, asked),
            strata=tuple(
                PlannedStratum(stratum=name, conversations=int(n), to_label=int(count), labelled=done[name])
                for name, n, count in zip(order, problem.strata_sizes, counts, strict=True)
            ),
            rates=self._rates(cells, counts / everybody),
            steps=tuple(
                Step(labels=int(c.sum()), half_width=float(problem.half_widths(c.astype(np.float64)).max()))
                for c in steps.values()
            ),
            known_errors=self.known,
        )

    def _rates(self, cells: _Cells, share: allocation.Floats) -> tuple[PlannedRate, ...]:
        problem = cells.problem
        widths = problem.half_widths(problem.strata_sizes * share)
        at_most = problem.half_widths(problem.strata_sizes.astype(np.float64))
        return tuple(
            PlannedRate(
                criterion=criterion,
                group=group,
                conversations=int(problem.sizes[goal.within].sum()),
                labels=round(float((problem.sizes * share[problem.strata])[goal.within].sum())),
                half_width=float(width),
                half_width_all=float(least),
            )
            for (criterion, group), goal, width, least in zip(cells.rates, problem.goals, widths, at_most, strict=True)
        )

    def _is_labelled(self, identifier: str) -> bool:
        return any(identifier in self.labelled.get(criterion, ()) for criterion in self.words.criteria)


def _named(group: str | None, word: str) -> str:
    return word if group is None else f"{group}: {word}"
