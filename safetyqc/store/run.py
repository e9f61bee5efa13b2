"""The records of a run: they go in and come out as pydantic models, and decisions about them are made elsewhere.

Readers may look at a run while it is written (WAL); one process at a time writes it. The one surprising thing: whole
answers are remembered by the hash of their request, so that no command of the run pays for one twice.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import Future
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from safetyqc.errors import RunError
from safetyqc.llm.batch.records import Batch, BatchAnswer
from safetyqc.llm.client import Reply, Request, fast_json, text_hash
from safetyqc.records import (
    Conversation,
    Duplicate,
    DuplicateGroup,
    Failure,
    Judgment,
    Label,
    Record,
    ReferenceMatch,
    Rejection,
    Rewrite,
    Usage,
)
from safetyqc.store.file import FILE_NAME, FORMAT, connect, existing, explain, lock_run, make_file
from safetyqc.store.numbered import Numbered
from safetyqc.store.writer import Writer

R = TypeVar("R", bound=Record)

_PART_BYTES = 64_000_000


_LEDGER_FIELDS = ("model", "messages", "temperature", "max_tokens", "seed", "format", "api_base", "repeat")
"""Of a request, for people who look into the ledger; the key covers the schema too, which the rubric's hash names."""

_ADD_CALL = (
    "INSERT INTO calls (key, stage, model, good, prompt_tokens, completion_tokens, cost_usd, latency_s, "
    "history, at, request, reply) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_KEY_DIGITS = 32
_GOOD_OUTCOME = '{"good":true}'
_GOOD_KEYS = f"SELECT substr(key, 1, {_KEY_DIGITS}) FROM calls WHERE good"


@dataclass(frozen=True)
class Spending:
    """What the calls of one stage and model took; `unpriced` counts calls whose price is unknown."""

    stage: str
    model: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    unpriced: int
    latency_s: float


class Judged(NamedTuple):
    """What can be known of a judgment without reading it: why criteria are unscored, and the judge's version."""

    unscored: tuple[str, ...]
    version: str | None


@dataclass(frozen=True)
class Timing:
    """Wall time that one stage took in one invocation of a command."""

    stage: str
    wall_s: float
    items: int


class Store:
    """The records of one run. Open it with `create`, `open` or `read`; close it, or use it as a context manager."""

    def __init__(self, folder: Path, *, mode: Literal["write", "read"]) -> None:
        self.folder = folder
        self.path = folder / FILE_NAME
        with contextlib.ExitStack() as undo:
            self._lock = undo.enter_context(lock_run(folder)) if mode == "write" else None
            self._reader = connect(self.path, read_only=mode == "read")
            undo.callback(self._reader.close)
            self._check_format()
            self._writer = Writer(self.path) if mode == "write" else None
            undo.pop_all()
        self._shared_texts: set[str] = set()

    @classmethod
    def create(cls, folder: str | Path) -> Store:
        """Open the run in `folder`, making it when it is not there.

        Raises:
            RunError: the folder holds something else, is in use by another process, or cannot be written.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / FILE_NAME).exists():
                make_file(folder / FILE_NAME)
        except OSError as error:
            raise RunError(
                f"cannot make a run there: {error.strerror}", where=str(folder), fix="give another folder with --run"
            ) from error
        return cls(folder, mode="write")

    @classmethod
    def open(cls, folder: str | Path) -> Store:
        """Open an existing run for writing.

        Raises:
            RunError: no run there, of another version, or in use by another process.
        """
        return cls(existing(folder), mode="write")

    @classmethod
    def read(cls, folder: str | Path) -> Store:
        """Open an existing run for reading; works while another process writes it.

        Raises:
            RunError: no run there, or of another version.
        """
        return cls(existing(folder), mode="read")

    def close(self) -> None:
        """Wait until every write is durable and release the run; harmless when called twice."""
        if self._writer:
            self._writer.close()
            self._writer = None
        self._reader.close()
        if self._lock:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_format(self) -> None:
        try:
            found = self.meta("format")
        except sqlite3.DatabaseError as error:
            raise explain(error, self.path) from error
        if found != FORMAT:
            raise RunError(
                f"run of format {found!r}, this safetyqc reads {FORMAT}",
                where=str(self.path),
                fix="use the version of safetyqc that made it, or start a new run",
            )

    # ---- writing ------------------------------------------------------------------------------------------------

    def _write(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> Future[int]:
        return self._open_writer().put(sql, list(rows))

    def _open_writer(self) -> Writer:
        if self._writer is None:
            raise RunError("the run is open for reading only", where=str(self.path))
        return self._writer

    def set_meta(self, key: str, value: Any) -> None:
        """Remember a JSON value under a name."""
        self._write("INSERT OR REPLACE INTO meta VALUES (?, ?)", [(key, json.dumps(value))]).result()

    def add_conversations(self, conversations: Iterable[Conversation]) -> int:
        """Add conversations; those whose id the run holds already are left alone. Returns how many were new."""
        rows = [
            (c.id, c.origin, c.scenario.index if c.scenario else None, c.parent_id, c.model_dump_json())
            for c in conversations
        ]
        sql = "INSERT OR IGNORE INTO conversations (id, origin, scenario_index, parent_id, body) VALUES (?, ?, ?, ?, ?)"
        return self._write(sql, rows).result()

    def put_judgments(self, judgments: Iterable[Judgment]) -> Future[int]:
        """Add judgments; one by the same judge and rubric on the same conversation is replaced."""
        rows = [
            (
                j.conversation_id,
                j.judge,
                j.rubric_hash,
                j.prompt_hash or "",
                " ".join(j.unscored_reasons),
                j.model_dump_json(),
            )
            for j in judgments
        ]
        # A number that was never used: of what it replaces it could be given again, and nobody would see the change
        number = "(SELECT coalesce(max(seq), 0) + 1 FROM judgments)"
        columns = "seq, conversation_id, judge, rubric_hash, version, unscored, body"
        return self._write(f"INSERT OR REPLACE INTO judgments ({columns}) VALUES ({number}, ?, ?, ?, ?, ?, ?)", rows)

    def add_failures(self, failures: Iterable[Failure]) -> Future[int]:
        """Add failures; the same record may fail more than once."""
        rows = [(f.stage, f.record_id, f.kind, f.model_dump_json()) for f in failures]
        return self._write("INSERT INTO failures (stage, record_id, kind, body) VALUES (?, ?, ?, ?)", rows)

    def put_rejections(self, rejections: Iterable[Rejection], checked: Iterable[str]) -> None:
        """Replace the filter hits of the conversations in `checked` by these."""
        self._write("DELETE FROM rejections WHERE conversation_id = ?", [(i,) for i in checked])
        rows = [(r.conversation_id, r.filter, r.model_dump_json()) for r in rejections]
        sql = "INSERT OR REPLACE INTO rejections (conversation_id, filter, body) VALUES (?, ?, ?)"
        self._write(sql, rows).result()

    def put_labels(self, labels: Iterable[Label]) -> None:
        """Add labels; one of the same annotator on the same cell is replaced."""
        rows = [(x.conversation_id, x.criterion, x.annotator, x.model_dump_json()) for x in labels]
        sql = "INSERT OR REPLACE INTO labels (conversation_id, criterion, annotator, body) VALUES (?, ?, ?, ?)"
        self._write(sql, rows).result()

    def replace_duplicates(self, groups: Iterable[DuplicateGroup]) -> None:
        """Replace all duplicate groups by these."""
        self._write("DELETE FROM duplicates", [()])
        rows = [(d.conversation_id, g.kept, d.model_dump_json()) for g in groups for d in g.dropped]
        self._write("INSERT OR REPLACE INTO duplicates VALUES (?, ?, ?)", rows).result()

    def change_duplicates(
        self,
        gone: Iterable[int] | None,
        drops: Iterable[tuple[int, str, str, str]],
        packed: Mapping[str, bytes],
    ) -> None:
        """Take away the drops with these keys (None for all), put these in, and remember packed arrays, all together.

        A drop comes as its key (`numbered.drop_key`), its id, the id of the one kept, and the `Duplicate` as JSON.
        """
        delete = "DELETE FROM duplicates" if gone is None else "DELETE FROM duplicates WHERE rowid = ?"
        insert = "INSERT OR REPLACE INTO duplicates (rowid, dropped_id, kept_id, body) VALUES (?, ?, ?, ?)"
        statements: list[tuple[str, list[tuple[Any, ...]]]] = [
            (delete, [()] if gone is None else [(key,) for key in gone]), (insert, list(drops)),
        ]  # fmt: skip
        for name, body in packed.items():
            statements += _packed_rows(name, body)
        self._open_writer().put_all(statements).result()

    def replace_matches(self, matches: Iterable[ReferenceMatch]) -> None:
        """Replace all matches with reference sets by these, one a conversation."""
        self._write("DELETE FROM matches", [()])
        rows = [(m.conversation_id, m.model_dump_json()) for m in matches]
        self._write("INSERT OR REPLACE INTO matches VALUES (?, ?)", rows).result()

    def put_packed(self, name: str, body: bytes) -> None:
        """Remember packed arrays under a name, in place of what was there; all of them or nothing."""
        self._open_writer().put_all(_packed_rows(name, body)).result()

    def put_rewrite(self, rewrite: Rewrite) -> None:
        """Remember that a rewrite was tried, and whether it was kept."""
        sql = "INSERT OR REPLACE INTO rewrites (parent_id, revision, body) VALUES (?, ?, ?)"
        self._write(sql, [(rewrite.parent_id, rewrite.revision, rewrite.model_dump_json())]).result()

    def add_timing(self, timing: Timing) -> None:
        """Remember how long a stage took."""
        sql = "INSERT INTO timings (stage, at, wall_s, items) VALUES (?, ?, ?, ?)"
        self._write(sql, [(timing.stage, time.time(), timing.wall_s, timing.items)]).result()

    async def record_call(self, request: Request, reply: Reply, *, good: bool, history: Sequence[str] = ()) -> None:
        """Write an answered request durably; returns when it is on disk. Only good answers are ever reused.

        `history` holds the reason of every failed attempt before the answer.
        """
        await self._open_writer().write(_ADD_CALL, self._call_row(request, reply, good, history))
        if good:
            self._answered.add(bytes.fromhex(request.key[:_KEY_DIGITS]))

    def _call_row(self, request: Request, reply: Reply, good: bool, history: Sequence[str]) -> tuple[Any, ...]:
        body = {name: getattr(request, name) for name in _LEDGER_FIELDS}
        body["messages"] = [self._share_text(message) for message in request.messages]
        answer: dict[str, Any] = {"text": reply.text, "finish_reason": reply.finish_reason, "refusal": reply.refusal}
        if reply.logprobs:
            answer["logprobs"] = reply.logprobs
        return (
            request.key,
            request.stage,
            request.model,
            int(good),
            reply.usage.prompt_tokens,
            reply.usage.completion_tokens,
            reply.cost_usd,
            reply.latency_s,
            fast_json(history).decode() if history else "[]",
            time.time(),
            fast_json(body).decode(),
            fast_json(answer).decode(),
        )

    def _share_text(self, message: Mapping[str, str]) -> Mapping[str, str]:
        """Keep a system message once and name it by its hash: a judge's is thousands of characters in every request."""
        if message["role"] != "system":
            return message
        name = text_hash(message["content"])
        if name not in self._shared_texts:
            self._shared_texts.add(name)
            text = message["content"].encode("utf-8", "replace").decode()
            self._write("INSERT OR IGNORE INTO texts VALUES (?, ?)", [(name, text)])
        return {"role": "system", "text": name}

    # ---- batches ------------------------------------------------------------------------------------------------

    def add_batch(self, batch: Batch, requests: Sequence[Request]) -> None:
        """Write a batch and its requests down; returns when they are on disk, before anybody is asked for it."""
        rows = [(batch.tag, number, request.key, self._pack(request)) for number, request in enumerate(requests)]
        sql = "INSERT INTO batch_requests (tag, number, key, request) VALUES (?, ?, ?, ?)"
        self._open_writer().put_all([(sql, rows), _batch_row(batch)]).result()

    def put_batch(self, batch: Batch) -> None:
        """Write down how a batch is going; returns when it is on disk."""
        self._open_writer().put_all([_batch_row(batch)]).result()

    def put_answers(self, tag: str, answers: Sequence[BatchAnswer]) -> None:
        """Write what came back with a batch: ledger and outcomes in one transaction, so that none is counted twice."""
        calls = [self._call_row(a.request, a.reply, a.good, ()) for a in answers if a.reply is not None]
        outcomes = [(fast_json(a.outcome).decode(), tag, a.request.key) for a in answers]
        # What was answered stands in the ledger; its text is not kept twice
        set_outcome = "UPDATE batch_requests SET outcome = ?, request = '' WHERE tag = ? AND key = ?"
        self._open_writer().put_all([(_ADD_CALL, calls), (set_outcome, outcomes)]).result()
        self._answered.update(bytes.fromhex(a.request.key[:_KEY_DIGITS]) for a in answers if a.good)

    def batches(self) -> list[Batch]:
        """Every batch of this run, the oldest first."""
        sql = "SELECT body FROM batches ORDER BY at, tag"
        return [Batch(**json.loads(body)) for (body,) in self._reader.execute(sql)]

    def unanswered(self, tag: str) -> list[Request]:
        """The requests of a batch of which nothing has come back, in their order."""
        sql = "SELECT request FROM batch_requests WHERE tag = ? AND outcome IS NULL ORDER BY number"
        return [self._unpack(text) for (text,) in self._reader.execute(sql, (tag,))]

    def batch_keys(self, tag: str) -> set[str]:
        """Keys of all requests of a batch."""
        return {key for (key,) in self._reader.execute("SELECT key FROM batch_requests WHERE tag = ?", (tag,))}

    def waiting_keys(self) -> set[str]:
        """Keys of the requests whose answers are still to come with a batch."""
        sql = (
            "SELECT key FROM batch_requests JOIN batches USING (tag) "
            "WHERE outcome IS NULL AND status NOT IN ('collected', 'given_up')"
        )
        return {key for (key,) in self._reader.execute(sql)}

    def batch_outcomes(self) -> dict[str, Mapping[str, Any]]:
        """How requests ended that got no good answer in the last batch they were in, by key."""
        sql = "SELECT key, outcome FROM batch_requests JOIN batches USING (tag) WHERE outcome IS NOT NULL ORDER BY at"
        latest = dict(self._reader.execute(sql))
        return {key: json.loads(text) for key, text in latest.items() if text != _GOOD_OUTCOME}

    def _pack(self, request: Request) -> str:
        """A whole request as text; system messages and schemas, which thousands share, are kept once."""
        body: dict[str, Any] = {f.name: getattr(request, f.name) for f in fields(request)}
        body["messages"] = [self._share_text(message) for message in request.messages]
        if request.schema is not None:
            schema = {"role": "system", "content": fast_json(request.schema).decode()}
            body["schema"] = self._share_text(schema)["text"]
        return fast_json(body).decode()

    def _unpack(self, text: str) -> Request:
        body = json.loads(text)
        body["messages"] = tuple(
            {"role": m["role"], "content": self._shared_text(m["text"])} if "text" in m else m for m in body["messages"]
        )
        if body["schema"] is not None:
            body["schema"] = json.loads(self._shared_text(body["schema"]))
        return Request(**body)

    def _shared_text(self, name: str) -> str:
        row = self._reader.execute("SELECT text FROM texts WHERE hash = ?", (name,)).fetchone()
        return str(row[0])

    # ---- reading ------------------------------------------------------------------------------------------------

    def meta(self, key: str, default: Any = None) -> Any:
        """The JSON value under a name, or the default."""
        row = self._reader.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return json.loads(row[0]) if row else default

    def conversations(self, only: Set[str] | None = None) -> Iterator[Conversation]:
        """All conversations, or those of these ids, in the order in which they were added."""
        if only is None:
            yield from self._bodies("SELECT body FROM conversations ORDER BY seq", Conversation)
        elif only:
            yield from (found for _, found in self.numbered.conversations(list(self.numbered.numbers(only).values())))

    @property
    def numbered(self) -> Numbered:
        """Conversations and verdicts by their numbers: to read only what came since."""
        return Numbered(self._reader)

    def conversation_ids(self) -> set[str]:
        """Ids of all conversations: found without reading one."""
        return {name for (name,) in self._reader.execute("SELECT id FROM conversations")}

    def conversation(self, conversation_id: str) -> Conversation | None:
        """One conversation by its id."""
        found = self._bodies("SELECT body FROM conversations WHERE id = ?", Conversation, (conversation_id,))
        return next(found, None)

    def count_conversations(self) -> dict[str, int]:
        """Number of conversations by origin."""
        return dict(self._reader.execute("SELECT origin, count(*) FROM conversations GROUP BY origin"))

    def written_scenarios(self) -> set[int]:
        """Indices of the scenarios that have a generated conversation."""
        sql = "SELECT DISTINCT scenario_index FROM conversations WHERE origin = 'generated'"
        return {row[0] for row in self._reader.execute(sql)}

    def judgments(self, judge: str | None = None, rubric_hash: str | None = None) -> Iterator[Judgment]:
        """Judgments, oldest first; of one judge and rubric when they are given."""
        sql = "SELECT body FROM judgments WHERE judge = coalesce(?, judge) AND rubric_hash = coalesce(?, rubric_hash)"
        return self._bodies(sql + " ORDER BY seq", Judgment, (judge, rubric_hash))

    def judged(self, judge: str, rubric_hash: str) -> dict[str, Judged]:
        """What this judge has judged by this rubric, by the conversation's id.

        Answered from an index alone: a hundred thousand in a fifth of a second.
        """
        sql = "SELECT conversation_id, unscored, version FROM judgments WHERE judge = ? AND rubric_hash = ?"
        found = self._reader.execute(sql, (judge, rubric_hash))
        return {name: Judged(tuple(reasons.split()), version or None) for name, reasons, version in found}

    def judges(self) -> list[tuple[str, str, int]]:
        """(judge, rubric hash, number of judgments), the first used first."""
        sql = "SELECT judge, rubric_hash, count(*) FROM judgments GROUP BY judge, rubric_hash ORDER BY min(seq)"
        return list(self._reader.execute(sql))

    def failures(self, stage: str | None = None) -> Iterator[Failure]:
        """Failures, oldest first."""
        return self._bodies(
            "SELECT body FROM failures WHERE stage = coalesce(?, stage) ORDER BY seq", Failure, (stage,)
        )

    def rejections(self) -> Iterator[Rejection]:
        """All filter hits."""
        return self._bodies("SELECT body FROM rejections ORDER BY seq", Rejection)

    def labels(self) -> Iterator[Label]:
        """All labels."""
        return self._bodies("SELECT body FROM labels ORDER BY seq", Label)

    def duplicate_groups(self) -> list[DuplicateGroup]:
        """Duplicate groups of the last dedup."""
        groups: dict[str, list[Duplicate]] = {}
        for kept, body in self._reader.execute("SELECT kept_id, body FROM duplicates ORDER BY rowid"):
            groups.setdefault(kept, []).append(Duplicate.model_validate_json(body))
        return [DuplicateGroup(kept=kept, dropped=tuple(dropped)) for kept, dropped in groups.items()]

    def matches(self) -> Iterator[ReferenceMatch]:
        """What is near a reference set, by the last search for it."""
        return self._bodies("SELECT body FROM matches ORDER BY rowid", ReferenceMatch)

    def packed(self, name: str) -> bytes | None:
        """The packed arrays under a name, or None."""
        sql = "SELECT parts, body FROM arrays WHERE name = ? ORDER BY part"
        rows = self._reader.execute(sql, (name,)).fetchall()
        return b"".join(body for _, body in rows[: rows[0][0]]) if rows else None

    def rewrites(self) -> Iterator[Rewrite]:
        """Every rewrite that was tried."""
        return self._bodies("SELECT body FROM rewrites ORDER BY seq", Rewrite)

    def timings(self) -> list[Timing]:
        """Wall time per stage, summed over invocations, in the order of first use."""
        sql = "SELECT stage, sum(wall_s), sum(items) FROM timings GROUP BY stage ORDER BY min(seq)"
        return [Timing(*row) for row in self._reader.execute(sql)]

    @cached_property
    def _answered(self) -> set[bytes]:
        """Keys of the good answers, shortened: asking SQLite about every new request would cost more than sending."""
        return {bytes.fromhex(key) for (key,) in self._reader.execute(_GOOD_KEYS)}

    def find_reply(self, key: str) -> Reply | None:
        """The good answer to this very request, if one was ever paid for in this run."""
        if bytes.fromhex(key[:_KEY_DIGITS]) not in self._answered:
            return None
        sql = (
            "SELECT model, prompt_tokens, completion_tokens, cost_usd, latency_s, reply FROM calls "
            "WHERE key = ? AND good ORDER BY seq DESC LIMIT 1"
        )
        row = self._reader.execute(sql, (key,)).fetchone()
        if row is None:
            return None
        model, prompt_tokens, completion_tokens, cost_usd, latency_s, body = row
        return Reply(
            **json.loads(body),
            usage=Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens),
            cost_usd=cost_usd,
            latency_s=latency_s,
            model=model,
            reused=True,
        )

    def history(self, key: str) -> tuple[str, ...]:
        """Why the attempts failed that came before the last answer to this request."""
        row = self._reader.execute(
            "SELECT history FROM calls WHERE key = ? ORDER BY seq DESC LIMIT 1", (key,)
        ).fetchone()
        return tuple(json.loads(row[0])) if row else ()

    def spending(self) -> list[Spending]:
        """Calls, tokens and money by stage and model."""
        sql = (
            "SELECT stage, model, count(*), total(prompt_tokens), total(completion_tokens), total(cost_usd), "
            "sum(cost_usd IS NULL), total(latency_s) FROM calls GROUP BY stage, model ORDER BY min(seq)"
        )
        return [
            Spending(s, m, n, int(p), int(c), cost, u, t) for s, m, n, p, c, cost, u, t in self._reader.execute(sql)
        ]

    def spent_usd(self) -> float:
        """All money spent in this run, as far as prices are known."""
        return float(self._reader.execute("SELECT total(cost_usd) FROM calls").fetchone()[0])

    def _bodies(self, sql: str, kind: type[R], parameters: tuple[Any, ...] = ()) -> Iterator[R]:
        for (body,) in self._reader.execute(sql, parameters):
            yield kind.model_validate_json(body)


def _packed_rows(name: str, body: bytes) -> list[tuple[str, list[tuple[Any, ...]]]]:
    parts = [body[start : start + _PART_BYTES] for start in range(0, len(body), _PART_BYTES)] or [b""]
    rows = [(name, part, len(parts), chunk) for part, chunk in enumerate(parts)]
    delete = "DELETE FROM arrays WHERE name = ?"
    return [(delete, [(name,)]), ("INSERT INTO arrays VALUES (?, ?, ?, ?)", rows)]


def _batch_row(batch: Batch) -> tuple[str, list[tuple[Any, ...]]]:
    sql = "INSERT OR REPLACE INTO batches (tag, status, at, body) VALUES (?, ?, ?, ?)"
    return sql, [(batch.tag, batch.status, batch.at, fast_json(asdict(batch)).decode())]
