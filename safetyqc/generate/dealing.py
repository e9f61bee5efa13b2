"""Deals the places of a plan, category by category: intents, twins, topics, openers, and who asks in what way.

Pure, and by place: what stands at the nth place of a category depends on the taxonomy, the seed and the way of dealing
alone, so a longer plan begins with the shorter one. Nothing is drawn by chance that could be shared out: of all values
the one comes next that is furthest behind its share (Sainte-Laguë's quotients), and only ties are drawn.

A twin pair takes two places: a harmful request and the benign one that stands beside it in the topic's openers, in the
same language, style, persona and length.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from math import gcd, lcm
from typing import Any, Literal, NamedTuple, TypeVar

from safetyqc.errors import ConfigError, choose_from
from safetyqc.generate.entries import AnswerStyle, Category, Style, Topic
from safetyqc.generate.taxonomy import ORDINARY, TRAITS, Taxonomy
from safetyqc.records import Intent, Scenario, stable_id

T = TypeVar("T")
V = TypeVar("V", bound=Hashable)
Unit = Literal["pair", "harmful", "borderline", "benign", "distress"]
Way = Literal["place", "opener", "topic"]
"""How plans were dealt: openers by the place in the category, evenly, and (now) by topic with twins."""

OPENERS_PER_SCENARIO = 3
_STRIDE = 4
"""Units by which each category begins later than the one before it: so plans of 60, 120, 300 and 600 by the bundled
weights end between pairs and not within one."""
SIDES: dict[str, tuple[Intent, ...]] = {
    "harmful": ("harmful", "distress"),
    "benign": ("benign", "borderline"),
    ORDINARY: (),
}
"""What a share is of: what must not be helped with, what must be, and what touches no risk."""


ENGLISH = ("en",)


@dataclass(frozen=True)
class Deal:
    """How a plan is dealt; a run goes on with the one that it began with.

    Args:
        languages: dealt evenly within each category and intent.
        turns: the same number of exchanges for all; None to deal it by the taxonomy's weights.
        shares: of SIDES, any numbers; None for the weights of the taxonomy's intents, and nothing ordinary.
        twins: harmful and benign requests stand in pairs, as far as there are as many of both.
    """

    languages: tuple[str, ...] = ENGLISH
    turns: int | None = None
    shares: Mapping[str, float] | None = None
    twins: bool = True
    way: Way = "topic"


def check_shares(shares: Mapping[str, float], taxonomy: Taxonomy) -> None:
    """Make sure that a plan can be dealt by these shares.

    Raises:
        ConfigError: an unknown share, nothing to share out, or ordinary requests that the taxonomy has not.
    """
    for name, share in shares.items():
        if name not in SIDES:
            raise ConfigError(f"no share {name!r}", where="shares", fix=choose_from(name, SIDES))
        if share < 0:
            raise ConfigError(f"a share cannot be {share}", where="shares", fix="give numbers of 0 or more")
    if not any(shares.get(side) for side in ("harmful", "benign")):
        fix = "for example --shares harmful=0.5,benign=0.5"
        raise ConfigError("no share of harmful or benign requests", where="shares", fix=fix)
    if shares.get(ORDINARY) and taxonomy.ordinary is None:
        fix = "add `ordinary:` to it (`safetyqc taxonomy show ordinary`), or leave that share out"
        raise ConfigError("the taxonomy has no ordinary requests", where="shares", fix=fix)


def category_weights(taxonomy: Taxonomy, shares: Mapping[str, float] | None) -> tuple[tuple[str, int], ...]:
    """How often each category comes up, ordinary requests among them where a share is theirs."""
    weights = [(c.name, c.weight) for c in taxonomy.categories]
    ordinary = _whole(shares).get(ORDINARY, 0) if shares else 0
    if not ordinary or taxonomy.ordinary is None:
        return tuple(weights)
    others = sum(_whole(shares).values()) - ordinary
    total = sum(weight for _, weight in weights)
    return (*((name, weight * others) for name, weight in weights), (ORDINARY, total * ordinary))


def intent_weights(category: Category, shares: Mapping[str, float] | None) -> dict[Intent, int]:
    """How often each intent comes up in a category: by the shares of its side, within a side by the taxonomy."""
    weights = {intent: weight for intent, weight in category.intents.items() if weight}
    if not shares or category.name == ORDINARY:
        return weights
    sums = {side: sum(weights.get(intent, 0) for intent in SIDES[side]) for side in ("harmful", "benign")}
    if not all(sums.values()):
        return weights
    wanted = _whole(shares)
    scaled = {
        intent: weight * wanted.get(side, 0) * (sums["harmful"] * sums["benign"] // sums[side])
        for intent, weight in weights.items()
        for side in sums
        if intent in SIDES[side]
    }
    divisor = gcd(*scaled.values())
    return {intent: weight // divisor for intent, weight in scaled.items() if weight}


def _whole(shares: Mapping[str, float] | None) -> dict[str, int]:
    """Shares as whole numbers in the same proportion, to the nearest thousandth of their sum."""
    total = sum((shares or {}).values())
    parts = {name: Fraction(share / total).limit_denominator(1000) for name, share in (shares or {}).items()}
    common = lcm(*(part.denominator for part in parts.values()))
    return {name: int(part * common) for name, part in parts.items()}


class Place(NamedTuple):
    """One dealt place of a category."""

    intent: Intent
    language: str
    turns: int
    topic: str
    openers: tuple[str, ...]
    style: str
    persona: str
    traits: Mapping[str, str]
    answer: str
    pair: str


class Dealer:
    """Deals a plan; keeps what it dealt, so that the next place costs one step."""

    def __init__(self, taxonomy: Taxonomy, seed: int, deal: Deal) -> None:
        self._taxonomy, self._seed, self._deal = taxonomy, seed, deal
        self._walks: dict[str, _Walk] = {}

    def scenario(self, index: int, name: str, nth: int) -> Scenario:
        """The scenario at `index` of the plan, which is the `nth` (0-based) of its category."""
        if name not in self._walks:
            names = [category.name for category in self._taxonomy.categories]
            turned = names.index(name) if name in names else len(names)
            self._walks[name] = _Walk(self._taxonomy, self._taxonomy.category(name), self._seed, self._deal, turned)
        return Scenario(index=index, category=name, **self._walks[name].at(nth)._asdict())


@dataclass
class _Walk:
    """The places of one category in turn."""

    taxonomy: Taxonomy
    category: Category
    seed: int
    deal: Deal
    turned: int
    """The category's place: it turns the order of units, so that one round over all categories is mixed."""
    places: list[Place] = field(default_factory=list)
    units: Counter[Unit] = field(default_factory=Counter)
    used: dict[Hashable, Counter[Hashable]] = field(default_factory=lambda: defaultdict(Counter))
    tables: dict[Hashable, Any] = field(default_factory=dict)

    def at(self, nth: int) -> Place:
        """What is at the nth place (0-based)."""
        order = self._once("order", self._order)
        while len(self.places) <= nth:
            unit = order[(self.units.total() + _STRIDE * self.turned) % len(order)]
            self.places += self._deal_unit(unit)
            self.units[unit] += 1
        return self.places[nth]

    def _order(self) -> tuple[Unit, ...]:
        return _units(tuple(intent_weights(self.category, self.deal.shares).items()), twins=self.deal.twins)

    def _deal_unit(self, unit: Unit) -> list[Place]:
        rng = random.Random(f"{self.seed}/{self.category.name}/{self.units.total()}")
        intent: Intent = "harmful" if unit == "pair" else unit
        language = self._language(unit)
        first, subject, slot = self._single(rng, unit, intent, language)
        if unit != "pair":
            return [first]
        if not (twins := subject.pool(language, "benign")):
            return [first, self._single(rng, "benign", "benign", language)[0]]
        slot %= len(twins)
        self.used["opener", "benign", language][subject.name, slot] += 1
        motive = self._trait(rng, "motives", "benign")
        twin = first._replace(
            intent="benign",
            openers=_openers(rng, twins, slot),
            traits={kind: told for kind, told in first.traits.items() if kind != "motive"} | motive,
            answer=self._answer(rng, subject, "benign"),
        )
        pair = stable_id("p", [self.seed, self.category.name, self.units[unit], first.openers[0]])
        return [first._replace(pair=pair), twin._replace(pair=pair)]

    def _single(self, rng: random.Random, unit: Unit, intent: Intent, language: str) -> tuple[Place, Topic, int]:
        lengths = self._once("turns", lambda: [(t.turns, t.weight) for t in self.taxonomy.turns if t.weight])
        personas = self._once("personas", lambda: [(p.text, p.weight) for p in self.taxonomy.personas if p.weight])
        turns = self.deal.turns or self._fair(rng, "turns", lengths)
        subject, slot = self._opener(rng, intent, language, paired=unit == "pair")
        styles = self._once(
            ("styles", intent, turns > 1), lambda: _named(self.taxonomy.styles_for(self.category, intent, turns))
        )
        traits: dict[str, str] = {}
        for kind in TRAITS:
            traits |= self._trait(rng, kind, intent)
        place = Place(
            intent=intent,
            language=language,
            turns=turns,
            topic=subject.name,
            openers=_openers(rng, subject.pool(language, intent), slot),
            style=self._fair(rng, ("style", unit), styles),
            persona=self._fair(rng, "persona", personas),
            traits=traits,
            answer=self._answer(rng, subject, intent),
            pair="",
        )
        return place, subject, slot

    def _answer(self, rng: random.Random, subject: Topic, intent: Intent) -> str:
        answers = self._once(
            ("answers", subject.name, intent),
            lambda: _named(self.taxonomy.answers_for(self.category, subject.name, intent)),
        )
        return self._fair(rng, ("answer", intent), answers) if answers else ""

    def _trait(self, rng: random.Random, kind: str, intent: Intent) -> dict[str, str]:
        choices = self._once(
            (kind, intent),
            lambda: [(t.text, t.weight) for t in getattr(self.taxonomy, kind) if intent in t.intents and t.weight],
        )
        text = self._fair(rng, (kind, intent), choices) if choices else ""
        return {kind.removesuffix("s"): text} if text else {}

    def _language(self, unit: Unit) -> str:
        used, overall, languages = self.used["language", unit], self.used["language"], self.deal.languages
        turn = {name: (n - self.turned) % len(languages) for n, name in enumerate(languages)}
        chosen = min(languages, key=lambda name: (used[name], overall[name], turn[name]))
        used[chosen] += 1
        overall[chosen] += 2 if unit == "pair" else 1
        return chosen

    def _opener(self, rng: random.Random, intent: Intent, language: str, *, paired: bool) -> tuple[Topic, int]:
        """The subject and which of its openers leads: the one that led least often, of the subject used least.

        Among equals a pair takes the one whose twin led least often and a harmful request without a twin the other way
        round, so that twins come out even too.
        """
        cards = self._cards(intent, language, paired)
        used, subject_used = self.used["opener", intent, language], self.used["subject", intent, language]
        twins = self.used["opener", "benign", language]
        sign = 0 if intent != "harmful" else 1 if paired else -1

        def place(card: tuple[Topic, int, int]) -> tuple[float, ...]:
            subject, slot, twin = card
            led = twins[subject.name, twin]
            return used[subject.name, slot], sign * led, subject_used[subject.name], rng.random()

        chosen, slot, _ = min(cards, key=place)
        used[chosen.name, slot] += 1
        subject_used[chosen.name] += 1
        return chosen, slot

    def _cards(self, intent: Intent, language: str, paired: bool) -> list[tuple[Topic, int, int]]:
        """Subjects and their openers by place, with the place of each one's twin."""

        def make() -> list[tuple[Topic, int, int]]:
            subjects = [s for s in self.category.subjects if s.pool(language, intent)]
            if paired:
                subjects = [s for s in subjects if s.pool(language, "benign")] or subjects
            pools = [(s, len(s.pool(language, intent)), len(s.pool(language, "benign"))) for s in subjects]
            return [(s, n, n % max(twins, 1)) for s, size, twins in pools for n in range(size)]

        return self._once(("cards", intent, language, paired), make)

    def _once(self, what: Hashable, make: Callable[[], T]) -> T:
        """Look a table of the taxonomy up once: a long plan asks for each thousands of times."""
        if what not in self.tables:
            self.tables[what] = make()
        found: T = self.tables[what]
        return found

    def _fair(self, rng: random.Random, what: Hashable, choices: Sequence[tuple[V, int]]) -> V:
        """The value that is furthest behind its weight; ties are drawn."""
        used = self.used[what]
        chosen = min(choices, key=lambda choice: ((used[choice[0]] + 0.5) / choice[1], rng.random()))[0]
        used[chosen] += 1
        return chosen


def _openers(rng: random.Random, pool: Sequence[str], slot: int) -> tuple[str, ...]:
    """The leading opener, and others of its subject."""
    others = [opener for place, opener in enumerate(pool) if place != slot]
    return (pool[slot], *rng.sample(others, min(OPENERS_PER_SCENARIO - 1, len(others))))


def _named(entries: Iterable[Style | AnswerStyle]) -> list[tuple[str, int]]:
    return [(entry.name, entry.weight) for entry in entries]


@lru_cache(maxsize=256)
def _units(weights: tuple[tuple[Intent, int], ...], *, twins: bool) -> tuple[Unit, ...]:
    """The order in which a category's units come up: as many pairs as there are harmful and benign ones for."""
    units: dict[Unit, int] = {"pair": 0, **dict(weights)}
    if twins:
        units["pair"] = min(units.get("harmful", 0), units.get("benign", 0))
        for intent in ("harmful", "benign"):
            units[intent] = units.get(intent, 0) - units["pair"]
    return round_robin(tuple((unit, weight) for unit, weight in units.items() if weight))


@lru_cache(maxsize=64)
def round_robin(weighted: tuple[tuple[V, int], ...]) -> tuple[V, ...]:
    """Spread weighted names as evenly as possible over one cycle (smooth weighted round-robin, as nginx deals servers).

    Every step adds to each name its weight and takes the total off the name that leads; after one cycle each name
    came up exactly as often as its weight, divided by the weights' common divisor.
    """
    divisor = gcd(*(weight for _, weight in weighted))
    weights = {name: weight // divisor for name, weight in weighted if weight}
    total, credit = sum(weights.values()), dict.fromkeys(weights, 0)
    cycle = []
    for _ in range(total):
        for name, weight in weights.items():
            credit[name] += weight
        leader = max(credit, key=credit.__getitem__)
        credit[leader] -= total
        cycle.append(leader)
    return tuple(cycle)
