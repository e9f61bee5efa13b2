"""The ledger of a run: every paid call by the hash of its request, and the batches that requests wait in.

Whole answers are remembered, so no command of the run pays for one twice. It satisfies `safetyqc.llm.ledger`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

from safetyqc.llm.batch.records import Batch, BatchAnswer
from safetyqc.llm.client import Reply, Request, fast_json, text_hash
from safetyqc.records import Usage
from safetyqc.store.file import damaged
from safetyqc.store.opened import OpenedRun

_PACKED_FIELDS = tuple(f.name for f in fields(Request) if f.compare or f.name == "stage")
"""What a request is; how a server wants it worded is found out by whoever sends it."""
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


class CalledRun(OpenedRun):
    """The tables `calls`, `texts`, `batches` and `batch_requests`."""

    @cached_property
    def _shared_texts(self) -> set[str]:
        """Hashes of the texts that this process has written."""
        return set()

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

    @cached_property
    def _answered(self) -> set[bytes]:
        """Keys of the good answers, shortened: asking SQLite about every new request would cost more than sending."""
        try:
            return {bytes.fromhex(key) for (key,) in self._rows(_GOOD_KEYS)}
        except (TypeError, ValueError) as error:
            raise damaged("a call is stored under what is no hash", self.path) from error

    def find_reply(self, key: str) -> Reply | None:
        """The good answer to this very request, if one was ever paid for in this run."""
        if bytes.fromhex(key[:_KEY_DIGITS]) not in self._answered:
            return None
        sql = (
            "SELECT model, prompt_tokens, completion_tokens, cost_usd, latency_s, reply FROM calls "
            "WHERE key = ? AND good ORDER BY seq DESC LIMIT 1"
        )
        row = self._row(sql, (key,))
        if row is None:
            return None
        model, prompt_tokens, completion_tokens, cost_usd, latency_s, body = row
        try:
            return Reply(
                **self._json(body, "calls"),
                usage=Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens),
                cost_usd=cost_usd,
                latency_s=latency_s,
                model=model,
                reused=True,
            )
        except (TypeError, ValueError) as error:
            raise damaged("a reply in it cannot be read", self.path) from error

    def history(self, key: str) -> tuple[str, ...]:
        """Why the attempts failed that came before the last answer to this request."""
        row = self._row("SELECT history FROM calls WHERE key = ? ORDER BY seq DESC LIMIT 1", (key,))
        return tuple(self._json(row[0], "calls")) if row else ()

    def spending(self) -> list[Spending]:
        """Calls, tokens and money by stage and model."""
        sql = (
            "SELECT stage, model, count(*), total(prompt_tokens), total(completion_tokens), total(cost_usd), "
            "sum(cost_usd IS NULL), total(latency_s) FROM calls GROUP BY stage, model ORDER BY min(seq)"
        )
        found = list(self._rows(sql))
        if not all(isinstance(stage, str) and isinstance(model, str) for stage, model, *_ in found):
            raise damaged("a call names no stage or model", self.path)
        return [Spending(s, m, n, int(p), int(c), cost, u, t) for s, m, n, p, c, cost, u, t in found]

    def spent_usd(self) -> float:
        """All money spent in this run, as far as prices are known."""
        return float(self._row("SELECT total(cost_usd) FROM calls")[0])

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
        return [Batch(**self._json(body, "batches")) for (body,) in self._rows(sql)]

    def unanswered(self, tag: str) -> list[Request]:
        """The requests of a batch of which nothing has come back, in their order."""
        sql = "SELECT request FROM batch_requests WHERE tag = ? AND outcome IS NULL ORDER BY number"
        return [self._unpack(text) for (text,) in self._rows(sql, (tag,))]

    def batch_keys(self, tag: str) -> set[str]:
        """Keys of all requests of a batch."""
        return {key for (key,) in self._rows("SELECT key FROM batch_requests WHERE tag = ?", (tag,))}

    def waiting_keys(self) -> set[str]:
        """Keys of the requests whose answers are still to come with a batch."""
        sql = (
            "SELECT key FROM batch_requests JOIN batches USING (tag) "
            "WHERE outcome IS NULL AND status NOT IN ('collected', 'given_up')"
        )
        return {key for (key,) in self._rows(sql)}

    def batch_outcomes(self) -> dict[str, Mapping[str, Any]]:
        """How requests ended that got no good answer in the last batch they were in, by key."""
        sql = "SELECT key, outcome FROM batch_requests JOIN batches USING (tag) WHERE outcome IS NOT NULL ORDER BY at"
        latest = dict(self._rows(sql))
        return {key: self._json(text, "batch_requests") for key, text in latest.items() if text != _GOOD_OUTCOME}

    def _pack(self, request: Request) -> str:
        """A whole request as text; system messages and schemas, which thousands share, are kept once."""
        body: dict[str, Any] = {name: getattr(request, name) for name in _PACKED_FIELDS}
        body["messages"] = [self._share_text(message) for message in request.messages]
        if request.schema is not None:
            schema = {"role": "system", "content": fast_json(request.schema).decode()}
            body["schema"] = self._share_text(schema)["text"]
        return fast_json(body).decode()

    def _unpack(self, text: str) -> Request:
        body = self._json(text, "batch_requests")
        body["messages"] = tuple(
            {"role": m["role"], "content": self._shared_text(m["text"])} if "text" in m else m for m in body["messages"]
        )
        if body["schema"] is not None:
            body["schema"] = self._json(self._shared_text(body["schema"]), "texts")
        return Request(**body)

    def _shared_text(self, name: str) -> str:
        row = self._row("SELECT text FROM texts WHERE hash = ?", (name,))
        if row is None:
            raise damaged("a text that a request names is not there", self.path)
        return str(row[0])


def _batch_row(batch: Batch) -> tuple[str, list[tuple[Any, ...]]]:
    sql = "INSERT OR REPLACE INTO batches (tag, status, at, body) VALUES (?, ?, ?, ?)"
    return sql, [(batch.tag, batch.status, batch.at, fast_json(asdict(batch)).decode())]
