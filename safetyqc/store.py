"""A run is one folder with one SQLite file; this module is the only one that knows SQL.

Records go in and come out as pydantic models; decisions about them are made elsewhere. Readers may look at a run while
it is written (WAL). The one surprising thing: all writes go through one thread that commits whatever has queued up in
one transaction, so that a write is durable when its future resolves and yet thousands a second are possible.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from safetyqc.errors import RunError
from safetyqc.llm.client import Reply, Request, fast_json, text_hash
from safetyqc.records import (
    Conversation,
    Duplicate,
    DuplicateGroup,
    Failure,
    Judgment,
    Label,
    Record,
    Rejection,
    Rewrite,
    Usage,
)

FILE_NAME = "run.sqlite"
FORMAT = 1
R = TypeVar("R", bound=Record)

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE conversations (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, origin TEXT NOT NULL,
    scenario_index INTEGER, parent_id TEXT, body TEXT NOT NULL);
CREATE INDEX conversations_by_scenario ON conversations (scenario_index);
CREATE TABLE judgments (seq INTEGER PRIMARY KEY, conversation_id TEXT NOT NULL, judge TEXT NOT NULL,
    rubric_hash TEXT NOT NULL, body TEXT NOT NULL, UNIQUE (conversation_id, judge, rubric_hash));
CREATE TABLE failures (seq INTEGER PRIMARY KEY, stage TEXT NOT NULL, record_id TEXT NOT NULL, kind TEXT NOT NULL,
    body TEXT NOT NULL);
CREATE TABLE rejections (seq INTEGER PRIMARY KEY, conversation_id TEXT NOT NULL, filter TEXT NOT NULL,
    body TEXT NOT NULL, UNIQUE (conversation_id, filter));
CREATE TABLE labels (seq INTEGER PRIMARY KEY, conversation_id TEXT NOT NULL, criterion TEXT NOT NULL,
    annotator TEXT NOT NULL, body TEXT NOT NULL, UNIQUE (conversation_id, criterion, annotator));
CREATE TABLE duplicates (dropped_id TEXT PRIMARY KEY, kept_id TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE rewrites (seq INTEGER PRIMARY KEY, parent_id TEXT NOT NULL, revision INTEGER NOT NULL,
    body TEXT NOT NULL, UNIQUE (parent_id, revision));
CREATE TABLE calls (seq INTEGER PRIMARY KEY, key TEXT NOT NULL, stage TEXT NOT NULL, model TEXT NOT NULL,
    good INTEGER NOT NULL, prompt_tokens INTEGER, completion_tokens INTEGER, cost_usd REAL, latency_s REAL,
    history TEXT NOT NULL, at REAL NOT NULL, request TEXT NOT NULL, reply TEXT NOT NULL);
CREATE TABLE texts (hash TEXT PRIMARY KEY, text TEXT NOT NULL);
CREATE INDEX calls_by_key ON calls (key) WHERE good;
CREATE TABLE timings (seq INTEGER PRIMARY KEY, stage TEXT NOT NULL, at REAL NOT NULL, wall_s REAL NOT NULL,
    items INTEGER NOT NULL);
"""


_BATCH_SCHEMA = """
CREATE TABLE IF NOT EXISTS batches (tag TEXT PRIMARY KEY, status TEXT NOT NULL, at REAL NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS batch_requests (tag TEXT NOT NULL, number INTEGER NOT NULL, key TEXT NOT NULL,
    request TEXT NOT NULL, outcome TEXT, UNIQUE (tag, key));
CREATE INDEX IF NOT EXISTS batch_requests_by_key ON batch_requests (key);
"""
"""Made with the first batch, so that runs which were begun before batches existed can have them."""

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


@dataclass(frozen=True)
class Timing:
    """Wall time that one stage took in one invocation of a command."""

    stage: str
    wall_s: float
    items: int


BatchStatus = Literal["prepared", "submitting", "submitted", "collected", "given_up"]


@dataclass(frozen=True)
class Batch:
    """Requests that were handed to a provider's batch API together, or are about to be.

    Args:
        tag: our own name, sent along as metadata, by which a batch is found again whose id was never received.
        status: `prepared` before anything is asked, `submitting` while nobody knows whether the provider has it.
        command: what to type for the answers to be used.
        requests: how many.
        most_usd: what they can cost at most; None where the price is unknown.
        note: the last word about it, for people.
    """

    tag: str
    status: BatchStatus
    model: str
    api_base: str | None
    lane: str
    command: str
    at: float
    requests: int
    most_usd: float | None = None
    file_id: str | None = None
    batch_id: str | None = None
    note: str = ""

    @property
    def is_open(self) -> bool:
        """Whether answers may still come."""
        return self.status not in ("collected", "given_up")


@dataclass(frozen=True)
class BatchAnswer:
    """What came back for one request of a batch; `reply` goes into the ledger, `outcome` says how it ended."""

    request: Request
    outcome: Mapping[str, Any]
    reply: Reply | None = None
    good: bool = False


class Store:
    """The records of one run. Open it with `create`, `open` or `read`; close it, or use it as a context manager."""

    def __init__(self, folder: Path, *, mode: Literal["write", "read"]) -> None:
        self.folder = folder
        self.path = folder / FILE_NAME
        with contextlib.ExitStack() as undo:
            self._lock = undo.enter_context(_lock_run(folder)) if mode == "write" else None
            self._reader = _connect(self.path, read_only=mode == "read")
            undo.callback(self._reader.close)
            self._check_format()
            self._writer = _Writer(self.path) if mode == "write" else None
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
                _make_file(folder / FILE_NAME)
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
        return cls(_existing(folder), mode="write")

    @classmethod
    def read(cls, folder: str | Path) -> Store:
        """Open an existing run for reading; works while another process writes it.

        Raises:
            RunError: no run there, or of another version.
        """
        return cls(_existing(folder), mode="read")

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
            raise RunError(f"not a safetyqc run: {error}", where=str(self.path), fix="give another --run") from error
        if found != FORMAT:
            raise RunError(
                f"run of format {found!r}, this safetyqc reads {FORMAT}",
                where=str(self.path),
                fix="use the version of safetyqc that made it, or start a new run",
            )

    # ---- writing ------------------------------------------------------------------------------------------------

    def _write(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> Future[int]:
        return self._open_writer().put(sql, list(rows))

    def _open_writer(self) -> _Writer:
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
        rows = [(j.conversation_id, j.judge, j.rubric_hash, j.model_dump_json()) for j in judgments]
        sql = "INSERT OR REPLACE INTO judgments (conversation_id, judge, rubric_hash, body) VALUES (?, ?, ?, ?)"
        return self._write(sql, rows)

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
        answer = {"text": reply.text, "finish_reason": reply.finish_reason, "refusal": reply.refusal}
        return (
            request.key,
            request.stage,
            request.model,
            int(good),
            reply.usage.prompt_tokens,
            reply.usage.completion_tokens,
            reply.cost_usd,
            reply.latency_s,
            fast_json(history).decode(),
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
        if not self._has_batches:
            for statement in _BATCH_SCHEMA.split(";")[:-1]:
                self._write(statement, [()]).result()
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

    @property
    def _has_batches(self) -> bool:
        sql = "SELECT 1 FROM sqlite_master WHERE name = 'batch_requests_by_key'"
        return self._reader.execute(sql).fetchone() is not None

    def batches(self) -> list[Batch]:
        """Every batch of this run, the oldest first."""
        if not self._has_batches:
            return []
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
        if not self._has_batches:
            return set()
        sql = (
            "SELECT key FROM batch_requests JOIN batches USING (tag) "
            "WHERE outcome IS NULL AND status NOT IN ('collected', 'given_up')"
        )
        return {key for (key,) in self._reader.execute(sql)}

    def batch_outcomes(self) -> dict[str, Mapping[str, Any]]:
        """How requests ended that got no good answer in the last batch they were in, by key."""
        if not self._has_batches:
            return {}
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

    def conversations(self) -> Iterator[Conversation]:
        """All conversations, in the order in which they were added."""
        return self._bodies("SELECT body FROM conversations ORDER BY seq", Conversation)

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

    def judged(self, judge: str, rubric_hash: str) -> set[str]:
        """Ids of the conversations that this judge has judged by this rubric."""
        sql = "SELECT conversation_id FROM judgments WHERE judge = ? AND rubric_hash = ?"
        return {row[0] for row in self._reader.execute(sql, (judge, rubric_hash))}

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


@dataclass(frozen=True)
class _Job:
    """Something to write, and who is told how it went: a thread that waits, or a coroutine."""

    sql: str
    rows: list[tuple[Any, ...]]
    done: Future[int] | asyncio.Future[int]
    further: Sequence[tuple[str, list[tuple[Any, ...]]]] = ()
    """More statements, which are run with this one or not at all."""


class _Writer:
    """One thread, one connection: takes everything that has queued up, commits it together, resolves the futures."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = _connect(path)  # here, not in the thread: nobody would see it fail there
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="safetyqc-store", daemon=True)
        self._thread.start()

    def put(self, sql: str, rows: list[tuple[Any, ...]]) -> Future[int]:
        """Queue one statement; the future holds the number of changed rows once they are durable."""
        future: Future[int] = Future()
        self._queue.put(_Job(sql, rows, future))
        return future

    def put_all(self, statements: Sequence[tuple[str, list[tuple[Any, ...]]]]) -> Future[int]:
        """Queue statements that are written together or not at all."""
        future: Future[int] = Future()
        (sql, rows), *further = statements
        self._queue.put(_Job(sql, rows, future, further))
        return future

    async def write(self, sql: str, row: tuple[Any, ...]) -> int:
        """Write one row; returns when it is durable."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._queue.put(_Job(sql, [row], future))
        return await future

    def close(self) -> None:
        """Finish what is queued and end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        with contextlib.closing(self._connection) as connection:
            open_for_more = True
            while open_for_more:
                batch = [self._queue.get()]
                while not self._queue.empty():
                    batch.append(self._queue.get())
                open_for_more = None not in batch
                _tell(self._commit(connection, [job for job in batch if job is not None]))

    def _commit(self, connection: sqlite3.Connection, jobs: list[_Job]) -> list[tuple[_Job, int | Exception]]:
        """Commit all jobs together; when that fails, each alone, so that one bad row fails only itself."""
        try:
            with connection:
                counts = [connection.executemany(job.sql, job.rows).rowcount for job in jobs]
                for sql, rows in (statement for job in jobs for statement in job.further):
                    connection.executemany(sql, rows)
        except (sqlite3.Error, ValueError, OverflowError) as error:
            if len(jobs) > 1:
                return [outcome for job in jobs for outcome in self._commit(connection, [job])]
            return [(job, _explain(error, self._path)) for job in jobs]
        return [(job, max(count, 0)) for job, count in zip(jobs, counts, strict=True)]


def _batch_row(batch: Batch) -> tuple[str, list[tuple[Any, ...]]]:
    sql = "INSERT OR REPLACE INTO batches (tag, status, at, body) VALUES (?, ?, ?, ?)"
    return sql, [(batch.tag, batch.status, batch.at, fast_json(asdict(batch)).decode())]


def _tell(outcomes: list[tuple[_Job, int | Exception]]) -> None:
    """Resolve the futures; those of one event loop in one go, because waking a loop costs more than a write."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Job, int | Exception]]] = {}
    for job, outcome in outcomes:
        if isinstance(job.done, asyncio.Future):
            by_loop.setdefault(job.done.get_loop(), []).append((job, outcome))
        else:
            _resolve([(job, outcome)])
    for loop, own in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(_resolve, own)


def _resolve(outcomes: list[tuple[_Job, int | Exception]]) -> None:
    for job, outcome in outcomes:
        if job.done.done():
            continue  # cancelled meanwhile; the row is written all the same
        if isinstance(outcome, Exception):
            job.done.set_exception(outcome)
        else:
            job.done.set_result(outcome)


def _connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    mode = "ro" if read_only else "rw"
    if read_only and not os.access(path.parent, os.W_OK) and not path.with_name(f"{path.name}-wal").exists():
        mode = "ro&immutable=1"  # SQLite would make a file beside it, which it cannot there; and nobody else writes
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=30, check_same_thread=False
        )
        connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error as error:
        raise _explain(error, path) from error
    return connection


def _make_file(path: Path) -> None:
    """Make the database under another name and rename it, so that a half-made run never exists."""
    unfinished = path.with_suffix(".making")
    unfinished.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(unfinished)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(_SCHEMA)
        connection.execute("INSERT INTO meta VALUES ('format', ?)", (json.dumps(FORMAT),))
        connection.commit()
    unfinished.rename(path)


def _existing(folder: str | Path) -> Path:
    folder = Path(folder)
    if not (folder / FILE_NAME).is_file():
        raise RunError(
            "no run here",
            where=str(folder),
            fix="make one with `safetyqc import FILE` or `safetyqc generate`, or give --run",
        )
    return folder


def _lock_run(folder: Path) -> Any:
    """Hold the run for this process: two writers would pay for the same call twice."""
    try:
        handle = (folder / "lock").open("a")
    except OSError as error:
        fix = "copy the folder to where you may write, or give another --run"
        raise RunError(f"cannot write to the run: {error.strerror}", where=str(folder), fix=fix) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.close()
        raise RunError(
            "another safetyqc is writing this run", where=str(folder), fix="wait for it, or use another --run"
        ) from error
    return handle


def _explain(error: Exception, path: Path) -> RunError:
    text = str(error)
    if "not a database" in text:
        return RunError(f"not a safetyqc run: {text}", where=str(path), fix="give another --run")
    fix = "free some space and run the same command again" if "full" in text or "disk" in text else None
    if "unable to open" in text:
        fix = "copy the folder to where you may write, with all its files"
    return RunError(f"the run cannot be written or read: {text}", where=str(path), fix=fix)
