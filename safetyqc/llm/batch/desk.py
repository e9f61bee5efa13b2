"""The batch desk of a run: requests go to a provider's batch API together, and their answers are fetched hours later.

Everything is on disk before and after each step, so that a kill at any moment neither loses a batch nor submits it
twice: one whose fate is unknown is looked up at the provider by its tag before it is submitted again. It decides
nothing about conversations. A batch is closed only when each of its requests has an outcome;
an answer file that was cut off leaves it open, because the missing answers exist and are paid for.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from safetyqc.errors import BudgetReached, FatalModelError, ModelError, OutputError, UserError, choose_from
from safetyqc.llm.batch.direct import BatchLane, Place
from safetyqc.llm.batch.folder import BatchFolder, read_results
from safetyqc.llm.batch.outcomes import Collected, answer_of, missing_answer, remarks_on
from safetyqc.llm.batch.records import Batch
from safetyqc.llm.batch.wire import BatchState, Lines, write_lines
from safetyqc.llm.door import most_usd, unknown_price
from safetyqc.llm.lanes import open_batch_lane
from safetyqc.llm.prices import Price
from safetyqc.text import run_flag

if TYPE_CHECKING:
    from pathlib import Path

    from safetyqc.llm.client import Request
    from safetyqc.llm.door import Door
    from safetyqc.llm.ledger import BatchLedger

T = TypeVar("T")
_MOST_REQUESTS = 20_000
_MOST_BYTES = 90_000_000
_ATTEMPTS = 5
_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 60.0


class BatchDesk:
    """See the module; close it when done.

    Args:
        folder: where new requests are written as files for whoever runs them; None: they go to providers.
    """

    def __init__(self, store: BatchLedger, door: Door, folder: Path | None = None) -> None:
        self._store, self._door = store, door
        self._folder = str(folder.resolve()) if folder else None
        self._in_run = run_flag(store.folder)
        self._lanes: dict[str, BatchLane] = {}
        door.budget.spent_usd += sum(batch.most_usd or 0.0 for batch in store.batches() if batch.is_open)

    # ---- submitting ---------------------------------------------------------------------------------------------

    async def submit(self, requests: Iterable[Request], command: str) -> AsyncIterator[Batch]:
        """Submit requests, a batch per model and 20,000 of them; as many as `--max-cost` leaves room for.

        Yields each batch as it is submitted.

        Raises:
            NoBatches: the model's server has no batch API; batches of other models may have been submitted.
            BudgetReached: not one more request fits into the budget.
            FatalModelError, ModelError: the provider did not take it; nothing of this batch was submitted.
        """
        groups: dict[tuple[str, str | None, str], list[Request]] = {}
        for request in requests:
            groups.setdefault((request.model, request.api_base, request.endpoint), []).append(request)
        for group in groups.values():
            for chunk in self._chunks(group):
                yield await self._submit(chunk, command)

    async def _submit(self, requests: Sequence[Request], command: str) -> Batch:
        if self._folder:
            BatchFolder(self._folder).make()  # what is wrong with it is said before a batch is noted
        first = requests[0]
        price = self.price(first.model, first.api_base)
        batch = Batch(
            tag=f"sqc-{uuid.uuid4().hex[:16]}",
            status="prepared",
            model=first.model,
            api_base=first.api_base,
            lane=self._door.lane_name(first.model, first.api_base),
            command=command,
            at=time.time(),
            requests=len(requests),
            most_usd=sum(most_usd(price, r) for r in requests) if price else None,
            endpoint=first.endpoint,
            folder=self._folder,
        )
        self._store.add_batch(batch, requests)
        self._door.budget.spent_usd += batch.most_usd or 0.0
        return await self._send(batch)

    def _chunks(self, requests: Sequence[Request]) -> Iterator[list[Request]]:
        """Cut a model's requests into batches, and the last of them off where the budget ends."""
        chunk: list[Request] = []
        size = 0
        for request in self._affordable(requests):
            line = len(write_lines([request]))
            if chunk and (len(chunk) >= _MOST_REQUESTS or size + line > _MOST_BYTES):
                yield chunk
                chunk, size = [], 0
            chunk.append(request)
            size += line
        if chunk:
            yield chunk

    def _affordable(self, requests: Sequence[Request]) -> Iterator[Request]:
        budget = self._door.budget
        if budget.max_usd is None:
            yield from requests
            return
        price = self.price(requests[0].model, requests[0].api_base) or unknown_price(requests[0].model)
        left = budget.max_usd - budget.spent_usd
        for number, request in enumerate(requests):
            left -= most_usd(price, request)
            if left < 0:
                if number == 0:
                    spent = f"${budget.spent_usd:.4f} of ${budget.max_usd:g}"
                    raise BudgetReached(f"stopped at {spent} (open batches counted with the most that they can cost)")
                return
            yield request

    def price(self, model: str, api_base: str | None) -> Price | None:
        """The batch price where the price list knows one, else the full price: half of it is never just assumed."""
        base = self._door.base(model, api_base)
        return self._door.prices.find_batch(model, base) or self._door.prices.find(model, base)

    def is_half_price(self, model: str, api_base: str | None) -> bool:
        """Whether the price list knows what a batch of this model costs."""
        return self._door.prices.find_batch(model, self._door.base(model, api_base)) is not None

    async def _send(self, batch: Batch) -> Batch:
        """Take a prepared batch to the provider; gives it up where the provider surely did not take it."""
        if batch.folder:
            return self._write_file(batch)
        lane, place = self._lane(batch), self._place(batch)
        try:
            lines = write_lines(self._store.unanswered(batch.tag))
            file_id = await _patiently(lambda: lane.upload(place, f"{batch.tag}.jsonl", lines))
            batch = self._note(batch, file_id=file_id, status="submitting")
            return await self._create(batch, lane, place)
        except ModelError as error:
            if batch.status == "prepared" or not error.retryable:
                self._note(batch, status="given_up", note=error.reason)
                self._door.budget.spent_usd -= batch.most_usd or 0.0
            raise

    def _write_file(self, batch: Batch) -> Batch:
        """Write a prepared batch into its folder; into this command's, where its own cannot be written (any more)."""
        requests = self._store.unanswered(batch.tag)
        try:
            BatchFolder(batch.folder or "").write(batch.tag, requests)
        except OutputError as error:
            if self._folder in (None, batch.folder):
                fix = f"`safetyqc batch cancel {batch.tag}{self._in_run}` gives these requests up; or make room there"
                raise OutputError(error.what, where=error.where, fix=fix) from error
            return self._write_file(replace(batch, folder=self._folder))
        return self._note(batch, status="submitted", batch_id=batch.tag)

    async def _create(self, batch: Batch, lane: BatchLane, place: Place) -> Batch:
        """Submit, once: after an attempt that ended without a word the provider's own list is asked first."""
        for attempt in range(_ATTEMPTS):
            try:
                state = await lane.create(place, batch.file_id or "", batch.tag)
            except ModelError as error:
                if not error.retryable or attempt == _ATTEMPTS - 1:
                    raise
                await asyncio.sleep(_wait_s(error, attempt))
                found = None if error.overload else await self._find(batch, lane, place)
                if found is None:
                    continue
                state = found
            return self._note(batch, status="submitted", batch_id=state.id, note=state.status)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _find(self, batch: Batch, lane: BatchLane, place: Place) -> BatchState | None:
        """The provider's batch of this tag or this input file, if it has one.

        Raises:
            ModelError: retryable: the provider does not tell, so the batch must be neither submitted nor given up.
        """

        async def look() -> BatchState | None:
            async for state in lane.newest(place):
                if state.tag == batch.tag or (batch.file_id and state.input_file_id == batch.file_id):
                    return state
            return None

        try:
            return await _patiently(look)
        except ModelError as error:
            unsure = f"cannot tell whether batch {batch.tag} was submitted ({error.reason}); "
            unsure += f"`safetyqc batch cancel {batch.tag}{self._in_run}` gives it up, "
            unsure += "and its requests may then be paid twice"
            raise ModelError("provider_error", unsure, retryable=True) from error

    def _place(self, batch: Batch) -> Place:
        """Where a batch is; a URL that only the run folder names is not shown a key: the folder may be anybody's."""
        with_key = self._door.places.may_show_key(batch.model, batch.api_base)
        return Place(batch.model, batch.api_base, batch.endpoint, with_key, self._door.places.headers(batch.model))

    def _note(self, batch: Batch, **changes: object) -> Batch:
        batch = replace(batch, **changes)  # type: ignore[arg-type]
        self._store.put_batch(batch)
        return batch

    async def resume(self) -> list[Batch]:
        """Finish what a killed command had begun: look for it at the provider, submit it where it is not there."""
        resumed = []
        for batch in self._store.batches():
            if batch.status == "prepared":
                resumed.append(await self._send(batch))
            elif batch.status == "submitting":
                lane, place = self._lane(batch), self._place(batch)
                found = await self._find(batch, lane, place)
                if found is None:
                    resumed.append(await self._create(batch, lane, place))
                else:
                    resumed.append(self._note(batch, status="submitted", batch_id=found.id, note=found.status))
        return resumed

    # ---- collecting ---------------------------------------------------------------------------------------------

    async def collect(self, files: Sequence[Path] = ()) -> list[Collected]:
        """Fetch what every open batch has answered; costs nothing.

        Args:
            files: results of requests that were written into folders, beside those that lie there.

        Raises:
            FatalModelError, ModelError: the provider cannot be asked; what was fetched before is saved.
            InputError: a file cannot be read.
        """
        submitted = [batch for batch in self._store.batches() if batch.status == "submitted"]
        found = self._collect_files([batch for batch in submitted if batch.folder], files)
        return found + [await self._collect(batch) for batch in submitted if not batch.folder]

    def _collect_files(self, batches: Sequence[Batch], files: Sequence[Path]) -> list[Collected]:
        """Look for the answers of all in all files: a result is known by its request's hash, wherever it stands."""
        if not batches:
            return []
        waiting = {batch.tag: self._store.unanswered(batch.tag) for batch in batches}
        read = read_results(self._store.batches(), self._store.batch_keys, waiting, files)
        found = []
        for batch in batches:
            asked = waiting[batch.tag]
            settled = self._settle(batch, BatchState(batch.tag, "waiting"), asked, read.lines, cut=True)
            rest = [r for r in asked if r.key not in read.lines.outcomes]
            BatchFolder(batch.folder or "").keep(batch.tag, rest, read.of(batch))
            told = read.remarks(batch, len(rest), first=batch is batches[0])
            found.append(replace(settled, state=None, remarks=tuple(told)))
        return found

    async def _collect(self, batch: Batch) -> Collected:
        lane, place = self._lane(batch), self._place(batch)
        state = await self._retrieve(batch)
        waiting = self._store.unanswered(batch.tag)
        if not state.has_ended:
            batch = self._note(batch, note=state.status)
            return Collected(batch, state, waiting=len(waiting))
        lines, cut = Lines(), False
        for file_id in state.files:
            raw = await _patiently(lambda file_id=file_id: lane.download(place, file_id))  # type: ignore[misc]
            asked = dict.fromkeys(self._store.batch_keys(batch.tag), (batch.model, batch.endpoint))
            lines.read(raw.splitlines(), asked)
        cut = lines.broken > 0 or lines.lines < state.done + state.failed
        return self._settle(batch, state, waiting, lines, cut=cut)

    async def _retrieve(self, batch: Batch) -> BatchState:
        lane, place = self._lane(batch), self._place(batch)
        try:
            return await _patiently(lambda: lane.retrieve(place, batch.batch_id or ""))
        except FatalModelError as error:
            if " 404 " not in error.reason:
                raise
            fix = f"is the key of the same account? `safetyqc batch cancel {batch.tag}{self._in_run}` gives it up"
            raise FatalModelError(
                f"the provider does not know batch {batch.batch_id}: {error.reason}", fix=fix
            ) from error

    def _settle(
        self, batch: Batch, state: BatchState, waiting: Sequence[Request], lines: Lines, *, cut: bool
    ) -> Collected:
        """Write every outcome down; what has none failed, unless the answer files were cut off."""
        price = self.price(batch.model, batch.api_base)
        answers, missing = [], 0
        for request in waiting:
            outcome = lines.outcomes.get(request.key)
            if outcome is None and cut:
                missing += 1
                continue
            answers.append(answer_of(request, outcome or missing_answer(batch, state), price))
        self._store.put_answers(batch.tag, answers)
        costs = [a.reply.cost_usd for a in answers if a.reply]
        note = "cut off" if cut and missing and not batch.folder else state.status
        batch = self._note(batch, status="submitted" if missing else "collected", note=note)
        if not missing:
            self._door.budget.spent_usd += sum(c or 0.0 for c in costs) - (batch.most_usd or 0.0)
        return Collected(
            batch,
            state,
            answered=sum(a.good for a in answers),
            unusable=sum("reply" in a.outcome for a in answers),
            failed=Counter(a.outcome["error"]["reason"] for a in answers if "error" in a.outcome),
            waiting=missing,
            cost_usd=None if None in costs else sum(c or 0.0 for c in costs),
            remarks=tuple(remarks_on(state, lines, missing)),
        )

    # ---- looking and giving up ----------------------------------------------------------------------------------

    async def look(self) -> list[Collected]:
        """How the open batches are going; changes nothing."""
        looked = []
        for batch in self._store.batches():
            state = await self._retrieve(batch) if batch.status == "submitted" and not batch.folder else None
            waiting = len(self._store.unanswered(batch.tag)) if batch.is_open else 0
            looked.append(Collected(batch, state, waiting=waiting))
        return looked

    async def cancel(self, name: str) -> Collected:
        """Cancel a batch by its id or tag: answers so far are collected, the rest may be asked again.

        One that the provider does not have, or no longer knows, is only given up here.

        Raises:
            UserError: no open batch of that name.
        """
        still_open = [b for b in self._store.batches() if b.is_open]
        batch = next((b for b in still_open if name in (b.tag, b.batch_id)), None)
        if batch is None:
            names = [b.batch_id or b.tag for b in still_open]
            fix = choose_from(name, names) if names else f"see `safetyqc batch status{self._in_run}`"
            raise UserError(f"no open batch {name!r} in this run", fix=fix)
        if batch.folder:
            return self._give_up_files(batch)
        lane, place = self._lane(batch), self._place(batch)
        if batch.status == "submitting":
            with contextlib.suppress(ModelError):  # who cannot be asked cannot be told either
                if found := await self._find(batch, lane, place):
                    batch = self._note(batch, status="submitted", batch_id=found.id, note=found.status)
        if batch.status == "submitted":
            try:
                state = await _patiently(lambda: lane.retrieve(place, batch.batch_id or ""))
                if not state.has_ended:
                    await _patiently(lambda: lane.cancel(place, batch.batch_id or ""))
                return await self._collect(batch)
            except FatalModelError as error:
                if " 404 " not in error.reason:
                    raise
        return Collected(self._note(batch, status="given_up", note="given up"))

    def _give_up_files(self, batch: Batch) -> Collected:
        """Use what lies there, and forget the rest: later results are of no request then."""
        [found] = self._collect_files([batch], ()) if batch.status == "submitted" else [Collected(batch)]
        if not found.batch.is_open:
            return found
        BatchFolder(batch.folder or "").keep(batch.tag, ())
        self._door.budget.spent_usd -= batch.most_usd or 0.0
        return replace(found, batch=self._note(found.batch, status="given_up", note="given up"), remarks=())

    def _lane(self, batch: Batch) -> BatchLane:
        settings = self._door.settings
        if batch.lane not in self._lanes:
            self._lanes[batch.lane] = open_batch_lane(
                batch.lane, api_key=settings.api_key, timeout_s=settings.timeout_s
            )
        return self._lanes[batch.lane]

    async def close(self) -> None:
        """Close every lane that was opened."""
        lanes, self._lanes = list(self._lanes.values()), {}
        for lane in lanes:
            await lane.close()


async def _patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask until answered, hopeless, or five times in vain; only for what may be asked twice without harm."""
    for attempt in range(_ATTEMPTS):
        try:
            return await ask()
        except ModelError as error:
            if not error.retryable or attempt == _ATTEMPTS - 1:
                raise
            await asyncio.sleep(_wait_s(error, attempt))
    raise AssertionError("unreachable: the last attempt returns or raises")


def _wait_s(error: ModelError, attempt: int) -> float:
    ceiling = min(_FIRST_WAIT_S * 2**attempt, _LONGEST_WAIT_S)
    return random.uniform(ceiling / 2, ceiling) + min(error.retry_after_s or 0.0, _LONGEST_WAIT_S)
