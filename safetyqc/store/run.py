"""The records of a run: they go in and come out as pydantic models, and decisions about them are made elsewhere.

Readers may look at a run while it is written (WAL); one process at a time writes it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple

from safetyqc.errors import InputError
from safetyqc.records import (
    Conversation,
    Duplicate,
    DuplicateGroup,
    Failure,
    ReferenceMatch,
    Rejection,
    Rewrite,
    RoleModel,
)
from safetyqc.store.calls import CalledRun
from safetyqc.store.file import damaged
from safetyqc.store.judgments import JudgedRun
from safetyqc.store.labels import LabelledRun
from safetyqc.store.probes import ProbedRun
from safetyqc.store.reviews import ReviewedRun

_PART_BYTES = 64_000_000
_MOST_HELD_CHARACTERS = 32_000_000
"""Of stored JSON; the records that are made of it take about four times that."""
_READ_AT_ONCE = 900
_DEEPEST = 100
"""Levels of nested metadata; the parser of the records takes about 200 of all JSON."""


class Placed(NamedTuple):
    """What can be known of a conversation without reading its text: who made it of what, and what it is about."""

    id: str
    origin: str
    parent_id: str | None
    scenario_index: int | None
    category: str | None
    intent: str | None


class Drop(NamedTuple):
    """A copy that the last dedup dropped, and for which one."""

    kept: str
    id: str
    similarity: float


@dataclass(frozen=True)
class Timing:
    """Wall time that one stage took in one invocation of a command."""

    stage: str
    wall_s: float
    items: int


class Store(CalledRun, JudgedRun, LabelledRun, ProbedRun, ReviewedRun):
    """The records of one run. Open it with `create`, `open` or `read`; close it, or use it as a context manager."""

    _held_characters = 0

    def add_conversations(self, conversations: Iterable[Conversation]) -> int:
        """Add conversations; those whose id the run holds already are left alone. Returns how many were new.

        Raises:
            InputError: one of them could not be read again; none is added then.
        """
        sql = (
            "INSERT OR IGNORE INTO conversations (id, origin, scenario_index, parent_id, category, intent, language, "
            "body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        )
        return self._write(sql, [_conversation_row(c) for c in conversations]).result()

    def change_facts(self, conversations: Iterable[Conversation]) -> None:
        """Put conversations that say of themselves something else than before in the place of what was there.

        Verdicts that were given for another category or intent go with it: they no longer count and are asked again; so
        are the filters.
        """
        changed = list(conversations)
        update = "UPDATE conversations SET category = ?, intent = ?, language = ?, body = ? WHERE id = ?"
        forget = (
            "DELETE FROM judgments WHERE conversation_id = ?1 AND rubric_hash <> 'recorded' AND "
            "((?2 IS NOT NULL AND category IS NOT ?2) OR (?3 IS NOT NULL AND intent IS NOT ?3))"
        )
        rows = [(c.category, c.intent, c.language, c.model_dump_json(), c.id) for c in changed]
        facts = [(c.id, c.category, c.intent) for c in changed]
        look_again = "DELETE FROM filtered WHERE conversation_id = ?"
        names = [(c.id,) for c in changed]
        self._open_writer().put_all([(update, rows), (forget, facts), (look_again, names)]).result()

    def add_failures(self, failures: Iterable[Failure]) -> Future[int]:
        """Add failures; the same record may fail more than once."""
        rows = [(f.stage, f.record_id, f.kind, f.model_dump_json()) for f in failures]
        return self._write("INSERT INTO failures (stage, record_id, kind, body) VALUES (?, ?, ?, ?)", rows)

    def put_rejections(self, rejections: Iterable[Rejection], checked: Iterable[str], settings: str = "") -> None:
        """Replace the filter hits of the conversations in `checked` by these, and remember by which settings."""
        names = list(checked)
        rows = [(r.conversation_id, r.filter, r.model_dump_json()) for r in rejections]
        self._open_writer().put_all(
            [
                ("DELETE FROM rejections WHERE conversation_id = ?", [(name,) for name in names]),
                ("INSERT OR REPLACE INTO rejections (conversation_id, filter, body) VALUES (?, ?, ?)", rows),
                ("INSERT OR REPLACE INTO filtered VALUES (?, ?)", [(name, settings) for name in names]),
            ]
        ).result()

    def unfiltered(self, settings: str) -> Iterator[int]:
        """Places of the conversations that the filters have not seen by these settings: found without reading one."""
        sql = (
            "SELECT seq FROM conversations WHERE origin <> 'canary' AND NOT EXISTS "
            "(SELECT 1 FROM filtered WHERE conversation_id = conversations.id AND settings = ?) ORDER BY seq"
        )
        return (number for (number,) in self._rows(sql, (settings,)))

    def set_roles(self, roles: Mapping[str, RoleModel]) -> None:
        """Remember who was asked as what (author, assistant, rewriter, decider) and where; other roles stay."""
        asked = self.roles() | dict(roles)
        self.set_meta("roles", {role: model.model_dump(mode="json") for role, model in asked.items()})

    def roles(self) -> dict[str, RoleModel]:
        """Who was last asked as what, and where; a role that nobody had is not there."""
        return {role: RoleModel.model_validate(model) for role, model in self.meta("roles", {}).items()}

    def replace_duplicates(self, groups: Iterable[DuplicateGroup]) -> None:
        """Replace all duplicate groups by these, all together."""
        rows = [(d.conversation_id, g.kept, d.model_dump_json()) for g in groups for d in g.dropped]
        insert = "INSERT OR REPLACE INTO duplicates VALUES (?, ?, ?)"
        self._open_writer().put_all([("DELETE FROM duplicates", [()]), (insert, rows)]).result()

    def replace_matches(self, matches: Iterable[ReferenceMatch]) -> None:
        """Replace all matches with reference sets by these, one a conversation."""
        self._write("DELETE FROM matches", [()])
        rows = [(m.conversation_id, m.model_dump_json()) for m in matches]
        self._write("INSERT OR REPLACE INTO matches VALUES (?, ?)", rows).result()

    def put_packed(self, name: str, body: bytes) -> None:
        """Remember packed arrays under a name, in place of what was there; all of them or nothing."""
        self._open_writer().put_all(_packed_rows(name, body)).result()

    def forget_packed(self, names: Iterable[str]) -> None:
        """Remove the packed arrays under these names."""
        self._write("DELETE FROM arrays WHERE name = ?", [(name,) for name in names]).result()

    def put_rewrite(self, rewrite: Rewrite) -> None:
        """Remember that a rewrite was tried, and whether it was kept."""
        sql = "INSERT OR REPLACE INTO rewrites (parent_id, revision, body) VALUES (?, ?, ?)"
        self._write(sql, [(rewrite.parent_id, rewrite.revision, rewrite.model_dump_json())]).result()

    def add_timing(self, timing: Timing) -> None:
        """Remember how long a stage took."""
        sql = "INSERT INTO timings (stage, at, wall_s, items) VALUES (?, ?, ?, ?)"
        self._write(sql, [(timing.stage, time.time(), timing.wall_s, timing.items)]).result()

    # ---- reading ------------------------------------------------------------------------------------------------

    def conversations(self, only: Set[str] | None = None) -> Iterator[Conversation]:
        """All conversations, or those of these ids, in the order in which they were added."""
        if only is None:
            return self._conversations(self._rows("SELECT seq, id FROM conversations ORDER BY seq"))
        return self._conversations(sorted(self._each("SELECT seq, id FROM conversations WHERE id IN ({})", only)))

    def ids_at(self, numbers: Sequence[int]) -> list[str]:
        """Ids of the conversations at these places, which have to ascend."""
        return [name for (name,) in self._each("SELECT id FROM conversations WHERE seq IN ({}) ORDER BY seq", numbers)]

    def conversations_at(self, numbers: Sequence[int]) -> Iterator[Conversation]:
        """Conversations by their places, which have to ascend."""
        sql = "SELECT seq, id FROM conversations WHERE seq IN ({}) ORDER BY seq"
        return self._conversations(list(self._each(sql, numbers)))

    @cached_property
    def _held(self) -> dict[str, Conversation]:
        """Conversations that were read: one never changes, and a command asks for it once a stage."""
        return {}

    def _conversations(self, places: Iterable[tuple[int, str]]) -> Iterator[Conversation]:
        waiting, last = iter(places), 0
        while part := list(islice(waiting, _READ_AT_ONCE)):
            missing = [number for number, name in part if name not in self._held]
            read = {}
            for name, body in self._each("SELECT id, body FROM conversations WHERE seq IN ({})", missing):
                read[name] = self._record(Conversation, body)
                if self._held_characters < _MOST_HELD_CHARACTERS:
                    self._held[name] = read[name]
                    self._held_characters += len(body)
            for number, name in part:
                found = self._held.get(name) or read.get(name)
                if found is None or found.id != name or number <= last:
                    raise damaged(f"conversation {name} is not there, twice, or under another id", self.path)
                last = number
                yield found

    def placed(self) -> Iterator[Placed]:
        """What is known of every conversation without reading it, in the order in which they were added."""
        return map(Placed._make, self._rows(f"SELECT {', '.join(Placed._fields)} FROM conversations ORDER BY seq"))

    def sources(self) -> dict[str, int]:
        """How many conversations came from each file, and how many were written here."""
        sql = (
            "SELECT coalesce(json_extract(body, '$.source.path'), 'being written here') AS source, count(*) "
            "FROM conversations WHERE origin IN ('imported', 'generated') GROUP BY source ORDER BY min(seq)"
        )
        return dict(self._rows(sql))

    def named_elsewhere(self, folder: str | None) -> set[str]:
        """Ids of imported conversations that were not made of their texts, but for those from the files of a folder."""
        sql = "SELECT id FROM conversations WHERE origin = 'imported' AND substr(id, 1, 2) <> 'c_'"
        if folder is None:
            return {name for (name,) in self._rows(sql)}
        below = "AND coalesce(substr(json_extract(body, '$.source.path'), 1, length(?1)), '') <> ?1"
        return {name for (name,) in self._rows(f"{sql} {below}", (folder,))}

    def conversation_ids(self) -> set[str]:
        """Ids of all conversations: found without reading one."""
        return {name for (name,) in self._rows("SELECT id FROM conversations")}

    def conversation(self, conversation_id: str) -> Conversation | None:
        """One conversation by its id."""
        return next(self.conversations({conversation_id}), None)

    def count_conversations(self) -> dict[str, int]:
        """Number of conversations by origin."""
        return dict(self._rows("SELECT origin, count(*) FROM conversations GROUP BY origin"))

    def written_scenarios(self) -> set[int]:
        """Indices of the scenarios that have a generated conversation."""
        sql = "SELECT DISTINCT scenario_index FROM conversations WHERE origin = 'generated'"
        return {row[0] for row in self._rows(sql)}

    def failures(self, stage: str | None = None) -> Iterator[Failure]:
        """Failures, oldest first."""
        return self._bodies(
            "SELECT body FROM failures WHERE stage = coalesce(?, stage) ORDER BY seq", Failure, (stage,)
        )

    def rejections(self) -> Iterator[Rejection]:
        """All filter hits."""
        return self._bodies("SELECT body FROM rejections ORDER BY seq", Rejection)

    def duplicate_groups(self) -> list[DuplicateGroup]:
        """Duplicate groups of the last dedup."""
        groups: dict[str, list[Duplicate]] = {}
        for kept, body in self._rows("SELECT kept_id, body FROM duplicates ORDER BY rowid"):
            groups.setdefault(kept, []).append(self._record(Duplicate, body))
        return [DuplicateGroup(kept=kept, dropped=tuple(dropped)) for kept, dropped in groups.items()]

    def drops(self) -> Iterator[Drop]:
        """What the last dedup dropped, in the order of the groups, without its evidence."""
        sql = "SELECT kept_id, dropped_id, json_extract(body, '$.similarity') FROM duplicates ORDER BY rowid"
        return map(Drop._make, self._rows(sql))

    def matches(self) -> Iterator[ReferenceMatch]:
        """What is near a reference set, by the last search for it."""
        return self._bodies("SELECT body FROM matches ORDER BY rowid", ReferenceMatch)

    def packed(self, name: str) -> bytes | None:
        """The packed arrays under a name, or None."""
        sql = "SELECT parts, body FROM arrays WHERE name = ? ORDER BY part"
        rows = list(self._rows(sql, (name,)))
        return b"".join(body for _, body in rows[: rows[0][0]]) if rows else None

    def rewrites(self) -> Iterator[Rewrite]:
        """Every rewrite that was tried."""
        return self._bodies("SELECT body FROM rewrites ORDER BY seq", Rewrite)

    def timings(self) -> list[Timing]:
        """Wall time per stage, summed over invocations, in the order of first use."""
        sql = "SELECT stage, sum(wall_s), sum(items) FROM timings GROUP BY stage ORDER BY min(seq)"
        return [Timing(*row) for row in self._rows(sql)]


def _conversation_row(c: Conversation) -> tuple[Any, ...]:
    _refuse_deep(c)
    index = c.scenario.index if c.scenario else None
    return c.id, c.origin, index, c.parent_id, c.category, c.intent, c.language, c.model_dump_json()


def _refuse_deep(conversation: Conversation) -> None:
    """Refuse metadata that no parser would read again: the whole run could not be read any more."""
    level: list[Any] = [conversation.meta]
    for _ in range(_DEEPEST):
        level = [x for value in level for x in (value.values() if isinstance(value, dict) else value)]
        level = [value for value in level if isinstance(value, (dict, list, tuple))]
        if not level:
            return
    source = conversation.source
    what = f"conversation {conversation.id}: its metadata is nested more than {_DEEPEST} deep"
    path = source.path if source else "metadata"
    raise InputError(what, path=path, line=source.line if source else None, fix="leave that key out of the record")


def _packed_rows(name: str, body: bytes) -> list[tuple[str, list[tuple[Any, ...]]]]:
    parts = [body[start : start + _PART_BYTES] for start in range(0, len(body), _PART_BYTES)] or [b""]
    rows = [(name, part, len(parts), chunk) for part, chunk in enumerate(parts)]
    delete = "DELETE FROM arrays WHERE name = ?"
    return [(delete, [(name,)]), ("INSERT INTO arrays VALUES (?, ?, ?, ?)", rows)]
