"""Decides when a provider may be asked: rates, concurrency, pauses and a circuit breaker, one object per provider.

It sends nothing and retries nothing; the door tells it how calls went. Rates are given, or learnt from response
headers. There is no limit on what is in flight until the first "too many" teaches one; the
engine bounds it, and a limit of one's own would only slow a server that never complains.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from safetyqc.errors import FatalModelError, Interrupted, ModelError
from safetyqc.llm.client import Allowance
from safetyqc.text import shorten

_UNLIMITED = 1_000_000
_DECREASE = 0.5
_SLEEP_AT_MOST_S = 5.0
_BAD_REQUESTS = 5
_SHARE_FOR_BURST = 0.05
_LONGEST_PROBE_S = 30.0


@dataclass
class _Rate:
    """So many units a minute, evenly spread, with a burst of a twentieth: no 60 s ever hold more than the limit."""

    per_minute: float
    full_at: float = 0.0
    """When the allowance will be whole again."""

    def wait_s(self, now: float) -> float:
        """Seconds until the next unit may be taken."""
        burst_s = 60 * _SHARE_FOR_BURST
        return max(self.full_at - now - burst_s, 0.0)

    def take(self, now: float, units: float) -> None:
        """Take units, or give them back when negative."""
        pace = 60 / (self.per_minute * (1 - _SHARE_FOR_BURST))
        self.full_at = max(self.full_at, now) + units * pace


@dataclass(frozen=True)
class Pass:
    """Leave to send one request."""

    at: float
    tokens: int


@dataclass
class Limits:
    """How one provider is asked.

    Args:
        rpm, tpm: requests and tokens a minute; None learns them from the server's headers.
        down_s: how long a provider may fail every call before the run is stopped.
        unseen_s: likewise for one that nobody ever reached: a wrong URL, or a server that was not started.
        now, sleep: the monotonic clock (the wall clock may jump) and how to wait for it.
    """

    name: str
    rpm: float | None = None
    tpm: float | None = None
    down_s: float = 120.0
    unseen_s: float = 20.0
    trip_after: int = 10
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    in_flight: int = 0
    most_in_flight: int = _UNLIMITED
    fatal: FatalModelError | None = None
    _requests: _Rate | None = None
    _tokens: _Rate | None = None
    _paused_until: float = 0.0
    _decreased_at: float = 0.0
    _credit: int = 0
    _failures: int = 0
    _failing_since: float = 0.0
    _unreachable: bool = False
    _last_failure: str = ""
    _bad_requests: int = 0
    _ever_answered: bool = False
    _waiting: deque[asyncio.Future[None]] = field(default_factory=deque)
    _stopped: bool = False

    def __post_init__(self) -> None:
        self._requests = _Rate(self.rpm) if self.rpm else None
        self._tokens = _Rate(self.tpm) if self.tpm else None

    @property
    def paused_s(self) -> float:
        """Seconds until this provider is asked again; 0 when it is not paused."""
        return max(self._paused_until - self.now(), 0.0)

    @property
    def rates(self) -> tuple[float | None, float | None]:
        """Requests and tokens a minute that are kept to, as given or learnt."""
        return (
            self._requests.per_minute if self._requests else None,
            self._tokens.per_minute if self._tokens else None,
        )

    @property
    def meters_tokens(self) -> bool:
        """True when requests must say how many tokens they may take."""
        return self._tokens is not None

    @property
    def is_open(self) -> bool:
        """True while the circuit is broken: one request at a time tries whether the provider is back."""
        return self._failures >= self.trip_after

    @property
    def trouble(self) -> str:
        """What a person who watches should know now: a provider that does not answer, or wants a pause; else empty."""
        if self._failures and (self.is_open or not self._ever_answered):
            given_up_s = max(self._failing_since + self._patience_s - self.now(), 0.0)
            why = shorten(self._last_failure.rpartition(f"{self.name}: ")[2].partition(" ssl:")[0], 80)
            return f"{self.name} does not answer, given up in {given_up_s:.0f} s ({why})"
        return f"{self.name} asked to wait {self.paused_s:.0f} s" if self.paused_s >= 1 else ""

    @property
    def _patience_s(self) -> float:
        """How long this provider may fail every call; nobody has to wait for a server that was never there."""
        was_never_there = self._unreachable and not self._ever_answered
        return min(self.unseen_s, self.down_s) if was_never_there else self.down_s

    async def enter(self, tokens: int, until: float = math.inf) -> Pass:
        """Wait until one more request with so many tokens may be sent.

        Raises:
            FatalModelError: this provider will not be asked again in this run.
            ModelError: it wants a pause that ends after `until`.
            Interrupted: to stop was asked for.
        """
        try:
            while True:
                if self._stopped:
                    raise Interrupted("stopped before the model was asked")
                if self.fatal is not None:
                    raise self.fatal
                now = self.now()
                if self._paused_until > until:
                    reason = f"{self.name} wants a pause of {self.paused_s:,.0f} s more, and the time for this one ends"
                    raise ModelError("provider_error", reason, retryable=True, overload=True)
                wait_s = self._wait_s(now)
                if wait_s > 0:
                    # All who wait here would else go in the same instant
                    await self.sleep(min(wait_s, _SLEEP_AT_MOST_S) * random.uniform(1.0, 1.1))
                elif self.in_flight >= (1 if self.is_open else self.most_in_flight):
                    await self._queue()
                else:
                    return self._take(now, tokens)
        except BaseException:
            self._wake()  # a turn that was given and will not be used is the next one's, or nobody would ever wake it
            raise

    def _wait_s(self, now: float) -> float:
        wait_s = self._paused_until - now
        if self._requests:
            wait_s = max(wait_s, self._requests.wait_s(now))
        if self._tokens:
            wait_s = max(wait_s, self._tokens.wait_s(now))
        return wait_s

    def _take(self, now: float, tokens: int) -> Pass:
        self.in_flight += 1
        if self._requests:
            self._requests.take(now, 1)
        if self._tokens:
            self._tokens.take(now, tokens)
        return Pass(now, tokens)

    async def _queue(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    def stop(self) -> None:
        """Let nobody in any more, and tell everybody who waits; may be called by a signal's handler."""
        self._stopped = True
        for turn in list(self._waiting):
            # The loop sleeps while nothing happens, and only this wakes it
            turn.get_loop().call_soon_threadsafe(_give, turn)

    def leave(self) -> None:
        """Say that a request that entered is over, however it went."""
        self.in_flight -= 1
        self._wake()

    def _wake(self) -> None:
        room = (1 if self.is_open else self.most_in_flight) - self.in_flight
        while self._waiting and room > 0:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                room -= 1

    def answered(self, taken: Pass, tokens: int | None, allowance: Allowance | None) -> None:
        """Learn from an answer: the provider is up, and its headers tell its limits."""
        self._failures = self._bad_requests = 0
        self._ever_answered = True
        if self.most_in_flight < _UNLIMITED:
            self._credit += 1
            if self._credit >= self.most_in_flight:
                self.most_in_flight, self._credit = self.most_in_flight + 1, 0
        if self._tokens and tokens is not None:
            self._tokens.take(self.now(), tokens - taken.tokens)
        if allowance is not None:
            self._learn(allowance)

    def failed(self, taken: Pass, error: ModelError) -> None:
        """Learn from a failure: slow down, pause, break the circuit, or give the provider up."""
        if isinstance(error, FatalModelError):
            self.give_up(error)
        elif not error.retryable:
            if not error.about_item:
                self._count_bad_request(error)
        elif error.overload:
            self._slow_down(taken, error)
        else:
            self._count_failure(error)

    def _slow_down(self, taken: Pass, error: ModelError) -> None:
        now = self.now()
        if taken.at >= self._decreased_at:
            # Requests sent before the last decrease say nothing about the new limit
            self.most_in_flight = max(int(min(self.in_flight, self.most_in_flight) * _DECREASE), 1)
            self._decreased_at, self._credit = now, 0
        if error.retry_after_s:
            self.pause(error.retry_after_s)

    def pause(self, wait_s: float) -> None:
        """Ask this provider nothing for a while; a longer pause wins."""
        self._paused_until = max(self._paused_until, self.now() + wait_s)

    def _count_bad_request(self, error: ModelError) -> None:
        if error.kind != "provider_error":
            return
        self._bad_requests += 1
        if self._bad_requests >= _BAD_REQUESTS and not self._ever_answered:
            fix = "the server refuses every request: check the model's name and settings with `safetyqc models check`"
            self.give_up(FatalModelError(error.reason, fix=fix))

    def _count_failure(self, error: ModelError) -> None:
        now = self.now()
        self._failing_since = self._failing_since if self._failures else now
        self._failures += 1
        self._unreachable, self._last_failure = error.unreachable, error.reason
        is_over = now - self._failing_since >= self._patience_s
        if not self.is_open and not (is_over and not self._ever_answered):
            return
        if is_over:
            fix = "is the server running and its URL right? The same command goes on where this one stopped"
            minutes = f"{(now - self._failing_since):.0f} s"
            self.give_up(FatalModelError(f"{self.name} has not answered for {minutes}: {error.reason}", fix=fix))
        else:
            longest_s = min(_LONGEST_PROBE_S, self._patience_s / 8)
            pause_s = min(0.5 * 2 ** min(self._failures - self.trip_after, 6), longest_s)
            self.pause(pause_s * random.uniform(0.5, 1.0))

    def give_up(self, error: FatalModelError) -> None:
        """Let nobody ask this provider again in this run."""
        self.fatal = self.fatal or error
        while self._waiting:
            _give(self._waiting.popleft())

    def _learn(self, said: Allowance) -> None:
        if self.rpm is None:
            self._requests = _learnt(
                self._requests, said.limit_requests, said.remaining_requests, said.reset_requests_s
            )
        if self.tpm is None:
            self._tokens = _learnt(self._tokens, said.limit_tokens, said.remaining_tokens, said.reset_tokens_s)
        if said.remaining_requests == 0 and said.reset_requests_s:
            self.pause(min(said.reset_requests_s, 60.0))
        if said.remaining_tokens == 0 and said.reset_tokens_s:
            self.pause(min(said.reset_tokens_s, 60.0))


def _give(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


def _learnt(known: _Rate | None, limit: int | None, remaining: int | None, reset_s: float | None) -> _Rate | None:
    """The rate that headers imply, or what was known.

    A bucket of `limit` that is whole again in `reset_s` after `limit - remaining` were taken refills in
    `reset_s * limit / taken`: about a minute means a limit per minute. Days (Groq counts requests a day) and fixed
    windows give other figures, and only their remaining zero is obeyed.
    """
    if not limit or remaining is None or not reset_s or remaining >= limit:
        return known
    refill_s = reset_s * limit / (limit - remaining)
    if not 30 <= refill_s <= 120:
        return known
    per_minute = max(round(limit * 60 / refill_s), 1) if abs(refill_s - 60) > 6 else limit
    if known is not None and abs(known.per_minute - per_minute) <= 0.1 * known.per_minute:
        return known
    return _Rate(per_minute, full_at=known.full_at if known else 0.0)
