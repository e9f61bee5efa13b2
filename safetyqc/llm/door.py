"""The composed client that every command uses: ledger, budget, limits, retries and the right lane for each model.

A request is looked up in the ledger, shared with an identical one in flight, paid for within the budget, asked politely
and to a deadline, and its answer is durable before anybody sees it. Providers are the lanes' business. Time spent
waiting for a provider that asked for a pause burns no attempts, only the deadline.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from safetyqc.errors import FatalModelError, Interrupted, ModelError, UserError
from safetyqc.llm.budget import Budget
from safetyqc.llm.client import Client, Format, FormatRefused, Reply, Request
from safetyqc.llm.dialect import Dialect
from safetyqc.llm.hosts import base_of, is_in_process, is_nanochat, provider_of
from safetyqc.llm.lanes import AUTO, IN_PROCESS, NANOCHAT_LANE, OpenLane, open_lane
from safetyqc.llm.limits import Limits, Pass
from safetyqc.llm.places import Own, Places, told_place
from safetyqc.llm.prices import CallsEstimate, Price, Prices, count_prompt, known_format
from safetyqc.llm.structured import LADDER, Capabilities

if TYPE_CHECKING:
    from safetyqc.llm.ledger import Ledger

_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 60.0
_NAP_S = 0.25
_CAPABILITIES = "capabilities"
_DIALECTS = "dialects"
_MOST_LESSONS = 6
_WORDING = frozenset({400, 415, 422, 500, 501, None})
"""Statuses of refusals that may be about how a request is worded."""
_SUSPICIOUS = 2
"""Errors in a row after which a schema that this server never took is suspected of them."""


@dataclass(frozen=True)
class DoorSettings:
    """How models are asked.

    Args:
        api_base: base URL for every model that is not local and has none of its own.
        fills_in: whether requests without a base URL go to `api_base`; not where each already says where it goes.
        unvouched: base URLs that a run's folder names, and that get a key only if a flag or the environment names them.
        by_name: what single models have of their own, which goes before `api_base`.
        elsewhere: models that `api_base` is not for.
        announce: told where a model is asked and with which key, before its first call.
        shows_key: whether `api_base` is shown the provider's key; not where it came with a file that may be anybody's.
        api_key: overrides the provider's environment variable; never shown.
        timeout_s: for one attempt; deadline_s: for one request with all its retries and pauses.
        max_cost_usd: the run stops before it could pass this sum, what earlier commands spent included.
        prices: dollars per million tokens of private models, by model name.
        lane: a name of LANES; `auto` takes the direct lane for endpoints of the user's own.
        fresh: ask again what the ledger has an answer for.
        fallback: model to ask when one cannot answer at all.
        rpm, tpm: requests and tokens a minute per provider; None learns them from response headers.
        down_s: how long a provider may fail every call before the run stops.
    """

    api_base: str | None = None
    fills_in: bool = True
    unvouched: frozenset[str] = frozenset()
    by_name: Mapping[str, Own] = field(default_factory=dict)
    elsewhere: frozenset[str] = frozenset()
    announce: Callable[[str], None] | None = None
    shows_key: bool = True
    api_key: str | None = field(default=None, repr=False)
    timeout_s: float = 120.0
    deadline_s: float = 900.0
    max_attempts: int = 8
    max_cost_usd: float | None = None
    prices: Mapping[str, Price] = field(default_factory=dict)
    lane: str = AUTO
    fresh: bool = False
    fallback: str | None = None
    rpm: float | None = None
    tpm: float | None = None
    down_s: float = 120.0


@dataclass
class Counters:
    """What went through the door since it was opened."""

    calls: int = 0
    in_flight: int = 0
    reused: int = 0
    retries: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    """Requests that got no answer at all, by kind."""
    faults: Counter[str] = field(default_factory=Counter)
    """Attempts that went wrong, most of them mended by a retry, by kind."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0
    """Answered calls whose cost is unknown."""
    trouble: Callable[[], str] = field(default=str, repr=False)
    """Says which provider does not answer, or wants a pause; empty while all is well."""


@runtime_checkable
class _Stoppable(Protocol):
    """A lane that keeps requests waiting itself."""

    def stop(self) -> None: ...


@dataclass(frozen=True)
class _Route:
    """Where a model's requests go and what they cost; found once per model and base URL."""

    lane: Client
    limits: Limits
    price: Price | None


def open_door(store: Ledger | None, *, settings: DoorSettings | None = None, open_lane: OpenLane = open_lane) -> Door:
    """Make the client that a command asks everything with; it connects and imports nothing before the first call.

    Args:
        open_lane: how requests leave: from this process, or as an engine sends them.
    """
    return Door(store, settings or DoorSettings(), open_lane)


class Door:
    """See the module; made by `open_door`. Also a Client, and `structured.ask_json` learns into `capabilities`."""

    def __init__(self, store: Ledger | None, settings: DoorSettings, open_lane: OpenLane = open_lane) -> None:
        self.settings, self._open = settings, open_lane
        self.places = Places(
            settings.api_base,
            settings.by_name,
            settings.elsewhere,
            settings.fills_in,
            settings.unvouched,
            settings.shows_key,
        )
        self.counters = Counters(trouble=self._trouble)
        self.prices = Prices(settings.prices)
        self.capabilities = _Remembered(store, self.place)
        self.budget = Budget(settings.max_cost_usd, store.spent_usd() if store else 0.0)
        self._store = store
        self._lanes: dict[str, Client] = {}
        self._limits: dict[str, Limits] = {}
        self._routes: dict[tuple[str, str | None], _Route] = {}
        self._dialects = {name: Dialect.of(told) for name, told in (store.meta(_DIALECTS, {}) if store else {}).items()}
        self._takes_schema: set[str] = set()
        self._sharing: dict[str, asyncio.Future[Reply]] = {}
        self._abandoned: dict[str, FatalModelError] = {}
        self._stopping = False

    # ---- asking -------------------------------------------------------------------------------------------------

    async def complete(self, request: Request) -> Reply:
        """Answer one request, from the ledger where it holds a good answer; see `Client.complete`.

        Raises:
            ModelError: no answer after all retries, or one that no retry can mend.
            FatalModelError: every further request to this model would fail the same way.
            BudgetReached: the answer could cost more than is left of `max_cost_usd`.
        """
        request = self.place(request)
        while (shared := self._sharing.get(request.key)) is not None:
            try:
                reply = await asyncio.shield(shared)
            except asyncio.CancelledError:
                if not shared.cancelled():
                    raise
                continue  # whoever asked first was cancelled: now it is this caller's turn to ask
            self.counters.reused += 1
            return replace(reply, reused=True)
        if (known := self._recall(request)) is not None:
            self.counters.reused += 1
            return known
        return await self._lead(request)

    def place(self, request: Request) -> Request:
        """The request with the base URL that it will be sent to."""
        return self.places.place(request)

    def _recall(self, request: Request) -> Reply | None:
        if self._store is None or self.settings.fresh:
            return None
        return self._store.find_reply(request.key)

    async def _lead(self, request: Request) -> Reply:
        """Ask, and let everybody who wants the same wait for this one answer."""
        shared: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._sharing[request.key] = shared
        try:
            reply = await self._ask_or_fall_back(request)
        except asyncio.CancelledError:
            shared.cancel()
            raise
        except Exception as error:
            shared.set_exception(error)
            shared.exception()  # nobody else may have waited, and asyncio would complain of an error never looked at
            raise
        else:
            shared.set_result(reply)
            return reply
        finally:
            del self._sharing[request.key]

    async def _ask_or_fall_back(self, request: Request) -> Reply:
        fallback = self.settings.fallback
        usable = fallback is not None and fallback != request.model
        try:
            if (known := self._abandoned.get(request.model)) is not None:
                raise known
            reply = await self._ask(request)
            if not (usable and reply.is_empty):
                return reply
        except ModelError as error:
            if isinstance(error, FatalModelError):
                self._abandoned[request.model] = error
            if (
                not usable
                or error.kind != "provider_error"
                or isinstance(error, FormatRefused)
                or not (error.retryable or request.model in self._abandoned)
            ):
                self.counters.failures[error.kind] += 1
                raise
        other = self.place(self.places.for_fallback(request, fallback or ""))
        known_reply = self._recall(other)
        return known_reply if known_reply is not None else await self._ask(other)

    # ---- attempting ---------------------------------------------------------------------------------------------

    async def _ask(self, request: Request) -> Reply:
        """Attempt until answered, hopeless or out of time; the history says what went wrong on the way."""
        route, started = self._route(request), time.monotonic()
        history: list[str] = []
        lessons = 0
        while True:
            worded = self.worded(request)
            outcome = await self._attempt(route, worded, history, started + self.settings.deadline_s)
            if isinstance(outcome, Reply):
                return outcome
            history.append(outcome.reason)
            self.counters.faults[outcome.kind] += 1
            if lessons < _MOST_LESSONS and self.learn(worded, outcome):
                lessons += 1
                wait_s = 0.0
            else:
                wait_s = self._wait_s(route, request, outcome, history, started)
            self.counters.retries += 1
            await self._pause(wait_s)

    async def _attempt(self, route: _Route, request: Request, history: list[str], until: float) -> Reply | ModelError:
        """Send once, within budget and limits; what was paid for is on disk before it is returned, also what is none.

        An answer that is no answer but was counted by the server is returned as its error.
        """
        limits = route.limits
        reserved_usd = await self._reserve(route, request)
        spent: float | None = 0.0
        try:
            taken = await limits.enter(count_prompt(request) + request.max_tokens if limits.meters_tokens else 0, until)
            self.counters.in_flight += 1
            try:
                if self._stopping:
                    raise Interrupted("stopped before the model was asked")
                outcome = await _outcome(route.lane, request)
                self._tell_limits(limits, taken, request, outcome)
            finally:
                self.counters.in_flight -= 1
                limits.leave()
            if (reply := paid_reply(outcome, request)) is not None:
                spent = route.price.of(reply.usage) if route.price else None
                reply = reply if reply.cost_usd == spent else replace(reply, cost_usd=spent)
                await self._write_down(request, reply, history, outcome)
                return reply if isinstance(outcome, Reply) else outcome
            return outcome
        finally:
            self.budget.settle(reserved_usd, spent)

    async def _reserve(self, route: _Route, request: Request) -> float:
        if self._stopping:
            raise Interrupted("stopped before the model was asked")
        if self.settings.max_cost_usd is None:
            return 0.0
        return await self.budget.reserve(most_usd(route.price or unknown_price(request.model), request))

    def _tell_limits(self, limits: Limits, taken: Pass, request: Request, outcome: Reply | ModelError) -> None:
        if isinstance(outcome, Reply):
            total = (outcome.usage.prompt_tokens or 0) + (outcome.usage.completion_tokens or 0)
            limits.answered(taken, total or None, outcome.allowance)
            if request.format == "json_schema":
                self._takes_schema.add(self.capabilities.name_of(request))
        elif not isinstance(outcome, FormatRefused) and self._lesson(request, outcome) == request.dialect:
            limits.failed(taken, outcome)  # a refused wording is no sign that the server is in trouble

    async def _write_down(
        self, request: Request, reply: Reply, history: list[str], outcome: Reply | ModelError
    ) -> None:
        counters = self.counters
        counters.calls += 1
        counters.prompt_tokens += reply.usage.prompt_tokens or 0
        counters.completion_tokens += reply.usage.completion_tokens or 0
        counters.cost_usd += reply.cost_usd or 0.0
        counters.unpriced += reply.cost_usd is None
        if self._store is not None:
            why = [*history, outcome.reason] if isinstance(outcome, ModelError) else history
            await self._store.record_call(request, reply, good=is_good(reply), history=why)

    # ---- learning a server's dialect ----------------------------------------------------------------------------

    def worded(self, request: Request) -> Request:
        """The request as this server wants it worded, as far as that is known."""
        dialect = self._dialects.get(self.capabilities.name_of(request)) if self._dialects else None
        return request if dialect is None else replace(request, dialect=dialect)

    def _lesson(self, request: Request, error: ModelError) -> Dialect:
        """The dialect that a refusal of this request asks for; the one that it was worded in where it asks for none."""
        is_about_wording = error.kind == "provider_error" and not isinstance(error, (FatalModelError, FormatRefused))
        if not is_about_wording or error.status not in _WORDING or error.about_item:
            return request.dialect
        return request.dialect.learn(error.reason)

    def learn(self, request: Request, error: ModelError) -> bool:
        """Remember for this run how the server wants this request worded; False when it complains of other things."""
        name = self.capabilities.name_of(request)
        known = self._dialects.get(name, Dialect())
        learnt = self._lesson(replace(request, dialect=known), error)
        if learnt == known:
            # Learnt meanwhile from another request's refusal: this one has yet to be worded so
            return self._lesson(request, error) != request.dialect and known != request.dialect
        self._dialects[name] = learnt
        if self._store is not None:
            self._store.set_meta(_DIALECTS, {name: dialect.as_dict() for name, dialect in self._dialects.items()})
        return True

    # ---- retrying -----------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Ask nothing and wait for no provider any more; what is being answered now is still taken."""
        self._stopping = True
        for limits in list(self._limits.values()):
            limits.stop()
        for lane in self._lanes.values():
            if isinstance(lane, _Stoppable):
                lane.stop()

    async def _pause(self, wait_s: float) -> None:
        """Sleep in short naps, so that a request to stop is heard.

        Raises:
            Interrupted: to stop was asked for.
        """
        until = time.monotonic() + wait_s
        while not self._stopping and (left_s := until - time.monotonic()) > 0:
            await asyncio.sleep(min(left_s, _NAP_S))
        if self._stopping:
            raise Interrupted("stopped while waiting for a provider")

    def _trouble(self) -> str:
        return "; ".join(filter(None, (limits.trouble for limits in list(self._limits.values()))))

    def _wait_s(self, route: _Route, request: Request, error: ModelError, history: list[str], started: float) -> float:
        """Full jitter over an exponential ceiling, never less than the server asked for; raises when it is over."""
        if not error.retryable or isinstance(error, FormatRefused):
            raise error
        asked_s, deadline_s = error.retry_after_s or 0.0, self.settings.deadline_s
        if asked_s > deadline_s:
            fix = "the same command goes on when that time is over; or ask another model with -m"
            fatal = FatalModelError(f"{error.reason} (it wants a pause of {asked_s:,.0f} s)", fix=fix)
            route.limits.give_up(fatal)
            raise fatal from error
        if self._is_schema_suspect(request, error, history):
            raise FormatRefused(error.reason, suspected=True) from error
        ceiling = min(_FIRST_WAIT_S * 2 ** min(len(history) - 1, 10), _LONGEST_WAIT_S)
        wait_s = random.uniform(0, ceiling) + asked_s
        late = time.monotonic() + wait_s > started + deadline_s
        # Being told to wait is no failed attempt: a crowd at a rate limit must not use its attempts up
        if late or (not error.overload and len(history) >= self.settings.max_attempts):
            why = f"after {len(history)} attempts in {time.monotonic() - started:.0f} s"
            why += f"; {deadline_s:g} s are the most for one request" if late else ""
            raise ModelError(error.kind, f"{error.reason} ({why})", retryable=True, overload=error.overload) from error
        return wait_s

    def _is_schema_suspect(self, request: Request, error: ModelError, history: list[str]) -> bool:
        """Some servers answer 500 to a schema and say nothing of it; one that ever took one is just in trouble."""
        if request.format != "json_schema" or error.status != 500 or len(history) < _SUSPICIOUS:
            return False
        return self.capabilities.name_of(request) not in self._takes_schema and not error.overload

    # ---- choosing -----------------------------------------------------------------------------------------------

    def lane_name(self, model: str, api_base: str | None = None) -> str:
        """Which lane a model's requests take: `local` for models in this process, else a name of LANES."""
        if is_in_process(model):
            return IN_PROCESS
        if is_nanochat(model):
            return NANOCHAT_LANE
        if self.settings.lane != AUTO:
            return self.settings.lane
        provider, own = provider_of(model), api_base or self.places.given(model)
        return "litellm" if (provider and provider.is_native) or base_of(model, own) is None else "direct"

    def base(self, model: str, api_base: str | None = None) -> str | None:
        """The base URL that a model is served at; None at a provider's own."""
        return base_of(model, api_base or self.places.given(model))

    def _route(self, request: Request) -> _Route:
        known = self._routes.get((request.model, request.api_base))
        if known is None:
            price = self.prices.find(request.model, base_of(request.model, request.api_base))
            known = _Route(self._lane(request), self.limits(request), price)
            self._routes[request.model, request.api_base] = known
            if self.settings.announce is not None and not is_in_process(request.model):
                self.settings.announce(told_place(request, has_key=bool(self.settings.api_key)))
        return known

    def _lane(self, request: Request) -> Client:
        name = self.lane_name(request.model, request.api_base)
        key = request.model if name == IN_PROCESS else name
        if key not in self._lanes:
            self._lanes[key] = self._open_lane(name, request.model)
        return self._lanes[key]

    def _open_lane(self, name: str, model: str) -> Client:
        if name == IN_PROCESS:
            from safetyqc.llm.llama import LocalClient, find_weights

            return LocalClient(find_weights(model).path)
        return self._open(name, api_key=self.settings.api_key, timeout_s=self.settings.timeout_s)

    def limits(self, request: Request) -> Limits:
        """The limiter of the request's provider: its base URL, or the provider and model that litellm names."""
        request = self.place(request)
        name = (
            request.model if is_in_process(request.model) else base_of(request.model, request.api_base) or request.model
        )
        if name not in self._limits:
            settings = self.settings
            self._limits[name] = Limits(name, settings.rpm, settings.tpm, down_s=settings.down_s, sleep=self._pause)
        return self._limits[name]

    # ---- before and after ---------------------------------------------------------------------------------------

    def estimate(self, model: str, *, calls: int, prompt_tokens: int, completion_tokens: int) -> CallsEstimate:
        """What `calls` calls of about these tokens each would take; no cost is named when the price is unknown."""
        return self.prices.estimate(
            model,
            calls=calls,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            api_base=self.places.base(model),
        )

    def price_of(self, model: str) -> Price | None:
        """What the model's tokens cost, given or listed; None when nobody knows."""
        return self.prices.find(model, self.places.base(model))

    async def close(self) -> None:
        """Close every lane that was opened."""
        lanes, self._lanes = list(self._lanes.values()), {}
        for lane in lanes:
            await lane.close()


class _Remembered(Capabilities):
    """Capabilities that a run keeps, so that a resumed one does not learn them from refusals again."""

    def __init__(self, store: Ledger | None, place: Callable[[Request], Request]) -> None:
        self._store, self._place = store, place
        self._names: dict[tuple[str, str | None], str] = {}
        super().__init__(store.meta(_CAPABILITIES, {}) if store else {})

    def name_of(self, request: Request) -> str:
        """See Capabilities; what litellm's list knows counts until a server said otherwise."""
        known = self._names.get((request.model, request.api_base))
        if known is not None:
            return known
        placed = self._place(request)
        name = self._names[request.model, request.api_base] = super().name_of(placed)
        if not is_in_process(placed.model) and base_of(placed.model, placed.api_base) is None:
            self._formats.setdefault(name, known_format(placed.model) or LADDER[0])
        return name

    def learn(self, request: Request, best: Format) -> None:
        """See Capabilities."""
        super().learn(request, best)
        if self._store is not None:
            self._store.set_meta(_CAPABILITIES, self.as_dict())


def is_good(reply: Reply) -> bool:
    """Whether an answer may be given again: a cut-off, filtered, refused or empty one may not."""
    return reply.finish_reason not in ("length", "content_filter", "error") and not (reply.refusal or reply.is_empty)


async def _outcome(lane: Client, request: Request) -> Reply | ModelError:
    try:
        return await lane.complete(request)
    except ModelError as error:
        return error


def paid_reply(outcome: Reply | ModelError, request: Request) -> Reply | None:
    """What the ledger keeps of an attempt: the answer, or an empty one for an error that the server counted."""
    if isinstance(outcome, Reply):
        return outcome
    return None if outcome.usage is None else Reply("", "error", usage=outcome.usage, model=request.model)


def unknown_price(model: str) -> Price:
    """Refuse to keep a budget without a price."""
    raise UserError(
        f"the price of {model!r} is unknown, so --max-cost cannot be kept",
        fix=f"give it in safetyqc.yaml, `models: {{prices: {{{model}: [0.1, 0.4]}}}}` (dollars per million prompt and "
        "completion tokens; 0 for a server of your own), or leave --max-cost out",
    )


def most_usd(price: Price, request: Request) -> float:
    """The most that a request can cost: its prompt counted generously and every token of room used."""
    most_prompt = sum(len(m["content"].encode("utf-8", "replace")) for m in request.messages) / 2 + 500
    return (most_prompt * price.input_usd + request.max_tokens * price.output_usd) / 1e6
